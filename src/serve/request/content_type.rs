//! The format of a body: its content type and its content encoding. Pure.

use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};

use super::decompress::ContentCoding;
use crate::event::{Event, Rejection, parse_body, parse_lines};
use crate::serve::problem::Problem;

/// The media type of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaType {
    /// One JSON document: an event or an array of events.
    Json,
    /// One JSON object on each line.
    NdJson,
}

/// What a body came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Request,
    /// Of a WebSocket.
    Message,
}

/// The format of a body, as its head names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyFormat {
    pub media_type: MediaType,
    pub coding: ContentCoding,
    pub source: Source,
}

impl BodyFormat {
    /// The format of messages, which have no head.
    pub const MESSAGE: BodyFormat = BodyFormat {
        media_type: MediaType::Json,
        coding: ContentCoding::Identity,
        source: Source::Message,
    };

    /// Reads the content type and the content encoding.
    ///
    /// # Errors
    /// [`Problem::MediaType`] and [`Problem::Encoding`].
    pub fn from_headers(headers: &HeaderMap) -> Result<BodyFormat, Problem> {
        Ok(BodyFormat {
            media_type: media_type(headers)?,
            coding: content_coding(headers)?,
            source: Source::Request,
        })
    }

    /// Parses the events of a body that is decompressed.
    ///
    /// # Errors
    /// [`Rejection`].
    pub fn parse(self, body: &[u8], events_max: usize) -> Result<Vec<Event>, Rejection> {
        match self.media_type {
            MediaType::Json => parse_body(body, events_max),
            MediaType::NdJson => parse_lines(body, events_max),
        }
    }

    /// Whether pointers number the events of a body that is decompressed: all but a single event have numbers.
    pub fn is_array(self, body: &[u8]) -> bool {
        self.media_type == MediaType::NdJson || body.trim_ascii_start().starts_with(b"[")
    }
}

fn media_type(headers: &HeaderMap) -> Result<MediaType, Problem> {
    const EXPECTED: &str = "expected application/json or application/x-ndjson";
    let refuse = |detail: String| Err(Problem::MediaType(detail));
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let Some(given) = types.next() else {
        return refuse(format!("no content-type; {EXPECTED}{}", advice("")));
    };
    if types.next().is_some() {
        return refuse(format!("more than one content-type; {EXPECTED}"));
    }
    let given = given.to_str().unwrap_or("something unreadable");
    let essence = given.split(';').next().unwrap_or_default().trim();
    let mut charsets = given.split(';').skip(1).filter_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let is_charset = name.trim().eq_ignore_ascii_case("charset");
        is_charset.then(|| value.trim().trim_matches('"'))
    });
    if charsets.any(|charset| !charset.eq_ignore_ascii_case("utf-8")) {
        return refuse(format!("content-type {given}; JSON is UTF-8"));
    }
    let is = |name: &str| essence.eq_ignore_ascii_case(name);
    if is("application/json") {
        Ok(MediaType::Json)
    } else if is("application/x-ndjson") || is("application/ndjson") || is("application/jsonl") {
        Ok(MediaType::NdJson)
    } else {
        refuse(format!(
            "content-type {essence}; {EXPECTED}{}",
            advice(&essence.to_ascii_lowercase())
        ))
    }
}

/// What a client that sends this content type, in lower case, probably did, and what to do.
fn advice(content_type: &str) -> &'static str {
    match content_type {
        "" => {
            ": add the header content-type: application/json for an event or an array, or content-type: \
             application/x-ndjson for an event on each line"
        }
        "application/x-www-form-urlencoded" => {
            ": curl's -d sends this type unless it is given another; for an event or an array add -H 'content-type: \
             application/json', for an event on each line -H 'content-type: application/x-ndjson' and --data-binary in \
             place of -d"
        }
        "multipart/form-data" => {
            ": curl's -F sends a form; send a file with --data-binary @FILE and one of these types"
        }
        "text/plain" => {
            ": many clients, such as fetch() in a web page, send this type for text unless another one is set"
        }
        "application/gzip" | "application/x-gzip" | "application/zstd" => {
            " as the type of the uncompressed body; name the compression in content-encoding: gzip or zstd"
        }
        _ => "",
    }
}

