//! The WebSocket handshake (RFC 6455 section 4.2), and what becomes of a connection that passed it.

pub mod session;

use std::future::Future;
use std::sync::Arc;

use hyper::header::{
    AsHeaderName, CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use hyper::upgrade::OnUpgrade;
use hyper::{StatusCode, Version};
use hyper_util::rt::TokioIo;
use prometheus_client::metrics::gauge::Gauge;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use self::session::{Reply, Terms};
use super::problem::Problem;
use super::request::body::Body;
use crate::http::{Peer, Response};
use crate::resource_pool::Share;

/// A handshake that is to be answered.
#[derive(Debug)]
pub struct Handshake {
    accept: HeaderValue,
}

impl Handshake {
    /// Reads the head of a request.
    ///
    /// # Errors
    /// [`Problem::NoUpgrade`], [`Problem::WebSocketVersion`], [`Problem::WebSocketKey`].
    pub fn of(version: Version, headers: &HeaderMap) -> Result<Handshake, Problem> {
        if version != Version::HTTP_11 {
            return Err(Problem::NoUpgrade("it goes over HTTP/1.1 only"));
        }
        if !lists(headers, UPGRADE, "websocket") || !lists(headers, CONNECTION, "upgrade") {
            return Err(Problem::NoUpgrade(
                "the request has no `upgrade: websocket` with `connection: upgrade`",
            ));
        }
        if only(headers, SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            return Err(Problem::WebSocketVersion);
        }
        let key = only(headers, SEC_WEBSOCKET_KEY).filter(|key| is_key(key.as_bytes()));
        let key = key.ok_or(Problem::WebSocketKey)?;
        let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()));
        let accept = accept.map_err(|_| Problem::WebSocketKey)?;
        Ok(Handshake { accept })
    }

    /// 101.
    pub fn answer(self) -> Response {
        let mut answer = Response::default();
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = answer.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept);
        answer
    }
}

/// Whether a header, which may come more than once, has a token in its list.
fn lists(headers: &HeaderMap, name: impl AsHeaderName, token: &str) -> bool {
    let values = headers.get_all(name).into_iter();
    let mut tokens = values.flat_map(|value| value.to_str().unwrap_or_default().split(','));
    tokens.any(|listed| listed.trim().eq_ignore_ascii_case(token))
}

fn only(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&HeaderValue> {
    let mut values = headers.get_all(name).into_iter();
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

/// 16 bytes in base64.
fn is_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    key.len() == 24 && key.ends_with(b"==") && key[..22].iter().all(is_digit)
}

/// An open stream, counted.
struct Open(Gauge);

impl Open {
    fn new(gauge: Gauge) -> Open {
        gauge.inc();
        Open(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Answers the messages of a connection once it is one for them. It counts as open until then, for its listener too.
pub async fn run<A, F>(
    upgrade: OnUpgrade,
    peer: Arc<Peer>,
    gauge: Gauge,
    message_bytes_max: usize,
    share: impl Fn() -> Share,
    terms: &Terms,
    answer: A,
) where
    A: Fn(Result<Body, Problem>) -> F,
    F: Future<Output = Reply> + Send + 'static,
{
    if let Ok(upgraded) = upgrade.await {
        let _open = Open::new(gauge);
        session::converse(TokioIo::new(upgraded), message_bytes_max, share, terms, answer).await;
    }
    drop(peer);
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderName;

    const GOOD: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    fn read(version: Version, given: &[(&str, &str)]) -> Result<Response, u16> {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        let handshake = Handshake::of(version, &headers);
        let status = |problem: Problem| problem.into_text(|| 1).0.as_u16();
        handshake.map(Handshake::answer).map_err(status)
    }

    #[test]
    fn a_handshake_is_answered_as_the_rfc_does() {
        let answer = read(Version::HTTP_11, &GOOD).unwrap();
        assert_eq!(answer.status(), 101);
        assert_eq!(answer.headers()[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn every_part_of_a_handshake_is_needed() {
        assert_eq!(read(Version::HTTP_2, &GOOD).err(), Some(426));
        assert_eq!(read(Version::HTTP_10, &GOOD).err(), Some(426));
        for (at, status) in [(0, 426), (1, 426), (2, 426), (3, 400)] {
            let mut lacking = GOOD.to_vec();
            let (name, value) = lacking.remove(at);
            assert_eq!(read(Version::HTTP_11, &lacking).err(), Some(status), "{name}");
            lacking.push((name, "x"));
            assert_eq!(read(Version::HTTP_11, &lacking).err(), Some(status), "{name}");
            if at >= 2 {
                lacking.push((name, value));
                assert_eq!(read(Version::HTTP_11, &lacking).err(), Some(status), "{name}");
            }
        }
    }
}
