//! The table of problems: for each its status, its title, the reason that its events are counted under, and what it
//! says.

use hyper::StatusCode;
use hyper::header::{
    ACCEPT_ENCODING, ALLOW, CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_VERSION, UPGRADE,
    WWW_AUTHENTICATE,
};
use serde::Serialize;

use super::{PATHS, ParameterError, Problem};
use crate::clickhouse::{Action, ReportError};
use crate::event::{FieldError, Rejection};
use crate::serve::auth::keys::RateLimited;
use crate::serve::retry_after;

/// Why events are not accepted, as `captcha_events_rejected_total` counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// What was sent is not events.
    Malformed,
    /// The body did not come to its end, or not in time.
    Incomplete,
    /// More events or bytes than one request may have.
    TooLarge,
    /// No key, or one that may not send these events.
    Denied,
    /// Over the rate of the key.
    Rate,
    /// Too much is in progress, or waits for Kafka; nothing was sent.
    Busy,
    /// Kafka did not confirm; it may have the events all the same.
    Kafka,
    /// A bug in this program.
    Bug,
}

impl Reason {
    pub const ALL: [Reason; 8] = [
        Reason::Malformed,
        Reason::Incomplete,
        Reason::TooLarge,
        Reason::Denied,
        Reason::Rate,
        Reason::Busy,
        Reason::Kafka,
        Reason::Bug,
    ];

    /// The value of the label `reason`.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Malformed => "malformed",
            Reason::Incomplete => "incomplete",
            Reason::TooLarge => "too_large",
            Reason::Denied => "denied",
            Reason::Rate => "rate",
            Reason::Busy => "busy",
            Reason::Kafka => "kafka",
            Reason::Bug => "bug",
        }
    }
}

/// The challenge of RFC 7617, besides that of [`Denied::challenge`].
///
/// [`Denied::challenge`]: crate::serve::auth::keys::Denied::challenge
const BASIC_CHALLENGE: &str = "Basic realm=\"captcha\", charset=\"UTF-8\"";

/// What is wrong with fields of events or parameters of a query.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Errors {
    Fields(Vec<FieldError>),
    Parameters(Vec<ParameterError>),
}

impl Errors {
    fn describe(&self) -> String {
        let count = match self {
            Errors::Fields(errors) => errors.len(),
            Errors::Parameters(errors) => errors.len(),
        };
        match count {
            1 => "one error".to_string(),
            _ => format!("{count} errors"),
        }
    }
}

/// A row of the table.
#[derive(Debug)]
pub struct Row {
    pub status: StatusCode,
    pub title: &'static str,
    /// `None` if the problem is not about events.
    pub reason: Option<Reason>,
    pub detail: String,
    pub errors: Option<Errors>,
    /// Seconds.
    pub retry_after: Option<u64>,
    pub headers: HeaderMap,
}

fn row(status: StatusCode, title: &'static str, reason: impl Into<Option<Reason>>, detail: impl Into<String>) -> Row {
    Row {
        status,
        title,
        reason: reason.into(),
        detail: detail.into(),
        errors: None,
        retry_after: None,
        headers: HeaderMap::new(),
    }
}

fn with_advice(detail: String, advice: Option<&str>) -> String {
    match advice {
        Some(advice) => format!("{detail}; {advice}"),
        None => detail,
    }
}

fn overloaded(reason: impl Into<Option<Reason>>, cause: &str) -> Row {
    let detail = format!("{cause}; nothing was done, try again");
    row(StatusCode::SERVICE_UNAVAILABLE, "overloaded", reason, detail).retry_after(retry_after::overload())
}

fn upgrade_required(detail: impl Into<String>) -> Row {
    row(StatusCode::UPGRADE_REQUIRED, "upgrade required", None, detail)
        .header(UPGRADE, "websocket")
        .header(CONNECTION, "upgrade")
        .header(SEC_WEBSOCKET_VERSION, "13")
}

impl Row {
    fn header(mut self, name: HeaderName, value: &'static str) -> Row {
        self.headers.append(name, HeaderValue::from_static(value));
        self
    }

    fn retry_after(mut self, seconds: u64) -> Row {
        self.retry_after = Some(seconds);
        self
    }

    fn errors(mut self, errors: Errors) -> Row {
        self.errors = Some(errors);
        self
    }
}