fn content_coding(headers: &HeaderMap) -> Result<ContentCoding, Problem> {
    const EXPECTED: &str = "expected none, gzip or zstd, and one of them at most";
    let mut coding = ContentCoding::Identity;
    for value in headers.get_all(CONTENT_ENCODING) {
        let text = value.to_str().unwrap_or("something unreadable");
        for name in text.split(',').map(str::trim) {
            let next = match name.to_ascii_lowercase().as_str() {
                "" | "identity" => continue,
                "gzip" | "x-gzip" => ContentCoding::Gzip,
                "zstd" => ContentCoding::Zstd,
                _ => {
                    return Err(Problem::Encoding(format!("content-encoding {name}; {EXPECTED}")));
                }
            };
            if coding != ContentCoding::Identity {
                return Err(Problem::Encoding(format!("more than one content-encoding; {EXPECTED}")));
            }
            coding = next;
        }
    }
    Ok(coding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn format_of(pairs: &[(&'static str, &'static str)]) -> Result<BodyFormat, Problem> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        BodyFormat::from_headers(&headers)
    }

    #[test]
    fn the_head_names_the_format_of_the_body() {
        for (content_type, media_type) in [
            ("application/json", MediaType::Json),
            ("Application/JSON ; charset=utf-8", MediaType::Json),
            ("application/json; charset=utf-8; x=y", MediaType::Json),
            ("application/json; charset=\"UTF-8\"", MediaType::Json),
            ("application/x-ndjson", MediaType::NdJson),
            ("application/ndjson;charset=utf-8", MediaType::NdJson),
            ("application/jsonl", MediaType::NdJson),
        ] {
            let format = format_of(&[("content-type", content_type)]).unwrap();
            assert_eq!(
                (format.media_type, format.coding),
                (media_type, ContentCoding::Identity),
                "{content_type}"
            );
        }
        let json = ("content-type", "application/json");
        for (encodings, coding) in [
            (&["identity"][..], ContentCoding::Identity),
            (&[""], ContentCoding::Identity),
            (&["gzip"], ContentCoding::Gzip),
            (&["GZip"], ContentCoding::Gzip),
            (&["x-gzip"], ContentCoding::Gzip),
            (&["zstd"], ContentCoding::Zstd),
            (&["identity, gzip"], ContentCoding::Gzip),
            (&["identity", "zstd"], ContentCoding::Zstd),
        ] {
            let mut pairs = vec![json];
            pairs.extend(encodings.iter().map(|encoding| ("content-encoding", *encoding)));
            assert_eq!(format_of(&pairs).unwrap().coding, coding, "{encodings:?}");
        }
    }

    #[test]
    fn a_type_that_clients_send_by_themselves_is_explained() {
        for (pairs, words) in [
            (
                &[][..],
                "no content-type; expected application/json or application/x-ndjson: add the header",
            ),
            (
                &[("content-type", "application/x-www-form-urlencoded")],
                "-H 'content-type: application/json'",
            ),
            (
                &[("content-type", "Multipart/Form-Data; boundary=x")],
                "--data-binary @FILE",
            ),
            (&[("content-type", "text/plain;charset=UTF-8")], "fetch()"),
            (&[("content-type", "application/gzip")], "content-encoding"),
        ] {
            let Err(Problem::MediaType(detail)) = format_of(pairs) else {
                panic!("{pairs:?}");
            };
            assert!(detail.contains(words), "{detail}");
        }
    }

    #[test]
    fn other_formats_are_refused() {
        let json = ("content-type", "application/json");
        for pairs in [
            &[][..],
            &[("content-type", "text/plain")],
            &[("content-type", "application/json-seq")],
            &[("content-type", "application/json; charset=latin1")],
            &[("content-type", "application/json; charset=utf-8; charset=latin1")],
            &[json, ("content-type", "text/plain")],
            &[json, json],
        ] {
            assert!(matches!(format_of(pairs), Err(Problem::MediaType(_))), "{pairs:?}");
        }
        for encodings in [
            &["br"][..],
            &["deflate"],
            &["gzip, gzip"],
            &["gzip", "zstd"],
            &["gzip;q=1"],
        ] {
            let mut pairs = vec![json];
            pairs.extend(encodings.iter().map(|encoding| ("content-encoding", *encoding)));
            assert!(matches!(format_of(&pairs), Err(Problem::Encoding(_))), "{encodings:?}");
        }
    }
}
