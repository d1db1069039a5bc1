//! The names of sites: a file with one site a line, `UUID NAME`. Reports show a name in place of its UUID.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::tls::file_watch::{self, FileChange, FileStatus, ReadResult};
use crate::tls::read_file;

/// Characters of a name: as many as a column or the title of a page has room for.
pub const NAME_CHARS_MAX: usize = 80;

/// The names of sites. Two sites may have the same name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SiteNames {
    by_id: HashMap<Uuid, Arc<str>>,
}

impl SiteNames {
    /// Reads a file: all of it or nothing. Empty lines and lines that begin with `#` are ignored; a `#` within a name
    /// is part of it.
    ///
    /// # Errors
    /// The first wrong line and why.
    pub fn parse(bytes: &[u8]) -> Result<SiteNames, String> {
        let mut by_id = HashMap::new();
        // An editor's byte order mark does not belong to the first UUID.
        let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
            let refuse = |reason: String| format!("line {number}: {reason}");
            let line = std::str::from_utf8(line).map_err(|_| refuse("not UTF-8".to_string()))?;
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (site_id, name) = parse_line(line).map_err(refuse)?;
            if by_id.insert(site_id, name.into()).is_some() {
                return Err(refuse(format!("site {site_id} again; it has a name already")));
            }
        }
        Ok(SiteNames { by_id })
    }

    /// Reads a file once.
    ///
    /// # Errors
    /// It cannot be read, or one of its lines is wrong.
    pub fn read(path: &Path) -> anyhow::Result<SiteNames> {
        Ok(read_names(path)?.0)
    }

    pub fn get(&self, site_id: Uuid) -> Option<&str> {
        self.by_id.get(&site_id).map(AsRef::as_ref)
    }

    /// All sites with a name, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (Uuid, &str)> {
        self.by_id.iter().map(|(site_id, name)| (*site_id, name.as_ref()))
    }
}

fn parse_line(line: &str) -> Result<(Uuid, &str), String> {
    let (site_id, name) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let site_id = Uuid::try_parse(site_id).map_err(|_| "expected a UUID, a blank and a name")?;
    let name = name.trim();
    if name.is_empty() {
        return Err("no name after the UUID".to_string());
    }
    if name.chars().count() > NAME_CHARS_MAX {
        return Err(format!("a name of more than {NAME_CHARS_MAX} characters"));
    }
    // XML has none of these, and no control characters.
    let is_no_character = |c: char| matches!(c, '\u{fffe}' | '\u{ffff}');
    if name.chars().any(|c| c.is_control() || is_no_character(c)) {
        return Err("a control character in the name".to_string());
    }
    Ok((site_id, name))
}

fn read_names(path: &Path) -> anyhow::Result<(SiteNames, Vec<u8>)> {
    let context = || format!("cannot load the names of sites of {}", path.display());
    let bytes = read(path).map_err(anyhow::Error::msg).with_context(context)?;
    let names = SiteNames::parse(&bytes).map_err(anyhow::Error::msg);
    Ok((names.with_context(context)?, bytes))
}

fn read(path: &Path) -> ReadResult<Vec<u8>> {
    read_file(path).map_err(|err| err.to_string().to_lowercase())
}

/// A file of names that is read again whenever it changes. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct SitesFile(Arc<RwLock<Arc<SiteNames>>>);

impl SitesFile {
    /// Reads the file, and again whenever it changes, until `stop` is cancelled. A file that cannot be loaded changes
    /// nothing: the names from before stay, and the reason is logged once.
    ///
    /// # Errors
    /// It cannot be read now, or one of its lines is wrong.
    pub fn watch(path: PathBuf, status: FileStatus, stop: CancellationToken) -> anyhow::Result<SitesFile> {
        let (names, bytes) = read_names(&path)?;
        let (file, sites) = (path.display().to_string(), names.by_id.len());
        tracing::info!(%file, sites, "names of sites read");
        let sites_file = SitesFile(Arc::new(RwLock::new(Arc::new(names))));
        let watched = sites_file.clone();
        tokio::spawn(file_watch::watch(
            bytes,
            move || read(&path),
            |bytes: &Vec<u8>| SiteNames::parse(bytes),
            move |change| watched.apply(change, &file),
            status,
            stop,
        ));
        Ok(sites_file)
    }

    /// The names that are in force now.
    pub fn names(&self) -> Arc<SiteNames> {
        Arc::clone(&self.0.read())
    }

    fn apply(&self, change: FileChange<SiteNames>, file: &str) {
        match change {
            FileChange::Loaded(names) => {
                let sites = names.by_id.len();
                *self.0.write() = Arc::new(names);
                tracing::info!(file, sites, "names of sites read again");
            }
            FileChange::Restored => tracing::info!(file, "the names of sites are valid again, and unchanged"),
            FileChange::Failed(reason) => {
                tracing::warn!(file, %reason, "the names of sites cannot be loaded; those from before are shown");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: &str = "6f1c1f2e-3d0b-4c5a-9b0e-2f4b8f3f7a01";

    #[test]
    fn a_line_is_a_site_and_its_name() {
        let text = format!(
            "\u{feff}# our sites\n\n{SITE}   Shop #1, \"checkout\" <b>\r\n{}\tBlog\n",
            Uuid::nil()
        );
        let names = SiteNames::parse(text.as_bytes()).unwrap();
        assert_eq!(names.get(SITE.parse().unwrap()), Some("Shop #1, \"checkout\" <b>"));
        assert_eq!(names.get(Uuid::nil()), Some("Blog"));
        assert_eq!(names.get(Uuid::max()), None);
        assert_eq!(names.iter().count(), 2);
    }

    #[test]
    fn a_wrong_line_is_named_with_the_reason() {
        let long = "x".repeat(NAME_CHARS_MAX + 1);
        for (text, reason) in [
            ("Shop".to_string(), "line 1: expected a UUID, a blank and a name"),
            (format!("\n{SITE}\n"), "line 2: no name after the UUID"),
            (format!("{SITE} {long}"), "line 1: a name of more than 80 characters"),
            (format!("{SITE} a\u{1b}[31m"), "line 1: a control character in the name"),
            (
                format!("{SITE} a\n{SITE} b"),
                "line 2: site 6f1c1f2e-3d0b-4c5a-9b0e-2f4b8f3f7a01 again; it has a name already",
            ),
        ] {
            assert_eq!(SiteNames::parse(text.as_bytes()).unwrap_err(), reason, "{text}");
        }
        assert_eq!(SiteNames::parse(b"\xff").unwrap_err(), "line 1: not UTF-8");
    }

    #[test]
    fn a_missing_file_is_an_error() {
        let error = SiteNames::read(Path::new("/nowhere/sites")).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "cannot load the names of sites of /nowhere/sites: no such file or directory (os error 2)"
        );
    }
}