impl Problem {
    /// The row of a problem. This is the one place that maps causes to statuses and words.
    pub fn row(&self) -> Row {
        use StatusCode as S;
        match self {
            Problem::Denied(denied) => row(S::UNAUTHORIZED, "unauthorized", Reason::Denied, denied.to_string())
                .header(WWW_AUTHENTICATE, denied.challenge()),
            Problem::SignIn(denied) => row(
                S::UNAUTHORIZED,
                "unauthorized",
                Reason::Denied,
                format!("{denied}; in a browser, enter any user name, and a read key as the password"),
            )
            .header(WWW_AUTHENTICATE, denied.challenge())
            .header(WWW_AUTHENTICATE, BASIC_CHALLENGE),
            Problem::LinkRefused(refusal) => row(S::FORBIDDEN, "link refused", None, refusal.to_string()),
            Problem::CrossSite => row(
                S::FORBIDDEN,
                "forbidden origin",
                None,
                "a page of another site asked for this with the password or certificate of its visitor's browser; open \
                 it by itself, or send a key as authorization: Bearer captcha_ID_SECRET",
            ),
            Problem::WrongRole(role) => row(
                S::FORBIDDEN,
                "forbidden",
                Reason::Denied,
                format!("this key {role} and nothing else"),
            ),
            Problem::ForeignPage { origin, host } => row(
                S::FORBIDDEN,
                "forbidden origin",
                None,
                format!(
                    "pages of {origin} may not call {host}; --cors-origins lists those that may, also of this server \
                     itself behind a proxy that changes the host header"
                ),
            ),
            Problem::UnknownHost(host) => row(
                S::FORBIDDEN,
                "forbidden origin",
                None,
                format!(
                    "whoever has the name {host} may have pointed it here, and no key is asked for; --host lists the \
                     names of this server, or --cors-origins the pages that may call"
                ),
            ),
            Problem::ForeignHost(host) => row(
                S::MISDIRECTED_REQUEST,
                "misdirected request",
                Reason::Malformed,
                format!("{host:?} is not a name of this server; --host lists them"),
            ),
            Problem::ForeignEvents(fields) => {
                let errors = Errors::Fields(fields.clone());
                let detail = format!("nothing was accepted: {}", errors.describe());
                row(S::FORBIDDEN, "forbidden site", Reason::Denied, detail).errors(errors)
            }
            Problem::ForeignSites(parameters) => {
                let errors = Errors::Parameters(parameters.clone());
                row(S::FORBIDDEN, "forbidden site", None, errors.describe()).errors(errors)
            }
            Problem::RateLimited(limited @ RateLimited::Wait { seconds, state }) => {
                let mut row = row(
                    S::TOO_MANY_REQUESTS,
                    "rate limit exceeded",
                    Reason::Rate,
                    limited.to_string(),
                )
                .retry_after(u64::from(*seconds));
                state.write_to(&mut row.headers);
                row
            }
            Problem::RateLimited(limited @ RateLimited::Never { .. }) => row(
                S::PAYLOAD_TOO_LARGE,
                "too many events",
                Reason::TooLarge,
                limited.to_string(),
            ),
            // The connection closes: a proxy may see other requests in what follows.
            Problem::Host => row(
                S::BAD_REQUEST,
                "invalid host header",
                Reason::Malformed,
                "HTTP/1.1 asks for exactly one host header, with a name or address and perhaps a port",
            )
            .header(CONNECTION, "close"),
            Problem::TransferCoding => row(
                S::NOT_IMPLEMENTED,
                "unsupported transfer coding",
                Reason::Malformed,
                "a body may be chunked, once; expected transfer-encoding chunked or content-length",
            )
            .header(CONNECTION, "close"),
            Problem::NotFound => row(
                S::NOT_FOUND,
                "not found",
                None,
                format!("here are {}", PATHS.join(", ")),
            ),
            Problem::MethodNotAllowed(methods) => {
                let detail = format!("this path answers {methods}");
                row(S::METHOD_NOT_ALLOWED, "method not allowed", None, detail).header(ALLOW, methods)
            }
            Problem::BodyBroken => row(
                S::BAD_REQUEST,
                "malformed body",
                Reason::Incomplete,
                "the body is not well formed, or ended before its end",
            ),
            Problem::EncodingBroken(reason) => row(
                S::BAD_REQUEST,
                "malformed encoding",
                Reason::Malformed,
                format!("the body is not what its content-encoding says: {reason}"),
            ),
            Problem::BodyTimeout(timeout) => row(
                S::REQUEST_TIMEOUT,
                "request body timeout",
                Reason::Incomplete,
                format!(
                    "the body did not come within {} seconds, or before this server stopped",
                    timeout.as_secs()
                ),
            ),
            Problem::BodyTooLarge(limit) => row(
                S::PAYLOAD_TOO_LARGE,
                "body too large",
                Reason::TooLarge,
                format!("a body may have {limit} bytes; send fewer events at once"),
            ),
            Problem::InflatedTooLarge(limit) => row(
                S::PAYLOAD_TOO_LARGE,
                "body too large",
                Reason::TooLarge,
                format!("a body may have {limit} bytes once it is inflated; send fewer events at once"),
            ),
            Problem::MediaType(detail) => row(
                S::UNSUPPORTED_MEDIA_TYPE,
                "unsupported media type",
                Reason::Malformed,
                detail,
            ),
            // RFC 9110 section 12.5.3: the encodings that a next request may have.
            Problem::Encoding(detail) => row(
                S::UNSUPPORTED_MEDIA_TYPE,
                "unsupported encoding",
                Reason::Malformed,
                detail,
            )
            .header(ACCEPT_ENCODING, "gzip, zstd"),
            Problem::Body(Rejection::NotJson(reason), advice) => {
                let detail = with_advice(format!("the body is not JSON: {reason}"), *advice);
                row(S::BAD_REQUEST, "malformed JSON", Reason::Malformed, detail)
            }
            Problem::Body(Rejection::Invalid { errors, .. }, advice) => {
                let errors = Errors::Fields(errors.clone());
                let detail = with_advice(format!("nothing was accepted: {}", errors.describe()), *advice);
                row(S::UNPROCESSABLE_ENTITY, "invalid event", Reason::Malformed, detail).errors(errors)
            }
            Problem::Body(Rejection::TooMany(limit), _) => row(
                S::PAYLOAD_TOO_LARGE,
                "too many events",
                Reason::TooLarge,
                format!("a request may have {limit} events; send fewer at once"),
            ),
            Problem::Query(parameters) => {
                let errors = Errors::Parameters(parameters.clone());
                row(
                    S::UNPROCESSABLE_ENTITY,
                    "invalid query",
                    Reason::Malformed,
                    errors.describe(),
                )
                .errors(errors)
            }
            Problem::NoUpgrade(reason) => upgrade_required(format!("this path is for WebSocket: {reason}")),
            Problem::WebSocketVersion => {
                upgrade_required("sec-websocket-version is not 13, the only one that is known")
            }
            Problem::WebSocketKey => row(
                S::BAD_REQUEST,
                "malformed handshake",
                None,
                "sec-websocket-key is not 16 bytes in base64",
            ),
            Problem::Bug => row(
                S::INTERNAL_SERVER_ERROR,
                "internal error",
                Reason::Bug,
                "this is a bug in captcha; the log has it under the x-request-id of this answer",
            ),
            Problem::RequestsFull => overloaded(Reason::Busy, "too many requests are in progress"),
            Problem::MemoryFull => overloaded(
                Reason::Busy,
                "clients take too much memory, in total or from your address",
            ),
            Problem::KafkaFull => overloaded(Reason::Busy, "too many events wait for kafka"),
            Problem::ReportRefused(refusal) => overloaded(None, &refusal.to_string()),
            Problem::NotStored(receipt, head) => {
                let (partition, offset) = (receipt.partition, receipt.offset);
                let far = match head {
                    Some(head) => format!("partition {partition} is in the report up to offset {}", *head - 1),
                    None => format!("nothing of partition {partition} is in the report"),
                };
                let detail = format!("the event {partition}:{offset} is not in the report yet: {far}; try again");
                row(S::SERVICE_UNAVAILABLE, "not counted yet", None, detail).retry_after(retry_after::overload())
            }
            Problem::Unconfirmed => row(
                S::SERVICE_UNAVAILABLE,
                "not confirmed",
                Reason::Kafka,
                "kafka did not confirm; send the same events again, each will be counted once",
            )
            .retry_after(retry_after::outage()),
            Problem::Report(error) => report_row(error),
        }
    }
}

fn report_row(error: &ReportError) -> Row {
    let unavailable = |detail| row(StatusCode::SERVICE_UNAVAILABLE, "report unavailable", None, detail);
    match error {
        ReportError::TooManyRows | ReportError::TooManySites(_) => row(
            StatusCode::UNPROCESSABLE_ENTITY,
            "report too large",
            None,
            error.to_string(),
        ),
        ReportError::Shard(error) if error.action() == Action::SchemaMissing => unavailable(
            "the tables are not what this captcha needs; `captcha migrate` makes them, the log says what is lacking",
        )
        .retry_after(retry_after::outage()),
        ReportError::Shard(_) => {
            unavailable("the report cannot be read at the moment; try again").retry_after(retry_after::outage())
        }
        ReportError::OutOfMemory => unavailable("the report cannot be read at the moment; try again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_name() {
        let mut names = Reason::ALL.map(Reason::name);
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    }
}
