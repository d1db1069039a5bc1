//! The WebSocket handshake (RFC 6455 section 4.2).

use hyper::header::{
    AsHeaderName, CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use hyper::{StatusCode, Version};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::http::Response;
use crate::serve::problem::Problem;

#[derive(Debug)]
pub struct Handshake {
    accept: HeaderValue,
}

impl Handshake {
    /// Reads a handshake from the head of a request.
    ///
    /// # Errors
    /// [`Problem::NoUpgrade`], [`Problem::WebSocketVersion`], [`Problem::WebSocketKey`].
    pub fn from_headers(version: Version, headers: &HeaderMap) -> Result<Handshake, Problem> {
        if version != Version::HTTP_11 {
            return Err(Problem::NoUpgrade("it goes over HTTP/1.1 only"));
        }
        if !lists(headers, UPGRADE, "websocket") || !lists(headers, CONNECTION, "upgrade") {
            return Err(Problem::NoUpgrade(
                "the request has no `upgrade: websocket` with `connection: upgrade`",
            ));
        }
        if single(headers, SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            return Err(Problem::WebSocketVersion);
        }
        let key = single(headers, SEC_WEBSOCKET_KEY).filter(|key| is_key(key.as_bytes()));
        let key = key.ok_or(Problem::WebSocketKey)?;
        let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()));
        let accept = accept.map_err(|_| Problem::WebSocketKey)?;
        Ok(Handshake { accept })
    }

    pub fn respond(self) -> Response {
        let mut response = Response::default();
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept);
        response
    }
}

/// Whether a header, which may come more than once, has a token in its list.
fn lists(headers: &HeaderMap, name: impl AsHeaderName, token: &str) -> bool {
    let values = headers.get_all(name).into_iter();
    let mut tokens = values.flat_map(|value| value.to_str().unwrap_or_default().split(','));
    tokens.any(|listed| listed.trim().eq_ignore_ascii_case(token))
}

fn single(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&HeaderValue> {
    let mut values = headers.get_all(name).into_iter();
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

/// 16 bytes in base64.
fn is_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    key.len() == 24 && key.ends_with(b"==") && key[..22].iter().all(is_digit)
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
        let handshake = Handshake::from_headers(version, &headers);
        let status = |problem: Problem| problem.row().into_text().0.as_u16();
        handshake.map(Handshake::respond).map_err(status)
    }

    #[test]
    fn a_handshake_is_answered_as_the_rfc_does() {
        let response = read(Version::HTTP_11, &GOOD).unwrap();
        assert_eq!(response.status(), 101);
        assert_eq!(response.headers()[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
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
