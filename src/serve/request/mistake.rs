//! Advice about a rejected body: what it probably is, and what to send in its place. Pure. Only refused bodies are
//! looked at, so good ones cost nothing. A body stays refused in any case.

use serde::de::IgnoredAny;
use serde_json::error::Category;

use super::content_type::{BodyFormat, MediaType, Source};
use super::decompress::ContentCoding;
use crate::event::{FieldError, Rejection};

/// The longest name of a file, in bytes, on common file systems.
const FILE_NAME_BYTES_MAX: usize = 255;

/// Ends of the names of files that hold events.
const FILE_ENDINGS: [&str; 7] = [".json", ".jsonl", ".ndjson", ".gz", ".zst", ".txt", ".log"];

/// Names under which other APIs take a list of events.
const ENVELOPES: [&str; 5] = ["/events", "/data", "/records", "/items", "/batch"];

/// A common mistake of senders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    Empty,
    Gzip,
    Zstd,
    Deflate,
    CompressedTwice,
    /// Plain JSON that says it is compressed.
    NotCompressed,
    ByteOrderMark,
    Utf16,
    NotUtf8,
    /// NDJSON that says it is one document.
    LinesAsDocument,
    /// Events one after another on one line.
    LineBreaksRemoved,
    /// Events one after another, each over several lines.
    ObjectsOverLines,
    /// A document over several lines that says it is NDJSON.
    DocumentAsLines,
    ArrayAsLines,
    CommasBetween,
    TrailingComma,
    SingleQuotes,
    /// The quotes that were for a shell.
    QuotedWhole,
    TypographicQuotes,
    EscapedQuotes,
    UnquotedName,
    NotANumber,
    ForeignLiteral,
    Comment,
    UrlEncoded,
    Form,
    FileName,
    Markup,
    CutOff,
    /// A JSON string that holds JSON.
    EncodedTwice,
    /// An object that holds the events.
    Envelope,
}

impl Mistake {
    /// Finds the mistake in a body, decompressed, that was rejected.
    pub fn of(body: &[u8], format: BodyFormat, rejection: &Rejection) -> Option<Mistake> {
        let body = trim(body);
        match rejection {
            Rejection::TooMany(_) => None,
            Rejection::Invalid { .. } if body.is_empty() => Some(Mistake::Empty),
            Rejection::Invalid { errors, .. } => of_events(body, format, errors),
            Rejection::NotJson(_) => {
                of_bytes(body, format).or_else(|| of_text(std::str::from_utf8(body).ok()?, format))
            }
        }
    }

    /// Finds the mistake in a body that cannot be decompressed.
    pub fn of_compressed(body: &[u8]) -> Option<Mistake> {
        trim(body)
            .first()
            .filter(|byte| b"{[".contains(byte))
            .map(|_| Mistake::NotCompressed)
    }

