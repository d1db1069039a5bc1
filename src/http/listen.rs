//! A listener: how many connections it takes, what becomes of those beyond, and its orderly end.

use std::future::Future;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::TokioExecutor;
use hyper_util::server::conn::auto;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Answer;
use super::connection::{FULL, converse, greet, protocol, turn_away};
use super::socket::{HangUp, Socket};
use super::tls::Feed;
use super::vigil::{GivenUp, Patience};

/// Descriptors that are not for connections: one for each broker that leads partitions, some for reports and the
/// admin port.
const DESCRIPTORS_KEPT: u32 = 256;

/// After accept() failed, mostly because no descriptor is free: without a pause it would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Between two looks whether somebody who waits has hung up: nothing wakes us for that while a request is answered.
const HANG_UP_PAUSE: Duration = Duration::from_millis(100);

/// What the system keeps of an answer for a reader that is slower than we. A third of it must be free before
/// more is written, so with the system's own megabytes a slow reader would look like one that does not read.
const SEND_BUFFER_BYTES: usize = 256 << 10;

/// After the end was ordered, how long idle connections stay open: a request that is on its way when they
/// close would be lost, so it is still answered, and told that the connection closes.
const LINGER: Duration = Duration::from_millis(500);

/// Connections beyond the limit that are being told so; more are closed without a word.
const LEAVING_MAX: u32 = 256;

/// What connections may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections open at once.
    pub connections_max: u32,
    /// Bytes of one head, and of the read buffer of each connection; at least 8 KiB.
    pub head_bytes_max: usize,
    /// Limits of time.
    pub patience: Patience,
}

/// Who is at the other end of a connection, which counts as open while this is held.
#[derive(Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    hang_up: HangUp,
    _place: OwnedSemaphorePermit,
    _counted: Counted,
}

impl Peer {
    /// Comes back when the other end sends nothing any more: it is gone, or has closed its side.
    pub async fn hung_up(&self) {
        while !self.hang_up.has_come() {
            tokio::time::sleep(HANG_UP_PAUSE).await;
        }
    }
}

/// Why a connection ended before its client wanted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// What is counted of connections.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    open: Gauge,
    refused: Family<Reason, Counter>,
}

const TOO_MANY: Reason = reason("too many");
const NO_TLS: Reason = reason("no tls");

const fn reason(reason: &'static str) -> Reason {
    Reason { reason }
}

fn reason_of(given_up: GivenUp) -> Reason {
    reason(match given_up {
        GivenUp::HeadLate => "head late",
        GivenUp::Idle => "idle",
        GivenUp::NotReading => "not reading",
    })
}

impl Counts {
    /// Counts that are rendered with a registry.
    pub fn register(registry: &mut Registry) -> Counts {
        let counts = Counts::default();
        let given_up = [GivenUp::HeadLate, GivenUp::Idle, GivenUp::NotReading];
        for reason in given_up
            .map(reason_of)
            .into_iter()
            .chain([TOO_MANY, NO_TLS])
        {
            drop(counts.refused.get_or_create(&reason));
        }
        registry.register("connections_open", "Open connections", counts.open.clone());
        registry.register(
            "connections_refused",
            "Connections that were turned away or given up, by reason",
            counts.refused.clone(),
        );
        counts
    }
}

/// One open connection.
#[derive(Debug)]
struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Counted {
        gauge.inc();
        Counted(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
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

/// What every connection passes.
pub struct Door<H> {
    handle: H,
    limits: Limits,
    protocol: auto::Builder<TokioExecutor>,
    tls: Option<Feed>,
    counts: Counts,
    stop: CancellationToken,
    closing: CancellationToken,
    free: Arc<Semaphore>,
    leaving: Arc<Semaphore>,
}

impl<H, F> Door<H>
where
    H: Fn(Request<Incoming>, Arc<Peer>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    /// A door to what `handle` answers.
    pub fn new(limits: Limits, tls: Option<Feed>, counts: Counts, handle: H) -> Door<H> {
        Door {
            handle,
            limits,
            protocol: protocol(&limits),
            tls,
            counts,
            stop: CancellationToken::new(),
            closing: CancellationToken::new(),
            free: Arc::new(Semaphore::new(limits.connections_max as usize)),
            leaving: Arc::new(Semaphore::new(LEAVING_MAX as usize)),
        }
    }

    /// Answers requests until `stop` is cancelled, then lets those in flight finish for `grace`. Connections beyond
    /// the limit are answered 503 and closed.
    pub async fn serve(mut self, listener: TcpListener, stop: CancellationToken, grace: Duration) {
        self.stop = stop.clone();
        let door = Arc::new(self);
        let mut failing = false;
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            log_change(&mut failing, accepted.as_ref().err());
            match accepted {
                Ok((stream, address)) => door.take(stream, address),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
        door.take_all_that_wait(listener);
        let close = async {
            let all_closed = async {
                let _open = door.free.acquire_many(door.limits.connections_max).await;
                let _leaving = door.leaving.acquire_many(LEAVING_MAX).await;
            };
            if timeout(LINGER.min(grace / 2), all_closed).await.is_err() {
                door.closing.cancel();
                let _open = door.free.acquire_many(door.limits.connections_max).await;
            }
        };
        let _ = timeout(grace, close).await;
    }

    /// Takes the connections that the system has accepted and we have not, and closes the listener, which
    /// would reset them. Past the runtime, which knows only of some.
    fn take_all_that_wait(self: &Arc<Self>, listener: TcpListener) {
        let Ok(listener) = listener.into_std() else {
            return;
        };
        loop {
            let (stream, address) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(err) if err.kind() == ErrorKind::ConnectionAborted => continue,
                Err(_) => return,
            };
            let nonblocking = stream.set_nonblocking(true);
            if let Ok(stream) = nonblocking.and_then(|()| TcpStream::from_std(stream)) {
                self.take(stream, address);
            }
        }
    }

    /// Answers the requests of a connection in the background.
    fn take(self: &Arc<Self>, stream: TcpStream, address: SocketAddr) {
        let door = Arc::clone(self);
        let Ok(place) = Arc::clone(&self.free).try_acquire_owned() else {
            self.counts.refused.get_or_create(&TOO_MANY).inc();
            if let Ok(place) = Arc::clone(&self.leaving).try_acquire_owned() {
                tokio::spawn(async move {
                    let (socket, _) = Socket::new(stream);
                    if let Ok(stream) = greet(socket, door.tls.as_ref()).await {
                        turn_away(stream, FULL).await;
                    }
                    drop(place);
                });
            }
            return;
        };
        // An answer is one write; waiting to fill a packet would only delay it.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER_BYTES);
        let (socket, hang_up) = Socket::new(stream);
        let peer = Arc::new(Peer {
            address,
            hang_up,
            _place: place,
            _counted: Counted::new(&self.counts.open),
        });
        tokio::spawn(async move { door.converse(socket, peer).await });
    }

    async fn converse(&self, socket: Socket, peer: Arc<Peer>) {
        let refused = match greet(socket, self.tls.as_ref()).await {
            Err(_) => NO_TLS,
            Ok(stream) => {
                let (stop, closing) = (&self.stop, &self.closing);
                let patience = self.limits.patience;
                let ended = converse(
                    stream,
                    &self.protocol,
                    patience,
                    &peer,
                    stop,
                    closing,
                    &self.handle,
                );
                match ended.await {
                    Ok(()) => return,
                    Err(given_up) => reason_of(given_up),
                }
            }
        };
        self.counts.refused.get_or_create(&refused).inc();
    }
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
