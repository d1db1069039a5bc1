//! The parameters of a query.

use hyper::Request;

use crate::event::ERRORS_MAX;
use crate::serve::problem::{ParameterError, Problem};
use crate::serve::report::format::Format;
use crate::serve::report::receipt::Receipt;
use crate::statistics::{PARAMETERS, Query};

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
            Some(outcome) => outcome.err().map(|detail| ParameterError::new(&name, detail)),
            None => Some(ParameterError::new(&name, unknown)),
        })
        .take(ERRORS_MAX)
        .collect();
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Problem::Query(errors))
    }
}

/// What is asked of `GET /v1/report`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ReportQuery {
    pub question: Query,
    /// `None` leaves it to the header `Accept`.
    pub format: Option<Format>,
    /// The receipt of an event that the report is to have.
    pub wait: Option<Receipt>,
}

/// Reads the question of a report, `format` and `wait`, and refuses other parameters by name.
///
/// # Errors
/// Each parameter that is wrong.
pub fn parse_report(query: &str) -> Result<ReportQuery, Vec<ParameterError>> {
    let (mut format, mut wait, mut errors) = (None, None, Vec::new());
    let mut question = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let outcome = match name.as_ref() {
            "format" => set_once(&mut format, Format::parse(&value)),
            "wait" => set_once(&mut wait, Receipt::parse(&value)),
            _ => {
                question.push((name, value));
                continue;
            }
        };
        errors.extend(outcome.err().map(|detail| ParameterError::new(&name, detail)));
    }
    match Query::parse(question.into_iter()) {
        Ok(question) if errors.is_empty() => Ok(ReportQuery { question, format, wait }),
        Ok(_) => Err(errors),
        Err(wrong) => {
            let wrong = wrong.into_iter().map(|wrong| match PARAMETERS.contains(&&*wrong.name) {
                true => ParameterError::from(wrong),
                false => ParameterError::new(&wrong.name, unknown_parameter()),
            });
            errors.splice(0..0, wrong);
            errors.truncate(ERRORS_MAX);
            Err(errors)
        }
    }
}

fn unknown_parameter() -> String {
    format!("unknown; expected {}, format or wait", PARAMETERS.join(", "))
}

/// Sets a value that may be given once.
///
/// # Errors
/// It is wrong, or was set before.
pub fn set_once<T, E: From<&'static str>>(value: &mut Option<T>, parsed: Result<T, E>) -> Result<(), E> {
    let parsed = parsed?;
    match value.replace(parsed) {
        None => Ok(()),
        Some(_) => Err("given more than once".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_question_is_read_whole() {
        let site = "7a6f0a3e-9d3c-4b0e-8a55-0a4f5b1c2d3e";
        let report = parse_report(&format!(
            "site_id={site}&from=2001-01-01&to=2001-02-01&format=csv&site_id={}&wait=3:57",
            site.to_uppercase()
        ))
        .unwrap();
        assert_eq!(report.format, Some(Format::Csv));
        assert_eq!(report.wait, Receipt::parse("3:57").ok());
        assert_eq!(report.question.site_ids, [site.parse::<Uuid>().unwrap(); 2]);
        assert!(report.question.is_plain());
        assert!(!parse_report("period=7d").unwrap().question.is_plain());
        assert_eq!(parse_report(""), Ok(ReportQuery::default()));
    }

    #[test]
    fn every_wrong_parameter_is_named() {
        let errors = parse_report(
            "site_id=7&from=2001-1-1&to=&user=me&from=2001-01-01&%66rom=2001-01-02&format=xml&wait=1&wait=1:1&wait=1%3a2",
        );
        let errors = errors.unwrap_err();
        let named: Vec<_> = errors
            .iter()
            .map(|e| (e.parameter.as_str(), e.detail.as_str()))
            .collect();
        let date = "not a date like 2001-01-31 or an instant like 2001-01-31T06:00:00Z";
        assert_eq!(
            named,
            [
                ("site_id", "not a UUID"),
                ("from", date),
                ("to", date),
                ("user", unknown_parameter().as_str()),
                ("from", "given more than once"),
                ("format", "not one of json, csv and ndjson"),
                ("wait", "not a receipt like 3:57"),
                ("wait", "given more than once"),
            ]
        );
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
