//! API keys: their file, their roles, sites and rates, and the commands about them.

mod api_key;
pub mod authorization;
mod bucket;
mod credential;
mod denied;
mod expiry;
mod key_file;
mod keyring;
pub mod list;
mod metrics;
pub mod new_key;
mod rate_limit;
mod sites;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use chrono::{DateTime, Utc};

pub use self::api_key::{KeyText, contains_key, is_id};
pub use self::authorization::Schemes;
use self::bucket::Bucket;
pub use self::credential::Credential;
pub use self::denied::Denied;
pub use self::expiry::{Expiry, State};
pub use self::key_file::{Entry, parse};
pub use self::keyring::Keyring;
pub use self::metrics::KeyMetrics;
use self::rate_limit::Unit;
pub use self::rate_limit::{BURST_MAX, RATE_MAX, Rate, RateLimited, RateShare, RateState};
pub use self::sites::Sites;

/// The purpose of a key. A key has one role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Role {
    /// Send events
    Write,
    /// Read reports
    Read,
}

impl Role {
    /// The word in the key file.
    pub fn name(self) -> &'static str {
        match self {
            Role::Write => "write",
            Role::Read => "read",
        }
    }

    fn unit(self) -> Unit {
        match self {
            Role::Write => Unit::Events,
            Role::Read => Unit::Requests,
        }
    }
}

impl Entry {
    /// Whether the key may be used.
    pub fn state(&self, now: DateTime<Utc>) -> State {
        State::new(self.expires, now)
    }
}

/// A key of the key file. It does not hold the key's text, so nothing can print it.
pub struct Key {
    entry: Entry,
    bucket: Option<Arc<Bucket>>,
    /// Seconds since 1970; 0 is never.
    last_used: Arc<AtomicI64>,
}

impl Key {
    /// Keeps when the same key `before` was used, and its bucket if the rate has not changed.
    fn new(entry: Entry, before: Option<&Key>, share: RateShare) -> Key {
        let unit = entry.role.unit();
        let bucket = entry.rate.map(|rate| {
            let rate = rate.share(share);
            let kept = before.and_then(|key| key.bucket.clone());
            kept.filter(|bucket| bucket.is_for(rate, unit))
                .unwrap_or_else(|| Arc::new(Bucket::new(rate, unit)))
        });
        let is_same = |key: &&Key| key.entry.credential.is_same(&entry.credential);
        let last_used = before.filter(is_same).map(|key| Arc::clone(&key.last_used));
        Key {
            entry,
            bucket,
            last_used: last_used.unwrap_or_default(),
        }
    }

    /// The line of the file.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Seconds since 1970 when it was last used here; 0 if it was not.
    pub fn last_used(&self) -> i64 {
        self.last_used.load(Relaxed)
    }

    /// Its public name, for logs and metrics.
    pub fn id(&self) -> &str {
        &self.entry.id
    }

    pub fn role(&self) -> Role {
        self.entry.role
    }

    /// The sites that it may write or read.
    pub fn sites(&self) -> &Sites {
        &self.entry.sites
    }

    /// Marks it as used, unless it has expired.
    ///
    /// # Errors
    /// [`Denied::Expired`].
    fn use_at(&self, now: DateTime<Utc>) -> Result<(), Denied> {
        if let Some(expiry) = self.entry.expires
            && expiry.is_past(now)
        {
            return Err(Denied::Expired(expiry));
        }
        // Written once a second: processors share what is only read.
        if self.last_used() != now.timestamp() {
            self.last_used.store(now.timestamp(), Relaxed);
        }
        Ok(())
    }

    /// Checks that this many could ever come at once, and spends nothing.
    ///
    /// # Errors
    /// [`RateLimited::Never`].
    pub fn check_burst(&self, count: usize) -> Result<(), RateLimited> {
        match &self.bucket {
            Some(bucket) if count > bucket.burst() => Err(bucket.never(count)),
            _ => Ok(()),
        }
    }

    /// Spends events of its rate (one request, if it reads: then `count` is 1), all or nothing. `None`: it has no rate,
    /// or `count` is 0.
    ///
    /// # Errors
    /// [`RateLimited`]: not now, or not ever.
    pub fn spend(&self, count: usize) -> Result<Option<RateState>, RateLimited> {
        let Some(bucket) = &self.bucket else {
            return Ok(None);
        };
        match u32::try_from(count).map(NonZeroU32::new) {
            Ok(None) => Ok(None),
            Ok(Some(count)) => bucket.spend(count).map(Some),
            Err(_) => Err(bucket.never(count)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const SITE: &str = "6f1c1f2e-3d0b-4c5a-9b0e-2f4b8f3f7a01";
    const OTHER: &str = "0b9c6a52-7d0e-4a7e-8d55-1f2a3b4c5d6e";

    fn key(words: &str, before: Option<&Key>) -> Key {
        let line = words.replace("HASH", &format!("sha256:{}", "0".repeat(64)));
        let entry = parse(line.as_bytes()).unwrap().remove(0);
        Key::new(entry, before, RateShare::parse("1/1").unwrap())
    }

    #[test]
    fn a_key_writes_or_reads() {
        let key = |role: &str| key(&format!("k3y1 {role} * HASH"), None);
        let (writer, reader) = (key("write"), key("read"));
        assert_eq!((writer.role(), reader.role()), (Role::Write, Role::Read));
        assert_eq!(reader.id(), "k3y1");
    }

    #[test]
    fn a_key_is_for_its_sites_alone() {
        let [site, other] = [SITE, OTHER].map(|text| text.parse::<Uuid>().unwrap());
        let bound = key(&format!("k3y1 write {SITE} HASH"), None);
        assert!(bound.sites().contains(&site));
        assert!(!bound.sites().contains(&other));
        let free = key("k3y1 write * HASH", None);
        assert!(free.sites().contains(&other));
    }

    #[test]
    fn a_bucket_outlives_its_key_unless_the_rate_changes() {
        let before = key("k3y1 write * HASH rate=1 burst=10", None);
        before.spend(10).unwrap();
        let full = |words: &str| key(words, Some(&before)).spend(10).is_ok();
        assert!(!full("k3y1 write * HASH burst=10 rate=1"));
        assert!(!full(&format!("k3y1 write {SITE} HASH rate=1 burst=10")));
        assert!(full("k3y1 write * HASH rate=1 burst=11"));
        assert!(full("k3y1 write * HASH rate=2 burst=10"));
        assert!(full("k3y1 read * HASH rate=1 burst=10"));
        assert!(full("k3y1 write * HASH"));
    }

    #[test]
    fn a_rate_counts_what_is_asked_for() {
        let free = key("k3y1 write * HASH", None);
        assert_eq!(free.spend(usize::MAX), Ok(None));
        let rated = key("k3y1 write * HASH rate=1 burst=3", None);
        assert_eq!(rated.spend(0), Ok(None));
        let left = rated.spend(2).unwrap().map(|state| state.remaining());
        assert_eq!(left, Some(1));
        let (count, burst) = (usize::MAX, 3);
        assert_eq!(rated.spend(count), Err(RateLimited::Never { count, burst }));
    }
}
