//! One connection: its requests, within limits of time, and its end.

pub mod handshake;
mod peer;
mod socket;
mod timer;
mod watched_response;
mod watched_stream;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

pub use self::peer::Peer;
pub use self::socket::Socket;
use self::timer::{ConnectionTimer, WINDOW};
use self::watched_response::WatchedResponse;
use self::watched_stream::WatchedStream;
use super::Response;
use super::limits::{Limits, Timeouts};
use super::metrics::CloseReason;

/// Header lines of one request.
const HEADERS_MAX: usize = 64;

/// Requests at once on one HTTP/2 connection, as few as RFC 9113 advises. Each may hold [`STREAM_WINDOW_BYTES`].
const STREAMS_MAX: u32 = 100;

/// Bytes of one HTTP/2 request that may come before they are read.
const STREAM_WINDOW_BYTES: u32 = 64 << 10;

/// The same for all requests of a connection.
const CONNECTION_WINDOW_BYTES: u32 = 512 << 10;

/// Bytes of responses that an HTTP/2 connection keeps for a client that reads slowly.
const SEND_BUFFER_BYTES: usize = 64 << 10;

/// Between pings on HTTP/2, and the time for an answer to one.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// How long an idle connection that is asked to close may take for it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

const _: () = assert!(
    CLOSE_TIMEOUT.as_secs() < WINDOW.as_secs(),
    "an idle connection closes before one with responses"
);

/// Memory of a request on HTTP/2 while it is in progress and its response is not written, beyond bytes that are counted
/// separately.
const STREAM_BYTES: usize = 6 << 10;

/// Memory of the head of such a request for each of its bytes: the fields as they were unpacked, the room that the
/// table for them grows into, and the compression's own table. Measured: 45 KiB for 15.5.
const HEAD_FACTOR: usize = 3;

/// The settings of HTTP/1.1 and HTTP/2 for all connections of a listener.
pub fn protocol(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut protocol = auto::Builder::new(TokioExecutor::new());
    let mut http1 = protocol.http1();
    http1
        .timer(TokioTimer::new())
        // [`ConnectionTimer`] does it, which tells a slow head from an idle connection.
        .header_read_timeout(None)
        .max_headers(HEADERS_MAX)
        .max_buf_size(limits.head_bytes_max)
        // A client that has sent everything and closes its side still waits for the response.
        .half_close(true);
    let mut http2 = protocol.http2();
    http2
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX))
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(Some(PING_INTERVAL))
        .keep_alive_timeout(PING_INTERVAL);
    protocol
}

/// The properties that all connections of a listener share.
pub struct Context<'a> {
    /// The settings of HTTP.
    pub protocol: &'a auto::Builder<TokioExecutor>,
    /// How long the connection may take.
    pub timeouts: Timeouts,
    /// Cancelled when the process is to stop.
    pub stop: &'a CancellationToken,
    /// Cancelled when idle connections are to close.
    pub closing: &'a CancellationToken,
    /// Counts requests on HTTP/2 that are refused for want of memory.
    pub streams_refused: &'a Counter,
}

/// Bytes of the names and values of a head.
fn head_bytes(request: &Request<Incoming>) -> usize {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let fields = request.headers().iter();
    target
        + fields
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum::<usize>()
}

/// Refuses a request on HTTP/2 without a response, which would take memory too. RFC 9113 section 8.7: nothing was done,
/// and the client may send the same again by itself.
fn refuse_stream(refused: &Counter) -> h2::Error {
    refused.inc();
    h2::Reason::REFUSED_STREAM.into()
}

/// Answers the requests of a connection until it ends. Once `stop` is cancelled each response says that the connection
/// closes; once `closing` is cancelled no further request is read.
///
/// # Errors
/// This server closed the connection before its client wanted.
pub async fn serve_connection<S, H, F>(
    stream: S,
    context: Context<'_>,
    peer: &Arc<Peer>,
    handle: &H,
) -> Result<(), CloseReason>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>, Arc<Peer>) -> F,
    F: Future<Output = Response> + Send + 'static,
{
    let Context {
        protocol,
        timeouts,
        stop,
        closing,
        streams_refused,
    } = context;
    let timer = ConnectionTimer::start();
    let service = service_fn(|request: Request<Incoming>| {
        let version = request.version();
        let open_request = timer.open_request(version);
        let is_http2 = version == Version::HTTP_2;
        // The memory of a connection includes one request.
        let stream = match is_http2 {
            true => {
                let share = peer.stream_share(STREAM_BYTES + HEAD_FACTOR * head_bytes(&request));
                share.map(Some).ok_or_else(|| refuse_stream(streams_refused))
            }
            false => Ok(None),
        };
        // In a box, which is dropped with the response: the library keeps this future for as long as a connection or
        // stream lives.
        let response = stream.map(|stream| (stream, Box::pin(handle(request, Arc::clone(peer)))));
        let stop = stop.clone();
        async move {
            let (stream, response) = response?;
            let (mut head, body) = response.await.into_parts();
            // In those two `connection` names the upgrade, and a WebSocket stream closes by itself.
            let upgrades = [StatusCode::SWITCHING_PROTOCOLS, StatusCode::UPGRADE_REQUIRED];
            if stop.is_cancelled() && !is_http2 && !upgrades.contains(&head.status) {
                let close = HeaderValue::from_static("close");
                head.headers.insert(CONNECTION, close);
            }
            let body = WatchedResponse::new(open_request, body, stream);
            Ok::<_, h2::Error>(hyper::Response::from_parts(head, body))
        }
    });
    let blocked_peer = Arc::clone(peer);
    let acquire = move || blocked_peer.blocked_share();
    let stream = TokioIo::new(WatchedStream::new(stream, Arc::clone(&timer), acquire));
    let connection = protocol.serve_connection_with_upgrades(stream, service);
    let mut connection = pin!(connection);
    let mut closing = pin!(closing.cancelled());
    let mut alarm = pin!(sleep_until(Instant::now() + timeouts.head.min(WINDOW)));
    let mut is_closing = false;
    poll_fn(|cx| {
        loop {
            // An error of a connection is its client's: it broke the connection off, or sent something other than HTTP.
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(match ended {
                    _ if timer.is_starved() => Err(CloseReason::NoMemory),
                    Err(_) if !is_closing => Err(CloseReason::Broken),
                    _ => Ok(()),
                });
            }
            if !is_closing && closing.as_mut().poll(cx).is_ready() {
                is_closing = true;
                connection.as_mut().graceful_shutdown();
                continue;
            }
            // Reset only to an earlier time: most requests are over before it is due.
            if let Some((by, _)) = timer.deadline(timeouts)
                && by < alarm.deadline()
                && !is_closing
            {
                alarm.as_mut().reset(by);
            }
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            let close_timeout = match timer.check(now, timeouts) {
                Ok(next) => {
                    if timer.has_no_request() {
                        peer.shrink_send_buffer();
                    }
                    // A response that begins meanwhile is checked in time.
                    alarm.as_mut().reset(next.min(now + WINDOW));
                    continue;
                }
                Err(CloseReason::Idle) if !is_closing => CLOSE_TIMEOUT,
                // The other responses have this long to be read.
                Err(CloseReason::ResponseUnread) if !is_closing => WINDOW,
                Err(reason) => return Poll::Ready(Err(reason)),
            };
            is_closing = true;
            connection.as_mut().graceful_shutdown();
            alarm.as_mut().reset(now + close_timeout);
        }
    })
    .await
}