    /// What the body is, and what to send in its place; `it` is the body or the message.
    pub fn advice(self, source: Source) -> &'static str {
        match source {
            Source::Request => self.advice_for_request(),
            Source::Message => self.advice_for_message(),
        }
    }

    fn advice_for_message(self) -> &'static str {
        match self {
            Mistake::Empty => "it is empty: send an event or an array of events",
            Mistake::LinesAsDocument | Mistake::LineBreaksRemoved | Mistake::ObjectsOverLines => {
                "it looks like several events one after another: send each in a message of its own, or all as one array"
            }
            Mistake::CommasBetween => "it looks like an array without its brackets: put [ before it and ] after it",
            Mistake::QuotedWhole => "it has single quotes around it: send it without them",
            Mistake::EscapedQuotes => "it has a backslash before each quote: send it without them",
            Mistake::UnquotedName => "a name has no double quotes around it, which a shell may have removed",
            Mistake::UrlEncoded => "it looks URL-encoded: send it unencoded",
            Mistake::FileName => "it looks like the name of a file: send what is in the file",
            // A message is text without headers, so what is left reads alike.
            other => other.advice_for_request(),
        }
    }

    fn advice_for_request(self) -> &'static str {
        match self {
            Mistake::Empty => {
                "it is empty: send an event or an array of events; curl sends a file with --data-binary @FILE"
            }
            Mistake::Gzip => "it looks like gzip: add the header content-encoding: gzip",
            Mistake::Zstd => "it looks like zstd: add the header content-encoding: zstd",
            Mistake::Deflate => {
                "it looks like zlib (deflate): compress it with gzip or zstd, and name that in content-encoding"
            }
            Mistake::CompressedTwice => "it looks compressed twice: compress it once",
            Mistake::NotCompressed => "it looks like plain JSON: leave the header content-encoding out",
            Mistake::ByteOrderMark => "it has a byte order mark: save it as UTF-8 without BOM",
            Mistake::Utf16 => "it looks like UTF-16: `iconv -f UTF-16 -t UTF-8` converts it",
            Mistake::NotUtf8 => {
                "JSON is UTF-8, and this may be Latin-1 or another encoding: `iconv -f LATIN1 -t UTF-8` converts Latin-1"
            }
            Mistake::LinesAsDocument => {
                "it looks like NDJSON, an event on each line: send it with content-type application/x-ndjson"
            }
            Mistake::LineBreaksRemoved => {
                "it looks like NDJSON without its line breaks, which curl's --data removes: send it with --data-binary \
                 @FILE and content-type application/x-ndjson"
            }
            Mistake::ObjectsOverLines => {
                "it looks like several events, each over several lines: write each on one line, as `jq -c .` does, and \
                 send them with content-type application/x-ndjson"
            }
            Mistake::DocumentAsLines => {
                "it looks like one JSON document over several lines: send it with content-type application/json"
            }
            Mistake::ArrayAsLines => "it looks like a JSON array: send it with content-type application/json",
            Mistake::CommasBetween => {
                "it looks like an array without its brackets: put [ before it and ] after it, and send it with \
                 content-type application/json"
            }
            Mistake::TrailingComma => "a comma is before ] or }: remove it",
            Mistake::SingleQuotes => "it has single quotes: JSON has double quotes around names and strings",
            Mistake::QuotedWhole => {
                "it has single quotes around it, which cmd on Windows does not remove: put the JSON into a file and \
                 send that with --data-binary @FILE"
            }
            Mistake::TypographicQuotes => "it has typographic quotes: JSON has straight ones (\")",
            Mistake::EscapedQuotes => {
                "it has a backslash before each quote, which the shell did not remove: put the JSON into a file and \
                 send that with --data-binary @FILE"
            }
            Mistake::UnquotedName => {
                "a name has no double quotes around it, which a shell may have removed: put the JSON into a file and \
                 send that with --data-binary @FILE"
            }
            Mistake::NotANumber => "NaN and Infinity are not JSON: every field of an event is a string",
            Mistake::ForeignLiteral => {
                "None, True, False and undefined are not JSON: write it with a JSON library, such as Python's json.dumps"
            }
            Mistake::Comment => "JSON has no comments: remove them",
            Mistake::UrlEncoded => {
                "it looks URL-encoded: send it unencoded, with --data-binary in place of --data-urlencode"
            }
            Mistake::Form => "it looks like a form: send the fields as a JSON object",
            Mistake::FileName => {
                "it looks like the name of a file: curl sends what is in the file with --data-binary @FILE"
            }
            Mistake::Markup => "it looks like XML or HTML: send JSON",
            Mistake::CutOff => "it breaks off: a part of it is missing",
            Mistake::EncodedTwice => "it is a JSON string that holds JSON: encode the event once, not twice",
            Mistake::Envelope => "its events are inside another object: send the array of them alone",
        }
    }
}

