//! Responses whose body is there already.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;

use super::body::Body;

/// A response of this server.
pub type Response = hyper::Response<Body>;

/// A response with a whole body of one type.
pub fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Body::whole(body));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// JSON and a line break, so that a terminal's prompt begins on a line of its own.
pub fn json_line(value: &impl Serialize) -> String {
    // The types of this program have string keys and no failing parts.
    let mut text = serde_json::to_string(value).unwrap_or_default();
    text.push('\n');
    text
}
