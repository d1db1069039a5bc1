//! The keys of the key file: loaded at start, and again whenever the file has changed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use chrono::Utc;
use hyper::header::HeaderMap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::api_key::Hash;
use super::authorization::{Schemes, sent_key};
use super::{Denied, Entry, Key, KeyText, RateShare, Role, parse};
use crate::http::CertificateName;
use crate::tls::file_watch::{self, FileChange, FileStatus, ReadResult};
use crate::tls::read_file;

/// The keys of a file.
pub struct Keyring {
    path: PathBuf,
    share: RateShare,
    /// The content of the file when it was opened.
    opened: Vec<u8>,
    keys: watch::Sender<Keys>,
}

/// The keys of one version of the file.
#[derive(Default)]
struct Keys {
    /// In the order of the file.
    all: Arc<[Arc<Key>]>,
    by_id: HashMap<String, Arc<Key>>,
    /// One for each role at most.
    by_certificate: HashMap<CertificateName, Vec<Arc<Key>>>,
}

impl Keyring {
    /// Reads a key file. This process grants a share of each rate.
    ///
    /// # Errors
    /// It cannot be read, or one of its lines cannot be taken.
    pub fn open(path: PathBuf, share: RateShare) -> anyhow::Result<Keyring> {
        let (entries, opened) = Keyring::read(&path)?;
        let keyring = Keyring {
            path,
            share,
            opened,
            keys: watch::Sender::new(Keys::new(entries, &Keys::default(), share)),
        };
        keyring.log("keys read");
        Ok(keyring)
    }

    /// The lines of a key file, and its bytes.
    ///
    /// # Errors
    /// As [`Keyring::open`].
    pub fn read(path: &Path) -> anyhow::Result<(Vec<Entry>, Vec<u8>)> {
        let context = || format!("cannot load the keys of {}", path.display());
        let bytes = read(path).map_err(anyhow::Error::msg);
        let bytes = bytes.with_context(context)?;
        let entries = parse(&bytes).map_err(anyhow::Error::msg);
        Ok((entries.with_context(context)?, bytes))
    }

    /// Loads the file again whenever it changes, until `stop` is cancelled. A file that cannot be loaded changes
    /// nothing: the keys from before stay valid, the reason is logged once, and `status` has it.
    pub async fn watch(&self, status: FileStatus, stop: CancellationToken) {
        let path = self.path.clone();
        let reading = move || read(&path);
        let parse_keys = |bytes: &Vec<u8>| parse(bytes);
        file_watch::watch(
            self.opened.clone(),
            reading,
            parse_keys,
            |change| self.apply(change),
            status,
            stop,
        )
        .await;
    }

    /// The key of a request, from its `Authorization`.
    ///
    /// # Errors
    /// [`Denied`]. An unknown ID and a wrong secret take the same time.
    pub fn identify(&self, headers: &HeaderMap, schemes: Schemes) -> Result<Arc<Key>, Denied> {
        let text = sent_key(headers, schemes)?;
        let text = KeyText::parse(&text).ok_or(Denied::Malformed)?;
        let key = self.keys.borrow().by_id.get(text.id()).cloned();
        let hash = key.as_ref().and_then(|key| key.entry.credential.hash());
        let is_same = hash.unwrap_or(&Hash::NONE).is_same(&text.hash());
        if !is_same {
            return Err(key.map_or(Denied::Unknown, |_| Denied::WrongSecret));
        }
        let key = key.ok_or(Denied::Unknown)?;
        key.use_at(Utc::now())?;
        Ok(key)
    }

