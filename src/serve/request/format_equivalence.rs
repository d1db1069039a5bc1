//! All formats accept the same events and refuse the same events, at the same places: a test with events in random
//! spellings and with random defects.

use std::io::Write as _;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use uuid::Uuid;

use super::content_type::{BodyFormat, MediaType, Source};
use super::decompress::{ContentCoding, decompress};
use crate::event::{Event, EventType, Rejection, Timestamp, numbered};

const EVENTS_MAX: usize = 12;
const FIELDS: [&str; 4] = ["site_id", "type", "correlation_id", "time"];

/// A defect of an event, at a field.
#[derive(Debug, Clone)]
enum Defect {
    Missing,
    Repeated,
    /// Another field, of a name that is unknown.
    Unknown(&'static str),
    /// Another value, as JSON.
    Value(&'static str),
    /// A text that is not JSON, for the value.
    NotJson(&'static str),
}

/// An event as it is written, and what must be found in it.
#[derive(Debug, Clone)]
struct Written {
    text: String,
    event: Event,
    /// Where something is wrong, sorted.
    places: Vec<String>,
    is_json: bool,
}

const VALUES: [&str; 12] = [
    "null",
    "true",
    "17",
    "-0.5e3",
    "1e999",
    "\"\"",
    "\"x\"",
    "[]",
    "{}",
    "[[{\"time\":[1]}]]",
    "\"\\ud800\"",
    "\"2001-02-30T00:00:00\"",
];
const NO_JSON: [&str; 8] = ["", "nul", "'x'", "01", "\"\\x\"", "\"\t\"", "NaN", "[1,]"];
const NAMES: [&str; 6] = ["user", "", "a/b~c", "Type", "__proto__", "\u{e4}"];

fn defect() -> impl Strategy<Value = Defect> {
    prop_oneof![
        Just(Defect::Missing),
        Just(Defect::Repeated),
        select(&NAMES[..]).prop_map(Defect::Unknown),
        select(&VALUES[..]).prop_map(Defect::Value),
        select(&NO_JSON[..]).prop_map(Defect::NotJson),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let micros = prop_oneof![
        0..7_289_654_399_999_999_i64,
        (0..7_289_654_399_i64).prop_map(|s| s * 1_000_000)
    ];
    (any::<[u128; 2]>(), any::<bool>(), micros).prop_map(|(ids, is_solve, micros)| {
        let mut event = numbered(ids[1]);
        event.site_id = Uuid::from_u128(ids[0]);
        event.event_type = if is_solve { EventType::Solve } else { EventType::Serve };
        event.time = Timestamp::from_micros(micros).unwrap();
        event
    })
}

fn spelt_uuid(id: Uuid, spelling: usize) -> String {
    match spelling % 5 {
        0 => id.hyphenated().to_string(),
        1 => id.hyphenated().to_string().to_uppercase(),
        2 => id.simple().to_string(),
        3 => id.braced().to_string(),
        _ => id.urn().to_string(),
    }
}

fn spelt_time(time: Timestamp, spelling: usize) -> String {
    let utc = time.to_string();
    match spelling % 8 {
        0 => utc,
        1 => format!("{utc}Z"),
        2 => format!("{utc}z"),
        3 => format!("{utc}+00:00"),
        4 => format!("{utc}-0000"),
        5 => format!("{utc}+00"),
        6 => utc.replace('T', "t"),
        // Nanoseconds, which are cut.
        _ => match utc.contains('.') {
            true => format!("{utc}999Z"),
            false => format!("{utc}.000000999Z"),
        },
    }
}

/// A JSON string of a text, with one of its characters escaped.
fn quoted(text: &str, at: Index) -> String {
    let at = at.index(text.len() + 1);
    let escaped = |(place, c): (usize, char)| match place == at {
        true => format!("\\u{:04x}", c as u32),
        false => c.to_string(),
    };
    let inner: String = text.chars().enumerate().map(escaped).collect();
    format!("\"{inner}\"")
}

type Spelling = (Vec<usize>, usize, Index, Index, &'static str);

fn write(
    (event, (order, spelling, name_at, value_at, blank), defects): (Event, Spelling, Vec<(usize, Defect)>),
) -> Written {
    let texts = [
        spelt_uuid(event.site_id, spelling),
        event.event_type.to_string(),
        spelt_uuid(event.correlation_id, spelling / 5),
        spelt_time(event.time, spelling / 25),
    ];
    let mut members: Vec<(usize, String, String)> = order
        .into_iter()
        .map(|field| (field, quoted(FIELDS[field], name_at), quoted(&texts[field], value_at)))
        .collect();
    let (mut places, mut is_json) = (Vec::new(), true);
    for (field, defect) in defects {
        let pointer = format!("/{}", FIELDS[field]);
        let at = members.iter().position(|member| member.0 == field).unwrap();
        match defect {
            Defect::Missing => {
                members.remove(at);
                places.push(pointer);
            }
            Defect::Repeated => {
                members.push(members[at].clone());
                places.push(pointer);
            }
            Defect::Unknown(name) => {
                members.insert(at, (field, format!("\"{name}\""), "1".to_string()));
                places.push(format!("/{}", name.replace('~', "~0").replace('/', "~1")));
            }
            Defect::Value(value) => {
                members[at].2 = value.to_string();
                places.push(pointer);
            }
            Defect::NotJson(value) => {
                members[at].2 = value.to_string();
                is_json = false;
            }
        }
    }
    places.sort();
    let member = |(_, name, value): (usize, String, String)| format!("{blank}{name}{blank}:{blank}{value}{blank}");
    let members: Vec<_> = members.into_iter().map(member).collect();
    Written {
        text: format!("{{{}}}", members.join(",")),
        event,
        places,
        is_json,
    }
}

fn written() -> impl Strategy<Value = Written> {
    let spelling = (
        Just(vec![0, 1, 2, 3]).prop_shuffle(),
        0..200_usize,
        any::<Index>(),
        any::<Index>(),
        select(&["", " ", "\t ", "\r"][..]),
    );
    // One defect of a field at most: what two of them are together is the parser's own test.
    let defects = prop_oneof![
        6 => Just(Vec::new()),
        1 => (0..4_usize, defect()).prop_map(|defect| vec![defect]),
        1 => (0..2_usize, defect(), defect()).prop_map(|(field, a, b)| vec![(field, a), (field + 2, b)]),
    ];
    (event(), spelling, defects).prop_map(write)
}

fn encode(bytes: &[u8], coding: ContentCoding, cut: Index) -> Vec<u8> {
    let gzip = |part: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(part).unwrap();
        encoder.finish().unwrap()
    };
    // In two members or frames, which are one body all the same.
    let (first, second) = bytes.split_at(cut.index(bytes.len() + 1));
    match coding {
        ContentCoding::Identity => bytes.to_vec(),
        ContentCoding::Gzip => [gzip(first), gzip(second)].concat(),
        ContentCoding::Zstd => [first, second].map(|part| zstd::encode_all(part, 1).unwrap()).concat(),
    }
}

/// The outcome that every format must have for the same events.
fn judged(all: &[Written], ending: &str, cut: Index) -> Vec<Result<Vec<Event>, Rejection>> {
    let texts: Vec<_> = all.iter().map(|written| written.text.as_str()).collect();
    let mut bodies = vec![
        (MediaType::Json, format!("[{}]", texts.join(","))),
        (MediaType::Json, format!(" [\n{} ]\n", texts.join(",\r\n"))),
        (MediaType::NdJson, texts.join(ending)),
        (MediaType::NdJson, format!("{ending}{}{ending}", texts.join("\n \n"))),
    ];
    // A single event needs no array; its pointers are as if it stood in none.
    if let ([one], true) = (all, all[0].places.is_empty()) {
        bodies.push((MediaType::Json, one.text.clone()));
    }
    let codings = [ContentCoding::Identity, ContentCoding::Gzip, ContentCoding::Zstd];
    let forms = bodies
        .iter()
        .flat_map(|(media_type, body)| codings.map(|coding| (*media_type, coding, body)));
    forms
        .map(|(media_type, coding, body)| {
            let sent = encode(body.as_bytes(), coding, cut);
            let decompressed = decompress(&sent, coding, body.len(), |_| true).unwrap();
            assert_eq!(decompressed, body.as_bytes());
            let format = BodyFormat {
                media_type,
                coding,
                source: Source::Request,
            };
            format.parse(&decompressed, EVENTS_MAX)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn all_forms_judge_alike(
        all in proptest::collection::vec(written(), 1..EVENTS_MAX + 3),
        ending in select(&["\n", "\r\n", "\n\n", " \n"][..]),
        cut in any::<Index>(),
    ) {
        let is_json = all.iter().all(|written| written.is_json);
        let mut places: Vec<_> = all
            .iter()
            .enumerate()
            .flat_map(|(number, written)| written.places.iter().map(move |place| format!("/{number}{place}")))
            .collect();
        places.sort();
        for judgement in judged(&all, ending, cut) {
            match judgement {
                Ok(events) => {
                    prop_assert!(is_json && places.is_empty() && all.len() <= EVENTS_MAX);
                    let sent: Vec<_> = all.iter().map(|written| written.event.clone()).collect();
                    prop_assert_eq!(events, sent);
                }
                Err(Rejection::Invalid { events, errors }) => {
                    prop_assert_eq!(events, all.len());
                    prop_assert!(is_json && all.len() <= EVENTS_MAX, "{:?}", errors);
                    let mut named: Vec<_> = errors.into_iter().map(|error| error.pointer).collect();
                    named.sort();
                    prop_assert_eq!(&named, &places);
                }
                // Lines are read one by one, so that too many of them may be seen before one that is not JSON.
                Err(Rejection::TooMany(max)) => prop_assert!(max == EVENTS_MAX && all.len() > max),
                Err(Rejection::NotJson(reason)) => prop_assert!(!is_json, "{}", reason),
            }
        }
    }
}
