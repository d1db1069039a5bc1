//! A listener: how many connections it accepts, how it refuses those beyond, and its orderly end.

use std::future::Future;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::TokioExecutor;
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Response;
use super::connection::handshake::{
    TOO_LITTLE_MEMORY, TOO_MANY_CONNECTIONS, accept_tls, read_client_address, respond_and_close,
};
use super::connection::{Context, Peer, Socket, protocol, serve_connection};
use super::limits::Limits;
use super::metrics::{CloseReason, ConnectionMetrics};
use super::trusted_proxies::Proxies;
use crate::resource_pool::{Holder, Pool, Share};
use crate::telemetry::log_once::Change;
use crate::tls::server::TlsConfigRx;

/// After accept() failed, mostly because no descriptor is free: without a pause it would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Memory of a connection beyond the buffer for its head: its tasks, and the buffer that the first 8 KiB were in.
const CONNECTION_BYTES: usize = 20 << 10;

/// Memory of a TLS session.
const TLS_BYTES: usize = 12 << 10;

/// How long idle connections stay open after the stop was ordered: a request that is on its way when they close would
/// be lost, so it is still answered, and the response says that the connection closes.
const LINGER: Duration = Duration::from_millis(500);

/// Refused connections that get a response at the same time; more are closed without one.
const REFUSALS_MAX: usize = 256;

/// The resources that all clients of a listener share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Bytes that clients may make this process hold.
    pub memory: Arc<Pool>,
    /// Proxies, which come with the requests of many.
    pub proxies: Arc<Proxies>,
}

/// A listener that answers the requests of its connections.
pub struct Server<H> {
    handle: H,
    limits: Limits,
    protocol: auto::Builder<TokioExecutor>,
    tls: Option<TlsConfigRx>,
    metrics: ConnectionMetrics,
    stop: CancellationToken,
    closing: CancellationToken,
    shared: Shared,
    connections: Arc<Pool>,
    refusals: Arc<Pool>,
    tracker: TaskTracker,
}

