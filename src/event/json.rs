//! Parsing events: bytes in, events or all errors out.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{Deserializer as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::fast_path::{parse_canonical, parse_fast};
use super::{Event, EventType, Timestamp};

/// Errors listed in one response; a sender with that many makes the same mistake everywhere.
pub const ERRORS_MAX: usize = 100;

/// Characters of an unknown field's name that an error repeats.
const NAME_CHARS_MAX: usize = 64;

const FIELDS: [&str; 4] = ["site_id", "type", "correlation_id", "time"];

/// One error at one place in a body.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FieldError {
    /// Where, as a JSON pointer (RFC 6901), such as `/3/site_id`; the empty pointer is the whole body.
    pub pointer: String,
    pub detail: String,
}

/// Why a body is refused.
#[derive(Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The bytes are not JSON.
    NotJson(String),
    /// JSON, but not an event or an array of events.
    Invalid {
        /// How many events there are, valid or not; 0 in an empty array.
        events: usize,
        /// At most [`ERRORS_MAX`].
        errors: Vec<FieldError>,
    },
    /// More events than this limit.
    TooMany(usize),
}

/// Parses a JSON document: one event, or an array of 1 to `events_max` events, all or none.
///
/// # Errors
/// [`Rejection`], with every field that is wrong.
pub fn parse_body(body: &[u8], events_max: usize) -> Result<Vec<Event>, Rejection> {
    match parse_fast(body, events_max) {
        Some(events) => Ok(events),
        None => parse_slow(body, events_max),
    }
}

/// The slow path: parses every spelling that JSON has, and names every error.
fn parse_slow(body: &[u8], events_max: usize) -> Result<Vec<Event>, Rejection> {
    let text = utf8(body)?;
    let raw: &RawValue = serde_json::from_str(text).map_err(|err| Rejection::NotJson(err.to_string()))?;
    let mut errors = Vec::new();
    let (events, count) = if raw.get().starts_with('[') {
        parse_array(raw, events_max, &mut errors)?
    } else {
        (parse_event(raw, "", &mut errors).into_iter().collect(), 1)
    };
    all_or_none(events, count, errors)
}

pub(crate) fn utf8(body: &[u8]) -> Result<&str, Rejection> {
    std::str::from_utf8(body).map_err(|err| Rejection::NotJson(format!("not UTF-8 at byte {}", err.valid_up_to())))
}

/// The events, if none of the `count` has an error.
pub(crate) fn all_or_none(events: Vec<Event>, count: usize, errors: Vec<FieldError>) -> Result<Vec<Event>, Rejection> {
    if errors.is_empty() {
        Ok(events)
    } else {
        Err(Rejection::Invalid { events: count, errors })
    }
}

/// Parses the value of a Kafka record: exactly one event.
///
/// # Errors
/// One line with every error of the record.
pub fn parse_record(value: &[u8]) -> Result<Event, String> {
    // Nearly all records are what `Event::to_json` wrote, and parsing JSON is most of the cost of a record.
    if let Some(event) = parse_canonical(value) {
        return Ok(event);
    }
    if value.trim_ascii_start().starts_with(b"[") {
        return Err("an array; a record holds one event".to_string());
    }
    match parse_slow(value, 1) {
        Ok(mut events) => events.pop().ok_or_else(|| "no event".to_string()),
        Err(rejection) => Err(one_line(rejection)),
    }
}

/// Why one event is refused, in one line.
pub(crate) fn one_line(rejection: Rejection) -> String {
    match rejection {
        Rejection::NotJson(reason) => format!("not JSON: {reason}"),
        Rejection::TooMany(max) => format!("more than {max} events"),
        Rejection::Invalid { errors, .. } => errors
            .iter()
            .map(|error| format!("{} {}", error.pointer, error.detail).trim().to_string())
            .collect::<Vec<_>>()
            .join("; "),
    }
}

/// The valid events of an array, and the number of its items.
fn parse_array(
    raw: &RawValue,
    events_max: usize,
    errors: &mut Vec<FieldError>,
) -> Result<(Vec<Event>, usize), Rejection> {
    // The array is JSON already, so that the only error left is too many items.
    let items = serde_json::Deserializer::from_str(raw.get())
        .deserialize_seq(ItemsVisitor { events_max })
        .map_err(|_| Rejection::TooMany(events_max))?;
    if items.is_empty() {
        push(errors, "", "an empty array; expected at least one event");
    }
    let count = items.len();
    let mut events = Vec::with_capacity(count);
    for (index, item) in items.into_iter().enumerate() {
        if errors.len() >= ERRORS_MAX {
            break;
        }
        events.extend(parse_event(item, &format!("/{index}"), errors));
    }
    Ok((events, count))
}

