//! The noun HTTP client: listeners, connections with limits, and an orderly end.

pub mod admin;
mod body;
mod client_certificate;
mod connection;
mod health;
mod level;
mod listen;
mod peer;
pub mod pool;
pub mod proxies;
mod proxy_protocol;
pub mod sight;
mod socket;
mod telling;
pub mod tls;
mod vigil;
mod vitals;
pub mod websocket;

use std::net::SocketAddr;

pub use body::Body;
use bytes::Bytes;
pub use client_certificate::{CertificateName, ClientCertificate};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
pub use level::Level;
pub use listen::{Counts, Door, Limits, Shared, bind, connections_within_limit};
pub use peer::Peer;
use serde::Serialize;
pub use vigil::Patience;

/// An answer.
pub type Answer = Response<Body>;

/// A whole answer of one type.
pub fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
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
