//! The parameters of a query.

use chrono::NaiveDate;
use hyper::Request;

use crate::clickhouse::Filter;
use crate::event::ERRORS_MAX;
use crate::serve::problem::{ParameterError, Problem};

/// The query of a request; empty if there is none.
pub fn query<B>(request: &Request<B>) -> &str {
    request.uri().query().unwrap_or_default()
}

/// Refuses every parameter of the query by name.
///
/// # Errors
/// [`Problem::Query`].
pub fn parse_none(query: &str) -> Result<(), Problem> {
    parse_parameters(query, "unknown; this path takes none", |_, _| None)
}

/// Reads `dry_run`, and refuses other parameters by name.
///
/// # Errors
/// [`Problem::Query`].
pub fn parse_dry_run(query: &str) -> Result<bool, Problem> {
    let mut dry_run = None;
    parse_parameters(query, "unknown; expected dry_run", |name, value| {
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

/// Calls `read` for each parameter; `None` means that the name is unknown, which `unknown` explains.
fn parse_parameters(
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

/// Reads `site_id` (repeated), `from` and `to`, and refuses other parameters by name.
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
    use uuid::Uuid;

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
}
