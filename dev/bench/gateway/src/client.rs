//! One HTTP/1.1 connection that always has one request in flight, as cheap as it can be.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::Failure;
use crate::events::Events;

/// Between two attempts to connect, and after a refusal.
const PAUSE: Duration = Duration::from_millis(100);

const HEADERS_MAX: usize = 32;

/// Where requests go to, and how many events each has.
pub struct Client {
    address: String,
    batch: usize,
}

/// What became of the requests.
pub struct Tally {
    begin: Instant,
    end: Instant,
    /// Events of every answer 2xx, the warm-up's too.
    acknowledged: u64,
    /// Requests that were answered 2xx between begin and end.
    requests: u64,
    events: u64,
    /// Other answers and broken connections, whenever.
    errors: u64,
    first_error: Option<String>,
    latency_us: Histogram<u64>,
}

impl Client {
    /// A batch of 0 is one event that is no array.
    pub fn new(address: &str, batch: usize) -> Client {
        Client {
            address: address.to_string(),
            batch,
        }
    }

    /// Connects again after each trouble.
    pub async fn send_until_end(&self, tally: &mut Tally) {
        let mut events = Events::new(&self.address, self.batch);
        while Instant::now() < tally.end {
            if let Err(err) = self.converse(&mut events, tally).await {
                tally.fail(&err.to_string());
                sleep(PAUSE).await;
            }
        }
    }

    async fn converse(&self, events: &mut Events, tally: &mut Tally) -> Result<(), Failure> {
        let mut stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let mut buffer = Vec::with_capacity(16 << 10);
        while Instant::now() < tally.end {
            let began = Instant::now();
            stream.write_all(events.next_request()).await?;
            let status = answer(&mut stream, &mut buffer).await?;
            if !(200..300).contains(&status) {
                let text = String::from_utf8_lossy(&buffer);
                return Err(
                    format!("{status}: {}", text.chars().take(300).collect::<String>()).into(),
                );
            }
            tally.succeed(began, self.batch.max(1) as u64);
        }
        Ok(())
    }
}

/// Reads one answer, which then is all of the buffer, and returns its status.
async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<u16, Failure> {
    buffer.clear();
    loop {
        if stream.read_buf(buffer).await? == 0 {
            return Err("the connection was closed before the answer".into());
        }
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut head = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(head_bytes) = head.parse(buffer)? else {
            continue;
        };
        let length = head
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case("content-length"))
            .ok_or("an answer without content-length")?;
        let body_bytes: usize = std::str::from_utf8(length.value)?.parse()?;
        let status = head.code.unwrap_or(0);
        while buffer.len() < head_bytes + body_bytes {
            if stream.read_buf(buffer).await? == 0 {
                return Err("the connection was closed within the answer".into());
            }
        }
        return Ok(status);
    }
}

impl Tally {
    /// Counts as measured what is answered between these two.
    pub fn new(begin: Instant, end: Instant) -> Tally {
        Tally {
            begin,
            end,
            acknowledged: 0,
            requests: 0,
            events: 0,
            errors: 0,
            first_error: None,
            latency_us: Histogram::new(3).unwrap_or_else(|err| unreachable!("{err}")),
        }
    }

    /// Counts a request that was answered now.
    fn succeed(&mut self, began: Instant, events: u64) {
        let now = Instant::now();
        self.acknowledged += events;
        if (self.begin..self.end).contains(&now) {
            self.requests += 1;
            self.events += events;
            self.latency_us += (now - began).as_micros() as u64;
        }
    }

    /// Counts a trouble; the first one is kept.
    pub fn fail(&mut self, reason: &str) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| reason.to_string());
    }

    /// Adds another's figures.
    pub fn add(&mut self, other: Tally) {
        self.acknowledged += other.acknowledged;
        self.requests += other.requests;
        self.events += other.events;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        self.latency_us += other.latency_us;
    }

    /// One line for dev/bench/serve.py.
    pub fn to_json(&self, measured: Duration) -> String {
        let at_ms = |share: f64| self.latency_us.value_at_quantile(share) as f64 / 1e3;
        json!({
            "seconds": measured.as_secs_f64(),
            "acknowledged": self.acknowledged,
            "requests": self.requests,
            "events": self.events,
            "errors": self.errors,
            "first_error": self.first_error,
            "p50_ms": at_ms(0.5),
            "p99_ms": at_ms(0.99),
            "max_ms": self.latency_us.max() as f64 / 1e3,
        })
        .to_string()
    }
}
