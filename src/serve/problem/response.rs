//! A problem as a response, or as the text of a message.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use hyper::StatusCode;
use hyper::header::{HeaderValue, RETRY_AFTER};
use serde::Serialize;

use super::Problem;
use super::table::{Errors, Row};
use crate::http::{self, Response};

/// The members of a problem document.
#[derive(Serialize)]
struct Document {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    /// Seconds; only where there are no headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<Errors>,
}

impl Document {
    fn new(row: Row, retry_after: Option<u64>) -> Document {
        Document {
            r#type: "about:blank",
            title: row.title,
            status: row.status.as_u16(),
            detail: row.detail,
            retry_after,
            errors: row.errors,
        }
    }
}

impl Row {
    /// The response, without the words of a driver.
    pub fn into_response(mut self) -> Response {
        let (status, mut headers) = (self.status, std::mem::take(&mut self.headers));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        let document = http::json_line(&Document::new(self, None));
        let mut response = http::respond(status, "application/problem+json", document);
        response.headers_mut().extend(headers);
        response
    }

    /// The status and the document as the text of a message, which has no headers.
    pub fn into_text(self) -> (StatusCode, String) {
        let (status, retry_after) = (self.status, self.retry_after);
        (status, http::json_line(&Document::new(self, retry_after)))
    }
}

/// Turns a panic into a problem. The log has it under the id of the request.
///
/// # Errors
/// The problem of `answering`, or [`Problem::Bug`].
pub async fn catch_panic<T>(
    id: &HeaderValue,
    route: &'static str,
    answering: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    let answered = AssertUnwindSafe(answering).catch_unwind().await;
    answered.unwrap_or_else(|_| {
        tracing::error!(request_id = ?id, route, "a request failed on a bug");
        Err(Problem::Bug)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clickhouse::{self, ReportError};
    use crate::event::{FieldError, Rejection};
    use hyper::header::{ALLOW, CONTENT_TYPE};

    #[test]
    fn a_problem_says_what_where_and_when_to_come_back() {
        for problem in [Problem::Unconfirmed, Problem::KafkaFull] {
            let response = problem.row().into_response();
            assert_eq!(response.status(), 503);
            let seconds: u64 = response.headers()[RETRY_AFTER].to_str().unwrap().parse().unwrap();
            assert!((1..=8).contains(&seconds), "{seconds}");
            assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        }

        let failed = ReportError::from(clickhouse::Error::Connection("driver words".to_string()));
        let (_, text) = Problem::Report(failed).row().into_text();
        assert!(!text.contains("driver"), "{text}");
        assert!(text.contains("\"retry_after\":"), "{text}");

        let response = Problem::MethodNotAllowed("GET, HEAD").row().into_response();
        assert!(!response.headers().contains_key(RETRY_AFTER));
        assert_eq!(
            (response.status().as_u16(), &response.headers()[ALLOW]),
            (405, &"GET, HEAD".parse().unwrap())
        );
    }

    #[test]
    fn advice_follows_what_is_wrong() {
        let not_json = Rejection::NotJson("EOF".to_string());
        let empty = Rejection::Invalid {
            events: 0,
            errors: Vec::new(),
        };
        for (rejection, detail) in [
            (not_json, "the body is not JSON: EOF; send JSON"),
            (empty, "nothing was accepted: 0 errors; send JSON"),
        ] {
            let row = Problem::Body(rejection, Some("send JSON")).row();
            assert_eq!(row.detail, detail);
        }
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
        let (_, text) = Problem::Body(invalid, None).row().into_text();
        assert_eq!(
            text.trim_end(),
            r#"{"type":"about:blank","title":"invalid event","status":422,"detail":"nothing was accepted: one error","errors":[{"pointer":"/3/site_id","detail":"missing"}]}"#
        );
    }
}
