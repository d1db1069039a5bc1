//! The captcha event: four fields that are its identity, read once at the edge and correct from then on.

mod lines;
mod parse;
mod time;

use std::fmt::{self, Write as _};

pub use lines::parse_lines;
pub use parse::{FieldError, Rejection, parse_body, parse_record};
pub use time::Timestamp;
use uuid::Uuid;

/// What happened to a challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The challenge was shown.
    Serve,
    /// The challenge was solved.
    Solve,
}

impl Kind {
    /// The spelling in JSON and in the `type` column.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Serve => "serve",
            Kind::Solve => "solve",
        }
    }

    /// The kind with this exact spelling.
    pub fn from_name(name: &str) -> Option<Kind> {
        [Kind::Serve, Kind::Solve]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One captcha event. Two events are the same event if and only if all four fields are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Event {
    /// The site that showed the challenge.
    pub site_id: Uuid,
    /// Shown or solved.
    pub kind: Kind,
    /// Ties a solve to its serve.
    pub correlation_id: Uuid,
    /// The sender's clock; decides nothing but the day that a report counts the event in.
    pub time: Timestamp,
}

impl Event {
    /// The key of the event's Kafka record: the 36 characters of its correlation id, so that a
    /// repeat of an event comes to the same partition.
    pub fn key(&self) -> String {
        self.correlation_id.hyphenated().to_string()
    }

    /// The value of the event's Kafka record: JSON of the four fields in a fixed order and spelling.
    pub fn to_json(&self) -> String {
        let mut json = String::with_capacity(176);
        // Nothing needs escaping: UUIDs, two fixed words and digits. Writing to a String cannot fail.
        let _ = write!(
            json,
            r#"{{"site_id":"{}","type":"{}","correlation_id":"{}","time":"{}"}}"#,
            self.site_id.hyphenated(),
            self.kind,
            self.correlation_id.hyphenated(),
            self.time
        );
        json
    }
}

/// Events that differ in their correlation id alone, for tests.
#[cfg(test)]
pub fn numbered(number: u128) -> Event {
    Event {
        site_id: Uuid::nil(),
        kind: Kind::Serve,
        correlation_id: Uuid::from_u128(number),
        time: Timestamp::from_micros(0).unwrap(),
    }
}
