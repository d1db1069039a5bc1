//! One connection: its handshake, its requests with limits of time, and its end.

use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
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
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::server::Limits;
use super::socket::Socket;
use super::timeouts::{GivenUp, Timeouts, Vigil, WINDOW};
use super::watched_stream::Telling;
use super::{Peer, Response, proxy_protocol};
use crate::tls::client_certificate::ClientCertificate;
use crate::tls::server::Feed;

/// Header lines of one request.
const HEADERS_MAX: usize = 64;

/// From the first byte of a connection to the end of its TLS handshake, a few round trips.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests at once on one HTTP/2 connection, as few as RFC 9113 advises. Each may hold [`STREAM_WINDOW_BYTES`].
const STREAMS_MAX: u32 = 100;

/// Bytes of one HTTP/2 request that may come before they are read.
const STREAM_WINDOW_BYTES: u32 = 64 << 10;

/// The same for all requests of a connection.
const CONNECTION_WINDOW_BYTES: u32 = 512 << 10;

/// Bytes of answers that an HTTP/2 connection keeps for a reader that is slow.
const SEND_BUFFER_BYTES: usize = 64 << 10;

/// Between pings on HTTP/2, and the time for an answer to one.
const PING: Duration = Duration::from_secs(20);

/// How long a connection that is told to end may take for it.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// For the first bytes of a request beyond the limit, after which it is told whether they came or not.
const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(1);

/// What a connection beyond the limit is told before it is closed.
pub const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n\
    retry-after: 1\r\nconnection: close\r\ncontent-length: 170\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"too many connections\",\"status\":503,\"detail\":\"there are too many connections, in total or from your address; come back in a second, please\"}";

/// The answer to a connection for which memory is lacking.
pub const NO_MEMORY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n\
    retry-after: 1\r\nconnection: close\r\ncontent-length: 177\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"overloaded\",\"status\":503,\"detail\":\"there is too little memory for more connections, in total or from your address; come back in a second, please\"}";

/// What a request on HTTP/2 takes while it is in progress and its answer is not written, beyond bytes that are counted
/// for themselves.
const STREAM_BYTES: usize = 6 << 10;

/// What the head of such a request takes for each of its bytes: the fields as they were unpacked, the room that the table for
/// them grows into, and the compression's own table. Measured: 45 KiB for 15.5.
const HEAD_FACTOR: usize = 3;

/// The answer to HTTP without TLS on a port with TLS.
const NO_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\n\
    connection: close\r\ncontent-length: 147\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"this port speaks TLS\",\"status\":400,\"detail\":\"the request came without TLS; send it to https:// in place of http://\"}";

/// A connection's bytes, in the clear or through TLS.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Greets a connection, and says which certificate its client has shown. One that begins as HTTP where TLS is spoken
/// gets [`NO_TLS`].
///
/// # Errors
/// The handshake failed or took too long.
pub async fn greet(socket: Socket, tls: Option<&Feed>) -> io::Result<(Box<dyn Stream>, Option<ClientCertificate>)> {
    let Some(tls) = tls else {
        return Ok((Box::new(socket), None));
    };
    let config = Arc::clone(&tls.borrow().config);
    let handshake = async {
        // A method, in capital letters. TLS begins with the byte 22.
        match socket.first_byte().await? {
            Some(b'A'..=b'Z') => Ok(Err(socket)),
            _ => Ok(Ok(TlsAcceptor::from(config).accept(socket).await?)),
        }
    };
    let shaken: io::Result<_> = timeout(HANDSHAKE_TIMEOUT, handshake).await?;
    match shaken? {
        Ok(stream) => {
            let chain = stream.get_ref().1.peer_certificates();
            let certificate = chain.map(|chain| ClientCertificate::new(chain, tls));
            Ok((Box::new(stream), certificate))
        }
        Err(socket) => {
            turn_away(socket, NO_TLS).await;
            Err(io::ErrorKind::InvalidData.into())
        }
    }
}

/// How connections speak HTTP.
pub fn protocol(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut protocol = auto::Builder::new(TokioExecutor::new());
    let mut http1 = protocol.http1();
    http1
        .timer(TokioTimer::new())
        // The vigil's task, which tells a slow head from an idle connection.
        .header_read_timeout(None)
        .max_headers(HEADERS_MAX)
        .max_buf_size(limits.head_bytes_max)
        // Who has said everything and closes its side still waits for the answer.
        .half_close(true);
    let mut http2 = protocol.http2();
    http2
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX))
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(Some(PING))
        .keep_alive_timeout(PING);
    protocol
}

/// Reads the client's address, which a proxy sends first.
///
/// # Errors
/// It says something else, or nothing in time.
pub async fn announced(socket: &mut Socket) -> io::Result<Option<IpAddr>> {
    timeout(HANDSHAKE_TIMEOUT, proxy_protocol::read(socket)).await?
}

/// What counts for every connection of a listener.
pub struct Terms<'a> {
    /// How it speaks HTTP.
    pub protocol: &'a auto::Builder<TokioExecutor>,
    /// Limits of time.
    pub patience: Timeouts,
    /// The end was ordered.
    pub stop: &'a CancellationToken,
    /// Idle connections close.
    pub closing: &'a CancellationToken,
    /// Requests on HTTP/2 that there was no memory for.
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

