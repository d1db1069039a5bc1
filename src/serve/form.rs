//! The form of a body: what its head says, and inflating it. Pure.

use std::io::Read;

use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};

use super::problem::Problem;
use crate::event::{Event, Rejection, parse_body, parse_lines};

/// The largest window that a zstd body may ask for, 8 MiB as RFC 9659 has it; the format allows gigabytes.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Bytes inflated at once, and taken from the share of all bodies.
const INFLATE_BYTES: usize = 64 << 10;

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// One JSON document: an event or an array.
    Json,
    /// A JSON object a line.
    Lines,
}

/// What was done to the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// Nothing.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// What a head says of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// How events are written.
    pub syntax: Syntax,
    /// What was done to the bytes.
    pub coding: Coding,
}

/// Why a body could not be inflated.
#[derive(Debug, PartialEq, Eq)]
pub enum InflateError {
    /// It is larger than allowed.
    TooLarge,
    /// It is not what its encoding says.
    Broken(String),
    /// No memory was given for it.
    Overloaded,
}

impl Form {
    /// JSON as it is, which is what comes without a head.
    pub const JSON: Form = Form {
        syntax: Syntax::Json,
        coding: Coding::Identity,
    };

    /// Reads the content type and encoding.
    ///
    /// # Errors
    /// [`Problem::MediaType`] and [`Problem::Encoding`].
    pub fn of(headers: &HeaderMap) -> Result<Form, Problem> {
        Ok(Form {
            syntax: syntax(headers)?,
            coding: coding(headers)?,
        })
    }

    /// Reads the events of a body that is inflated.
    ///
    /// # Errors
    /// [`Rejection`].
    pub fn parse(self, body: &[u8], events_max: usize) -> Result<Vec<Event>, Rejection> {
        match self.syntax {
            Syntax::Json => parse_body(body, events_max),
            Syntax::Lines => parse_lines(body, events_max),
        }
    }
}

fn syntax(headers: &HeaderMap) -> Result<Syntax, Problem> {
    const EXPECTED: &str = "expected application/json or application/x-ndjson";
    let refuse = |detail: String| Err(Problem::MediaType(detail));
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let Some(given) = types.next() else {
        return refuse(format!("no content-type; {EXPECTED}"));
    };
    if types.next().is_some() {
        return refuse(format!("more than one content-type; {EXPECTED}"));
    }
    let given = given.to_str().unwrap_or("something unreadable");
    let essence = given.split(';').next().unwrap_or_default().trim();
    let charset = given.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let is_charset = name.trim().eq_ignore_ascii_case("charset");
        is_charset.then(|| value.trim().trim_matches('"'))
    });
    if charset.is_some_and(|charset| !charset.eq_ignore_ascii_case("utf-8")) {
        return refuse(format!("content-type {given}; JSON is UTF-8"));
    }
    let is = |name: &str| essence.eq_ignore_ascii_case(name);
    if is("application/json") {
        Ok(Syntax::Json)
    } else if is("application/x-ndjson") || is("application/ndjson") || is("application/jsonl") {
        Ok(Syntax::Lines)
    } else {
        refuse(format!("content-type {essence}; {EXPECTED}"))
    }
}

fn coding(headers: &HeaderMap) -> Result<Coding, Problem> {
    const EXPECTED: &str = "expected none, gzip or zstd, and one of them at most";
    let mut coding = Coding::Identity;
    for value in headers.get_all(CONTENT_ENCODING) {
        let text = value.to_str().unwrap_or("something unreadable");
        for name in text.split(',').map(str::trim) {
            let next = match name.to_ascii_lowercase().as_str() {
                "" | "identity" => continue,
                "gzip" | "x-gzip" => Coding::Gzip,
                "zstd" => Coding::Zstd,
                _ => {
                    return Err(Problem::Encoding(format!(
                        "content-encoding {name}; {EXPECTED}"
                    )));
                }
            };
            if coding != Coding::Identity {
                return Err(Problem::Encoding(format!(
                    "more than one content-encoding; {EXPECTED}"
                )));
            }
            coding = next;
        }
    }
    Ok(coding)
}

