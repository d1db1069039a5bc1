//! HTTP as a client sees it, and the events that it sends.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
pub use captcha_corpus::SITE;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use uuid::Uuid;

/// After which a request counts as hung. Far above every limit that the contract has.
const HUNG: Duration = Duration::from_secs(30);

/// An answer, read to its end.
pub struct Reply {
    pub status: StatusCode,
    pub headers: hyper::HeaderMap,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|err| panic!("no JSON ({err}): {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// That it is a 503 which says when to come back.
    pub fn assert_away(&self) {
        assert_eq!(self.status, 503, "{}", self.text());
        let seconds: u64 = self.header("retry-after").parse().unwrap();
        assert!((1..=30).contains(&seconds), "{seconds}");
    }

    /// The pointers or parameters that a problem document names.
    pub fn places(&self) -> Vec<String> {
        let place = |error: &Value| {
            error["pointer"]
                .as_str()
                .or(error["parameter"].as_str())
                .unwrap()
                .to_string()
        };
        self.json()["errors"].as_array().unwrap().iter().map(place).collect()
    }
}

/// Connects from an address of this machine: 127.0.0.N.
///
/// # Errors
/// The connection failed.
pub async fn connect_from(source: u8, address: &str) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 0, 0, source), 0).into())?;
    socket.connect(address.parse().unwrap()).await
}

/// One request on a connection of its own.
///
/// # Errors
/// The connection failed or broke off, as it may while a server is being killed.
pub async fn request(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Result<Reply, String> {
    request_from(1, address, method, path, headers, body).await
}

/// As [`request`], from 127.0.0.N.
///
/// # Errors
/// As [`request`].
pub async fn request_from(
    source: u8,
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Result<Reply, String> {
    let exchange = async {
        let stream = connect_from(source, address).await.map_err(|err| err.to_string())?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|err| err.to_string())?;
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", address);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let answer = sender.send_request(request).await.map_err(|err| err.to_string())?;
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.map_err(|err| err.to_string())?;
        Ok(Reply {
            status: parts.status,
            headers: parts.headers,
            body: body.to_bytes().to_vec(),
        })
    };
    tokio::time::timeout(HUNG, exchange)
        .await
        .unwrap_or_else(|_| panic!("{method} {path} of {address} hung"))
}

pub async fn get(address: &str, path: &str) -> Reply {
    request(address, "GET", path, &[], Bytes::new()).await.unwrap()
}

/// Posts JSON.
///
/// # Errors
/// As [`request`].
pub async fn try_post(address: &str, body: &Value) -> Result<Reply, String> {
    let headers = [("content-type", "application/json")];
    request(address, "POST", "/v1/events", &headers, body.to_string()).await
}

pub async fn post(address: &str, body: &Value) -> Reply {
    try_post(address, body).await.unwrap()
}

/// Posts JSON that must be accepted; the receipts.
pub async fn accept(address: &str, body: &Value) -> Vec<String> {
    let reply = post(address, body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let receipts = reply.json()["receipts"].as_array().unwrap().clone();
    receipts
        .iter()
        .map(|receipt| receipt.as_str().unwrap().to_string())
        .collect()
}

/// An event with a correlation id of its own.
pub fn event(site: &str, kind: &str, time: &str) -> Value {
    json!({"site_id": site, "type": kind, "correlation_id": Uuid::now_v7().to_string(), "time": time})
}

pub fn served(time: &str) -> Value {
    event(SITE, "serve", time)
}

/// An array of different events of one site and day.
pub fn events(count: usize) -> Value {
    (0..count).map(|_| served("2024-02-29T12:00:00")).collect()
}