    /// The key of a certificate with these names: that of the first name with a line for the role, else for the other
    /// role.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn identify_certificate(&self, names: &[CertificateName], role: Role) -> Result<Arc<Key>, Denied> {
        let keys = self.keys.borrow();
        let found = names.iter().filter_map(|name| keys.by_certificate.get(name));
        let found: Vec<_> = found.flatten().collect();
        let of_role = found.iter().find(|key| key.role() == role);
        let key = Arc::clone(of_role.or(found.first()).ok_or(Denied::CertificateUnknown)?);
        key.use_at(Utc::now())?;
        Ok(key)
    }

    /// The key of an ID, for a link that was signed with the name of it.
    ///
    /// # Errors
    /// [`Denied`]: it was withdrawn, or has expired.
    pub fn find(&self, id: &str) -> Result<Arc<Key>, Denied> {
        let key = self.keys.borrow().by_id.get(id).cloned();
        let key = key.ok_or(Denied::Unknown)?;
        key.use_at(Utc::now())?;
        Ok(key)
    }

    /// The same key as the file has it now, for connections that stay open: its sites or its role may have changed.
    ///
    /// # Errors
    /// [`Denied`]: it was withdrawn, or has expired.
    pub fn renew(&self, key: &Key) -> Result<Arc<Key>, Denied> {
        let now = self.keys.borrow().by_id.get(key.id()).cloned();
        let now = now.filter(|now| now.entry.credential.is_same(&key.entry.credential));
        let key = now.ok_or(Denied::Unknown)?;
        key.use_at(Utc::now())?;
        Ok(key)
    }

    /// The keys in the order of the file.
    pub fn all(&self) -> Arc<[Arc<Key>]> {
        Arc::clone(&self.keys.borrow().all)
    }

    fn apply(&self, change: FileChange<Vec<Entry>>) {
        match change {
            FileChange::Restored => self.log("the key file is valid again, and unchanged"),
            FileChange::Loaded(entries) => {
                let keys = Keys::new(entries, &self.keys.borrow(), self.share);
                self.keys.send_replace(keys);
                self.log("keys read again");
            }
            FileChange::Failed(reason) => tracing::warn!(
                file = %self.path.display(), %reason,
                "the key file cannot be loaded; the keys from before stay valid, also those that it no longer has"
            ),
        }
    }

    fn log(&self, message: &'static str) {
        let (file, keys) = (self.path.display(), self.all().len());
        match keys {
            0 => {
                tracing::warn!(%file, keys, "{message}: it has no key, so every request is denied")
            }
            _ => tracing::info!(%file, keys, "{message}"),
        }
    }
}

impl Keys {
    /// The keys of a file; those that were there before keep their buckets.
    fn new(entries: Vec<Entry>, before: &Keys, share: RateShare) -> Keys {
        let keys = entries.into_iter().map(|entry| {
            let before = before.by_id.get(&entry.id).map(Arc::as_ref);
            Arc::new(Key::new(entry, before, share))
        });
        let all: Arc<[Arc<Key>]> = keys.collect();
        let by_id = all.iter().map(|key| (key.id().to_string(), Arc::clone(key)));
        let mut by_certificate = HashMap::<_, Vec<_>>::new();
        for key in &*all {
            if let Some(name) = key.entry.credential.certificate() {
                let keys = by_certificate.entry(name.clone()).or_default();
                keys.push(Arc::clone(key));
            }
        }
        Keys {
            by_id: by_id.collect(),
            by_certificate,
            all,
        }
    }
}

