//! The messages of a stream: their events are ingested, and each gets a reply.

use std::net::IpAddr;
use std::sync::{Arc, Weak};

use hyper::StatusCode;
use hyper::header::HeaderValue;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::in_flight::Reply;
use super::session::{self, StreamLimits};
use crate::http::{self, Peer};
use crate::resource_pool::{Holder, Pool, Share};
use crate::serve::auth::{Auth, Caller};
use crate::serve::ingest::Ingest;
use crate::serve::metrics::Metrics;
use crate::serve::problem::{Problem, Row, catch_panic};
use crate::serve::request::body::Body;
use crate::serve::router::Route;
use crate::telemetry::gauges::GaugeGuard;

/// A response that is included in the memory of each connection or stream. The memory of a longer one is counted.
pub const SMALL_RESPONSE_BYTES_MAX: usize = 1 << 10;

/// The parts of the server that all streams use.
pub struct Streams {
    pub ingest: Arc<Ingest>,
    pub auth: Arc<Auth>,
    pub metrics: Metrics,
    /// Bytes that clients may make this process hold.
    pub memory: Arc<Pool>,
    pub limits: StreamLimits,
}

/// The properties that all messages of a stream share.
#[derive(Clone)]
pub struct EventStream {
    pub caller: Caller,
    pub address: IpAddr,
    pub holder: Holder,
    /// Alive for as long as the stream.
    pub peer: Weak<Peer>,
    pub dry_run: bool,
    /// The ID of the handshake.
    pub id: HeaderValue,
}

impl EventStream {
    fn acquire_send_buffer(&self, bytes: usize) -> bool {
        let peer = self.peer.upgrade();
        peer.is_some_and(|peer| peer.acquire_send_buffer(Some(bytes), self.holder))
    }
}

impl Streams {
    /// Answers the messages of a connection once it is upgraded. The listener counts the connection as open until then.
    pub async fn run(self: Arc<Self>, upgrade: OnUpgrade, peer: Arc<Peer>, stream: EventStream) {
        if let Ok(upgraded) = upgrade.await {
            let _open = GaugeGuard::new(self.metrics.streams_open.clone());
            let bodies = &self.ingest.bodies;
            let share = || bodies.share(stream.holder);
            let answer = |message| Arc::clone(&self).answer(message, stream.clone());
            let socket = TokioIo::new(upgraded);
            session::run(socket, bodies.body_bytes_max(), share, &self.limits, answer).await;
        }
        drop(peer);
    }

    async fn answer(self: Arc<Self>, message: Result<Body, Problem>, stream: EventStream) -> Reply {
        let mut parsed = None;
        let opened_by = (&stream.caller, stream.holder);
        let can_respond = |bytes| stream.acquire_send_buffer(bytes);
        let ingesting = self
            .ingest
            .ingest_message(message, opened_by, stream.dry_run, can_respond, &mut parsed);
        let outcome = catch_panic(&stream.id, Route::Stream.name(), ingesting).await;
        let (status, text, share) = match outcome {
            Ok(accepted) => (StatusCode::OK, http::json_line(&accepted), accepted.share),
            Err(problem) => {
                let row = problem.row();
                if !stream.dry_run {
                    self.metrics.reject_events(row.reason, problem.rejected_events(parsed));
                }
                let (key, certificate) = (stream.caller.key_id(), stream.caller.certificate());
                self.auth.record_rejection(&problem, key, certificate, stream.address);
                self.refuse(row, &stream)
            }
        };
        self.metrics.record_message(status);
        Reply { text, share }
    }

    /// The reply to a message that is refused; without the list of errors where there is no memory for it.
    fn refuse(&self, row: Row, stream: &EventStream) -> (StatusCode, String, Share) {
        let (status, text) = row.into_text();
        let mut share = self.memory.share(stream.holder);
        let is_small = text.len() <= SMALL_RESPONSE_BYTES_MAX;
        if is_small || (stream.acquire_send_buffer(text.len()) && share.grow(text.len())) {
            return (status, text, share);
        }
        let (status, text) = Problem::MemoryFull.row().into_text();
        (status, text, share)
    }
}
