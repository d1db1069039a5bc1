//! Reading a request: its path, its query and its id. Pure.

pub mod body;
pub mod content_type;
pub mod decompress;
pub mod discard;
#[cfg(test)]
pub mod format_equivalence;
pub mod framing;

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::NaiveDate;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

use super::docs;
use super::problem::{ParameterError, Problem};
use crate::clickhouse::Filter;
use crate::event::ERRORS_MAX;

/// The id of a request, in and out.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What a path stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// What this is.
    About,
    /// Events come in.
    Events,
    /// Events come in as messages.
    Stream,
    /// Statistics go out.
    Report,
    /// What the API promises.
    Document(docs::Name),
    /// No such path.
    Unknown,
}

impl Route {
    /// The route of a path in any of its spellings.
    pub fn of(path: &str) -> Route {
        let versions = ["/v1", "/latest", "/V1"];
        let rest = versions
            .iter()
            .filter_map(|version| path.strip_prefix(version))
            .find(|rest| rest.is_empty() || rest.starts_with('/'));
        if let Some(name) = rest.and_then(docs::Name::of) {
            return Route::Document(name);
        }
        match rest.map(|rest| rest.trim_end_matches('/')) {
            Some("") => Route::About,
            Some("/events" | "/event") => Route::Events,
            Some("/events/stream") => Route::Stream,
            Some("/report") => Route::Report,
            _ => Route::Unknown,
        }
    }

    /// The names of all in metrics.
    pub const NAMES: [&str; 6] = ["about", "document", "events", "other", "report", "stream"];

    /// The methods that it answers, as `Allow` lists them.
    pub fn methods(self) -> &'static str {
        match self {
            Route::Events => "POST, OPTIONS",
            Route::About | Route::Report | Route::Document(_) => "GET, HEAD, OPTIONS",
            Route::Stream => "GET, OPTIONS",
            Route::Unknown => "",
        }
    }

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Route::About => "about",
            Route::Events => "events",
            Route::Stream => "stream",
            Route::Report => "report",
            Route::Document(_) => "document",
            Route::Unknown => "other",
        }
    }
}

/// The request's id: the client's own if it is 1 to 128 visible ASCII characters, else a new one.
pub fn request_id(headers: &HeaderMap) -> HeaderValue {
    const CHARS_MAX: usize = 128;
    let is_sane =
        |id: &&HeaderValue| (1..=CHARS_MAX).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic);
    let own = || {
        // Ids need not be unguessable, and the system's own random numbers take as long as the rest of a small answer.
        let mut random = [0; 10];
        fastrand::fill(&mut random);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let millis = now.map_or(0, |since| since.as_millis() as u64);
        let id = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
        let mut buffer = Uuid::encode_buffer();
        let text = id.hyphenated().encode_lower(&mut buffer);
        HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("none"))
    };
    headers.get(REQUEST_ID).filter(is_sane).cloned().unwrap_or_else(own)
}

/// Refuses every parameter by name.
///
/// # Errors
/// [`Problem::Query`].
pub fn no_parameters(query: &str) -> Result<(), Problem> {
    known_parameters(query, "unknown; this path takes none", |_, _| None)
}

/// Reads `dry_run`, and names everything else.
///
/// # Errors
/// [`Problem::Query`].
pub fn parse_dry_run(query: &str) -> Result<bool, Problem> {
    let mut dry_run = None;
    known_parameters(query, "unknown; expected dry_run", |name, value| {
        (name == "dry_run").then(|| match (dry_run, value) {
            (Some(_), _) => Err("given more than once"),
            (None, "true" | "false") => {
                dry_run = Some(value == "true");
                Ok(())
            }
            (None, _) => Err("neither true nor false"),
        })
    })?;
    Ok(dry_run.unwrap_or(false))
}

/// Has `read` read each parameter; those that it does not know are `unknown`.
fn known_parameters(
    query: &str,
    unknown: &str,
    mut read: impl FnMut(&str, &str) -> Option<Result<(), &'static str>>,
) -> Result<(), Problem> {
    let errors: Vec<_> = form_urlencoded::parse(query.as_bytes())
        .filter_map(|(name, value)| match read(&name, &value) {
            Some(outcome) => outcome.err().map(|detail| parameter_error(&name, detail)),
            None => Some(parameter_error(&name, unknown)),
        })
        .take(ERRORS_MAX)
        .collect();
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Problem::Query(errors))
    }
}

/// Reads `site_id` (repeated), `from` and `to`, and names everything else.
///
/// # Errors
/// Each parameter that is wrong.
pub fn parse_filter(query: &str) -> Result<Filter, Vec<ParameterError>> {
    let mut filter = Filter::default();
    let mut errors = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let outcome = match name.as_ref() {
            "site_id" => Filter::parse_site_id(&value).map(|site_id| filter.site_ids.push(site_id)),
            "from" => set_date(&mut filter.from, &value),
            "to" => set_date(&mut filter.to, &value),
            _ => Err("unknown; expected site_id, from or to"),
        };
        errors.extend(outcome.err().map(|detail| parameter_error(&name, detail)));
        if errors.len() == ERRORS_MAX {
            break;
        }
    }
    if !filter.is_in_order() {
        errors.push(parameter_error("from", Filter::OUT_OF_ORDER));
    }
    if errors.is_empty() { Ok(filter) } else { Err(errors) }
}

