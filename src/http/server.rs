//! A listener: how many connections it takes, what becomes of those beyond, and its orderly end.

use std::collections::HashMap;
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
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Response;
use super::connection::{FULL, NO_MEMORY, Terms, announced, converse, greet, protocol, turn_away};
use super::peer::Peer;
use super::socket::Socket;
use super::timeouts::{GivenUp, Timeouts};
use super::trusted_proxies::Proxies;
use crate::resource_pool::{Holder, Pool, Share};
use crate::tls::server::Feed;

/// Descriptors that are not for connections: one for each broker that leads partitions, some for reports and the
/// admin port.
const DESCRIPTORS_KEPT: u32 = 256;

/// After accept() failed, mostly because no descriptor is free: without a pause it would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a connection takes beyond the buffer for its head: its tasks, and the buffer that the first 8 KiB were in.
const CONNECTION_BYTES: usize = 20 << 10;

/// And with TLS.
const TLS_BYTES: usize = 12 << 10;

/// After the end was ordered, how long idle connections stay open: a request that is on its way when they
/// close would be lost, so it is still answered, and told that the connection closes.
const LINGER: Duration = Duration::from_millis(500);

/// Between two lines that say how many connections were refused.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Connections beyond the limit that are being told so; more are closed without a word.
const LEAVING_MAX: usize = 256;

/// What connections may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections open at once.
    pub connections_max: u32,
    /// Of these, how many one address may have, if fewer than half of them.
    pub address_connections_max: Option<u32>,
    /// Bytes of one head, and of the read buffer of each connection; at least 8 KiB.
    pub head_bytes_max: usize,
    /// Limits of time.
    pub patience: Timeouts,
}

/// What is shared by all who come to a listener.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Bytes that clients may make this process hold.
    pub memory: Arc<Pool>,
    /// Proxies, which come with the requests of many.
    pub proxies: Arc<Proxies>,
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
    pub(crate) streams_refused: Counter,
}

const TOO_MANY: Reason = reason("too_many");
const ADDRESS: Reason = reason("address");
const MEMORY: Reason = reason("memory");
const NO_TLS: Reason = reason("no_tls");
const NO_CLIENT: Reason = reason("no_client");

const fn reason(reason: &'static str) -> Reason {
    Reason { reason }
}

fn reason_of(given_up: GivenUp) -> Reason {
    reason(match given_up {
        GivenUp::HeadLate => "head_late",
        GivenUp::Idle => "idle",
        GivenUp::NotReading => "not_reading",
        GivenUp::AnswerUnread => "response_unread",
        GivenUp::NoMemory => return MEMORY,
        GivenUp::Broken => "broken",
    })
}

/// All of them.
fn reasons() -> impl Iterator<Item = Reason> {
    let given_up = [
        GivenUp::HeadLate,
        GivenUp::Idle,
        GivenUp::NotReading,
        GivenUp::AnswerUnread,
        GivenUp::Broken,
    ];
    given_up
        .into_iter()
        .map(reason_of)
        .chain([TOO_MANY, ADDRESS, MEMORY, NO_TLS, NO_CLIENT])
}

impl Counts {
    /// Once a minute says how many connections were refused or broke. Does not end.
    pub async fn log_each_minute(self) {
        let mut logged = HashMap::new();
        loop {
            tokio::time::sleep(LOG_INTERVAL).await;
            for (reason, count) in self.refused_since(&mut logged) {
                tracing::info!(reason, count, "connections were refused or broke");
            }
        }
    }

