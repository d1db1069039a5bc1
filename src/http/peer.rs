//! Who is at the other end of a connection, and what the connection takes of that which all share.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::task::task_tracker::TaskTrackerToken;

use super::server::Counted;
use super::socket::Handle;
use crate::resource_pool::{Holder, Pool, Share};
use crate::tls::client_certificate::ClientCertificate;

/// Between two looks whether somebody who waits has hung up: nothing wakes us for that while a request is answered.
const HANG_UP_PAUSE: Duration = Duration::from_millis(100);

/// What the system keeps of answers for a reader that is slower than we: at first, and from the first long answer on. A
/// third of it must be free before more is written, so with the system's own megabytes a slow reader would look like one
/// that does not read. Over a line of 100 ms the larger one lets 640 kB through in a second.
const SEND_BUFFER_BYTES: [usize; 2] = [16 << 10, 64 << 10];

/// What the system keeps of requests that are not read yet: at first, and from the first large body on. The system's own
/// limit is megabytes for each sender that is fast at first.
const RECEIVE_BUFFER_BYTES: [usize; 2] = [32 << 10, 256 << 10];

/// How long the system keeps what the other side does not take, before it ends the connection: tcp(7), TCP_USER_TIMEOUT.
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection that does not read its answers is not read either, and may fill both of the smaller buffers. Linux doubles
/// what it is asked for (socket(7)); it is the pod's memory too.
const BLOCKED_BYTES: usize = 2 * (SEND_BUFFER_BYTES[0] + RECEIVE_BUFFER_BYTES[0]);

/// The same of the larger send buffer.
const LONG_ANSWER_BYTES: usize = 2 * (SEND_BUFFER_BYTES[1] + RECEIVE_BUFFER_BYTES[0]);

/// What the larger receive buffer takes.
const LARGE_BODY_BYTES: usize = 2 * RECEIVE_BUFFER_BYTES[1];

/// A longer answer may fill a send buffer. A shorter one is a part of what each connection takes.
const SHORT_ANSWER_BYTES_MAX: usize = 8 << 10;

/// A connection cannot go on for want of memory.
#[derive(Debug)]
pub(crate) struct NoMemory;

/// Who is at the other end of a connection, which counts as open while this is held.
#[derive(Debug)]
pub struct Peer {
    /// Its address, as the system has it or the PROXY protocol.
    pub address: SocketAddr,
    /// The certificate that it has shown.
    pub certificate: Option<Arc<ClientCertificate>>,
    holder: Holder,
    memory: Arc<Pool>,
    /// For long answers, from the first of them on.
    sending: Mutex<Option<Share>>,
    handle: Handle,
    /// A place among the connections, and what each takes.
    shares: Option<[Share; 2]>,
    _counted: Counted,
    _tracked: TaskTrackerToken,
}

impl Peer {
    /// Whoever has connected, with a handle of the socket.
    pub(crate) fn new(
        address: SocketAddr,
        handle: Handle,
        memory: Arc<Pool>,
        counted: Counted,
        tracked: TaskTrackerToken,
    ) -> Peer {
        handle.give_up_after(UNACKNOWLEDGED_TIMEOUT);
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
            _counted: counted,
            _tracked: tracked,
        }
    }

    /// Counts as one of this holder's connections from now on.
    pub(crate) fn admit(&mut self, holder: Holder, shares: [Share; 2]) {
        self.holder = holder;
        self.shares = Some(shares);
    }

    /// Counts as no connection: it will be another's.
    pub(crate) fn expel(&mut self) {
        self.shares = None;
    }

    /// Comes back when the other end sends nothing any more: it is gone, or has closed its side.
    pub async fn hung_up(&self) {
        while !self.handle.has_hung_up() {
            tokio::time::sleep(HANG_UP_PAUSE).await;
        }
    }

    /// Whether there is memory to send an answer of so many bytes, or of a length that is not known, to this holder. What the
    /// system takes for it counts until the connection [rests](Peer::rest): nothing tells when it is free again.
    pub fn may_be_sent(&self, bytes: Option<usize>, holder: Holder) -> bool {
        let mut sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes.is_some_and(|bytes| bytes <= SHORT_ANSWER_BYTES_MAX) || sending.is_some() {
            return true;
        }
        *sending = self.memory.take(holder, LONG_ANSWER_BYTES);
        if sending.is_some() {
            self.handle.set_send_buffer(SEND_BUFFER_BYTES[1]);
        }
        sending.is_some()
    }

    /// A large body comes: it may come faster, until what this returns is dropped, if there is memory enough.
    pub fn hurry(&self, holder: Holder) -> Option<Hurry<'_>> {
        if !self.memory.is_half_free() {
            return None;
        }
        let share = self.memory.take(holder, LARGE_BODY_BYTES)?;
        self.handle.set_receive_buffer(RECEIVE_BUFFER_BYTES[1]);
        Some(Hurry {
            handle: &self.handle,
            _share: share,
        })
    }

    /// No answer is on its way, and none has been for a while.
    pub(crate) fn rest(&self) {
        let mut sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        if sending.take().is_some() {
            self.handle.set_send_buffer(SEND_BUFFER_BYTES[0]);
        }
    }

    /// Memory for what the system keeps while answers are not read.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn blocked_share(&self) -> Result<Share, NoMemory> {
        let sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        match &*sending {
            // It is a part of that.
            Some(_) => Ok(self.memory.share(self.holder)),
            None => self.memory.take(self.holder, BLOCKED_BYTES).ok_or(NoMemory),
        }
    }

    /// Memory for one more request on a connection that has many at once.
    pub(crate) fn stream_share(&self, bytes: usize) -> Option<Share> {
        self.memory.take(self.holder, bytes)
    }
}

/// A larger buffer for what comes, as long as this is held.
#[derive(Debug)]
pub struct Hurry<'a> {
    handle: &'a Handle,
    _share: Share,
}

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        self.handle.set_receive_buffer(RECEIVE_BUFFER_BYTES[0]);
    }
}
