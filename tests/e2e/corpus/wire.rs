//! A client that sends bytes as they are, and holds the answers against what must come.

use std::time::Duration;

use captcha_corpus::script::{Case, Expected, Step};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::Reply;

/// After which a connection counts as hung. Far above every limit that the server is started with.
const HUNG: Duration = Duration::from_secs(20);

/// Bytes on a connection.
pub struct Wire {
    stream: TcpStream,
    /// What has come and was not read as an answer.
    came: Vec<u8>,
}

impl Wire {
    pub async fn connect(address: &str) -> Wire {
        Wire {
            stream: TcpStream::connect(address).await.unwrap(),
            came: Vec::new(),
        }
    }

    /// Sends all, or as much as the other side takes: it may have closed on what it did not like.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = timeout(HUNG, self.stream.write_all(bytes)).await;
    }

    pub async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Whether more came.
    async fn more(&mut self) -> Result<bool, String> {
        let mut bytes = [0; 16 << 10];
        let read = timeout(HUNG, self.stream.read(&mut bytes)).await;
        // A reset is an end too: whoever closes on bytes that it did not read resets.
        let len = read.map_err(|_| format!("hung: {:?}", self.text()))?.unwrap_or(0);
        self.came.extend_from_slice(&bytes[..len]);
        Ok(len > 0)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.came).into_owned()
    }

    /// One answer; without a body if it is that of a HEAD.
    pub async fn answer(&mut self, headless: bool) -> Result<Reply, String> {
        let end = loop {
            match self.came.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(end) => break end + 4,
                None if !self.more().await? => return Err(format!("closed: {:?}", self.text())),
                None => {}
            }
        };
        let head = String::from_utf8(self.came.drain(..end).collect()).unwrap();
        let mut reply = head_of(&head)?;
        let length = reply.headers.get("content-length");
        let length = length.map_or(0, |length| length.to_str().unwrap().parse().unwrap());
        assert!(reply.headers.get("transfer-encoding").is_none(), "{head}");
        if !headless {
            while self.came.len() < length {
                if !self.more().await? {
                    return Err(format!("cut short: {head}"));
                }
            }
            reply.body = self.came.drain(..length).collect();
        }
        Ok(reply)
    }

    /// Waits for the end, before which nothing may come.
    pub async fn closed(&mut self) -> Result<(), String> {
        while self.came.is_empty() {
            if !self.more().await? {
                return Ok(());
            }
        }
        Err(format!("more came: {:?}", self.text()))
    }
}

fn head_of(head: &str) -> Result<Reply, String> {
    let mut lines = head.trim_end().split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first
        .strip_prefix("HTTP/1.1 ")
        .or(first.strip_prefix("HTTP/1.0 "))
        .ok_or(format!("no answer: {head}"))?;
    let mut headers = hyper::HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").ok_or(format!("no header: {line}"))?;
        let name: hyper::header::HeaderName = name.parse().unwrap();
        headers.append(name, value.parse().unwrap());
    }
    Ok(Reply {
        status: status[..3].parse().map_err(|_| head.to_string())?,
        headers,
        body: Vec::new(),
    })
}

/// Plays a case, and says what was otherwise than it must be. `next` is the correlation id of the good request that
/// follows on a connection that stays open.
pub async fn play(address: &str, case: &Case, next: &str) -> Result<(), String> {
    let mut wire = Wire::connect(address).await;
    let mut answers = case.answers.iter();
    for step in &case.steps {
        match step {
            Step::Send(bytes) => wire.send(bytes).await,
            Step::Finish => wire.finish().await,
            Step::AwaitAnswer => compare(&mut wire, answers.next().unwrap()).await?,
        }
    }
    for expected in answers {
        compare(&mut wire, expected).await?;
    }
    if !case.stays_open {
        return wire.closed().await;
    }
    wire.send(&good_request(next)).await;
    let reply = wire.answer(false).await?;
    let answer = format!("the next request: {} {}", reply.status, reply.text());
    (reply.status == 200 && reply.json()["accepted"] == 1)
        .then_some(())
        .ok_or(answer)
}

fn good_request(id: &str) -> Vec<u8> {
    let head =
        "POST /v1/events HTTP/1.1\r\nhost: captcha\r\ncontent-type: application/json\r\ncontent-length: 150\r\n\r\n";
    [head.as_bytes(), &super::script::event(id)].concat()
}

async fn compare(wire: &mut Wire, expected: &Expected) -> Result<(), String> {
    let reply = wire.answer(expected.headless).await?;
    let status = reply.status.as_u16();
    let said = format!("{status} {:?} {}", reply.header("content-type"), reply.text());
    if status != expected.status {
        return Err(said);
    }
    if status < 400 || expected.headless {
        return Ok(());
    }
    if expected.bare {
        return reply.body.is_empty().then_some(()).ok_or(said);
    }
    if reply.header("content-type") != "application/problem+json" {
        return Err(format!("no problem document: {said}"));
    }
    let document: Value = serde_json::from_slice(&reply.body).map_err(|_| said.clone())?;
    let words = ["title", "detail"].map(|name| document[name].as_str().unwrap_or_default());
    if document["status"] != status || words.contains(&"") {
        return Err(said);
    }
    let has_places = document.get("errors").is_some();
    let places = if has_places { reply.places() } else { Vec::new() };
    (places == expected.places).then_some(()).ok_or(said)
}
