//! Reading a request: its path, its query and what it says of its body. Pure.

use chrono::NaiveDate;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};

use super::documents;
use super::problem::{ParameterError, Problem};
use crate::store::Filter;

/// Errors listed in one answer, as many as of a body.
const ERRORS_MAX: usize = 100;

/// What a path stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// What this is.
    About,
    /// Events come in.
    Events,
    /// Statistics go out.
    Report,
    /// What the API promises.
    Document(documents::Name),
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
        if let Some(name) = rest.and_then(documents::Name::of) {
            return Route::Document(name);
        }
        match rest.map(|rest| rest.trim_end_matches('/')) {
            Some("") => Route::About,
            Some("/events" | "/event") => Route::Events,
            Some("/report") => Route::Report,
            _ => Route::Unknown,
        }
    }

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Route::About => "about",
            Route::Events => "events",
            Route::Report => "report",
            Route::Document(_) => "document",
            Route::Unknown => "other",
        }
    }
}

/// Checks that a body is said to be plain JSON.
///
/// # Errors
/// [`Problem::MediaType`].
pub fn media_type(headers: &HeaderMap) -> Result<(), Problem> {
    let refuse = |detail: String| Err(Problem::MediaType(detail));
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let Some(given) = types.next() else {
        return refuse("no content-type; expected application/json".to_string());
    };
    if types.next().is_some() {
        return refuse("more than one content-type; expected application/json".to_string());
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
    if !essence.eq_ignore_ascii_case("application/json") {
        return refuse(format!("content-type {essence}; expected application/json"));
    }
    let plain = |encoding: &HeaderValue| encoding.as_bytes().eq_ignore_ascii_case(b"identity");
    if headers.get_all(CONTENT_ENCODING).iter().all(plain) {
        Ok(())
    } else {
        refuse("a content-encoding; expected none".to_string())
    }
}

/// Refuses every parameter by name.
///
/// # Errors
/// [`Problem::Query`].
pub fn no_parameters(query: &str) -> Result<(), Problem> {
    let unknown: Vec<_> = form_urlencoded::parse(query.as_bytes())
        .map(|(name, _)| parameter_error(&name, "unknown; this path takes none"))
        .take(ERRORS_MAX)
        .collect();
    if unknown.is_empty() {
        Ok(())
    } else {
        Err(Problem::Query(unknown))
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
    if errors.is_empty() {
        Ok(filter)
    } else {
        Err(errors)
    }
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
    use uuid::Uuid;

    #[test]
    fn all_spellings_of_the_paths() {
        let document = |path| Route::Document(documents::Name::of(path).unwrap());
        for (path, route) in [
            ("/v1/events", Route::Events),
            ("/v1/events/", Route::Events),
            ("/v1/event", Route::Events),
            ("/V1/event", Route::Events),
            ("/V1/events", Route::Events),
            ("/latest/events", Route::Events),
            ("/latest/event", Route::Events),
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
        let errors =
            parse_filter("site_id=7&from=2001-1-1&to=&user=me&from=2001-01-01&%66rom=2001-01-02");
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
    fn only_plain_json_is_read() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, HeaderValue::from_static(value));
            }
            media_type(&headers)
        };
        assert!(headers(&[("content-type", "application/json")]).is_ok());
        assert!(headers(&[("content-type", "Application/JSON ; charset=utf-8")]).is_ok());
        assert!(
            headers(&[
                ("content-type", "application/json"),
                ("content-encoding", "identity")
            ])
            .is_ok()
        );
        assert!(headers(&[]).is_err());
        assert!(headers(&[("content-type", "application/json; charset=utf-8; x=y")]).is_ok());
        assert!(headers(&[("content-type", "text/plain")]).is_err());
        assert!(headers(&[("content-type", "application/json; charset=latin1")]).is_err());
        assert!(headers(&[("content-type", "application/json; charset=\"UTF-8\"")]).is_ok());
        let json = ("content-type", "application/json");
        assert!(headers(&[json, ("content-encoding", "gzip")]).is_err());
        assert!(
            headers(&[
                json,
                ("content-encoding", "identity"),
                ("content-encoding", "gzip")
            ])
            .is_err()
        );
        assert!(headers(&[json, ("content-type", "text/plain")]).is_err());
    }
}
