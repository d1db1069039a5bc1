//! The form of a body, as its head says it. Pure.

use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};

use super::decompress::Coding;
use crate::event::{Event, Rejection, parse_body, parse_lines};
use crate::serve::problem::Problem;

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// One JSON document: an event or an array.
    Json,
    /// A JSON object a line.
    Lines,
}

/// What a head says of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// How events are written.
    pub syntax: Syntax,
    /// What was done to the bytes.
    pub coding: Coding,
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

    /// Whether the events of a body that is inflated are numbered in pointers: all but one event alone are.
    pub fn is_array(self, body: &[u8]) -> bool {
        self.syntax == Syntax::Lines || body.trim_ascii_start().starts_with(b"[")
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
                    return Err(Problem::Encoding(format!("content-encoding {name}; {EXPECTED}")));
                }
            };
            if coding != Coding::Identity {
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
            assert_eq!((form.syntax, form.coding), (syntax, Coding::Identity), "{content_type}");
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
            pairs.extend(encodings.iter().map(|encoding| ("content-encoding", *encoding)));
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
            &[("content-type", "application/json; charset=utf-8; charset=latin1")],
            &[json, ("content-type", "text/plain")],
            &[json, json],
        ] {
            assert!(matches!(form(pairs), Err(Problem::MediaType(_))), "{pairs:?}");
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
            assert!(matches!(form(&pairs), Err(Problem::Encoding(_))), "{encodings:?}");
        }
    }
}
