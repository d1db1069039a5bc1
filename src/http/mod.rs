//! The noun HTTP client: listeners, connections with limits, and an orderly end.

pub mod admin_port;
mod body;
mod connection;
mod peer;
mod proxy_protocol;
mod server;
mod socket;
mod timeouts;
pub mod trusted_proxies;
mod watched_stream;
pub mod websocket;

use std::net::SocketAddr;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;

pub use self::body::Body;
pub use self::peer::Peer;
pub use self::server::{Counts, Limits, Server, Shared, bind, connections_within_limit};
pub use self::timeouts::Timeouts;
pub use crate::telemetry::gauges::GaugeFn;
pub use crate::tls::client_certificate::{CertificateName, ClientCertificate};

/// An answer.
pub type Response = hyper::Response<Body>;

/// A whole answer of one type.
pub fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response {
    let mut answer = Response::new(Body::whole(body));
    *answer.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}

/// JSON and a line break, so that a terminal's prompt begins a line of its own.
pub fn json_line(value: &impl Serialize) -> String {
    // Our own types have string keys and no failing parts.
    let mut text = serde_json::to_string(value).unwrap_or_default();
    text.push('\n');
    text
}

/// Reads the address of a listener.
///
/// # Errors
/// What is expected.
pub fn parse_listen(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse()
        .map_err(|_| "expected IP:PORT, such as 127.0.0.1:8000; a host name is not taken")
}
