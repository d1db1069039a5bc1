//! Why a request is not answered with what it asked for: problem details (RFC 9457).

mod response;
mod table;

use std::time::Duration;

use serde::Serialize;

pub use self::response::catch_panic;
pub use self::table::{Errors, Reason, Row};
use super::auth::keys::{Denied, RateLimited};
use super::auth::links::LinkRefusal;
use super::report::queue::Refusal;
use super::report::receipt::Receipt;
use crate::clickhouse::ReportError;
use crate::event::{FieldError, Rejection};
use crate::statistics::WrongParameter;
use crate::topic_partition::Offset;

/// The paths of the API, as the response to an unknown path lists them.
pub const PATHS: [&str; 10] = [
    "POST /v1/events",
    "GET /v1/events/stream (WebSocket)",
    "GET /v1/report",
    "GET /v1/report.svg",
    "GET /v1/dashboard",
    "GET /v1/",
    "GET /v1/docs",
    "GET /v1/openapi.yaml",
    "GET /v1/openapi.json",
    "GET /v1/schema",
];

/// Why a request is not answered with what it asked for.
#[derive(Debug)]
pub enum Problem {
    /// 401: no key, or an unknown one.
    Denied(Denied),
    /// 401: the same, and a browser asks its user for a key.
    SignIn(Denied),
    /// 403: the key has the other role, which is named here.
    WrongRole(&'static str),
    /// 403: a signed link.
    LinkRefused(LinkRefusal),
    /// 403: a page of another site, with the password or certificate that its visitor's browser adds.
    CrossSite,
    /// 403: a WebSocket of a page that may not call: its origin, and the host that was asked for.
    ForeignPage {
        /// The header `Origin`.
        origin: String,
        /// The header `Host`.
        host: String,
    },
    /// 403: a WebSocket of a page of this host, a name that anybody may have pointed to this server.
    UnknownHost(String),
    /// 421: a request for this host, which is not a name of this server.
    ForeignHost(String),
    /// 403: events of sites that are not the key's.
    ForeignEvents(Vec<FieldError>),
    /// 403: a report of sites that are not the key's.
    ForeignSites(Vec<ParameterError>),
    /// 400: no valid host header, or more than one.
    Host,
    /// 501: the body has a transfer coding that is not supported.
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
    BodyTimeout(Duration),
    /// 413: the body is larger than this many bytes.
    BodyTooLarge(usize),
    /// 413: the body, inflated, is larger than this many bytes.
    InflatedTooLarge(usize),
    /// 415: the body has another type than JSON.
    MediaType(String),
    /// 415: the body has an encoding that is not supported.
    Encoding(String),
    /// 400, 413 or 422: the body holds no events, or too many; and what it probably is and what to send.
    Body(Rejection, Option<&'static str>),
    /// 422: parameters of the query, each with what is wrong.
    Query(Vec<ParameterError>),
    /// 429: over the key's rate; or 413, if it can never be within.
    RateLimited(RateLimited),
    /// 426: the path is for WebSocket alone, and this is why the request is something else.
    NoUpgrade(&'static str),
    /// 426: a version of WebSocket that is not 13.
    WebSocketVersion,
    /// 400: a WebSocket handshake without a key.
    WebSocketKey,
    /// 500: a bug in this program.
    Bug,
    /// 503: too many requests are in progress.
    RequestsFull,
    /// 503: the memory that clients share is used up.
    MemoryFull,
    /// 503: too much waits for Kafka; nothing was sent.
    KafkaFull,
    /// 503: too many clients want reports.
    ReportRefused(Refusal),
    /// 503: the event that the report was to have is not stored yet; how far its partition is.
    NotStored(Receipt, Option<Offset>),
    /// 503: Kafka did not confirm, but may have the events.
    Unconfirmed,
    /// 503 or 422: the report failed, or is too large.
    Report(ReportError),
}

/// An error in one parameter of a query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ParameterError {
    /// Its name as it was sent.
    pub parameter: String,
    pub detail: String,
}

/// Characters of a name that an answer repeats: more than any name has.
const NAME_CHARS_MAX: usize = 64;

impl ParameterError {
    pub fn new(name: &str, detail: impl Into<String>) -> ParameterError {
        ParameterError {
            parameter: name.chars().take(NAME_CHARS_MAX).collect(),
            detail: detail.into(),
        }
    }
}

impl From<WrongParameter> for ParameterError {
    fn from(wrong: WrongParameter) -> ParameterError {
        ParameterError::new(&wrong.name, wrong.detail)
    }
}

impl Problem {
    /// How many events of a request are not accepted because of this problem, of which `parsed` were read, if any.
    pub fn rejected_events(&self, parsed: Option<usize>) -> u64 {
        let events = match self {
            Problem::Body(Rejection::Invalid { events, .. }, _) => *events,
            _ => parsed.unwrap_or(1),
        };
        // A request whose events nobody could count is one.
        events.max(1) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_counts_as_its_events_where_they_are_known() {
        let invalid = |events| {
            let errors = Vec::new();
            Problem::Body(Rejection::Invalid { events, errors }, None)
        };
        let counted = |problem: Problem, parsed| {
            let reason = problem.row().reason.map(Reason::name);
            (reason, problem.rejected_events(parsed))
        };
        assert_eq!(counted(invalid(7), None), (Some("malformed"), 7));
        assert_eq!(counted(invalid(0), None), (Some("malformed"), 1));
        let not_json = Problem::Body(Rejection::NotJson(String::new()), None);
        assert_eq!(counted(not_json, None), (Some("malformed"), 1));
        let many = Problem::Body(Rejection::TooMany(10), None);
        assert_eq!(counted(many, None), (Some("too_large"), 1));
        assert_eq!(counted(Problem::Unconfirmed, Some(9)), (Some("kafka"), 9));
        assert_eq!(counted(Problem::NotFound, None).0, None);
    }
}