/// Collects the items of an array, and stops after `events_max` of them: a body of commas costs no more memory than one
/// of events.
struct ItemsVisitor {
    events_max: usize,
}

impl<'de> Visitor<'de> for ItemsVisitor {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at most {} events", self.events_max)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            if all.len() == self.events_max {
                return Err(serde::de::Error::invalid_length(all.len() + 1, &self));
            }
            all.push(item);
        }
        Ok(all)
    }
}

/// Parses one event at `pointer`, or adds its errors.
pub(crate) fn parse_event(raw: &RawValue, pointer: &str, errors: &mut Vec<FieldError>) -> Option<Event> {
    // A derived struct would accept an array of four values too, so ask for the object first.
    if !raw.get().starts_with('{') {
        push(errors, pointer, format!("{}; expected an event object", json_type(raw)));
        return None;
    }
    let before = errors.len();
    let visitor = EventVisitor { pointer, errors };
    match serde_json::Deserializer::from_str(raw.get()).deserialize_map(visitor) {
        Ok(event) => event,
        Err(err) => {
            errors.truncate(before);
            push(errors, pointer, err.to_string());
            None
        }
    }
}

/// Collects every error of one object, where a derived `Deserialize` would stop at the first.
struct EventVisitor<'a> {
    pointer: &'a str,
    errors: &'a mut Vec<FieldError>,
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Visitor<'de> for EventVisitor<'_> {
    type Value = Option<Event>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an event object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values: [Option<&RawValue>; 4] = [None; 4];
        let mut failed = false;
        let mut add_error = |errors: &mut Vec<FieldError>, name: &str, detail: String| {
            failed = true;
            push(errors, &field_pointer(self.pointer, name), detail);
        };
        while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &RawValue>()? {
            match FIELDS.iter().position(|field| *field == name) {
                None => add_error(
                    self.errors,
                    &name,
                    format!("unknown field; expected {}", FIELDS.join(", ")),
                ),
                Some(at) if values[at].is_some() => {
                    add_error(self.errors, &name, "given more than once".to_string());
                }
                Some(at) => values[at] = Some(value),
            }
        }
        let mut text = |errors: &mut Vec<FieldError>, at: usize| match values[at] {
            None => {
                add_error(errors, FIELDS[at], "missing".to_string());
                None
            }
            Some(value) => match string(value) {
                Ok(text) => Some(text),
                Err(detail) => {
                    add_error(errors, FIELDS[at], detail);
                    None
                }
            },
        };
        let [site_id, event_type, correlation_id, time] = [0, 1, 2, 3].map(|at| text(self.errors, at));

        let mut add_invalid = |name: &str, detail: &str| add_error(self.errors, name, detail.to_string());
        let site_id = site_id.and_then(|text| uuid(&text).map_err(|e| add_invalid("site_id", e)).ok());
        let event_type = event_type.and_then(|text| {
            let event_type = EventType::from_name(&text);
            if event_type.is_none() {
                add_invalid("type", "neither serve nor solve");
            }
            event_type
        });
        let correlation_id =
            correlation_id.and_then(|text| uuid(&text).map_err(|e| add_invalid("correlation_id", e)).ok());
        let time = time.and_then(|text| Timestamp::parse(&text).map_err(|e| add_invalid("time", e)).ok());

        let event = match (site_id, event_type, correlation_id, time) {
            (Some(site_id), Some(event_type), Some(correlation_id), Some(time)) => Some(Event {
                site_id,
                event_type,
                correlation_id,
                time,
            }),
            _ => None,
        };
        Ok(event.filter(|_| !failed))
    }
}

fn uuid(text: &str) -> Result<Uuid, &'static str> {
    Uuid::parse_str(text).map_err(|_| "not a UUID")
}

fn string(raw: &RawValue) -> Result<Cow<'_, str>, String> {
    if !raw.get().starts_with('"') {
        return Err(format!("{}; expected a string", json_type(raw)));
    }
    match serde_json::from_str::<Name<'_>>(raw.get()) {
        Ok(Name(text)) => Ok(text),
        Err(_) => Err("a string with an invalid escape".to_string()),
    }
}

