//! Errors as the API tells them: problem details (RFC 9457), and the one place that maps causes to them.

use hyper::StatusCode;
use hyper::header::{
    ACCEPT_ENCODING, ALLOW, CONNECTION, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use serde::Serialize;
use std::time::Duration;

use crate::event::{FieldError, Rejection};
use crate::http::{self, Answer};
use crate::store::{Class, CountersError};

/// What there is, as a path that there is not is told.
pub const PATHS: [&str; 4] = [
    "POST /v1/events",
    "GET /v1/events/stream (WebSocket)",
    "GET /v1/report",
    "GET /v1/",
];

/// Why a request is not answered with what it asked for.
#[derive(Debug)]
pub enum Problem {
    /// 404: no such path.
    NotFound,
    /// 405: the path answers other methods, named here.
    MethodNotAllowed(&'static str),
    /// 400: the body cannot be read to its end.
    BodyBroken,
    /// 400: the body is not encoded as it says.
    EncodingBroken(String),
    /// 408: the body did not come within this time.
    BodyLate(Duration),
    /// 413: the body is larger than this many bytes.
    BodyTooLarge(usize),
    /// 413: the body, inflated, is larger than this many bytes.
    InflatedTooLarge(usize),
    /// 415: the body is something else than JSON.
    MediaType(String),
    /// 415: the body is encoded some other way than those that are known.
    Encoding(String),
    /// 400, 413 or 422: the body holds no events, or too many.
    Body(Rejection),
    /// 422: parameters of the query, each with what is wrong.
    Query(Vec<ParameterError>),
    /// 426: the path is for WebSocket alone; why this is none.
    NoUpgrade(&'static str),
    /// 426: a version of WebSocket that is not 13.
    WebSocketVersion,
    /// 400: a WebSocket handshake without a key.
    WebSocketKey,
    /// 500: our own code failed.
    Bug,
    /// 503: too many requests are in progress.
    RequestsFull,
    /// 503: the bodies in progress take all the memory that there is for them.
    BodiesFull,
    /// 503: too much waits for Kafka; nothing was sent.
    KafkaFull,
    /// 503: too many reports are in progress; come back after so many seconds.
    ReportsFull(u64),
    /// 503: Kafka did not confirm, but may do so; come back after so many seconds.
    Unconfirmed(u64),
    /// 503 or 422: no report; come back after so many seconds if it is ClickHouse's fault.
    Report(CountersError, u64),
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
    /// Seconds; only where there is no header for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
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
    /// The answer, without what a driver said. `pace` knows when what is in progress will be done, in seconds.
    pub fn into_answer(self, pace: impl FnOnce() -> u64) -> Answer {
        let retry_after = self.retry_after(pace);
        let accepts = matches!(self, Problem::Encoding(_));
        let upgrade = matches!(self, Problem::NoUpgrade(_) | Problem::WebSocketVersion);
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
        if accepts {
            // RFC 9110 section 12.5.3: what a next request may be encoded with.
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, zstd"));
        }
        if upgrade {
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        answer
    }

    /// The same as a status and a text that tells all of it, for where there are no headers.
    pub fn into_text(self, pace: impl FnOnce() -> u64) -> (StatusCode, String) {
        let retry_after = self.retry_after(pace);
        let mut document = self.document();
        document.retry_after = retry_after;
        let status = StatusCode::from_u16(document.status).unwrap_or_default();
        (status, http::json_line(&document))
    }

    fn retry_after(&self, pace: impl FnOnce() -> u64) -> Option<u64> {
        match self {
            Problem::RequestsFull | Problem::BodiesFull | Problem::KafkaFull => Some(pace()),
            Problem::ReportsFull(seconds)
            | Problem::Unconfirmed(seconds)
            | Problem::Report(CountersError::Store(_), seconds) => Some(*seconds),
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
                format!("here are {}", PATHS.join(", ")),
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
            Problem::EncodingBroken(reason) => (
                400,
                "broken encoding",
                format!("the body is not what its content-encoding says: {reason}"),
            ),
            Problem::BodyLate(time) => (
                408,
                "slow body",
                format!(
                    "the body did not come within {} seconds, or before this server stopped",
                    time.as_secs()
                ),
            ),
            Problem::BodyTooLarge(limit) => (
                413,
                "body too large",
                format!("a body may have {limit} bytes; send fewer events at once"),
            ),
            Problem::InflatedTooLarge(limit) => (
                413,
                "body too large",
                format!("a body may have {limit} bytes once it is inflated; send fewer events at once"),
            ),
            Problem::MediaType(detail) => (415, "unsupported media type", detail),
            Problem::Encoding(detail) => (415, "unsupported encoding", detail),
            Problem::Body(Rejection::NotJson(reason)) => {
                (400, "not JSON", format!("the body is not JSON: {reason}"))
            }
            Problem::Body(Rejection::Invalid(fields)) => {
                let detail = format!("nothing was accepted: {}", described(fields.len()));
                errors = Some(Errors::Fields(fields));
                (422, "not an event", detail)
            }
            Problem::Body(Rejection::TooMany(limit)) => (
                413,
                "too many events",
                format!("a request may have {limit} events; send fewer at once"),
            ),
            Problem::Query(parameters) => {
                let detail = described(parameters.len());
                errors = Some(Errors::Parameters(parameters));
                (422, "wrong query", detail)
            }
            Problem::NoUpgrade(reason) => (
                426,
                "upgrade required",
                format!("this path is for WebSocket: {reason}"),
            ),
            Problem::WebSocketVersion => (
                426,
                "upgrade required",
                "sec-websocket-version is not 13, the only one that is known".to_string(),
            ),
            Problem::WebSocketKey => (
                400,
                "broken handshake",
                "sec-websocket-key is not 16 bytes in base64".to_string(),
            ),
            Problem::Bug => (
                500,
                "internal error",
                "this is a bug in captcha; the log has it under the x-request-id of this answer"
                    .to_string(),
            ),
            Problem::RequestsFull => overloaded("too many requests are in progress"),
            Problem::BodiesFull => overloaded("the bodies in progress take too much memory"),
            Problem::KafkaFull => overloaded("too many events wait for kafka"),
            Problem::ReportsFull(_) => overloaded("too many reports are in progress"),
            Problem::Unconfirmed(_) => (
                503,
                "not confirmed",
                "kafka did not confirm; send the same events again, each will be counted once"
                    .to_string(),
            ),
            Problem::Report(err @ CountersError::TooManyRows, _) => {
                (422, "report too large", err.to_string())
            }
            Problem::Report(CountersError::Store(err), _) if err.class() == Class::SchemaMissing => (
                503,
                "no report",
                "the tables are not what this captcha needs; `captcha migrate` makes them, the log says what is lacking"
                    .to_string(),
            ),
            Problem::Report(CountersError::Store(_), _) => (
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
            retry_after: None,
            errors,
        }
    }
}

fn overloaded(what: &str) -> (u16, &'static str, String) {
    let detail = format!("{what}; nothing was done, try again");
    (503, "overloaded", detail)
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
    use crate::store;
    use hyper::header::CONTENT_TYPE;

    #[test]
    fn a_problem_says_what_where_and_when_to_come_back() {
        let answer = Problem::Unconfirmed(7).into_answer(|| 9);
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()[RETRY_AFTER], "7");
        assert_eq!(answer.headers()[CONTENT_TYPE], "application/problem+json");
        assert_eq!(
            Problem::KafkaFull.into_answer(|| 9).headers()[RETRY_AFTER],
            "9"
        );

        let failed = || CountersError::from(store::Error::Connection("driver words".to_string()));
        let document = Problem::Report(failed(), 1).document();
        assert!(!serde_json::to_string(&document).unwrap().contains("driver"));

        let answer = Problem::MethodNotAllowed("GET, HEAD").into_answer(|| 9);
        assert!(!answer.headers().contains_key(RETRY_AFTER));
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