fn read(path: &Path) -> ReadResult<Vec<u8>> {
    read_file(path).map_err(|err| err.to_string().to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::auth::keys::Expiry;
    use crate::serve::auth::keys::api_key::generate;
    use hyper::header::{AUTHORIZATION, HeaderValue};

    fn line(key: &str, rest: &str) -> String {
        let text = KeyText::parse(key).unwrap();
        format!("{} write * {} {rest}\n", text.id(), text.hash())
    }

    fn whole() -> RateShare {
        RateShare::parse("1/1").unwrap()
    }

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn bearing(key: &str) -> HeaderMap {
        headers(&[&format!("Bearer {key}")])
    }

    fn keyring(text: &str) -> (Arc<Keyring>, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, text).unwrap();
        (Arc::new(Keyring::open(path, whole()).unwrap()), folder)
    }

    fn open(text: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, text).unwrap();
        let name = path.display().to_string();
        let refusal = format!("{:#}", Keyring::open(path, whole()).err().unwrap());
        refusal.replace(&name, "FILE")
    }

    #[test]
    fn a_key_is_known_by_all_of_it() {
        let (one, other) = (generate().unwrap(), generate().unwrap());
        let (keyring, _folder) = keyring(&line(&one, ""));
        let id = KeyText::parse(&one).unwrap().id();
        for spelling in ["Bearer ", "bearer ", "BEARER  "] {
            let found = keyring.identify(&headers(&[&format!("{spelling}{one}")]), Schemes::Bearer);
            assert_eq!(found.ok().unwrap().id(), id);
        }
        let denied = |headers: &HeaderMap| keyring.identify(headers, Schemes::Bearer).err();
        assert_eq!(denied(&bearing(&other)), Some(Denied::Unknown));
        let flipped = if one.ends_with('0') { "1" } else { "0" };
        let nearly = format!("{}{flipped}", &one[..one.len() - 1]);
        assert_eq!(denied(&bearing(&nearly)), Some(Denied::WrongSecret));
        let renamed = one.replace(id, "an0therid");
        assert_eq!(denied(&bearing(&renamed)), Some(Denied::Unknown));
    }

    #[test]
    fn a_key_expires_for_new_requests_and_for_open_streams() {
        let key = generate().unwrap();
        let (before, _folder) = keyring(&line(&key, "expires=2200-01-01"));
        let key_before = before.identify(&bearing(&key), Schemes::Bearer).ok().unwrap();
        let (after, _folder) = keyring(&line(&key, "expires=2020-01-01"));
        let expired = Denied::Expired(Expiry::parse("2020-01-01").unwrap());
        assert_eq!(after.identify(&bearing(&key), Schemes::Bearer).err(), Some(expired));
        assert_eq!(after.renew(&key_before).err(), Some(expired));
        // A client without the key does not learn that.
        let other = format!("{}{}", &key[..key.len() - 64], "0".repeat(64));
        let denied = after.identify(&bearing(&other), Schemes::Bearer).err();
        assert_eq!(denied, Some(Denied::WrongSecret));
    }

    #[test]
    fn a_file_that_cannot_be_loaded_is_an_error_at_start() {
        let missing = Keyring::open("/nowhere/keys".into(), whole()).err().unwrap();
        assert_eq!(
            format!("{missing:#}"),
            "cannot load the keys of /nowhere/keys: no such file or directory (os error 2)"
        );
        let folder = Keyring::open("/".into(), whole()).err().unwrap();
        assert!(format!("{folder:#}").ends_with("/: not a regular file but a folder"));
        assert_eq!(
            open(b"\nk3y"),
            "cannot load the keys of FILE: line 2: an ID has 4 to 32 characters, a to z and 0 to 9"
        );
        let large = open("#".repeat(crate::tls::FILE_BYTES_MAX + 7).as_bytes());
        assert!(
            large.ends_with(": 1048583 bytes, and at most 1048576 are read"),
            "{large}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_file_is_read_again_and_a_broken_one_changes_nothing() {
        let (one, other) = (generate().unwrap(), generate().unwrap());
        let (keyring, folder) = keyring(&line(&one, "rate=1 burst=5"));
        let first = keyring.identify(&bearing(&one), Schemes::Bearer).ok().unwrap();
        first.spend(5).unwrap();
        let stop = CancellationToken::new();
        let watched = Arc::clone(&keyring);
        let status = FileStatus::new("keys");
        let watching = tokio::spawn({
            let stop = stop.clone();
            let status = status.clone();
            async move { watched.watch(status, stop).await }
        });
        // As Kubernetes does it: each version has a folder, and a link is swapped.
        let write = |text: String| {
            let version = tempfile::tempdir_in(folder.path()).unwrap().keep();
            let fresh = folder.path().join("fresh");
            std::fs::write(version.join("keys"), text).unwrap();
            std::os::unix::fs::symlink(version.join("keys"), &fresh).unwrap();
            std::fs::rename(fresh, folder.path().join("keys")).unwrap();
        };
        let looked = || tokio::time::sleep(3 * file_watch::READ_INTERVAL);

        write(line(&one, "rate=1 burst=5") + &line(&other, ""));
        looked().await;
        assert_eq!(keyring.all().len(), 2);
        assert!(keyring.identify(&bearing(&other), Schemes::Bearer).is_ok());
        let again = keyring.identify(&bearing(&one), Schemes::Bearer).ok().unwrap();
        assert!(!Arc::ptr_eq(&first, &again));
        assert!(again.spend(5).is_err(), "the bucket was filled");

        write(line(&other, "rate=0"));
        looked().await;
        assert!(!status.is_loaded());
        assert_eq!(keyring.all().len(), 2);
        assert!(keyring.renew(&first).is_ok());

        write(line(&other, ""));
        looked().await;
        assert!(status.is_loaded());
        assert_eq!(
            keyring.identify(&bearing(&one), Schemes::Bearer).err(),
            Some(Denied::Unknown)
        );
        assert!(keyring.renew(&first).is_err());

        write(String::new());
        looked().await;
        assert_eq!(keyring.all().len(), 0);
        stop.cancel();
        watching.await.unwrap();
    }

    #[test]
    fn another_key_of_the_same_id_is_not_the_one_before() {
        let one = generate().unwrap();
        let id = KeyText::parse(&one).unwrap().id();
        let other = format!("captcha_{id}_{}", "0".repeat(64));
        let (before, _folder) = keyring(&line(&one, ""));
        let (after, _folder) = keyring(&line(&other, ""));
        let key = before.identify(&bearing(&one), Schemes::Bearer).ok().unwrap();
        assert!(before.renew(&key).is_ok());
        assert!(after.renew(&key).is_err());
    }
}
