//! Requests and messages that no key let in: each is counted, and some are logged.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::keys::Denied;
use crate::http::ClientCertificate;
use crate::serve::problem::Problem;

/// Between two lines of one reason: enough to see who tries what, and a flood of wrong keys does not fill a disk.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// Why a request was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// No key was sent.
    Missing,
    /// What was sent is no key.
    Malformed,
    /// There is no key of this ID.
    Unknown,
    /// The key of this ID is another.
    WrongSecret,
    /// The key has expired.
    Expired,
    /// The client certificate is not named, or not good any more.
    Certificate,
    /// The key has the other role.
    Role,
    /// The key is for other sites.
    Site,
}

impl Reason {
    /// All of them.
    const ALL: [Reason; 8] = [
        Reason::Missing,
        Reason::Malformed,
        Reason::Unknown,
        Reason::WrongSecret,
        Reason::Expired,
        Reason::Certificate,
        Reason::Role,
        Reason::Site,
    ];

    /// As label and log have it.
    fn name(self) -> &'static str {
        match self {
            Reason::Missing => "missing",
            Reason::Malformed => "malformed",
            Reason::Unknown => "unknown",
            Reason::WrongSecret => "wrong_secret",
            Reason::Expired => "expired",
            Reason::Certificate => "certificate",
            Reason::Role => "role",
            Reason::Site => "site",
        }
    }

    /// The reason that a problem is; `None` of those that are not about keys.
    fn of(problem: &Problem) -> Option<Reason> {
        match problem {
            Problem::Denied(Denied::Missing | Denied::MissingBoth) => Some(Reason::Missing),
            Problem::Denied(Denied::Malformed) => Some(Reason::Malformed),
            Problem::Denied(Denied::Unknown) => Some(Reason::Unknown),
            Problem::Denied(Denied::WrongSecret) => Some(Reason::WrongSecret),
            Problem::Denied(Denied::Expired(_)) => Some(Reason::Expired),
            Problem::Denied(Denied::CertificateUnknown | Denied::CertificateInvalid) => Some(Reason::Certificate),
            Problem::WrongRole(_) => Some(Reason::Role),
            Problem::ForeignEvents(_) | Problem::ForeignSites(_) => Some(Reason::Site),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfReason {
    reason: &'static str,
}

/// What was not let in so far.
pub struct KeyRefusals {
    counts: Family<OfReason, Counter>,
    lines: [Mutex<Lines>; Reason::ALL.len()],
}

/// The lines of one reason.
#[derive(Debug, Default)]
struct Lines {
    last: Option<Instant>,
    left_out: u64,
}

impl Lines {
    /// Whether one more is written, and then how many were left out since the one before.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now < last + LINE_INTERVAL) {
            self.left_out += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

impl KeyRefusals {
    /// Counts that are rendered with a registry. Every reason is there from the start.
    pub fn register(registry: &mut Registry) -> KeyRefusals {
        let counts = Family::<OfReason, Counter>::default();
        for reason in Reason::ALL.map(Reason::name) {
            drop(counts.get_or_create(&OfReason { reason }));
        }
        let help = "Requests and stream messages that no key let in, by reason";
        registry.register("keys_rejected", help, counts.clone());
        let lines = Default::default();
        KeyRefusals { counts, lines }
    }

    /// A problem is the answer to a request or message from an address, which claims to have the key of an ID or has shown
    /// a certificate. Those that are not about keys are left to others.
    pub fn record(
        &self,
        problem: &Problem,
        key: Option<&str>,
        certificate: Option<&ClientCertificate>,
        address: IpAddr,
    ) {
        let Some(reason) = Reason::of(problem) else {
            return;
        };
        let name = reason.name();
        self.counts.get_or_create(&OfReason { reason: name }).inc();
        let lines = &self.lines[reason as usize];
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left_out) = lines.admit(Instant::now()) {
            let names = certificate.map(|certificate| certificate.names());
            let certificate = names.and_then(<[_]>::first).map(tracing::field::display);
            tracing::info!(reason = name, key, certificate, %address, left_out, "key refused");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_line_a_second_with_the_count_of_the_others() {
        let (mut lines, began) = (Lines::default(), Instant::now());
        let at = |millis| began + Duration::from_millis(millis);
        let admitted: Vec<_> = (0..40).map(|tick| lines.admit(at(tick * 50))).collect();
        let written: Vec<_> = admitted.into_iter().flatten().collect();
        assert_eq!(written, [0, 19]);
        assert_eq!(lines.admit(at(10_000)), Some(19));
        assert_eq!(lines.admit(at(20_000)), Some(0));
    }

    #[test]
    fn every_reason_has_its_own_place_and_name() {
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
        }
        let mut names = Reason::ALL.map(Reason::name);
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    }
}
