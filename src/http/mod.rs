//! The noun HTTP client: listeners, connections with limits, and an orderly end.

pub mod admin;
mod health;
mod stall;

use std::convert::Infallible;
use std::future::Future;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use socket2::SockRef;
use stall::Stalling;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// An answer; its body is whole, or made while it is sent.
pub type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// For the head of a request, and between two requests of a connection: longer than the minute that
/// balancers commonly keep an idle connection, so that they are the ones who close it.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);

/// Header lines of one request.
const HEADERS_MAX: usize = 64;

/// Bytes of one head, and of hyper's buffer for each connection: 8,192 connections cost 128 MiB at most,
/// and a report may still name 300 sites.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Descriptors that are not for connections: two for each partition's lane, some for reports and the
/// admin port.
const DESCRIPTORS_KEPT: u32 = 256;

/// After accept() failed, mostly because no descriptor is free: without a pause it would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the system keeps of an answer for a reader that is slower than we. A third of it must be free before
/// more is written, so with the system's own megabytes a slow reader would look like one that does not read.
const SEND_BUFFER_BYTES: usize = 256 << 10;

/// After the end was ordered, how long idle connections stay open: a request that is on its way when they
/// close would be lost, so it is still answered, and told that the connection closes.
const LINGER: Duration = Duration::from_millis(500);

/// Connections beyond the limit that are being told so; more are closed without a word.
const LEAVING_MAX: u32 = 256;

/// For the first bytes of its request, after which it is told whether they came or not.
const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(1);

/// For telling one.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// What a connection beyond the limit is told before it is closed.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n\
    retry-after: 1\r\nconnection: close\r\ncontent-length: 107\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"too many connections\",\"status\":503,\"detail\":\"come back in a second, please\"}";

/// A whole answer of one type.
pub fn answer(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)).boxed_unsync());
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

/// How many connections can be open at once, as wanted or as descriptors allow. The soft limit on
/// descriptors is raised to the hard one; some of them are kept for files and for Kafka and ClickHouse.
pub fn connections_within_limit(wanted: u32) -> u32 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let usable = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let descriptors = usable.map_or(u32::MAX, |usable| u32::try_from(usable).unwrap_or(u32::MAX));
    let room = descriptors - DESCRIPTORS_KEPT.min(descriptors / 2);
    if room < wanted {
        tracing::warn!(
            wanted,
            connections = room,
            descriptors,
            "fewer connections than wanted; raise the limit on open files"
        );
    }
    wanted.min(room)
}

/// Listens on an address; port 0 takes a free one.
///
/// # Errors
/// The port is in use, or not ours to take.
pub async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; choose another with {flag}"))
}

/// Answers requests until `stop` is cancelled, then lets those in flight finish for `grace`. At most
/// `connections_max` connections are open at once; more are answered 503 and closed.
pub async fn serve<H, F>(
    listener: TcpListener,
    connections_max: u32,
    stop: CancellationToken,
    grace: Duration,
    handle: H,
) where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let door = Door {
        handle,
        stop: stop.clone(),
        graceful: GracefulShutdown::new(),
        free: Arc::new(Semaphore::new(connections_max as usize)),
        leaving: Arc::new(Semaphore::new(LEAVING_MAX as usize)),
    };
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        log_change(&mut failing, accepted.as_ref().err());
        match accepted {
            Ok((stream, _)) => door.take(stream),
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
    door.take_all_that_wait(listener);
    let close = async {
        let all_closed = async {
            let _open = door.free.acquire_many(connections_max).await;
            let _leaving = door.leaving.acquire_many(LEAVING_MAX).await;
        };
        let _ = timeout(LINGER.min(grace / 2), all_closed).await;
        door.graceful.shutdown().await;
    };
    let _ = timeout(grace, close).await;
}

/// Says once that connections cannot be accepted, and once that they can again.
fn log_change(failing: &mut bool, failure: Option<&std::io::Error>) {
    match failure {
        Some(reason) if !*failing => tracing::warn!(%reason, "cannot accept connections"),
        None if *failing => tracing::info!("connections are accepted again"),
        _ => {}
    }
    *failing = failure.is_some();
}

/// What every connection passes.
struct Door<H> {
    handle: H,
    stop: CancellationToken,
    graceful: GracefulShutdown,
    free: Arc<Semaphore>,
    leaving: Arc<Semaphore>,
}

impl<H, F> Door<H>
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    /// Takes the connections that the system has accepted and we have not, and closes the listener, which
    /// would reset them. Past the runtime, which knows only of some.
    fn take_all_that_wait(&self, listener: TcpListener) {
        let Ok(listener) = listener.into_std() else {
            return;
        };
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(err) if err.kind() == ErrorKind::ConnectionAborted => continue,
                Err(_) => return,
            };
            let nonblocking = stream.set_nonblocking(true);
            if let Ok(stream) = nonblocking.and_then(|()| TcpStream::from_std(stream)) {
                self.take(stream);
            }
        }
    }

    /// Answers the requests of a connection in the background.
    fn take(&self, stream: TcpStream) {
        let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() else {
            if let Ok(place) = Arc::clone(&self.leaving).try_acquire_owned() {
                tokio::spawn(async move {
                    turn_away(stream).await;
                    drop(place);
                });
            }
            return;
        };
        // An answer is one write; waiting to fill a packet would only delay it.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER_BYTES);
        let (handle, stop) = (self.handle.clone(), self.stop.clone());
        let service = service_fn(move |request| {
            let answer = handle(request);
            let stop = stop.clone();
            async move {
                let mut answer = answer.await;
                if stop.is_cancelled() {
                    let close = HeaderValue::from_static("close");
                    answer.headers_mut().insert(CONNECTION, close);
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            // Who has said everything and closes its side still waits for the answer.
            .half_close(true)
            .serve_connection(TokioIo::new(Stalling::new(stream)), service);
        let connection = self.graceful.watch(connection);
        tokio::spawn(async move {
            let _permit = permit;
            // A connection's error is its client's affair: it broke off, sent no HTTP or does not read.
            let _ = pin!(connection).await;
        });
    }
}

/// Says no and waits a moment for what the client sends: closing on it would reset the connection, and
/// the client would not get to read the answer.
async fn turn_away(mut stream: TcpStream) {
    let mut discarded = [0; 4096];
    // An answer that comes before the request is taken for a broken connection by clients such as hyper's and Go's.
    let _ = timeout(FIRST_BYTES_TIMEOUT, stream.read(&mut discarded)).await;
    let farewell = async {
        stream.write_all(FULL).await?;
        stream.shutdown().await?;
        while stream.read(&mut discarded).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    let _ = timeout(FAREWELL_TIMEOUT, farewell).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canned_answer_is_as_long_as_it_says() {
        let text = std::str::from_utf8(FULL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "{}",
            body.len()
        );
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
    }
}
