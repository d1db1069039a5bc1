//! What is counted of events that are not accepted: how many they are, and for which reason. Pure.

use super::auth::keys::RateLimited;
use super::problem::Problem;
use crate::event::Rejection;

/// Why events are not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// What was sent is no events.
    Malformed,
    /// The body did not come to its end, or not in time.
    Incomplete,
    /// More at once than is allowed.
    TooLarge,
    /// No key, or one that may not.
    Denied,
    /// Over the key's rate.
    Rate,
    /// Too much is in progress, or waits for Kafka; nothing was sent.
    Busy,
    /// Kafka did not confirm; it may have them all the same.
    Kafka,
    /// Our own code failed.
    Bug,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 8] = [
        Reason::Malformed,
        Reason::Incomplete,
        Reason::TooLarge,
        Reason::Denied,
        Reason::Rate,
        Reason::Busy,
        Reason::Kafka,
        Reason::Bug,
    ];

    /// As the label has it.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Malformed => "malformed",
            Reason::Incomplete => "incomplete",
            Reason::TooLarge => "too_large",
            Reason::Denied => "denied",
            Reason::Rate => "rate",
            Reason::Busy => "busy",
            Reason::Kafka => "kafka",
            Reason::Bug => "bug",
        }
    }

    /// The reason that a problem is; `None` of those that are not about events.
    fn of(problem: &Problem) -> Option<Reason> {
        Some(match problem {
            Problem::Host
            | Problem::ForeignHost(_)
            | Problem::TransferCoding
            | Problem::EncodingBroken(_)
            | Problem::MediaType(_)
            | Problem::Encoding(_)
            | Problem::Query(_)
            | Problem::Body(Rejection::NotJson(_) | Rejection::Invalid { .. }) => Reason::Malformed,
            Problem::BodyBroken | Problem::BodyLate(_) => Reason::Incomplete,
            Problem::BodyTooLarge(_)
            | Problem::InflatedTooLarge(_)
            | Problem::Body(Rejection::TooMany(_))
            | Problem::RateLimited(RateLimited::Never { .. }) => Reason::TooLarge,
            Problem::Denied(_) | Problem::WrongRole(_) | Problem::ForeignEvents(_) => Reason::Denied,
            Problem::RateLimited(RateLimited::Wait { .. }) => Reason::Rate,
            Problem::RequestsFull | Problem::MemoryFull | Problem::KafkaFull => Reason::Busy,
            Problem::Unconfirmed(_) => Reason::Kafka,
            Problem::Bug => Reason::Bug,
            Problem::ForeignPage { .. }
            | Problem::UnknownHost(_)
            | Problem::ForeignSites(_)
            | Problem::NotFound
            | Problem::MethodNotAllowed(_)
            | Problem::NoUpgrade(_)
            | Problem::WebSocketVersion
            | Problem::WebSocketKey
            | Problem::ReportRefused(..)
            | Problem::Report(..) => return None,
        })
    }
}

/// A problem, and how many events are not accepted because of it.
#[derive(Debug)]
pub struct Refused {
    /// What the sender is told.
    pub problem: Problem,
    /// Those of the body; 1 if nobody got to count them.
    events: usize,
}

impl Refused {
    /// Refuses so many events.
    pub fn all(events: usize, problem: Problem) -> Refused {
        Refused {
            problem,
            events: events.max(1),
        }
    }

    /// What is counted, if the problem is about events.
    pub fn counted(&self) -> Option<(Reason, u64)> {
        Some((Reason::of(&self.problem)?, self.events as u64))
    }
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Refused {
        let events = match &problem {
            Problem::Body(Rejection::Invalid { events, .. }) => *events,
            _ => 1,
        };
        Refused::all(events, problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_counts_as_its_events_where_they_are_known() {
        let invalid = |events| {
            let errors = Vec::new();
            Problem::Body(Rejection::Invalid { events, errors })
        };
        let counted = |refused: Refused| {
            let (reason, events) = refused.counted().unwrap();
            (reason.name(), events)
        };
        assert_eq!(counted(invalid(7).into()), ("malformed", 7));
        assert_eq!(counted(invalid(0).into()), ("malformed", 1));
        let not_json = Problem::Body(Rejection::NotJson(String::new()));
        assert_eq!(counted(not_json.into()), ("malformed", 1));
        let many = Problem::Body(Rejection::TooMany(10));
        assert_eq!(counted(many.into()), ("too_large", 1));
        let unconfirmed = Refused::all(9, Problem::Unconfirmed(1));
        assert_eq!(counted(unconfirmed), ("kafka", 9));
        assert!(Refused::from(Problem::NotFound).counted().is_none());
    }

    #[test]
    fn every_reason_has_its_own_name() {
        let mut names = Reason::ALL.map(Reason::name);
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    }
}