/// Inflates a body to at most `bytes_max`. `take` is asked before more memory is used, with the bytes that are to come.
///
/// # Errors
/// [`InflateError`].
pub fn inflate(
    body: &[u8],
    coding: Coding,
    bytes_max: usize,
    take: impl FnMut(usize) -> bool,
) -> Result<Vec<u8>, InflateError> {
    let broken = |err: std::io::Error| InflateError::Broken(err.to_string());
    match coding {
        Coding::Identity => read_all(body, bytes_max, take),
        Coding::Gzip => read_all(flate2::bufread::MultiGzDecoder::new(body), bytes_max, take),
        Coding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(broken)?;
            decoder
                .window_log_max(ZSTD_WINDOW_LOG_MAX)
                .map_err(broken)?;
            read_all(decoder, bytes_max, take)
        }
    }
}

fn read_all(
    mut reader: impl Read,
    bytes_max: usize,
    mut take: impl FnMut(usize) -> bool,
) -> Result<Vec<u8>, InflateError> {
    let mut all = Vec::new();
    loop {
        let room = INFLATE_BYTES.min(bytes_max + 1 - all.len());
        if !take(room) {
            return Err(InflateError::Overloaded);
        }
        let read = reader.by_ref().take(room as u64).read_to_end(&mut all);
        let read = read.map_err(|err| InflateError::Broken(err.to_string()))?;
        if all.len() > bytes_max {
            return Err(InflateError::TooLarge);
        }
        if read < room {
            return Ok(all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;
    use std::io::Write as _;

    fn form(pairs: &[(&'static str, &'static str)]) -> Result<Form, Problem> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        Form::of(&headers)
    }

    #[test]
    fn what_a_head_says_of_its_body() {
        for (content_type, syntax) in [
            ("application/json", Syntax::Json),
            ("Application/JSON ; charset=utf-8", Syntax::Json),
            ("application/json; charset=utf-8; x=y", Syntax::Json),
            ("application/json; charset=\"UTF-8\"", Syntax::Json),
            ("application/x-ndjson", Syntax::Lines),
            ("application/ndjson;charset=utf-8", Syntax::Lines),
            ("application/jsonl", Syntax::Lines),
        ] {
            let form = form(&[("content-type", content_type)]).unwrap();
            assert_eq!(
                (form.syntax, form.coding),
                (syntax, Coding::Identity),
                "{content_type}"
            );
        }
        let json = ("content-type", "application/json");
        for (encodings, coding) in [
            (&["identity"][..], Coding::Identity),
            (&[""], Coding::Identity),
            (&["gzip"], Coding::Gzip),
            (&["GZip"], Coding::Gzip),
            (&["x-gzip"], Coding::Gzip),
            (&["zstd"], Coding::Zstd),
            (&["identity, gzip"], Coding::Gzip),
            (&["identity", "zstd"], Coding::Zstd),
        ] {
            let mut pairs = vec![json];
            pairs.extend(
                encodings
                    .iter()
                    .map(|encoding| ("content-encoding", *encoding)),
            );
            assert_eq!(form(&pairs).unwrap().coding, coding, "{encodings:?}");
        }
    }

    #[test]
    fn other_forms_are_refused() {
        let json = ("content-type", "application/json");
        for pairs in [
            &[][..],
            &[("content-type", "text/plain")],
            &[("content-type", "application/json-seq")],
            &[("content-type", "application/json; charset=latin1")],
            &[json, ("content-type", "text/plain")],
            &[json, json],
        ] {
            assert!(
                matches!(form(pairs), Err(Problem::MediaType(_))),
                "{pairs:?}"
            );
        }
        for encodings in [
            &["br"][..],
            &["deflate"],
            &["gzip, gzip"],
            &["gzip", "zstd"],
            &["gzip;q=1"],
        ] {
            let mut pairs = vec![json];
            pairs.extend(
                encodings
                    .iter()
                    .map(|encoding| ("content-encoding", *encoding)),
            );
            assert!(
                matches!(form(&pairs), Err(Problem::Encoding(_))),
                "{encodings:?}"
            );
        }
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn bodies_inflate_to_what_they_were_up_to_the_limit() {
        for len in [
            0,
            1,
            1_000,
            INFLATE_BYTES - 1,
            INFLATE_BYTES,
            INFLATE_BYTES + 1,
            200_000,
        ] {
            let bytes: Vec<_> = (0..len).map(|at| (at % 251) as u8).collect();
            let zstd = zstd::encode_all(&bytes[..], 3).unwrap();
            for (coding, body) in [
                (Coding::Identity, bytes.clone()),
                (Coding::Gzip, gzip(&bytes)),
                (Coding::Zstd, zstd),
            ] {
                let inflated = |max| inflate(&body, coding, max, |_| true);
                assert_eq!(inflated(len), Ok(bytes.clone()), "{coding:?} {len}");
                assert_eq!(inflated(len + 1), Ok(bytes.clone()), "{coding:?} {len}");
                if len > 0 {
                    assert_eq!(
                        inflated(len - 1),
                        Err(InflateError::TooLarge),
                        "{coding:?} {len}"
                    );
                    assert!(inflate(&body, coding, len, |_| false).is_err());
                }
            }
        }
    }

    #[test]
    fn members_and_frames_follow_each_other() {
        let two = [gzip(b"one"), gzip(b"two")].concat();
        assert_eq!(
            inflate(&two, Coding::Gzip, 9, |_| true),
            Ok(b"onetwo".to_vec())
        );
        let two = [b"one", b"two"]
            .map(|part| zstd::encode_all(&part[..], 1).unwrap())
            .concat();
        assert_eq!(
            inflate(&two, Coding::Zstd, 9, |_| true),
            Ok(b"onetwo".to_vec())
        );
    }

    #[test]
    fn what_is_not_whole_is_broken() {
        let whole = b"something that has some length";
        let zstd = zstd::encode_all(&whole[..], 3).unwrap();
        for (coding, body) in [(Coding::Gzip, gzip(whole)), (Coding::Zstd, zstd)] {
            for cut in 1..body.len() {
                let inflated = inflate(&body[..cut], coding, 1_000, |_| true);
                assert!(
                    matches!(inflated, Err(InflateError::Broken(_))),
                    "{coding:?} {cut}: {inflated:?}"
                );
            }
            let mut garbage = body.clone();
            garbage.extend_from_slice(b"garbage");
            let inflated = inflate(&garbage, coding, 1_000, |_| true);
            assert!(
                matches!(inflated, Err(InflateError::Broken(_))),
                "{coding:?}: {inflated:?}"
            );
            assert!(
                inflate(whole, coding, 1_000, |_| true).is_err(),
                "{coding:?}"
            );
        }
    }

    #[test]
    fn a_window_of_gigabytes_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(b"small").unwrap();
        let body = encoder.finish().unwrap();
        let inflated = inflate(&body, Coding::Zstd, 1_000, |_| true);
        assert!(
            matches!(inflated, Err(InflateError::Broken(_))),
            "{inflated:?}"
        );
    }

    #[test]
    fn a_bomb_takes_no_more_than_the_limit() {
        let bomb = gzip(&vec![0; 50 << 20]);
        let mut taken = 0;
        let inflated = inflate(&bomb, Coding::Gzip, 1 << 20, |bytes| {
            taken += bytes;
            true
        });
        assert_eq!(inflated, Err(InflateError::TooLarge));
        assert!(taken <= (1 << 20) + 1, "{taken}");
    }
}