fn json_type(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// The pointer of a member, escaped as RFC 6901 section 3 asks and cut where a sender made it long.
fn field_pointer(parent: &str, name: &str) -> String {
    let name: String = name.chars().take(NAME_CHARS_MAX).collect();
    format!("{parent}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// Adds an error, up to [`ERRORS_MAX`].
pub(crate) fn push(errors: &mut Vec<FieldError>, pointer: &str, detail: impl Into<String>) {
    if errors.len() < ERRORS_MAX {
        errors.push(FieldError {
            pointer: pointer.to_string(),
            detail: detail.into(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::JSON_BYTES_MAX;
    use proptest::prelude::*;

    const EVENTS_MAX: usize = 1_000;
    const SITE: &str = "7a6f0a3e-9d3c-4b0e-8a55-0a4f5b1c2d3e";
    const CORRELATION: &str = "00000000-0000-4000-8000-00000000000a";

    fn good() -> String {
        format!(
            r#"{{"site_id":"{SITE}","type":"serve","correlation_id":"{CORRELATION}","time":"2001-01-01T05:55:07"}}"#
        )
    }

    /// The good event with the raw text of one member replaced.
    fn with(field: &str, raw: &str) -> String {
        let member = |name: &str, value: &str| format!(r#""{name}":{}"#, if name == field { raw } else { value });
        format!(
            "{{{},{},{},{}}}",
            member("site_id", &format!(r#""{SITE}""#)),
            member("type", r#""serve""#),
            member("correlation_id", &format!(r#""{CORRELATION}""#)),
            member("time", r#""2001-01-01T05:55:07""#)
        )
    }

    fn rejection(body: &str) -> Rejection {
        parse_body(body.as_bytes(), EVENTS_MAX).unwrap_err()
    }

    #[test]
    fn good_bodies_become_canonical_events() {
        let escaped = with("type", r#""\u0073erve""#);
        let bodies = [
            good(),
            format!(" \r\n\t{} ", good()),
            format!("[{}]", good()),
            format!("[ {} ]\n", good()),
            with("type", r#""serve""#),
            escaped,
            good().replace("\"type\"", r#""\u0074ype""#),
            with("site_id", &format!(r#""{}""#, SITE.to_uppercase())),
            with("site_id", &format!(r#""{}""#, SITE.replace('-', ""))),
            with("site_id", &format!(r#""{{{SITE}}}""#)),
            with("site_id", &format!(r#""urn:uuid:{SITE}""#)),
            with("time", r#""2001-01-01T05:55:07Z""#),
            with("time", r#""2001-01-01T05:55:07.000""#),
            with("time", r#""2001-01-01T05:55:07.000000999Z""#),
            with("time", r#""2001-01-01t05:55:07z""#),
            with("time", r#""2001-01-01T07:55:07+02:00""#),
            format!(
                r#"{{"time":"2001-01-01T05:55:07","correlation_id":"{CORRELATION}","type":"serve","site_id":"{SITE}"}}"#
            ),
        ];
        for body in bodies {
            let events = parse_body(body.as_bytes(), EVENTS_MAX).unwrap_or_else(|e| panic!("{body}: {e:?}"));
            assert_eq!(events.len(), 1, "{body}");
            assert_eq!(events[0].to_json(), good(), "{body}");
            assert_eq!(events[0].key(), CORRELATION, "{body}");
        }
    }

    #[test]
    fn canonical_json_reads_as_the_same_event() {
        let body = with("time", r#""2199-12-31T23:59:59.123456""#).replace("serve", "solve");
        let event = parse_body(body.as_bytes(), 1).unwrap().remove(0);
        assert_eq!(event.to_json().len(), JSON_BYTES_MAX);
        assert_eq!(parse_record(event.to_json().as_bytes()), Ok(event));
    }

    #[test]
    fn what_is_not_json_is_an_error_of_its_own() {
        for body in [
            "",
            " ",
            "{",
            "[",
            "nonsense",
            "{'site_id': 1}",
            "{\"site_id\":}",
            "[1,]",
            "{} {}",
            "{}x",
            "\u{feff}{}",
            "{\"a\":01}",
            "{\"a\":NaN}",
            "\"tab\tinside\"",
            "{\"a\":\"\\x\"}",
            "{a:1}",
            "// comment\n{}",
        ] {
            assert!(
                matches!(rejection(body), Rejection::NotJson(_)),
                "{body:?}: {:?}",
                rejection(body)
            );
        }
        for bytes in [&b"\xff\xfe{\0}\0"[..], b"{\"site_id\":\"\xe9\"}", b"\x00"] {
            let read = parse_body(bytes, EVENTS_MAX);
            assert!(matches!(read, Err(Rejection::NotJson(_))));
        }
        let deep = "[".repeat(100_000);
        assert!(matches!(rejection(&deep), Rejection::NotJson(_)));
    }

    #[test]
    fn each_wrong_field_is_named() {
        let long_name = "x".repeat(10_000);
        for (body, pointer, detail) in [
            ("null".to_string(), "", "null; expected an event object"),
            ("true".to_string(), "", "a boolean; expected an event object"),
            ("17".to_string(), "", "a number; expected an event object"),
            ("\"event\"".to_string(), "", "a string; expected an event object"),
            ("[]".to_string(), "", "an empty array"),
            ("[[]]".to_string(), "/0", "an array; expected an event object"),
            (
                format!("[[\"{SITE}\",\"serve\",\"{CORRELATION}\",\"2001-01-01T05:55:07\"]]"),
                "/0",
                "an array",
            ),
            (format!("[{},null]", good()), "/1", "null"),
            (
                format!("[{},{}]", good(), with("type", "1")),
                "/1/type",
                "a number; expected a string",
            ),
            (with("site_id", "null"), "/site_id", "null; expected a string"),
            (with("site_id", "17"), "/site_id", "a number; expected a string"),
            (with("site_id", "{}"), "/site_id", "an object; expected a string"),
            (with("site_id", "[]"), "/site_id", "an array; expected a string"),
            (with("site_id", "\"\""), "/site_id", "not a UUID"),
            (with("site_id", "\"7a6f0a3e\""), "/site_id", "not a UUID"),
            (with("site_id", &format!("\" {SITE}\"")), "/site_id", "not a UUID"),
            (
                with("correlation_id", "null"),
                "/correlation_id",
                "null; expected a string",
            ),
            (with("correlation_id", "\"x\""), "/correlation_id", "not a UUID"),
            (with("type", "\"Serve\""), "/type", "neither serve nor solve"),
            (with("type", "\"\""), "/type", "neither serve nor solve"),
            (with("type", "true"), "/type", "a boolean; expected a string"),
            (with("time", "978328507"), "/time", "a number; expected a string"),
            (with("time", "\"yesterday\""), "/time", "not a time like"),
            (
                with("time", "\"2001-01-01T05:55:07.1234567890\""),
                "/time",
                "more than 9 digits",
            ),
            (with("time", "\"2001-01-01T24:00:00\""), "/time", "no hour 24"),
            (with("time", "\"2001-01-01T05:55:60Z\""), "/time", "no second 60"),
            (with("time", "\"2300-01-01T00:00:00\""), "/time", "outside the years"),
            (with("time", r#""\ud800""#), "/time", "a string with an invalid escape"),
            (
                good().replace("}", ",\"user\":1}"),
                "/user",
                "unknown field; expected site_id",
            ),
            (good().replace("}", ",\"a/b~c\":1}"), "/a~1b~0c", "unknown field"),
            (good().replace("}", ",\"\":1}"), "/", "unknown field"),
            (
                good().replace("\"site_id\"", "\"SITE_ID\""),
                "/SITE_ID",
                "unknown field",
            ),
            (
                good().replace("}", &format!(",\"{long_name}\":1}}")),
                &format!("/{}", "x".repeat(64)),
                "unknown field",
            ),
            (
                good().replace("}", ",\"type\":\"serve\"}"),
                "/type",
                "given more than once",
            ),
            (
                good().replace("}", ",\"ty\\u0070e\":\"solve\"}"),
                "/type",
                "given more than once",
            ),
            (good().replace(r#""type":"serve","#, ""), "/type", "missing"),
        ] {
            let Rejection::Invalid { errors, .. } = rejection(&body) else {
                panic!("{body} is said not to be JSON");
            };
            assert_eq!(errors[0].pointer, pointer, "{body}");
            assert!(errors[0].detail.starts_with(detail), "{body}: {errors:?}");
        }
    }

    #[test]
    fn all_errors_come_at_once_up_to_a_hundred() {
        let Rejection::Invalid { events: 1, errors } = rejection("{\"extra\":1}") else {
            panic!("not JSON?");
        };
        let pointers: Vec<_> = errors.iter().map(|e| e.pointer.as_str()).collect();
        assert_eq!(pointers, ["/extra", "/site_id", "/type", "/correlation_id", "/time"]);
        let many = rejection(&format!("[{}{{}}]", "{},".repeat(999)));
        let Rejection::Invalid { events, errors } = many else {
            panic!("not JSON?");
        };
        assert_eq!(events, 1_000, "those that were not parsed too");
        assert_eq!(errors.len(), ERRORS_MAX);
    }

    #[test]
    fn more_events_than_the_limit_are_refused_whole() {
        let array = |count: usize| format!("[{}]", vec![good(); count].join(","));
        assert_eq!(
            parse_body(array(EVENTS_MAX).as_bytes(), EVENTS_MAX).unwrap().len(),
            EVENTS_MAX
        );
        assert_eq!(rejection(&array(EVENTS_MAX + 1)), Rejection::TooMany(EVENTS_MAX));
    }

    #[test]
    fn a_record_holds_one_event_and_says_what_is_wrong() {
        assert!(parse_record(good().as_bytes()).is_ok());
        for (value, reason) in [
            (format!("[{}]", good()), "an array; a record holds one event"),
            (String::new(), "not JSON: EOF while parsing a value"),
            ("7".to_string(), "a number; expected an event object"),
            (with("type", "1"), "/type a number; expected a string"),
        ] {
            let err = parse_record(value.as_bytes()).unwrap_err();
            assert!(err.starts_with(reason), "{value}: {err}");
        }
    }

    /// The event with its members in another order and white space wherever it may be.
    fn respelt(event: &Event, order: &[usize], space: &str) -> String {
        let json = event.to_json();
        let members: Vec<_> = json.trim_matches(['{', '}']).split(',').collect();
        let members = order.iter().map(|at| {
            let (name, value) = members[*at].split_once(':').unwrap();
            format!("{space}{name}{space}:{space}{value}{space}")
        });
        let members = members.collect::<Vec<_>>().join(",");
        format!("{space}{{{members}}}{space}")
    }

    #[test]
    fn the_short_way_leaves_to_the_long_way_what_only_that_may_judge() {
        let twice = good().replace("}", ",\"type\":\"serve\"}");
        for body in [
            twice,
            good().replace("serve", "\\u0073erve"),
            good().replace("\"type\"", "\"t\\u0079pe\""),
            good().replace("}", ",\"user\":\"x\"}"),
            good().replace(r#""type":"serve","#, ""),
            good().replace("}", ",}"),
            good().replace(",", "\u{b},"),
            format!("{}{}", good(), good()),
            format!("[{},]", good()),
            format!("[{}", good()),
            format!("[[{}]]", good()),
            "[]".to_string(),
        ] {
            assert_eq!(parse_fast(body.as_bytes(), EVENTS_MAX), None, "{body}");
        }
        let two = format!("[{},{}]", good(), good());
        assert_eq!(parse_fast(two.as_bytes(), 1), None);
        assert!(parse_fast(two.as_bytes(), 2).is_some());
    }

    proptest! {
        /// What the short way reads is what the long way reads, whatever was done to the bytes.
        #[test]
        fn both_ways_of_reading_agree(
            ids in any::<[u128; 4]>(),
            micros in 0_i64..7_289_654_399_999_999,
            has_fraction in any::<bool>(),
            order in Just([0, 1, 2, 3]).prop_shuffle(),
            is_array in any::<bool>(),
            space in "[ \t\r\n]{0,2}",
            at in any::<proptest::sample::Index>(),
            to in proptest::option::of(any::<u8>()),
            change in 0..4,
        ) {
            let time = if has_fraction { micros } else { micros / 1_000_000 * 1_000_000 };
            let event = |site: u128, correlation: u128| Event {
                site_id: Uuid::from_u128(site),
                event_type: if site.is_multiple_of(2) { EventType::Solve } else { EventType::Serve },
                correlation_id: Uuid::from_u128(correlation),
                time: Timestamp::from_micros(time).unwrap(),
            };
            let mut events = vec![event(ids[0], ids[1])];
            prop_assert_eq!(parse_canonical(events[0].to_json().as_bytes()), Some(events[0].clone()));
            if is_array {
                events.push(event(ids[2], ids[3]));
            }
            let written: Vec<_> = events.iter().map(|event| respelt(event, &order, &space)).collect();
            let mut bytes = written.join(&format!("{space},")).into_bytes();
            if is_array {
                bytes = [b"[", &bytes[..], space.as_bytes(), b"]"].concat();
            }
            prop_assert_eq!(parse_fast(&bytes, EVENTS_MAX), Some(events.clone()));
            prop_assert_eq!(parse_slow(&bytes, EVENTS_MAX), Ok(events));
            let at = at.index(bytes.len());
            match change {
                0 => bytes[at] = to.unwrap_or(b'"'),
                1 => bytes.insert(at, to.unwrap_or(b'\\')),
                2 => { bytes.remove(at); }
                _ => bytes.truncate(at),
            }
            if let Some(read) = parse_fast(&bytes, EVENTS_MAX) {
                prop_assert_eq!(parse_slow(&bytes, EVENTS_MAX), Ok(read));
            }
            if let Some(read) = parse_canonical(&bytes) {
                prop_assert_eq!(parse_slow(&bytes, 1), Ok(vec![read]));
            }
        }
    }
}
