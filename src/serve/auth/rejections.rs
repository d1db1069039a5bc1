//! Rejected keys: each request or message is counted, and some are logged.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::keys::Denied;
use super::links::LinkRefusal;
use crate::http::ClientCertificate;
use crate::serve::problem::Problem;
use crate::telemetry::log_once::LogCount;

/// Between two lines of one reason: enough to see who tries what, and a flood of wrong keys does not fill a disk.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// Why a key was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    Missing,
    /// The text is not a key.
    Malformed,
    /// There is no key of this ID.
    Unknown,
    /// The key with this ID has another secret.
    WrongSecret,
    Expired,
    /// The client certificate is not named, or not valid any more.
    Certificate,
    /// The key has the other role.
    Role,
    /// The key is for other sites.
    Site,
    /// The link is not one that was signed.
    Link,
    LinkExpired,
    /// A page of another site, with the password or certificate of its visitor's browser.
    CrossSite,
}

impl Reason {
    const ALL: [Reason; 11] = [
        Reason::Missing,
        Reason::Malformed,
        Reason::Unknown,
        Reason::WrongSecret,
        Reason::Expired,
        Reason::Certificate,
        Reason::Role,
        Reason::Site,
        Reason::Link,
        Reason::LinkExpired,
        Reason::CrossSite,
    ];

    /// The value of the label `reason`, and the field of the log.
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
            Reason::Link => "link",
            Reason::LinkExpired => "link_expired",
            Reason::CrossSite => "cross_site",
        }
    }

    /// The reason of a problem; `None` if it is not about keys.
    fn from_problem(problem: &Problem) -> Option<Reason> {
        match problem {
            Problem::Denied(denied) | Problem::SignIn(denied) => Some(Reason::from_denied(*denied)),
            Problem::LinkRefused(LinkRefusal::Key(denied)) => Some(Reason::from_denied(*denied)),
            Problem::LinkRefused(LinkRefusal::NotTaken | LinkRefusal::Invalid) => Some(Reason::Link),
            Problem::LinkRefused(LinkRefusal::Expired(_)) => Some(Reason::LinkExpired),
            Problem::CrossSite => Some(Reason::CrossSite),
            Problem::WrongRole(_) => Some(Reason::Role),
            Problem::ForeignEvents(_) | Problem::ForeignSites(_) => Some(Reason::Site),
            _ => None,
        }
    }

    fn from_denied(denied: Denied) -> Reason {
        match denied {
            Denied::Missing | Denied::MissingBoth => Reason::Missing,
            Denied::Malformed => Reason::Malformed,
            Denied::Unknown => Reason::Unknown,
            Denied::WrongSecret => Reason::WrongSecret,
            Denied::Expired(_) => Reason::Expired,
            Denied::CertificateUnknown | Denied::CertificateInvalid => Reason::Certificate,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// Counts and logs rejected keys.
pub struct KeyRejections {
    counts: Family<ReasonLabel, Counter>,
    lines: [Mutex<LogCount>; Reason::ALL.len()],
}

impl KeyRejections {
    /// Counts that are rendered with a registry. Every reason is there from the start.
    pub fn register(registry: &mut Registry) -> KeyRejections {
        let counts = Family::<ReasonLabel, Counter>::default();
        for reason in Reason::ALL.map(Reason::name) {
            drop(counts.get_or_create(&ReasonLabel { reason }));
        }
        let help = "Requests and stream messages that no key let in, by reason";
        registry.register("keys_rejected", help, counts.clone());
        let lines = std::array::from_fn(|_| Mutex::new(LogCount::new(LINE_INTERVAL)));
        KeyRejections { counts, lines }
    }

    /// Counts a problem with the key of this ID, or with this certificate, from an address. Ignores problems that are
    /// not about keys.
    pub fn record(
        &self,
        problem: &Problem,
        key: Option<&str>,
        certificate: Option<&ClientCertificate>,
        address: IpAddr,
    ) {
        let Some(reason) = Reason::from_problem(problem) else {
            return;
        };
        let name = reason.name();
        self.counts.get_or_create(&ReasonLabel { reason: name }).inc();
        let lines = &self.lines[reason as usize];
        let mut lines = lines.lock();
        if let Some(count) = lines.add(1, Instant::now()) {
            let left_out = count - 1;
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
        let (mut lines, began) = (LogCount::new(LINE_INTERVAL), Instant::now());
        let at = |millis| began + Duration::from_millis(millis);
        let written: Vec<_> = (0..40).filter_map(|tick| lines.add(1, at(tick * 50))).collect();
        assert_eq!(written, [1, 20]);
        assert_eq!(lines.add(1, at(10_000)), Some(20));
        assert_eq!(lines.add(1, at(20_000)), Some(1));
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