    /// Connections refused since the last time, by reason. An idle one that ends is left out: most do.
    fn refused_since(&self, logged: &mut HashMap<&'static str, u64>) -> Vec<(&'static str, u64)> {
        let reasons = reasons().filter(|reason| *reason != reason_of(GivenUp::Idle));
        let counts = reasons.map(|reason| {
            let count = self.refused.get_or_create(&reason).get();
            let before = logged.insert(reason.reason, count).unwrap_or_default();
            (reason.reason, count - before)
        });
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// Counts that are rendered with a registry.
    pub fn register(registry: &mut Registry) -> Counts {
        let counts = Counts::default();
        for reason in reasons() {
            drop(counts.refused.get_or_create(&reason));
        }
        registry.register("connections_open", "Open connections", counts.open.clone());
        registry.register(
            "connections_refused",
            "Connections that were turned away or given up, by reason",
            counts.refused.clone(),
        );
        registry.register(
            "http2_streams_refused",
            "Requests on HTTP/2 that were refused with REFUSED_STREAM, for want of memory",
            counts.streams_refused.clone(),
        );
        counts
    }
}

/// One open connection.
#[derive(Debug)]
pub(crate) struct Counted(Gauge);

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
pub struct Server<H> {
    handle: H,
    limits: Limits,
    protocol: auto::Builder<TokioExecutor>,
    tls: Option<Feed>,
    counts: Counts,
    stop: CancellationToken,
    closing: CancellationToken,
    shared: Shared,
    places: Arc<Pool>,
    leaving: Arc<Pool>,
    tracker: TaskTracker,
}

impl<H, F> Server<H>
where
    H: Fn(Request<Incoming>, Arc<Peer>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    /// A door to what `handle` answers.
    pub fn new(limits: Limits, shared: Shared, tls: Option<Feed>, counts: Counts, handle: H) -> Server<H> {
        let places = limits.connections_max as usize;
        let of_one = limits.address_connections_max.map_or(places, |max| max as usize);
        Server {
            handle,
            limits,
            protocol: protocol(&limits),
            tls,
            counts,
            stop: CancellationToken::new(),
            closing: CancellationToken::new(),
            shared,
            places: Pool::with_cap(places, of_one),
            leaving: Pool::new(LEAVING_MAX),
            tracker: TaskTracker::new(),
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
        door.tracker.close();
        let close = async {
            if timeout(LINGER.min(grace / 2), door.tracker.wait()).await.is_err() {
                door.closing.cancel();
                door.tracker.wait().await;
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
        let holder = self.shared.proxies.holder(address.ip());
        let shares = match self.shares(holder) {
            Ok(shares) => shares,
            Err(reason) => return self.refuse(stream, address, holder, reason),
        };
        // An answer is one write; waiting to fill a packet would only delay it.
        let _ = stream.set_nodelay(true);
        let (socket, handle) = Socket::new(stream);
        let memory = Arc::clone(&self.shared.memory);
        let counted = Counted::new(&self.counts.open);
        let mut peer = Peer::new(address, handle, memory, counted, self.tracker.token());
        peer.admit(holder, shares);
        let door = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(reason) = door.converse(socket, peer).await {
                door.counts.refused.get_or_create(&reason).inc();
            }
        });
    }

    /// What a connection takes of that which all share.
    fn shares(&self, holder: Holder) -> Result<[Share; 2], Reason> {
        let place = self.places.take(holder, 1).ok_or_else(|| {
            match self.places.taken() < self.limits.connections_max as usize {
                true => ADDRESS,
                false => TOO_MANY,
            }
        })?;
        let tls_bytes = self.tls.as_ref().map_or(0, |_| TLS_BYTES);
        let bytes = self.limits.head_bytes_max + CONNECTION_BYTES + tls_bytes;
        let memory = self.shared.memory.take(holder, bytes).ok_or(MEMORY)?;
        Ok([place, memory])
    }

    /// Answers a connection that may not be, if there is a moment for it.
    fn refuse(self: &Arc<Self>, stream: TcpStream, address: SocketAddr, holder: Holder, reason: Reason) {
        self.counts.refused.get_or_create(&reason).inc();
        let Some(place) = self.leaving.take(holder, 1) else {
            return;
        };
        let (door, tracked) = (Arc::clone(self), self.tracker.token());
        let is_announced = self.shared.proxies.announce(address.ip());
        tokio::spawn(async move {
            let (mut socket, _) = Socket::new(stream);
            if !is_announced || announced(&mut socket).await.is_ok() {
                door.tell(socket, &reason).await;
            }
            drop((place, tracked));
        });
    }

    /// Answers a connection that may not be.
    async fn tell(&self, socket: Socket, reason: &Reason) {
        let answer = match *reason == MEMORY {
            true => NO_MEMORY,
            false => FULL,
        };
        if let Ok((stream, _)) = greet(socket, self.tls.as_ref()).await {
            turn_away(stream, answer).await;
        }
    }

    async fn converse(&self, mut socket: Socket, mut peer: Peer) -> Result<(), Reason> {
        let closing = &self.closing;
        if self.shared.proxies.announce(peer.address.ip()) {
            let Some(announced) = closing.run_until_cancelled(announced(&mut socket)).await else {
                return Ok(());
            };
            if let Some(client) = announced.map_err(|_| NO_CLIENT)? {
                peer.address.set_ip(client);
                let holder = self.shared.proxies.holder(client);
                peer.expel();
                match self.shares(holder) {
                    Ok(shares) => peer.admit(holder, shares),
                    Err(reason) => {
                        self.tell(socket, &reason).await;
                        return Err(reason);
                    }
                }
            }
        }
        let Some(greeted) = closing.run_until_cancelled(greet(socket, self.tls.as_ref())).await else {
            return Ok(());
        };
        let (stream, certificate) = greeted.map_err(|_| NO_TLS)?;
        peer.certificate = certificate.map(Arc::new);
        let terms = Terms {
            protocol: &self.protocol,
            patience: self.limits.patience,
            stop: &self.stop,
            closing: &self.closing,
            streams_refused: &self.counts.streams_refused,
        };
        let ended = converse(stream, terms, &Arc::new(peer), &self.handle).await;
        ended.map_err(reason_of)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_connections_have_one_line_and_idle_ones_none() {
        let (counts, mut logged) = (Counts::default(), HashMap::new());
        let refuse = |given_up| {
            let reason = reason_of(given_up);
            counts.refused.get_or_create(&reason).inc();
        };
        (0..3).for_each(|_| refuse(GivenUp::Broken));
        refuse(GivenUp::Idle);
        assert_eq!(counts.refused_since(&mut logged), [("broken", 3)]);
        assert!(counts.refused_since(&mut logged).is_empty());
        refuse(GivenUp::Broken);
        assert_eq!(counts.refused_since(&mut logged), [("broken", 1)]);
    }
}
