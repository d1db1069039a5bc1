//! Feeds the decoders of bodies with whatever libFuzzer comes up with. None may panic, and what two of them read must
//! be the same.

#![no_main]

use captcha::parsers::{
    BodyFormat, ContentCoding, DecompressError, Event, MediaType, Mistake, Rejection, Source, decompress, parse_body,
    parse_lines, parse_record,
};
use libfuzzer_sys::fuzz_target;

const EVENTS_MAX: usize = 50;

/// Small, so that the limit is met often.
const INFLATED_BYTES_MAX: usize = 100_000;

fuzz_target!(|bytes: &[u8]| {
    all_ways_to_read(bytes);
    for coding in [ContentCoding::Identity, ContentCoding::Gzip, ContentCoding::Zstd] {
        let mut taken = 0;
        let inflated = decompress(bytes, coding, INFLATED_BYTES_MAX, |more| {
            taken += more;
            true
        });
        assert!(taken <= INFLATED_BYTES_MAX + 1, "{taken} bytes taken");
        match inflated {
            Ok(inflated) => {
                assert!(inflated.len() <= INFLATED_BYTES_MAX.min(taken));
                if coding != ContentCoding::Identity {
                    all_ways_to_read(&inflated);
                }
            }
            Err(DecompressError::TooLarge | DecompressError::Broken(_)) => {}
            Err(DecompressError::NoMemory) => panic!("all was given"),
        }
    }
});

fn all_ways_to_read(bytes: &[u8]) {
    let document = parse_body(bytes, EVENTS_MAX);
    let lines = parse_lines(bytes, EVENTS_MAX);
    for (media_type, read) in [(MediaType::Json, &document), (MediaType::NdJson, &lines)] {
        check(read);
        if let Err(rejection) = read {
            advise(bytes, media_type, rejection);
        }
    }
    one_record(bytes, &document);
    if !bytes.contains(&b'\n') {
        one_line(bytes, &document, &lines);
    }
}

/// A refused body is looked at again as every type and encoding that it may claim.
fn advise(bytes: &[u8], media_type: MediaType, rejection: &Rejection) {
    for coding in [ContentCoding::Identity, ContentCoding::Gzip] {
        for source in [Source::Request, Source::Message] {
            let format = BodyFormat {
                media_type,
                coding,
                source,
            };
            if let Some(mistake) = Mistake::of(bytes, format, rejection) {
                assert!(!mistake.advice(source).is_empty());
            }
        }
    }
}

/// What holds for everything that is read.
fn check(read: &Result<Vec<Event>, Rejection>) {
    match read {
        Ok(events) => {
            assert!((1..=EVENTS_MAX).contains(&events.len()));
            let texts: Vec<_> = events.iter().map(Event::to_json).collect();
            for (event, text) in events.iter().zip(&texts) {
                assert_eq!(parse_record(text.as_bytes()).as_ref(), Ok(event));
                assert_eq!(parse_record(with_nanoseconds(text).as_bytes()).as_ref(), Ok(event));
            }
            let again = parse_lines(texts.join("\n").as_bytes(), EVENTS_MAX);
            assert_eq!(again.as_ref(), Ok(events));
            let again = parse_body(format!("[{}]", texts.join(",")).as_bytes(), EVENTS_MAX);
            assert_eq!(again.as_ref(), Ok(events));
        }
        Err(Rejection::Invalid { events, errors }) => {
            assert!(*events <= EVENTS_MAX);
            assert!((1..=100).contains(&errors.len()));
            for error in errors {
                assert!(error.pointer.is_empty() || error.pointer.starts_with('/'));
                assert!(error.pointer.chars().count() < 200, "{}", error.pointer);
                assert!(!error.detail.is_empty());
            }
        }
        Err(Rejection::NotJson(reason)) => assert!(reason.len() < 1_000, "{reason}"),
        Err(Rejection::TooMany(max)) => assert_eq!(*max, EVENTS_MAX),
    }
}

/// The text of [`Event::to_json`] with a time of nine fractional digits, which is the same event.
fn with_nanoseconds(text: &str) -> String {
    let time = text.strip_suffix("\"}").expect("the time comes last");
    let micros = if time.contains('.') { "" } else { ".000000" };
    format!("{time}{micros}999Z\"}}")
}

/// The short way to read what `to_json` writes is no other way.
fn one_record(bytes: &[u8], document: &Result<Vec<Event>, Rejection>) {
    let record = parse_record(bytes);
    if bytes.trim_ascii_start().starts_with(b"[") {
        assert!(record.is_err());
    } else {
        let event = document.as_ref().ok().map(|events| &events[0]);
        assert_eq!(record.ok().as_ref(), event);
    }
}

/// A document on one line is a line, but for arrays, and for pointers, which begin with the number of the line.
fn one_line(bytes: &[u8], document: &Result<Vec<Event>, Rejection>, lines: &Result<Vec<Event>, Rejection>) {
    let blank = |byte: &u8| b" \t\r".contains(byte);
    if bytes.iter().all(blank) {
        assert!(matches!(lines, Err(Rejection::Invalid { .. })) && document.is_err());
        return;
    }
    let is_array = bytes.iter().find(|byte| !blank(byte)) == Some(&b'[');
    match (document, lines) {
        (Err(Rejection::NotJson(_)), Err(Rejection::NotJson(_))) => {}
        (Ok(one), Ok(other)) => assert_eq!(one, other),
        (_, Err(Rejection::Invalid { errors, .. })) if is_array => {
            assert_eq!(errors[0].pointer, "/0");
        }
        (
            Err(Rejection::Invalid { events: 1, errors: one }),
            Err(Rejection::Invalid {
                events: 1,
                errors: other,
            }),
        ) => {
            assert_eq!(one.len(), other.len());
            for (one, other) in one.iter().zip(other) {
                assert_eq!(format!("/0{}", one.pointer), other.pointer);
                assert_eq!(one.detail, other.detail);
            }
        }
        _ => panic!("{document:?} and {lines:?}"),
    }
}
