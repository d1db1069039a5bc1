//! Errors as the API tells them: problem details (RFC 9457), and the one place that maps causes to them.

use hyper::StatusCode;
use hyper::header::{
    ACCEPT_ENCODING, ALLOW, CONNECTION, HeaderMap, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE,
    WWW_AUTHENTICATE,
};
use serde::Serialize;
use std::time::Duration;

use super::auth::keys::{Denied, RateLimited};
use super::report::queue::Refusal;
use crate::clickhouse::{Action, ReportError};
use crate::event::{FieldError, Rejection};
use crate::http::{self, Response};

/// What there is, as a path that there is not is told.
pub const PATHS: [&str; 8] = [
    "POST /v1/events",
    "GET /v1/events/stream (WebSocket)",
    "GET /v1/report",
    "GET /v1/",
    "GET /v1/docs",
    "GET /v1/openapi.yaml",
    "GET /v1/openapi.json",
    "GET /v1/schema",
];

/// Why a request is not answered with what it asked for.
#[derive(Debug)]
pub enum Problem {
    /// 401: no key, or none that is known.
    Denied(Denied),
    /// 403: the key is for something else, which is named here.
    WrongRole(&'static str),
    /// 403: a WebSocket of a page that may not call: its origin, and the host that was asked for.
    ForeignPage {
        /// What `Origin` says.
        origin: String,
        /// What `Host` says.
        host: String,
    },
    /// 403: a WebSocket of a page of this host, which may be anybody's name for this server.
    UnknownHost(String),
    /// 421: a request for this host, which is none of this server's names.
    ForeignHost(String),
    /// 403: events of sites that are not the key's.
    ForeignEvents(Vec<FieldError>),
    /// 403: a report of sites that are not the key's.
    ForeignSites(Vec<ParameterError>),
    /// 400: not one host, or one that is none.
    Host,
    /// 501: the body is in transfer codings that are not known.
    TransferCoding,
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
    /// 429: over the key's rate; or 413, if it can never be within.
    RateLimited(RateLimited),
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
    /// 503: what clients sent, and what is answered, takes all the memory that there is for it.
    MemoryFull,
    /// 503: too much waits for Kafka; nothing was sent.
    KafkaFull,
    /// 503: too many want reports; come back after this many seconds.
    ReportRefused(Refusal, u64),
    /// 503: Kafka did not confirm, but may do so; come back after so many seconds.
    Unconfirmed(u64),
    /// 503 or 422: no report; come back after so many seconds if it is ClickHouse's fault.
    Report(ReportError, u64),
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
    pub fn into_answer(self, pace: impl FnOnce() -> u64) -> Response {
        let mut headers = HeaderMap::new();
        if let Some(seconds) = self.retry_after(pace) {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        self.write_to(&mut headers);
        let document = self.document();
        let status = StatusCode::from_u16(document.status).unwrap_or_default();
        let mut answer = http::respond(status, "application/problem+json", http::json_line(&document));
        answer.headers_mut().extend(headers);
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

    /// The headers that go with some statuses.
    fn write_to(&self, headers: &mut HeaderMap) {
        let mut insert = |name, value| headers.insert(name, HeaderValue::from_static(value));
        match self {
            Problem::MethodNotAllowed(methods) => drop(insert(ALLOW, methods)),
            // RFC 9110 section 12.5.3: what a next request may be encoded with.
            Problem::Encoding(_) => drop(insert(ACCEPT_ENCODING, "gzip, zstd")),
            // Whoever stands between may see other requests in what follows.
            Problem::Host | Problem::TransferCoding => drop(insert(CONNECTION, "close")),
            Problem::Denied(denied) => drop(insert(WWW_AUTHENTICATE, denied.challenge())),
            Problem::RateLimited(RateLimited::Wait { state, .. }) => state.write_to(headers),
            Problem::NoUpgrade(_) | Problem::WebSocketVersion => {
                insert(UPGRADE, "websocket");
                insert(CONNECTION, "upgrade");
                insert(SEC_WEBSOCKET_VERSION, "13");
            }
            _ => {}
        }
    }

    fn retry_after(&self, pace: impl FnOnce() -> u64) -> Option<u64> {
        match self {
            Problem::RequestsFull | Problem::MemoryFull | Problem::KafkaFull => Some(pace()),
            Problem::ReportRefused(_, seconds)
            | Problem::Unconfirmed(seconds)
            | Problem::Report(ReportError::Shard(_), seconds) => Some(*seconds),
            Problem::RateLimited(RateLimited::Wait { seconds, .. }) => Some(u64::from(*seconds)),
            _ => None,
        }
    }

    /// The one place that maps causes to status codes and words.
    fn document(self) -> Document {
        let mut errors = None;
        let (status, title, detail) = match self {
            Problem::Denied(denied) => (401, "unauthorized", denied.to_string()),
            Problem::WrongRole(role) => (403, "forbidden", format!("this key {role} and nothing else")),
            Problem::ForeignPage { origin, host } => (
                403,
                "forbidden origin",
                format!(
                    "pages of {origin} may not call {host}; --cors-origins lists those that may, also of this server \
                     itself behind a proxy that changes the host header"
                ),
            ),
            Problem::UnknownHost(host) => (
                403,
                "forbidden origin",
                format!(
                    "whoever has the name {host} may have pointed it here, and no key is asked for; --host lists the names of \
                     this server, or --cors-origins the pages that may call"
                ),
            ),
            Problem::ForeignHost(host) => (
                421,
                "misdirected request",
                format!("{host:?} is not a name of this server; --host lists them"),
            ),
            Problem::ForeignEvents(fields) => {
                let detail = format!("nothing was accepted: {}", described(fields.len()));
                errors = Some(Errors::Fields(fields));
                (403, "forbidden site", detail)
            }
            Problem::ForeignSites(parameters) => {
                let detail = described(parameters.len());
                errors = Some(Errors::Parameters(parameters));
                (403, "forbidden site", detail)
            }
            Problem::RateLimited(limited @ RateLimited::Wait { .. }) => {
                (429, "rate limit exceeded", limited.to_string())
            }
            Problem::RateLimited(limited @ RateLimited::Never { .. }) => {
                (413, "too many events", limited.to_string())
            }
            Problem::Host => (
                400,
                "invalid host header",
                "HTTP/1.1 asks for exactly one host header, with a name or address and perhaps a port".to_string(),
            ),
            Problem::TransferCoding => (
                501,
                "unsupported transfer coding",
                "a body may be chunked, once; expected transfer-encoding chunked or content-length".to_string(),
            ),
            Problem::NotFound => (
                404,
                "not found",
                format!("here are {}", PATHS.join(", ")),
            ),
            Problem::MethodNotAllowed(methods) => (
                405,
                "method not allowed",
                format!("this path answers {methods}"),
            ),
            Problem::BodyBroken => (
                400,
                "malformed body",
                "the body is not well formed, or ended before its end".to_string(),
            ),
            Problem::EncodingBroken(reason) => (
                400,
                "malformed encoding",
                format!("the body is not what its content-encoding says: {reason}"),
            ),
            Problem::BodyLate(time) => (
                408,
                "request body timeout",
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
                (400, "malformed JSON", format!("the body is not JSON: {reason}"))
            }
            Problem::Body(Rejection::Invalid { errors: fields, .. }) => {
                let detail = format!("nothing was accepted: {}", described(fields.len()));
                errors = Some(Errors::Fields(fields));
                (422, "invalid event", detail)
            }
            Problem::Body(Rejection::TooMany(limit)) => (
                413,
                "too many events",
                format!("a request may have {limit} events; send fewer at once"),
            ),
            Problem::Query(parameters) => {
                let detail = described(parameters.len());
                errors = Some(Errors::Parameters(parameters));
                (422, "invalid query", detail)
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
                "malformed handshake",
                "sec-websocket-key is not 16 bytes in base64".to_string(),
            ),
            Problem::Bug => (
                500,
                "internal error",
                "this is a bug in captcha; the log has it under the x-request-id of this answer"
                    .to_string(),
            ),
            Problem::RequestsFull => overloaded("too many requests are in progress"),
            Problem::MemoryFull => overloaded("clients take too much memory, in total or from your address"),
            Problem::KafkaFull => overloaded("too many events wait for kafka"),
            Problem::ReportRefused(refusal, _) => overloaded(&refusal.to_string()),
            Problem::Unconfirmed(_) => (
                503,
                "not confirmed",
                "kafka did not confirm; send the same events again, each will be counted once"
                    .to_string(),
            ),
            Problem::Report(
                err @ (ReportError::TooManyRows | ReportError::TooManySites(_)),
                _,
            ) => (422, "report too large", err.to_string()),
            Problem::Report(ReportError::Shard(err), _) if err.action() == Action::SchemaMissing => (
                503,
                "report unavailable",
                "the tables are not what this captcha needs; `captcha migrate` makes them, the log says what is lacking"
                    .to_string(),
            ),
            Problem::Report(ReportError::Shard(_) | ReportError::NoRoom, _) => (
                503,
                "report unavailable",
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
    use crate::clickhouse;
    use hyper::header::CONTENT_TYPE;

    #[test]
    fn a_problem_says_what_where_and_when_to_come_back() {
        let answer = Problem::Unconfirmed(7).into_answer(|| 9);
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()[RETRY_AFTER], "7");
        assert_eq!(answer.headers()[CONTENT_TYPE], "application/problem+json");
        assert_eq!(Problem::KafkaFull.into_answer(|| 9).headers()[RETRY_AFTER], "9");

        let failed = || ReportError::from(clickhouse::Error::Connection("driver words".to_string()));
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
        let invalid = Rejection::Invalid {
            events: 4,
            errors: fields,
        };
        let document = Problem::Body(invalid).document();
        assert_eq!(
            serde_json::to_string(&document).unwrap(),
            r#"{"type":"about:blank","title":"invalid event","status":422,"detail":"nothing was accepted: one error","errors":[{"pointer":"/3/site_id","detail":"missing"}]}"#
        );
    }
}