/// Of a body that is JSON and has no events, or wrong ones.
fn of_events(body: &[u8], format: BodyFormat, errors: &[FieldError]) -> Option<Mistake> {
    match (format.media_type, body.first()?) {
        (MediaType::NdJson, b'[') => Some(Mistake::ArrayAsLines),
        (_, b'"') => {
            let text: String = serde_json::from_slice(body).ok()?;
            let holds_json = text.trim_start().starts_with(['{', '[']);
            holds_json.then_some(Mistake::EncodedTwice)
        }
        (_, b'{') => {
            let pointer = |error: &FieldError| error.pointer.trim_start_matches("/0").to_string();
            let is_envelope = errors.iter().any(|error| ENVELOPES.contains(&pointer(error).as_str()));
            is_envelope.then_some(Mistake::Envelope)
        }
        _ => None,
    }
}

/// Of a body that is not text in UTF-8, or nothing.
fn of_bytes(body: &[u8], format: BodyFormat) -> Option<Mistake> {
    let is_compressed = format.coding != ContentCoding::Identity;
    match body {
        [] => Some(Mistake::Empty),
        [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] if is_compressed => Some(Mistake::CompressedTwice),
        [0x1f, 0x8b, ..] => Some(Mistake::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Mistake::Zstd),
        // Of these, `x^` may begin a text.
        [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..] if std::str::from_utf8(body).is_err() => Some(Mistake::Deflate),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, b'{' | b'[', ..] | [b'{' | b'[', 0, ..] => Some(Mistake::Utf16),
        [0xef, 0xbb, 0xbf, ..] => Some(Mistake::ByteOrderMark),
        _ => std::str::from_utf8(body).err().map(|_| Mistake::NotUtf8),
    }
}

/// Of a text that is not JSON.
fn of_text(text: &str, format: BodyFormat) -> Option<Mistake> {
    match format.media_type {
        MediaType::Json => of_document(text, &first_error(text)?),
        MediaType::NdJson => {
            let mut lines = text
                .split('\n')
                .map(trim_line)
                .filter(|line| !line.is_empty())
                .enumerate();
            let (number, line, error) = lines.find_map(|(number, line)| Some((number, line, first_error(line)?)))?;
            let over_lines = match number {
                0 => of_document_as_lines(text),
                _ => None,
            };
            over_lines.or_else(|| of_document(line, &error))
        }
    }
}

/// Of a text whose first line is not JSON, but whose first lines may be.
fn of_document_as_lines(text: &str) -> Option<Mistake> {
    let is_whole = |text: &str| first_error(text).is_none();
    match text.as_bytes().first()? {
        b'[' => Some(Mistake::ArrayAsLines),
        b'{' if is_whole(text) => Some(Mistake::DocumentAsLines),
        b'{' => {
            let first = first_error(text)?.before(text);
            (first.contains('\n') && is_whole(first)).then_some(Mistake::ObjectsOverLines)
        }
        _ => None,
    }
}

/// Where a text ends to be JSON.
struct JsonError {
    /// The byte that cannot be.
    at: usize,
    is_eof: bool,
}

impl JsonError {
    /// What is before it, without the white space between.
    fn before<'a>(&self, text: &'a str) -> &'a str {
        text.get(..self.at).unwrap_or_default().trim_end()
    }
}

/// The first error of a text that is to be one JSON document.
fn first_error(text: &str) -> Option<JsonError> {
    let error = serde_json::from_str::<IgnoredAny>(text).err()?;
    let is_break = |(_, byte): &(usize, u8)| *byte == b'\n';
    let breaks = || text.bytes().enumerate().filter(is_break);
    let line_begins = match error.line() {
        0 | 1 => 0,
        line => breaks().nth(line - 2).map_or(0, |(at, _)| at + 1),
    };
    Some(JsonError {
        at: (line_begins + error.column().saturating_sub(1)).min(text.len()),
        is_eof: error.classify() == Category::Eof,
    })
}

