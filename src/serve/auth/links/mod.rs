//! Signed links: they show a picture of a report where no key can be sent, as in a README. A link has the rights of a
//! key, and expires. The secrets of links are a file of their own: a key file holds only hashes, so it is not enough to
//! forge a link.

mod link;
pub mod new_link;
mod refusal;
mod secrets;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use chrono::Utc;
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

pub use self::link::{Link, SignedLink, claimed_id};
pub use self::refusal::LinkRefusal;
use self::secrets::Secrets;
use crate::tls::file_watch::{self, FileChange, FileStatus, ReadResult};
use crate::tls::read_file;

/// A file of secrets that is read again whenever it changes. Clones share it.
#[derive(Clone)]
pub struct LinkSecrets(Arc<RwLock<Secrets>>);

impl LinkSecrets {
    /// Reads the file, and again whenever it changes, until `stop` is cancelled. A file that cannot be loaded changes
    /// nothing: the secrets from before stay in force, and the reason is logged once.
    ///
    /// # Errors
    /// It cannot be read now, or one of its lines is wrong.
    pub fn watch(path: PathBuf, status: FileStatus, stop: CancellationToken) -> anyhow::Result<LinkSecrets> {
        let (secrets, bytes) = read_secrets(&path)?;
        let file = path.display().to_string();
        log("secrets of links read", &file, &secrets);
        let shared = LinkSecrets(Arc::new(RwLock::new(secrets)));
        let watched = shared.clone();
        tokio::spawn(file_watch::watch(
            bytes,
            move || read(&path),
            |bytes: &Vec<u8>| Secrets::parse(bytes),
            move |change| watched.apply(change, &file),
            status,
            stop,
        ));
        Ok(shared)
    }

    /// A link that one of the secrets has signed, and that has not expired.
    ///
    /// # Errors
    /// [`LinkRefusal`]. Only the holder of a link that was valid learns that it has expired.
    pub fn verify(&self, link: SignedLink) -> Result<Link, LinkRefusal> {
        let link = link.verify(&self.0.read())?;
        match link.expires().is_past(Utc::now()) {
            true => Err(LinkRefusal::Expired(link.expires())),
            false => Ok(link),
        }
    }

    fn apply(&self, change: FileChange<Secrets>, file: &str) {
        match change {
            FileChange::Loaded(secrets) => {
                log("secrets of links read again", file, &secrets);
                *self.0.write() = secrets;
            }
            FileChange::Restored => tracing::info!(file, "the secrets of links are valid again, and unchanged"),
            FileChange::Failed(reason) => tracing::warn!(
                file, %reason,
                "the secrets of links cannot be loaded; those from before stay in force, also those that the file no \
                 longer has"
            ),
        }
    }
}

#[cfg(test)]
impl LinkSecrets {
    /// These lines, without a file.
    pub fn of(lines: &str) -> LinkSecrets {
        LinkSecrets(Arc::new(RwLock::new(Secrets::parse(lines.as_bytes()).unwrap())))
    }

    /// The query of a signed link.
    pub fn sign(&self, link: &Link) -> String {
        link.sign(&self.0.read()).unwrap()
    }
}

fn log(message: &'static str, file: &str, secrets: &Secrets) {
    match secrets.len() {
        0 => tracing::warn!(file, secrets = 0, "{message}: there is none, so every link is refused"),
        secrets => tracing::info!(file, secrets, "{message}"),
    }
}

fn read_secrets(path: &Path) -> anyhow::Result<(Secrets, Vec<u8>)> {
    let context = || format!("cannot load the secrets of links of {}", path.display());
    let bytes = read(path).map_err(anyhow::Error::msg).with_context(context)?;
    let secrets = Secrets::parse(&bytes).map_err(anyhow::Error::msg);
    Ok((secrets.with_context(context)?, bytes))
}

fn read(path: &Path) -> ReadResult<Vec<u8>> {
    read_file(path).map_err(|err| err.to_string().to_lowercase())
}
