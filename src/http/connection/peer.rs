//! The other end of a connection, and the connection's shares of what all clients share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::socket::SocketHandle;
use crate::resource_pool::{Holder, Pool, Share};
use crate::telemetry::gauges::GaugeGuard;
use crate::tls::client_certificate::ClientCertificate;

/// Between two checks whether a client that waits has hung up: nothing wakes a task for that while a request is
/// answered.
const HANG_UP_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Bytes that the system keeps of responses for a client that reads slowly: at first, and from the first long response
/// on. A third of it must be free before more is written, so with the system's own megabytes a slow reader would look
/// like one that does not read. Over a line of 100 ms the larger one lets 640 kB through in a second.
const SEND_BUFFER_BYTES: [usize; 2] = [16 << 10, 64 << 10];

/// Bytes that the system keeps of requests that are not read yet: at first, and from the first large body on. The
/// system's own limit is megabytes for each sender that is fast at first.
const RECEIVE_BUFFER_BYTES: [usize; 2] = [32 << 10, 256 << 10];

/// How long the system keeps what the other side does not take, before it ends the connection: tcp(7),
/// TCP_USER_TIMEOUT.
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(30);

/// A client that does not read its responses is not read from either, and may fill both of the smaller buffers. Linux
/// doubles what it is asked for (socket(7)); it is the pod's memory too.
const BLOCKED_BYTES: usize = 2 * (SEND_BUFFER_BYTES[0] + RECEIVE_BUFFER_BYTES[0]);

/// The same with the larger send buffer.
const LONG_RESPONSE_BYTES: usize = 2 * (SEND_BUFFER_BYTES[1] + RECEIVE_BUFFER_BYTES[0]);

/// The memory of the larger receive buffer.
const LARGE_BODY_BYTES: usize = 2 * RECEIVE_BUFFER_BYTES[1];

/// A longer response may fill a send buffer. A shorter one is included in the memory of each connection.
const SHORT_RESPONSE_BYTES_MAX: usize = 8 << 10;

/// There is no memory for what a connection holds.
#[derive(Debug)]
pub(crate) struct NoMemory;

/// The other end of a connection. The connection counts as open until this is dropped.
#[derive(Debug)]
pub struct Peer {
    /// Its address, from the system or the PROXY protocol.
    pub address: SocketAddr,
    /// The certificate that it has shown.
    pub certificate: Option<Arc<ClientCertificate>>,
    holder: Holder,
    memory: Arc<Pool>,
    /// Memory for long responses, from the first of them on.
    sending: Mutex<Option<Share>>,
    handle: SocketHandle,
    /// Of the connections, and of the memory.
    shares: Option<[Share; 2]>,
    _open: GaugeGuard,
    _tracked: TaskTrackerToken,
}

impl Peer {
    /// A client that has connected, with a handle of its socket.
    pub(crate) fn new(
        address: SocketAddr,
        handle: SocketHandle,
        memory: Arc<Pool>,
        open: GaugeGuard,
        tracked: TaskTrackerToken,
    ) -> Peer {
        handle.set_unacknowledged_timeout(UNACKNOWLEDGED_TIMEOUT);
        handle.set_send_buffer(SEND_BUFFER_BYTES[0]);
        handle.set_receive_buffer(RECEIVE_BUFFER_BYTES[0]);
        Peer {
            address,
            certificate: None,
            holder: Holder::MANY,
            memory,
            sending: Mutex::default(),
            handle,
            shares: None,
            _open: open,
            _tracked: tracked,
        }
    }

    /// Counts the connection as one of this holder's.
    pub(crate) fn assign(&mut self, holder: Holder, shares: [Share; 2]) {
        self.holder = holder;
        self.shares = Some(shares);
    }

    /// Gives the shares back: the connection will be another holder's.
    pub(crate) fn release(&mut self) {
        self.shares = None;
    }

    /// Returns when the other end sends nothing any more: it is gone, or has closed its side.
    pub async fn hung_up(&self) {
        while !self.handle.has_hung_up() {
            tokio::time::sleep(HANG_UP_CHECK_INTERVAL).await;
        }
    }

    /// Acquires the memory that the system takes for a response of this many bytes, or of a length that is not known;
    /// false if there is none. It is held until [`Peer::shrink_send_buffer`]: nothing tells when the system's buffer is
    /// empty again.
    pub fn acquire_send_buffer(&self, bytes: Option<usize>, holder: Holder) -> bool {
        let mut sending = self.sending.lock();
        if bytes.is_some_and(|bytes| bytes <= SHORT_RESPONSE_BYTES_MAX) || sending.is_some() {
            return true;
        }
        *sending = self.memory.acquire(holder, LONG_RESPONSE_BYTES);
        if sending.is_some() {
            self.handle.set_send_buffer(SEND_BUFFER_BYTES[1]);
        }
        sending.is_some()
    }

    /// Lets a large body come faster until the result is dropped, if there is enough memory.
    pub fn grow_receive_buffer(&self, holder: Holder) -> Option<LargeReceiveBuffer<'_>> {
        if !self.memory.is_half_free() {
            return None;
        }
        let share = self.memory.acquire(holder, LARGE_BODY_BYTES)?;
        self.handle.set_receive_buffer(RECEIVE_BUFFER_BYTES[1]);
        Some(LargeReceiveBuffer {
            handle: &self.handle,
            _share: share,
        })
    }

    /// Gives back the memory for long responses: none is on its way, and none has been for a while.
    pub(crate) fn shrink_send_buffer(&self) {
        let mut sending = self.sending.lock();
        if sending.take().is_some() {
            self.handle.set_send_buffer(SEND_BUFFER_BYTES[0]);
        }
    }

    /// Memory for what the system keeps while responses are not read.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn blocked_share(&self) -> Result<Share, NoMemory> {
        let sending = self.sending.lock();
        match &*sending {
            // The memory for long responses includes it.
            Some(_) => Ok(self.memory.share(self.holder)),
            None => self.memory.acquire(self.holder, BLOCKED_BYTES).ok_or(NoMemory),
        }
    }

    /// Memory for one more request on a connection that has many at once.
    pub(crate) fn stream_share(&self, bytes: usize) -> Option<Share> {
        self.memory.acquire(self.holder, bytes)
    }
}

/// A larger receive buffer, until this is dropped.
#[derive(Debug)]
pub struct LargeReceiveBuffer<'a> {
    handle: &'a SocketHandle,
    _share: Share,
}

impl Drop for LargeReceiveBuffer<'_> {
    fn drop(&mut self) {
        self.handle.set_receive_buffer(RECEIVE_BUFFER_BYTES[0]);
    }
}
