//! The captcha event: four fields that are its identity, parsed once at the edge and valid from then on.

mod fast_path;
mod json;
mod ndjson;
mod timestamp;

use std::fmt;

use uuid::Uuid;
use uuid::fmt::Hyphenated;

pub use self::json::{ERRORS_MAX, FieldError, Rejection, parse_body, parse_record};
pub use self::ndjson::{parse_line, parse_lines};
pub use self::timestamp::Timestamp;

/// What happened to a challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    /// The challenge was shown.
    Serve,
    /// The challenge was solved.
    Solve,
}

impl EventType {
    /// The spelling in JSON and in the `type` column.
    pub const fn as_str(self) -> &'static str {
        match self {
            EventType::Serve => "serve",
            EventType::Solve => "solve",
        }
    }

    /// The type with this exact spelling.
    pub fn from_name(name: &str) -> Option<EventType> {
        [EventType::Serve, EventType::Solve]
            .into_iter()
            .find(|event_type| event_type.as_str() == name)
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The longest text of [`Event::to_json`]: UUIDs and a time with its fraction.
const JSON_BYTES_MAX: usize = 157;

/// One captcha event. Two events are the same event if and only if all four fields are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Event {
    /// The site that showed the challenge.
    pub site_id: Uuid,
    pub event_type: EventType,
    /// Ties a solve to its serve.
    pub correlation_id: Uuid,
    /// By the sender's clock, which decides only when a report counts the event and how long a solve took.
    pub time: Timestamp,
}

impl Event {
    /// The key of the event's Kafka record: the 36 characters of its correlation id, so that a
    /// repeat of an event comes to the same partition.
    pub fn key(&self) -> String {
        let mut buffer = [0; Hyphenated::LENGTH];
        hyphenated(self.correlation_id, &mut buffer).to_string()
    }

    /// The value of the event's Kafka record: JSON of the four fields in a fixed order and spelling.
    pub fn to_json(&self) -> String {
        let mut json = String::with_capacity(JSON_BYTES_MAX);
        let mut buffer = [0; Hyphenated::LENGTH];
        // Nothing needs escaping: UUIDs, two fixed words and digits.
        json.push_str(r#"{"site_id":""#);
        json.push_str(hyphenated(self.site_id, &mut buffer));
        json.push_str(r#"","type":""#);
        json.push_str(self.event_type.as_str());
        json.push_str(r#"","correlation_id":""#);
        json.push_str(hyphenated(self.correlation_id, &mut buffer));
        json.push_str(r#"","time":""#);
        self.time.with_text(|time| json.push_str(time));
        json.push_str(r#""}"#);
        json
    }
}

/// Writes a UUID without a formatter, which takes several times as long.
fn hyphenated(id: Uuid, buffer: &mut [u8; Hyphenated::LENGTH]) -> &str {
    id.hyphenated().encode_lower(buffer)
}

/// Events that differ only in their correlation id, for tests.
#[cfg(test)]
pub fn numbered(number: u128) -> Event {
    Event {
        site_id: Uuid::nil(),
        event_type: EventType::Serve,
        correlation_id: Uuid::from_u128(number),
        time: Timestamp::from_micros(0).unwrap(),
    }
}
