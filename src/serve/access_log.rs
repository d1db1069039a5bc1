//! The access log: one line for some of the requests, off unless it is asked for.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hyper::header::HeaderValue;
use hyper::{Method, Request, StatusCode, Version};

use super::auth;
use super::client::Client;
use super::router::Route;

/// Characters of a path that a line shows.
const PATH_CHARS_MAX: usize = 256;

#[derive(Debug, Clone, Copy)]
pub struct AccessLog {
    share: f64,
}

/// The line of a request.
pub struct Entry {
    method: Method,
    path: String,
    version: Version,
    request_id: HeaderValue,
    key: Option<String>,
    certificate: Option<String>,
    client: IpAddr,
    peer: SocketAddr,
}

impl AccessLog {
    /// Logs this share of all requests, from 0 to 1.
    pub fn new(share: f64) -> AccessLog {
        AccessLog { share }
    }

    /// Whether the next request is logged.
    pub fn is_sampled(self) -> bool {
        self.share > 0.0 && fastrand::f64() < self.share
    }
}

/// Reads the share of requests that are logged.
///
/// # Errors
/// The range that is expected.
pub fn parse_share(text: &str) -> Result<f64, &'static str> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or("expected a number from 0 to 1, such as 0.01 for one in a hundred")
}

impl Entry {
    /// A line with all that is known before the response. Queries are left out: they name sites, and sign links.
    pub fn new(request: &Request<()>, route: Route, id: &HeaderValue, client: &Client) -> Entry {
        let names = client.peer.certificate.as_ref();
        let name = names.and_then(|certificate| certificate.names().first());
        Entry {
            method: request.method().clone(),
            path: request.uri().path().chars().take(PATH_CHARS_MAX).collect(),
            version: request.version(),
            request_id: id.clone(),
            key: auth::claimed_id(request, route == Route::Picture),
            certificate: name.map(ToString::to_string),
            client: client.address,
            peer: client.peer.address,
        }
    }

    pub fn log(self, status: StatusCode, elapsed: Duration) {
        tracing::info!(
            method = %self.method,
            path = self.path,
            version = ?self.version,
            status = status.as_u16(),
            ms = elapsed.as_secs_f64() * 1e3,
            request_id = self.request_id.to_str().unwrap_or_default(),
            key = self.key,
            certificate = self.certificate,
            client = %self.client,
            peer = %self.peer,
            "request"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_number_from_none_to_all() {
        for text in ["0", "0.01", "1", "1.0"] {
            assert!(parse_share(text).is_ok(), "{text}");
        }
        for text in ["", "-0.1", "1.1", "NaN", "inf", "10%"] {
            assert!(parse_share(text).is_err(), "{text}");
        }
        assert!(AccessLog::new(1.0).is_sampled() && !AccessLog::new(0.0).is_sampled());
    }
}
