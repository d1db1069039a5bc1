//! The fast path to parse events: objects of four strings without escapes, as nearly all senders write them.
//!
//! What it does not parse is left to the slow path in `json.rs`, which names every error. So the fast path may give up
//! anywhere, but what it parses must equal what the slow path parses.

use uuid::Uuid;

use super::{Event, EventType, Timestamp};

/// About the length of an event in a body.
const EVENT_BYTES: usize = 140;

/// The shortest name, UUID (without hyphens), type and time.
const NAME_BYTES_MIN: usize = 4;
const UUID_BYTES_MIN: usize = 32;
const TYPE_BYTES_MIN: usize = 5;
const TIME_BYTES_MIN: usize = 19;

/// Parses one event, or an array of 1 to `events_max` events. `None` means only that the slow path must try.
pub fn parse_fast(body: &[u8], events_max: usize) -> Option<Vec<Event>> {
    let mut rest = Scanner(body);
    if rest.skip(b'[').is_none() {
        let event = rest.event()?;
        rest.end()?;
        return Some(vec![event]);
    }
    let mut events = Vec::with_capacity((body.len() / EVENT_BYTES + 1).min(events_max));
    loop {
        events.push(rest.event()?);
        if events.len() > events_max {
            return None;
        }
        if rest.skip(b',').is_none() {
            break;
        }
    }
    rest.skip(b']')?;
    rest.end()?;
    Some(events)
}

/// Parses only the spelling of [`Event::to_json`], in half the time.
pub fn parse_canonical(value: &[u8]) -> Option<Event> {
    // UUIDs, types and times have neither quotes nor escapes, so the quotes here are those of JSON.
    let rest = value.strip_prefix(br#"{"site_id":""#)?;
    let (site_id, rest) = rest.split_at_checked(36)?;
    let rest = rest.strip_prefix(br#"","type":""#)?;
    let (event_type, rest) = rest.split_at_checked(5)?;
    let rest = rest.strip_prefix(br#"","correlation_id":""#)?;
    let (correlation_id, rest) = rest.split_at_checked(36)?;
    let rest = rest.strip_prefix(br#"","time":""#)?;
    let time = std::str::from_utf8(rest.strip_suffix(br#""}"#)?).ok()?;
    Some(Event {
        site_id: Uuid::try_parse_ascii(site_id).ok()?,
        event_type: EventType::from_name(std::str::from_utf8(event_type).ok()?)?,
        correlation_id: Uuid::try_parse_ascii(correlation_id).ok()?,
        time: Timestamp::parse(time).ok()?,
    })
}

/// The bytes still to parse. Its methods return `None` if something else is next.
struct Scanner<'a>(&'a [u8]);

impl<'a> Scanner<'a> {
    fn event(&mut self) -> Option<Event> {
        let (mut site_id, mut event_type, mut correlation_id, mut time) = (None, None, None, None);
        self.skip(b'{')?;
        loop {
            let name = self.string(NAME_BYTES_MIN)?;
            self.skip(b':')?;
            let is_first = match name {
                b"site_id" => site_id.replace(self.uuid()?).is_none(),
                b"type" => event_type.replace(self.event_type()?).is_none(),
                b"correlation_id" => correlation_id.replace(self.uuid()?).is_none(),
                b"time" => time.replace(self.time()?).is_none(),
                _ => false,
            };
            if !is_first {
                return None;
            }
            if self.skip(b',').is_none() {
                break;
            }
        }
        self.skip(b'}')?;
        Some(Event {
            site_id: site_id?,
            event_type: event_type?,
            correlation_id: correlation_id?,
            time: time?,
        })
    }

    fn uuid(&mut self) -> Option<Uuid> {
        Uuid::try_parse_ascii(self.string(UUID_BYTES_MIN)?).ok()
    }

    fn event_type(&mut self) -> Option<EventType> {
        EventType::from_name(std::str::from_utf8(self.string(TYPE_BYTES_MIN)?).ok()?)
    }

    fn time(&mut self) -> Option<Timestamp> {
        Timestamp::parse(std::str::from_utf8(self.string(TIME_BYTES_MIN)?).ok()?).ok()
    }

    /// A string between quotes. The second quote is not searched in the first `bytes_min` bytes, so a quote may be
    /// inside, and a backslash; but no valid name or value has either.
    fn string(&mut self, bytes_min: usize) -> Option<&'a [u8]> {
        self.skip(b'"')?;
        let tail = self.0.get(bytes_min..)?;
        let length = bytes_min + tail.iter().position(|byte| *byte == b'"')?;
        let (string, rest) = self.0.split_at(length);
        self.0 = &rest[1..];
        Some(string)
    }

    /// Skips a byte, and the white space before it.
    fn skip(&mut self, byte: u8) -> Option<()> {
        self.skip_white_space();
        self.0 = self.0.strip_prefix(&[byte])?;
        Some(())
    }

    fn end(&mut self) -> Option<()> {
        self.skip_white_space();
        self.0.is_empty().then_some(())
    }

    /// Skips JSON's white space, which is not all of ASCII's.
    fn skip_white_space(&mut self) {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.0 {
            self.0 = rest;
        }
    }
}