fn set_date(date: &mut Option<NaiveDate>, text: &str) -> Result<(), &'static str> {
    if date.is_some() {
        return Err("given more than once");
    }
    *date = Some(Filter::parse_date(text)?);
    Ok(())
}

fn parameter_error(name: &str, detail: &str) -> ParameterError {
    const NAME_CHARS_MAX: usize = 64;
    ParameterError {
        parameter: name.chars().take(NAME_CHARS_MAX).collect(),
        detail: detail.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_of_the_paths() {
        let document = |path| Route::Document(docs::Name::of(path).unwrap());
        for (path, route) in [
            ("/v1/events", Route::Events),
            ("/v1/events/", Route::Events),
            ("/v1/event", Route::Events),
            ("/V1/event", Route::Events),
            ("/V1/events", Route::Events),
            ("/latest/events", Route::Events),
            ("/latest/event", Route::Events),
            ("/v1/events/stream", Route::Stream),
            ("/V1/events/stream/", Route::Stream),
            ("/latest/events/stream", Route::Stream),
            ("/v1/stream", Route::Unknown),
            ("/v1/report", Route::Report),
            ("/V1/report", Route::Report),
            ("/latest/report", Route::Report),
            ("/v1/docs", document("/docs")),
            ("/latest/docs/", document("/docs/")),
            ("/V1/openapi.json", document("/openapi.json")),
            ("/v1/docs/page.js", document("/docs/page.js")),
            ("/v1/docs/page.html", Route::Unknown),
            ("/docs", Route::Unknown),
            ("/v1", Route::About),
            ("/v1/", Route::About),
            ("/latest/", Route::About),
            ("/", Route::Unknown),
            ("/events", Route::Unknown),
            ("/v1events", Route::Unknown),
            ("/v12/events", Route::Unknown),
            ("/v1/Events", Route::Unknown),
            ("/LATEST/events", Route::Unknown),
            ("/v1/events/7", Route::Unknown),
            ("/v2/events", Route::Unknown),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }

    #[test]
    fn a_filter_is_read_whole() {
        let site = "7a6f0a3e-9d3c-4b0e-8a55-0a4f5b1c2d3e";
        let filter = parse_filter(&format!(
            "site_id={site}&from=2001-01-01&to=2001-02-01&site_id={}",
            site.to_uppercase()
        ))
        .unwrap();
        assert_eq!(filter.site_ids, [site.parse::<Uuid>().unwrap(); 2]);
        assert_eq!(filter.from, NaiveDate::from_ymd_opt(2001, 1, 1));
        assert_eq!(filter.to, NaiveDate::from_ymd_opt(2001, 2, 1));
        assert_eq!(parse_filter(""), Ok(Filter::default()));
    }

    #[test]
    fn every_wrong_parameter_is_named() {
        let errors = parse_filter("site_id=7&from=2001-1-1&to=&user=me&from=2001-01-01&%66rom=2001-01-02");
        let errors = errors.unwrap_err();
        let named: Vec<_> = errors
            .iter()
            .map(|e| (e.parameter.as_str(), e.detail.as_str()))
            .collect();
        assert_eq!(
            named,
            [
                ("site_id", "not a UUID"),
                ("from", "not a date like 2001-01-31"),
                ("to", "not a date like 2001-01-31"),
                ("user", "unknown; expected site_id, from or to"),
                ("from", "given more than once"),
            ]
        );
        let late = parse_filter("from=2001-01-02&to=2001-01-01").unwrap_err();
        assert_eq!(late[0].detail, Filter::OUT_OF_ORDER);
    }

    #[test]
    fn a_dry_run_is_asked_for_in_one_way() {
        for (query, dry_run) in [("", false), ("dry_run=true", true), ("dry%5frun=false", false)] {
            assert_eq!(parse_dry_run(query).ok(), Some(dry_run), "{query}");
        }
        for (query, named) in [
            ("dry_run=1", "dry_run"),
            ("dry_run", "dry_run"),
            ("dry_run=true&dry_run=true", "dry_run"),
            ("dryrun=true", "dryrun"),
        ] {
            let Err(Problem::Query(errors)) = parse_dry_run(query) else {
                panic!("{query}");
            };
            assert_eq!(errors[0].parameter, named, "{query}");
        }
    }

    #[test]
    fn a_request_keeps_its_id_if_that_is_one() {
        let id = |given: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_bytes(given.as_bytes()).unwrap());
            request_id(&headers)
        };
        assert_eq!(id("abc-123"), "abc-123");
        assert_eq!(id(&"x".repeat(128)).len(), 128);
        for odd in ["", "two words", "\u{e4}", &"x".repeat(129)] {
            assert!(Uuid::parse_str(id(odd).to_str().unwrap()).is_ok(), "{odd:?}");
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }
}
