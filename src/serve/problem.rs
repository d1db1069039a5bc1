//! Errors as the API tells them: problem details (RFC 9457), and the one place that maps causes to them.

use hyper::StatusCode;
use hyper::header::{ALLOW, HeaderValue, RETRY_AFTER};
use serde::Serialize;

use crate::broker::SendError;
use crate::event::{FieldError, Rejection};
use crate::http::{self, Answer};
use crate::store::{Class, CountersError};

/// Seconds after which a sender should try again when too much waits already.
const RETRY_OVERLOADED_SECONDS: u32 = 1;

/// Seconds after which a sender should try again when a server is away.
const RETRY_AWAY_SECONDS: u32 = 5;

/// Why a request is not answered with what it asked for.
#[derive(Debug)]
pub enum Problem {
    /// 404: no such path.
    NotFound,
    /// 405: the path answers other methods, named here.
    MethodNotAllowed(&'static str),
    /// 400: the body cannot be read to its end.
    BodyBroken,
    /// 408: the body did not come in time.
    BodyLate,
    /// 413: the body is larger than this many bytes.
    BodyTooLarge(usize),
    /// 415: the body is something else than plain JSON.
    MediaType(String),
    /// 400 or 422: the body holds no events.
    Body(Rejection),
    /// 422: parameters of the query, each with what is wrong.
    Query(Vec<ParameterError>),
    /// 503: too much is in progress.
    Overloaded,
    /// 503 or 422: no receipts.
    Send(SendError),
    /// 503 or 422: no report.
    Report(CountersError),
}

/// What is wrong with one parameter of a query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ParameterError {
    /// Its name as it was sent.
    pub parameter: String,
    /// What is wrong.
    pub detail: String,
}

/// The members of a problem document.
#[derive(Serialize)]
struct Document {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<Errors>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Errors {
    Fields(Vec<FieldError>),
    Parameters(Vec<ParameterError>),
}

impl Problem {
    /// The answer, without what a driver said.
    pub fn into_answer(self) -> Answer {
        let retry_after = self.retry_after();
        let allow = match self {
            Problem::MethodNotAllowed(methods) => Some(methods),
            _ => None,
        };
        let document = self.document();
        let status = StatusCode::from_u16(document.status).unwrap_or_default();
        let mut answer = http::answer(
            status,
            "application/problem+json",
            http::json_line(&document),
        );
        let headers = answer.headers_mut();
        if let Some(seconds) = retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(methods) = allow {
            headers.insert(ALLOW, HeaderValue::from_static(methods));
        }
        answer
    }

    fn retry_after(&self) -> Option<u32> {
        match self {
            Problem::Overloaded | Problem::Send(SendError::Overloaded) => {
                Some(RETRY_OVERLOADED_SECONDS)
            }
            Problem::Send(_) | Problem::Report(CountersError::Store(_)) => Some(RETRY_AWAY_SECONDS),
            _ => None,
        }
    }

    /// The one place that maps causes to status codes and words.
    fn document(self) -> Document {
        let mut errors = None;
        let (status, title, detail) = match self {
            Problem::NotFound => (
                404,
                "no such path",
                "here are POST /v1/events, GET /v1/report and GET /v1/".to_string(),
            ),
            Problem::MethodNotAllowed(methods) => (
                405,
                "method not allowed",
                format!("this path answers {methods}"),
            ),
            Problem::BodyBroken => (
                400,
                "broken body",
                "the body is not well formed, or ended before its end".to_string(),
            ),
            Problem::BodyLate => (
                408,
                "slow body",
                "the body did not come within 30 seconds, or before this server stopped"
                    .to_string(),
            ),
            Problem::BodyTooLarge(limit) => (
                413,
                "body too large",
                format!("a body may have {limit} bytes; send fewer events at once"),
            ),
            Problem::MediaType(detail) => (415, "unsupported media type", detail),
            Problem::Body(Rejection::NotJson(reason)) => {
                (400, "not JSON", format!("the body is not JSON: {reason}"))
            }
            Problem::Body(Rejection::Invalid(fields)) => {
                let detail = format!("nothing was accepted: {}", described(fields.len()));
                errors = Some(Errors::Fields(fields));
                (422, "not an event", detail)
            }
            Problem::Query(parameters) => {
                let detail = described(parameters.len());
                errors = Some(Errors::Parameters(parameters));
                (422, "wrong query", detail)
            }
            Problem::Overloaded | Problem::Send(SendError::Overloaded) => (
                503,
                "overloaded",
                "too much is in progress; nothing was done, try again".to_string(),
            ),
            Problem::Send(SendError::Unconfirmed(_)) => (
                503,
                "not confirmed",
                "kafka did not confirm; send the same events again, each will be counted once"
                    .to_string(),
            ),
            Problem::Report(err @ CountersError::TooManyRows) => {
                (422, "report too large", err.to_string())
            }
            Problem::Report(CountersError::Store(err)) if err.class() == Class::SchemaMissing => (
                503,
                "no report",
                "the tables are not what this captcha needs; `captcha migrate` makes them, the log says what is lacking"
                    .to_string(),
            ),
            Problem::Report(CountersError::Store(_)) => (
                503,
                "no report",
                "the report cannot be read at the moment; try again".to_string(),
            ),
        };
        Document {
            r#type: "about:blank",
            title,
            status,
            detail,
            errors,
        }
    }
}

fn described(count: usize) -> String {
    match count {
        1 => "one error".to_string(),
        _ => format!("{count} errors"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::CONTENT_TYPE;

    #[test]
    fn a_problem_says_what_where_and_when_to_come_back() {
        let answer =
            Problem::Send(SendError::Unconfirmed("secret driver words".into())).into_answer();
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()[RETRY_AFTER], "5");
        assert_eq!(answer.headers()[CONTENT_TYPE], "application/problem+json");
        let document =
            Problem::Send(SendError::Unconfirmed("secret driver words".into())).document();
        assert!(!serde_json::to_string(&document).unwrap().contains("driver"));

        let answer = Problem::MethodNotAllowed("GET, HEAD").into_answer();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()[ALLOW]),
            (405, &"GET, HEAD".parse().unwrap())
        );
    }

    #[test]
    fn field_errors_are_listed() {
        let fields = vec![FieldError {
            pointer: "/3/site_id".to_string(),
            detail: "missing".to_string(),
        }];
        let document = Problem::Body(Rejection::Invalid(fields)).document();
        assert_eq!(
            serde_json::to_string(&document).unwrap(),
            r#"{"type":"about:blank","title":"not an event","status":422,"detail":"nothing was accepted: one error","errors":[{"pointer":"/3/site_id","detail":"missing"}]}"#
        );
    }
}
