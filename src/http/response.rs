//! Responses whose body is there already.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::StatusCode;
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Serialize;

use super::accept;
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

/// A response with a whole body, compressed by gzip if the client likes that.
pub fn compressed(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
    request: &HeaderMap,
) -> Response {
    let body = body.into();
    if accept::coding_weight(request, &["gzip", "x-gzip"]).is_none() {
        return respond(status, content_type, body);
    }
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing to memory cannot fail.
    let _ = gzip.write_all(&body);
    let mut response = respond(status, content_type, gzip.finish().unwrap_or_default());
    let gzip = HeaderValue::from_static("gzip");
    response.headers_mut().insert(CONTENT_ENCODING, gzip);
    response
}

/// Leaves out the content of a response to HEAD, but not its length and what runs after it (RFC 9110, section 9.3.2).
pub fn drop_content(response: &mut Response) {
    let mut body = std::mem::take(response.body_mut());
    if let Some(rest) = body.take_rest() {
        response.body_mut().then(rest);
    }
    if let Some(bytes) = body.bytes().filter(|bytes| *bytes > 0) {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(bytes));
    }
}

/// JSON and a line break, so that a terminal's prompt begins on a line of its own.
pub fn json_line(value: &impl Serialize) -> String {
    // The types of this program have string keys and no failing parts.
    let mut text = serde_json::to_string(value).unwrap_or_default();
    text.push('\n');
    text
}