/// Of a text that is to be one JSON document.
fn of_document(text: &str, error: &JsonError) -> Option<Mistake> {
    let rest = text.get(error.at..)?;
    let before = error.before(text);
    if error.is_eof && text.starts_with(['{', '[']) {
        return Some(Mistake::CutOff);
    }
    if before.is_empty() {
        return of_beginning(text);
    }
    let next = rest.chars().next()?;
    let is_whole = || first_error(before).is_none();
    match next {
        '{' | '[' if before.ends_with(['}', ']']) && is_whole() => {
            let has_break = text.get(before.len()..error.at)?.contains('\n');
            Some(match has_break {
                true if before.contains('\n') => Mistake::ObjectsOverLines,
                true => Mistake::LinesAsDocument,
                false => Mistake::LineBreaksRemoved,
            })
        }
        ',' if before.ends_with('}') && is_whole() => Some(Mistake::CommasBetween),
        '}' | ']' if before.ends_with(',') => Some(Mistake::TrailingComma),
        '\'' => Some(Mistake::SingleQuotes),
        '\\' if rest.starts_with("\\\"") => Some(Mistake::EscapedQuotes),
        '\u{201c}' | '\u{201d}' | '\u{201e}' | '\u{2018}' | '\u{2019}' | '\u{ab}' | '\u{bb}' => {
            Some(Mistake::TypographicQuotes)
        }
        '#' => Some(Mistake::Comment),
        '/' if rest.starts_with("//") || rest.starts_with("/*") => Some(Mistake::Comment),
        '\u{feff}' => Some(Mistake::ByteOrderMark),
        _ => of_word(text, error.at),
    }
}

/// Of a word that is not JSON, around a byte of a text.
fn of_word(text: &str, at: usize) -> Option<Mistake> {
    let is_inside = |c: char| c.is_ascii_alphanumeric() || "_-+".contains(c);
    let (before, after) = text.split_at_checked(at)?;
    let begin = before.trim_end_matches(is_inside).len();
    let word_end = at + (after.len() - after.trim_start_matches(is_inside).len());
    let word = text.get(begin..word_end)?;
    let rest = text.get(word_end..)?.trim_start();
    match word.trim_start_matches(['-', '+']) {
        "" => None,
        _ if rest.starts_with(':') => Some(Mistake::UnquotedName),
        "NaN" | "nan" | "Infinity" | "Inf" | "inf" => Some(Mistake::NotANumber),
        "None" | "True" | "False" | "undefined" | "nil" | "NULL" => Some(Mistake::ForeignLiteral),
        _ => None,
    }
}

/// Of a text that does not begin as JSON does.
fn of_beginning(text: &str) -> Option<Mistake> {
    let starts_with = |start: &str| {
        text.get(..start.len())
            .is_some_and(|text| text.eq_ignore_ascii_case(start))
    };
    match text.chars().next()? {
        '\u{feff}' => Some(Mistake::ByteOrderMark),
        '\'' => Some(Mistake::QuotedWhole),
        '<' => Some(Mistake::Markup),
        '\u{201c}' | '\u{201d}' | '\u{201e}' => Some(Mistake::TypographicQuotes),
        '#' => Some(Mistake::Comment),
        '/' if text.starts_with("//") || text.starts_with("/*") => Some(Mistake::Comment),
        _ if starts_with("%7b") || starts_with("%5b") => Some(Mistake::UrlEncoded),
        _ if is_file_name(text) => Some(Mistake::FileName),
        _ if is_form(text) => Some(Mistake::Form),
        _ => of_word(text, 0),
    }
}

fn is_file_name(text: &str) -> bool {
    let is_short_line = text.len() <= FILE_NAME_BYTES_MAX && !text.contains(['\n', '{', '"', '=']);
    let text = text.to_ascii_lowercase();
    is_short_line && (text.starts_with('@') || FILE_ENDINGS.iter().any(|ending| text.ends_with(ending)))
}

/// Whether it begins with a name and `=`, such as `site_id=...&type=serve`.
fn is_form(text: &str) -> bool {
    let is_inside = |c: char| c.is_ascii_alphanumeric() || "_-.%+".contains(c);
    let rest = text.trim_start_matches(is_inside);
    rest.len() < text.len() && rest.starts_with('=')
}

/// Without the white space of JSON around it.
fn trim(body: &[u8]) -> &[u8] {
    let is_white = |byte: &u8| b" \t\r\n".contains(byte);
    let begin = body.iter().position(|byte| !is_white(byte)).unwrap_or(body.len());
    let end = body
        .iter()
        .rposition(|byte| !is_white(byte))
        .map_or(begin, |last| last + 1);
    &body[begin..end]
}