/// Refuses a request on HTTP/2 without an answer, which would take memory too. RFC 9113 section 8.7: nothing was done, and
/// the client may send the same again by itself.
fn refuse_stream(refused: &Counter) -> h2::Error {
    refused.inc();
    h2::Reason::REFUSED_STREAM.into()
}

/// Answers the requests of a connection until it ends, and orderly once `stop` or `closing` is cancelled: from `stop` on
/// each answer says that the connection closes, and after `closing` no further request is read.
///
/// # Errors
/// The connection was given up.
pub async fn converse<S, H, F>(stream: S, terms: Terms<'_>, peer: &Arc<Peer>, handle: &H) -> Result<(), GivenUp>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>, Arc<Peer>) -> F,
    F: Future<Output = Response> + Send + 'static,
{
    let Terms {
        protocol,
        patience,
        stop,
        closing,
        streams_refused,
    } = terms;
    let vigil = Vigil::begin();
    let service = service_fn(|request: Request<Incoming>| {
        let version = request.version();
        let watched = vigil.request(version);
        let is_http2 = version == Version::HTTP_2;
        // What a connection takes has room for one.
        let stream = match is_http2 {
            true => {
                let share = peer.stream_share(STREAM_BYTES + HEAD_FACTOR * head_bytes(&request));
                share.map(Some).ok_or_else(|| refuse_stream(streams_refused))
            }
            false => Ok(None),
        };
        // In a box, which goes when there is an answer: the library keeps this future for as long as a connection or
        // stream lives.
        let answer = stream.map(|stream| (stream, Box::pin(handle(request, Arc::clone(peer)))));
        let stop = stop.clone();
        async move {
            let (stream, answer) = answer?;
            let (mut head, body) = answer.await.into_parts();
            // Those two speak of an upgrade there, and a stream that begins now is told by itself.
            let upgrades = [StatusCode::SWITCHING_PROTOCOLS, StatusCode::UPGRADE_REQUIRED];
            if stop.is_cancelled() && !is_http2 && !upgrades.contains(&head.status) {
                let close = HeaderValue::from_static("close");
                head.headers.insert(CONNECTION, close);
            }
            let body = watched.answer(body, stream);
            Ok::<_, h2::Error>(hyper::Response::from_parts(head, body))
        }
    });
    let beside = Arc::clone(peer);
    let take = move || beside.blocked_share();
    let stream = TokioIo::new(Telling::new(stream, Arc::clone(&vigil), take));
    let connection = protocol.serve_connection_with_upgrades(stream, service);
    let mut connection = pin!(connection);
    let mut closed = pin!(closing.cancelled());
    let mut alarm = pin!(sleep_until(Instant::now() + patience.head.min(WINDOW)));
    let mut leaving = false;
    poll_fn(|cx| {
        loop {
            // A connection's error is its client's affair: it broke off, or sent no HTTP.
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(match ended {
                    _ if vigil.is_starved() => Err(GivenUp::NoMemory),
                    Err(_) if !leaving => Err(GivenUp::Broken),
                    _ => Ok(()),
                });
            }
            if !leaving && closed.as_mut().poll(cx).is_ready() {
                leaving = true;
                connection.as_mut().graceful_shutdown();
                continue;
            }
            // Set anew only if that is sooner: most requests are over before it is due.
            if let Some((by, _)) = vigil.deadline(patience)
                && by < alarm.deadline()
                && !leaving
            {
                alarm.as_mut().reset(by);
            }
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            let farewell = match vigil.look(now, patience) {
                Ok(next) => {
                    if vigil.is_at_rest() {
                        peer.rest();
                    }
                    // An answer that begins meanwhile is not looked at too late.
                    alarm.as_mut().reset(next.min(now + WINDOW));
                    continue;
                }
                Err(GivenUp::Idle) if !leaving => FAREWELL_TIMEOUT,
                // So long the others may take to be read.
                Err(GivenUp::AnswerUnread) if !leaving => WINDOW,
                Err(given_up) => return Poll::Ready(Err(given_up)),
            };
            leaving = true;
            connection.as_mut().graceful_shutdown();
            alarm.as_mut().reset(now + farewell);
        }
    })
    .await
}

/// Says no and waits a moment for what the client sends: closing on it would reset the connection, and
/// the client would not get to read the answer.
pub async fn turn_away(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &[u8]) {
    let mut discarded = [0; 4096];
    // An answer that comes before the request is taken for a broken connection by clients such as hyper's and Go's.
    let _ = timeout(FIRST_BYTES_TIMEOUT, stream.read(&mut discarded)).await;
    let farewell = async {
        stream.write_all(answer).await?;
        // Which waits for the other side, see [`Socket`].
        stream.shutdown().await
    };
    let _ = timeout(FAREWELL_TIMEOUT, farewell).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canned_answers_are_as_long_as_they_say() {
        for canned in [FULL, NO_MEMORY, NO_TLS] {
            let text = std::str::from_utf8(canned).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(
                head.contains(&format!("content-length: {}", body.len())),
                "{}",
                body.len()
            );
            assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
        }
    }
}
