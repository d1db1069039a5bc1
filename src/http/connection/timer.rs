//! Limits of time on a connection: heads come, responses are read, and no connection is idle for ever.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::time::Duration;

use hyper::Version;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::http::limits::Timeouts;
use crate::http::metrics::CloseReason;

/// How long responses may be on their way without enough of them being read.
pub const WINDOW: Duration = Duration::from_secs(30);

/// Bytes that a client must read within [`WINDOW`] of all responses of its connection together. At less than 35 kB/s it
/// is not worth the memory that its responses hold. What fits the kernel's buffers counts as read.
pub(super) const WINDOW_BYTES_MIN: u64 = 1 << 20;

/// Bytes of each single response that is not finished: one part of the 100 that an HTTP/2 connection may have, so that
/// a response that is not read cannot hide behind a busy one.
pub(super) const RESPONSE_BYTES_MIN: u64 = WINDOW_BYTES_MIN / 100;

/// Records what happens on one connection: its stream, its requests and its responses report to it. Times are
/// milliseconds since `started`, plus one; 0 means never.
#[derive(Debug)]
pub struct ConnectionTimer {
    started: Instant,
    /// Requests whose response is not read to its end.
    open_requests: AtomicU32,
    /// When the first byte of a head came that is not complete.
    head_since: AtomicU64,
    /// When the last response ended.
    idle_since: AtomicU64,
    /// Bytes of all responses that were written.
    written_bytes: AtomicU64,
    /// Responses on their way.
    responses: Mutex<Vec<ResponseProgress>>,
    /// There was no memory to wait for the client to read.
    starved: AtomicBool,
    /// HTTP/2: bytes between two requests are seldom a head, and pings find half a head, which holds them up.
    multiplexed: AtomicBool,
}

/// A response on its way, and how far it was when it was last checked.
#[derive(Debug)]
struct ResponseProgress {
    written: Arc<AtomicU64>,
    checked_at: Instant,
    written_bytes: u64,
    all_written_bytes: u64,
}

impl ConnectionTimer {
    /// Starts with a connection, whose first head is awaited from now on.
    pub fn start() -> Arc<ConnectionTimer> {
        Arc::new(ConnectionTimer {
            started: Instant::now(),
            open_requests: AtomicU32::new(0),
            head_since: AtomicU64::new(1),
            idle_since: AtomicU64::new(1),
            written_bytes: AtomicU64::new(0),
            responses: Mutex::default(),
            starved: AtomicBool::new(false),
            multiplexed: AtomicBool::new(false),
        })
    }

    /// A head is complete. The request is open until the result is dropped.
    pub fn open_request(self: &Arc<Self>, version: Version) -> OpenRequest {
        self.open_requests.fetch_add(1, Relaxed);
        if version == Version::HTTP_2 {
            self.multiplexed.store(true, Relaxed);
        }
        self.head_since.store(0, Relaxed);
        OpenRequest(Arc::clone(self))
    }

    /// Bytes came, of a body or a head.
    pub fn record_read(&self) {
        let between = self.open_requests.load(Relaxed) == 0 && !self.multiplexed.load(Relaxed);
        if between && self.head_since.load(Relaxed) == 0 {
            self.head_since.store(self.now(), Relaxed);
        }
    }

    /// Whether no request is open.
    pub fn has_no_request(&self) -> bool {
        self.open_requests.load(Acquire) == 0
    }

    /// The connection ends for want of memory.
    pub fn set_starved(&self) {
        self.starved.store(true, Relaxed);
    }

    /// Whether the connection ends for want of memory.
    pub fn is_starved(&self) -> bool {
        self.starved.load(Relaxed)
    }

    /// Between two requests: by when the rest of a head must come, or the first byte of one.
    pub fn deadline(&self, timeouts: Timeouts) -> Option<(Instant, CloseReason)> {
        if self.open_requests.load(Acquire) > 0 {
            return None;
        }
        Some(match self.head_since.load(Relaxed) {
            0 => {
                let since = self.instant(self.idle_since.load(Relaxed));
                (since + timeouts.idle, CloseReason::Idle)
            }
            since => (self.instant(since) + timeouts.head, CloseReason::HeadTimeout),
        })
    }

    /// When to check again, if nothing is late.
    ///
    /// # Errors
    /// The reason to close the connection.
    pub fn check(&self, now: Instant, timeouts: Timeouts) -> Result<Instant, CloseReason> {
        match self.deadline(timeouts) {
            Some((by, reason)) if by <= now => Err(reason),
            Some((by, _)) => Ok(by),
            None => self.check_responses(now),
        }
    }

    fn check_responses(&self, now: Instant) -> Result<Instant, CloseReason> {
        let all_written_bytes = self.written_bytes.load(Relaxed);
        let mut next = now + WINDOW;
        for response in &mut *self.responses() {
            let due = response.checked_at + WINDOW;
            if now < due {
                next = next.min(due);
                continue;
            }
            let written_bytes = response.written.load(Relaxed);
            if all_written_bytes - response.all_written_bytes < WINDOW_BYTES_MIN {
                // A proxy may have many clients on one HTTP/2 connection, and one of them reads slowly.
                return Err(match self.multiplexed.load(Relaxed) {
                    true => CloseReason::ResponseUnread,
                    false => CloseReason::NotReading,
                });
            }
            if written_bytes - response.written_bytes < RESPONSE_BYTES_MIN {
                return Err(CloseReason::ResponseUnread);
            }
            response.checked_at = now;
            response.written_bytes = written_bytes;
            response.all_written_bytes = all_written_bytes;
        }
        Ok(next)
    }

    fn responses(&self) -> MutexGuard<'_, Vec<ResponseProgress>> {
        self.responses.lock()
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64 + 1
    }

    fn instant(&self, since: u64) -> Instant {
        self.started + Duration::from_millis(since - 1)
    }
}

/// A request whose response is not read to its end. It is open until this is dropped.
#[derive(Debug)]
pub struct OpenRequest(Arc<ConnectionTimer>);

impl OpenRequest {
    /// A response begins. Returns the count of its written bytes.
    pub fn start_response(&self) -> Arc<AtomicU64> {
        let written = Arc::default();
        self.0.responses().push(ResponseProgress {
            written: Arc::clone(&written),
            checked_at: Instant::now(),
            written_bytes: 0,
            all_written_bytes: self.0.written_bytes.load(Relaxed),
        });
        written
    }

    /// The response with this count was written to its end, or never will be.
    pub fn end_response(&self, written: &Arc<AtomicU64>) {
        self.0.responses().retain(|other| !Arc::ptr_eq(&other.written, written));
    }

    /// Bytes of a response were written.
    pub fn record_written(&self, written: &AtomicU64, bytes: usize) {
        written.fetch_add(bytes as u64, Relaxed);
        self.0.written_bytes.fetch_add(bytes as u64, Relaxed);
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        let OpenRequest(timer) = self;
        timer.idle_since.store(timer.now(), Relaxed);
        // Code that sees no open request also sees since when.
        timer.open_requests.fetch_sub(1, Release);
    }
}
