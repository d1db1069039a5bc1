//! Posts a message over https: a few tries, within a limited time, and no redirects.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, RETRY_AFTER, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::address::Address;
use super::message::Message;
use crate::tls::{Mismatch, Tls, Wire};

/// For a moment in which the receiver restarts. After a longer outage, the job that runs the command tries again.
const TRIES_MAX: u32 = 3;

/// For all tries together. A job that runs once a day need not wait longer for an answer.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);

/// For a connection and its TLS handshake, so that there is time for all tries.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two tries, unless the receiver names a time.
const RETRY_WAIT: Duration = Duration::from_secs(1);

/// The longest time that a receiver may ask to wait.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);

/// Bytes that are read of an answer that refuses: its first line says why.
const REASON_BYTES_MAX: usize = 1_024;

/// Characters of a reason that an error repeats, such as Slack's `channel_is_archived`.
const REASON_CHARS_MAX: usize = 80;

const AGENT: &str = concat!("captcha/", env!("CARGO_PKG_VERSION"));

/// Why a try failed.
#[derive(Debug)]
enum Failure {
    /// Another try may help, after this time.
    Transient(String, Duration),
    Final(String),
}

/// Posts a message until it is accepted.
///
/// # Errors
/// Why it was not; one line with the host and no other part of the address.
pub async fn deliver(address: &Address, tls: &Tls, message: &Message) -> anyhow::Result<()> {
    let deadline = Instant::now() + DELIVERY_TIMEOUT;
    let mut tries = 1;
    let reason = loop {
        let attempt = timeout_at(deadline, attempt(address, tls, message)).await;
        let no_answer = |_| {
            let seconds = DELIVERY_TIMEOUT.as_secs();
            Err(Failure::Final(format!(
                "it did not answer within {seconds} s, but may have received the report"
            )))
        };
        match attempt.unwrap_or_else(no_answer) {
            Ok(()) => return Ok(()),
            Err(Failure::Final(reason)) => break reason,
            Err(Failure::Transient(reason, wait)) => {
                if tries == TRIES_MAX || Instant::now() + wait >= deadline {
                    break format!("{reason}; given up after {tries} tries");
                }
                sleep(wait).await;
                tries += 1;
            }
        }
    };
    anyhow::bail!("cannot post the report to {address}: {reason}")
}

async fn attempt(address: &Address, tls: &Tls, message: &Message) -> Result<(), Failure> {
    let wire = match timeout(CONNECT_TIMEOUT, connect(address, tls)).await {
        Ok(Ok(wire)) => wire,
        Ok(Err(error)) if error.is::<Mismatch>() => {
            return Err(Failure::Final(format!("{error:#}; see --webhook-ca-file")));
        }
        Ok(Err(error)) => return Err(retry(format!("{error:#}"))),
        Err(_) => {
            let seconds = CONNECT_TIMEOUT.as_secs();
            return Err(retry(format!("no connection within {seconds} s")));
        }
    };
    let broken = |error: hyper::Error| retry(format!("the connection broke off ({error})"));
    let (mut sender, connection) = http1::handshake(TokioIo::new(wire)).await.map_err(broken)?;
    let connection = tokio::spawn(connection);
    let sent = sender.send_request(request(address, message)?).await;
    let outcome = match sent {
        Ok(response) => judge(response, address).await,
        Err(error) => Err(broken(error)),
    };
    connection.abort();
    outcome
}

async fn connect(address: &Address, tls: &Tls) -> anyhow::Result<Wire> {
    let host = address.host().trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, address.port())).await;
    let stream = stream.map_err(|error| anyhow::anyhow!("no connection to port {}: {error}", address.port()))?;
    tls.connect(address.host(), stream).await
}

fn request(address: &Address, message: &Message) -> Result<Request<Full<Bytes>>, Failure> {
    let request = Request::post(address.path_and_query())
        .header(HOST, address.authority())
        .header(USER_AGENT, AGENT)
        .header(CONTENT_TYPE, message.content_type)
        .body(Full::new(Bytes::from(message.body.clone())));
    request.map_err(|_| Failure::Final("no request can be made to this address".to_string()))
}

/// The meaning of a response. The body of a good one is not read.
async fn judge(response: Response<Incoming>, address: &Address) -> Result<(), Failure> {
    let (head, body) = response.into_parts();
    let status = head.status;
    if status.is_success() {
        return Ok(());
    }
    if status.is_redirection() {
        let reason = format!("it redirects with {status}, which is not followed; put the final address into the file");
        return Err(Failure::Final(reason));
    }
    let body = Limited::new(body, REASON_BYTES_MAX).collect().await;
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    let answered = format!("it answered {}", Answered(status, harmless_reason(&body, address)));
    let is_transient = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
    match (is_transient, retry_after(&head.headers)) {
        (false, _) => Err(Failure::Final(format!(
            "{answered}; see whether the address is still valid"
        ))),
        (true, Some(wait)) if wait > RETRY_AFTER_MAX => {
            let seconds = wait.as_secs();
            Err(Failure::Final(format!(
                "{answered}, and asks to wait for {seconds} s; run the command again after that"
            )))
        }
        (true, wait) => Err(Failure::Transient(answered, wait.unwrap_or(RETRY_WAIT))),
    }
}

fn retry(reason: String) -> Failure {
    Failure::Transient(reason, RETRY_WAIT)
}

/// A status and perhaps a reason.
struct Answered(StatusCode, Option<String>);

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.1 {
            Some(reason) => write!(f, "{} ({reason})", self.0),
            None => write!(f, "{}", self.0),
        }
    }
}

/// The seconds of `Retry-After`; a date is as good as none.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The words of a receiver, if they are one short line that repeats nothing of the address.
fn harmless_reason(body: &[u8], address: &Address) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?.trim();
    let is_short = !text.is_empty() && text.len() <= REASON_CHARS_MAX;
    let is_plain = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) && !text.contains(['<', '/', '%']);
    (is_short && is_plain && !address.is_in(text)).then(|| text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_short_reason_without_the_address_is_repeated() {
        let address = Address::parse("https://hooks.example/services/B0012345").ok().unwrap();
        let reason = |body: &str| harmless_reason(body.as_bytes(), &address);
        assert_eq!(reason("channel_is_archived\n").as_deref(), Some("channel_is_archived"));
        for body in [
            "",
            "Cannot POST /services/B0012345",
            "no hook B0012345",
            "<html>",
            "two\nlines",
            "\u{1b}[31m",
            &"x".repeat(81),
        ] {
            assert_eq!(reason(body), None, "{body}");
        }
    }

    #[test]
    fn a_date_or_nonsense_is_no_time_to_wait() {
        let after = |text: &str| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]));
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        for text in ["Wed, 21 Oct 2026 07:28:00 GMT", "-1", "soon", ""] {
            assert_eq!(after(text), None, "{text}");
        }
    }
}