impl<H, F> Server<H>
where
    H: Fn(Request<Incoming>, Arc<Peer>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    /// A server whose requests `handle` answers.
    pub fn new(
        limits: Limits,
        shared: Shared,
        tls: Option<TlsConfigRx>,
        metrics: ConnectionMetrics,
        handle: H,
    ) -> Server<H> {
        let connections_max = limits.connections_max as usize;
        let address_max = limits
            .address_connections_max
            .map_or(connections_max, |max| max as usize);
        Server {
            handle,
            limits,
            protocol: protocol(&limits),
            tls,
            metrics,
            stop: CancellationToken::new(),
            closing: CancellationToken::new(),
            shared,
            connections: Pool::with_cap(connections_max, address_max),
            refusals: Pool::new(REFUSALS_MAX),
            tracker: TaskTracker::new(),
        }
    }

    /// Answers requests until `stop` is cancelled, then lets those in flight finish for `grace`. Connections beyond
    /// the limit are answered 503 and closed.
    pub async fn serve(mut self, listener: TcpListener, stop: CancellationToken, grace: Duration) {
        self.stop = stop.clone();
        let server = Arc::new(self);
        let mut failing = false;
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            log_change(&mut failing, accepted.as_ref().err());
            match accepted {
                Ok((stream, address)) => server.spawn_connection(stream, address),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
        server.accept_pending(listener);
        server.tracker.close();
        let close = async {
            if timeout(LINGER.min(grace / 2), server.tracker.wait()).await.is_err() {
                server.closing.cancel();
                server.tracker.wait().await;
            }
        };
        let _ = timeout(grace, close).await;
    }

    /// Accepts the connections that wait in the system's queue, and closes the listener, which would reset them. Asks
    /// the system and not the runtime, which knows only of some.
    fn accept_pending(self: &Arc<Self>, listener: TcpListener) {
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
                self.spawn_connection(stream, address);
            }
        }
    }

    /// Answers the requests of a connection in the background.
    fn spawn_connection(self: &Arc<Self>, stream: TcpStream, address: SocketAddr) {
        let holder = self.shared.proxies.holder(address.ip());
        let shares = match self.acquire(holder) {
            Ok(shares) => shares,
            Err(reason) => return self.spawn_refusal(stream, address, holder, reason),
        };
        // An answer is one write; waiting to fill a packet would only delay it.
        let _ = stream.set_nodelay(true);
        let (socket, handle) = Socket::new(stream);
        let memory = Arc::clone(&self.shared.memory);
        let open = self.metrics.open_connection();
        let mut peer = Peer::new(address, handle, memory, open, self.tracker.token());
        peer.assign(holder, shares);
        let server = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(reason) = server.serve_socket(socket, peer).await {
                server.metrics.count_closed(reason);
            }
        });
    }

    /// A connection's shares of the connections and of the memory.
    fn acquire(&self, holder: Holder) -> Result<[Share; 2], CloseReason> {
        let place = self.connections.acquire(holder, 1).ok_or_else(|| {
            match self.connections.used() < self.limits.connections_max as usize {
                true => CloseReason::Address,
                false => CloseReason::TooMany,
            }
        })?;
        let tls_bytes = self.tls.as_ref().map_or(0, |_| TLS_BYTES);
        let bytes = self.limits.head_bytes_max + CONNECTION_BYTES + tls_bytes;
        let memory = self.shared.memory.acquire(holder, bytes).ok_or(CloseReason::NoMemory)?;
        Ok([place, memory])
    }

    /// Refuses a connection in the background, with a response unless too many are being refused.
    fn spawn_refusal(self: &Arc<Self>, stream: TcpStream, address: SocketAddr, holder: Holder, reason: CloseReason) {
        self.metrics.count_closed(reason);
        let Some(place) = self.refusals.acquire(holder, 1) else {
            return;
        };
        let (server, tracked) = (Arc::clone(self), self.tracker.token());
        let is_proxied = self.shared.proxies.send_proxy_protocol(address.ip());
        tokio::spawn(async move {
            let (mut socket, _) = Socket::new(stream);
            if !is_proxied || read_client_address(&mut socket).await.is_ok() {
                server.refuse(socket, reason).await;
            }
            drop((place, tracked));
        });
    }

    async fn refuse(&self, socket: Socket, reason: CloseReason) {
        let response = match reason {
            CloseReason::NoMemory => TOO_LITTLE_MEMORY,
            _ => TOO_MANY_CONNECTIONS,
        };
        if let Ok((stream, _)) = accept_tls(socket, self.tls.as_ref()).await {
            respond_and_close(stream, response).await;
        }
    }

    async fn serve_socket(&self, mut socket: Socket, mut peer: Peer) -> Result<(), CloseReason> {
        let closing = &self.closing;
        if self.shared.proxies.send_proxy_protocol(peer.address.ip()) {
            let Some(client) = closing.run_until_cancelled(read_client_address(&mut socket)).await else {
                return Ok(());
            };
            if let Some(client) = client.map_err(|_| CloseReason::NoClient)? {
                peer.address.set_ip(client);
                let holder = self.shared.proxies.holder(client);
                peer.release();
                match self.acquire(holder) {
                    Ok(shares) => peer.assign(holder, shares),
                    Err(reason) => {
                        self.refuse(socket, reason).await;
                        return Err(reason);
                    }
                }
            }
        }
        let Some(accepted) = closing.run_until_cancelled(accept_tls(socket, self.tls.as_ref())).await else {
            return Ok(());
        };
        let (stream, certificate) = accepted.map_err(|_| CloseReason::NoTls)?;
        peer.certificate = certificate.map(Arc::new);
        let context = Context {
            protocol: &self.protocol,
            timeouts: self.limits.timeouts,
            stop: &self.stop,
            closing: &self.closing,
            streams_refused: &self.metrics.streams_refused,
        };
        serve_connection(stream, context, &Arc::new(peer), &self.handle).await
    }
}

/// Logs once that connections cannot be accepted, and once that they can again.
fn log_change(failing: &mut bool, failure: Option<&std::io::Error>) {
    match (Change::between(*failing, failure.is_some()), failure) {
        (Some(Change::Began), Some(reason)) => tracing::warn!(%reason, "cannot accept connections"),
        (Some(Change::Ended), _) => tracing::info!("connections are accepted again"),
        _ => {}
    }
    *failing = failure.is_some();
}