/// A line of NDJSON without the white space around it, as it is parsed.
fn trim_line(line: &str) -> &str {
    line.trim_matches([' ', '\t', '\r'])
}

#[cfg(test)]
mod tests {
    use captcha_corpus::bodies::{MistakenBody, mistakes};
    use proptest::prelude::*;

    use super::*;

    const EVENTS_MAX: usize = 9;

    const MEDIA_TYPES: [MediaType; 2] = [MediaType::Json, MediaType::NdJson];

    fn format(media_type: MediaType) -> BodyFormat {
        BodyFormat {
            media_type,
            ..BodyFormat::MESSAGE
        }
    }

    fn found(body: &[u8], format: BodyFormat) -> Option<Mistake> {
        let rejection = format.parse(body, EVENTS_MAX).expect_err("a good body");
        Mistake::of(body, format, &rejection)
    }

    #[test]
    fn common_mistakes_are_found() {
        for MistakenBody {
            line,
            content_type,
            words,
            body,
        } in mistakes()
        {
            let media_type = match content_type {
                "application/json" => MediaType::Json,
                _ => MediaType::NdJson,
            };
            let mistake = found(&body, format(media_type));
            let advice = mistake.map(|mistake| mistake.advice(Source::Request));
            assert!(
                advice.unwrap_or_default().contains(words),
                "{line}: {mistake:?}: {advice:?}"
            );
        }
    }

    #[test]
    fn what_is_only_wrong_gets_no_advice() {
        for body in [
            "null",
            "17",
            "nonsense",
            "\"text\"",
            "{\"site_id\":\"\\x\"}",
            "{\"a\":1 2}",
            "{\"a\" 1}",
            "{}x",
            "{}",
            "{\"a\":{} {}}",
            "\"tab\tinside\"",
        ] {
            for media_type in MEDIA_TYPES {
                assert_eq!(found(body.as_bytes(), format(media_type)), None, "{body}");
            }
        }
    }

    #[test]
    fn a_message_has_no_headers_to_change() {
        for (body, words) in [
            ("{}\n{}", "a message of its own"),
            ("{}{}", "a message of its own"),
            ("{},{}", "brackets"),
            ("@events.json", "what is in the file"),
            ("", "it is empty"),
            ("%7B%7D", "unencoded"),
            ("{a:1}", "double quotes"),
        ] {
            let rejection = BodyFormat::MESSAGE.parse(body.as_bytes(), EVENTS_MAX).unwrap_err();
            let mistake = Mistake::of(body.as_bytes(), BodyFormat::MESSAGE, &rejection).unwrap();
            let advice = mistake.advice(Source::Message);
            assert!(advice.contains(words), "{body}: {advice}");
            for word in ["content-", "curl", "--data", "header"] {
                assert!(!advice.contains(word), "{body}: {advice}");
            }
        }
    }

    #[test]
    fn plain_json_that_says_it_is_compressed_is_found() {
        assert_eq!(Mistake::of_compressed(b" {\"a\":1}"), Some(Mistake::NotCompressed));
        assert_eq!(Mistake::of_compressed(b"\x1f\x8b\x08garbage"), None);
        assert_eq!(Mistake::of_compressed(b""), None);
    }

    proptest! {
        /// A second look at anything that is refused finds something, or nothing, and never fails.
        #[test]
        fn any_body_can_be_looked_at(
            body in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..60),
                "[{}\\[\\]\",:'#/\\\\a-cN\n\r \u{e4}\u{201c}\u{feff}=@.-]{0,40}".prop_map(String::into_bytes),
            ],
        ) {
            for media_type in MEDIA_TYPES {
                if let Err(rejection) = format(media_type).parse(&body, EVENTS_MAX) {
                    let mistake = Mistake::of(&body, format(media_type), &rejection);
                    if let Some(mistake) = mistake {
                        prop_assert!(!mistake.advice(Source::Request).contains('\n'));
                    }
                }
            }
        }
    }
}
