//! Events as NDJSON: one JSON object on each line.

use serde_json::value::RawValue;

use super::Event;
use super::fast_path::parse_canonical;
use super::json::{ERRORS_MAX, FieldError, Rejection, all_or_none, one_line, parse_event, push, utf8};

/// Parses 1 to `events_max` events, one on each line, all or none. Lines end with `\n` or `\r\n`, the last with or
/// without; blank ones are skipped. A pointer begins with the number of the event, from 0.
///
/// # Errors
/// [`Rejection`], with every field that is wrong.
pub fn parse_lines(body: &[u8], events_max: usize) -> Result<Vec<Event>, Rejection> {
    let text = utf8(body)?;
    let mut events = Vec::new();
    let mut errors: Vec<FieldError> = Vec::new();
    let mut count = 0;
    for (number, line) in text.split('\n').enumerate() {
        // JSON's white space.
        let line = line.trim_matches([' ', '\t', '\r']);
        if line.is_empty() {
            continue;
        }
        if count == events_max {
            return Err(Rejection::TooMany(events_max));
        }
        match parse_canonical(line.as_bytes()) {
            Some(event) => events.push(event),
            None => {
                let raw: &RawValue = serde_json::from_str(line)
                    .map_err(|err| Rejection::NotJson(format!("line {}: {}", number + 1, without_line(&err))))?;
                if errors.len() < ERRORS_MAX {
                    events.extend(parse_event(raw, &format!("/{count}"), &mut errors));
                }
            }
        }
        count += 1;
    }
    if count == 0 {
        push(&mut errors, "", "no line; expected at least one event");
    }
    all_or_none(events, count, errors)
}

/// Parses one line without its line break: exactly one event.
///
/// # Errors
/// One line with every error of the event.
pub fn parse_line(line: &[u8]) -> Result<Event, String> {
    if let Some(event) = parse_canonical(line) {
        return Ok(event);
    }
    let text = utf8(line).map_err(one_line)?;
    let raw: &RawValue = serde_json::from_str(text).map_err(|err| one_line(Rejection::NotJson(without_line(&err))))?;
    let mut errors = Vec::new();
    let event = parse_event(raw, "", &mut errors);
    event.ok_or_else(|| one_line(Rejection::Invalid { events: 1, errors }))
}

/// The error of serde_json without its line, which is always 1.
fn without_line(err: &serde_json::Error) -> String {
    err.to_string()
        .replace(&format!("line {} column", err.line()), "column")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{numbered, parse_body};
    use proptest::prelude::*;

    #[test]
    fn lines_are_events_however_they_end() {
        let [a, b] = [1, 2].map(|number| numbered(number).to_json());
        for body in [
            format!("{a}\n{b}"),
            format!("{a}\n{b}\n"),
            format!("{a}\r\n{b}\r\n"),
            format!("\n \t\n {a} \n\n{b}\n\r\n"),
        ] {
            let events = parse_lines(body.as_bytes(), 2).unwrap_or_else(|e| panic!("{body}: {e:?}"));
            assert_eq!(events, [numbered(1), numbered(2)], "{body:?}");
        }
        let loose = a.replace("\":\"", "\" : \"");
        assert_eq!(parse_lines(loose.as_bytes(), 1), Ok(vec![numbered(1)]));
    }

    #[test]
    fn errors_are_named_by_line_or_by_event() {
        let good = numbered(1).to_json();
        let array = format!("[{good}]");
        for (body, pointer, detail) in [
            ("".to_string(), "", "no line"),
            ("\n\r\n  \n".to_string(), "", "no line"),
            (format!("{good}\n\n{array}"), "/1", "an array"),
            (format!("{good}\nnull\n{good}"), "/1", "null"),
            (format!("{}\n{good}", good.replace("serve", "x")), "/0/type", "neither"),
        ] {
            let Err(Rejection::Invalid { errors, .. }) = parse_lines(body.as_bytes(), 9) else {
                panic!("{body:?}");
            };
            assert_eq!(errors[0].pointer, pointer, "{body:?}");
            assert!(errors[0].detail.starts_with(detail), "{errors:?}");
        }
        for (body, reason) in [
            (
                format!("{good}\n\n{{"),
                "line 3: EOF while parsing an object at column 1",
            ),
            (format!("{good}{good}"), "line 1: trailing characters at column"),
            ("\u{feff}{}".to_string(), "line 1: expected value at column 1"),
            ("[\n{}\n]".to_string(), "line 1: EOF while parsing a list at column 1"),
        ] {
            let Err(Rejection::NotJson(reason_text)) = parse_lines(body.as_bytes(), 9) else {
                panic!("{body:?}");
            };
            assert!(reason_text.starts_with(reason), "{reason_text}");
        }
        let many = vec![good; 3].join("\n");
        assert_eq!(parse_lines(many.as_bytes(), 2), Err(Rejection::TooMany(2)));
        assert!(parse_lines(many.as_bytes(), 3).is_ok());
    }

    proptest! {
        /// The same events parse alike as lines and as an array.
        #[test]
        fn all_forms_read_alike(numbers in proptest::collection::vec(any::<u128>(), 1..20)) {
            let events: Vec<_> = numbers.into_iter().map(numbered).collect();
            let texts: Vec<_> = events.iter().map(Event::to_json).collect();
            let lines = texts.join("\n");
            let array = format!("[{}]", texts.join(","));
            prop_assert_eq!(parse_lines(lines.as_bytes(), 20), Ok(events.clone()));
            prop_assert_eq!(parse_body(array.as_bytes(), 20), Ok(events));
        }
    }
}
