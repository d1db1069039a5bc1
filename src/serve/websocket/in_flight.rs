//! Messages of one stream that are being answered, in the order in which they came.

use std::collections::VecDeque;

use futures_util::FutureExt as _;
use tokio::task::{JoinError, JoinHandle};

use crate::resource_pool::Share;

/// Messages of one stream that are answered at once. A message waits for Kafka some milliseconds.
pub const IN_FLIGHT_MAX: usize = 64;

/// Bytes of these messages; past it no further message starts. Replies that wait for a slow reader count too.
const IN_FLIGHT_BYTES_MAX: usize = 256 << 10;

/// The reply to a message, and its memory.
pub struct Reply {
    pub text: String,
    pub share: Share,
}

struct Pending {
    reply: JoinHandle<Reply>,
    bytes: usize,
}

/// Messages that are being answered.
#[derive(Default)]
pub struct InFlight {
    pending: VecDeque<Pending>,
    bytes: usize,
}

impl InFlight {
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether one more message may start.
    pub fn has_room(&self) -> bool {
        self.pending.len() < IN_FLIGHT_MAX && self.bytes < IN_FLIGHT_BYTES_MAX
    }

    /// Starts to answer a message of this many bytes. The task goes on even if the reply cannot be written.
    pub fn spawn(&mut self, bytes: usize, reply: impl Future<Output = Reply> + Send + 'static) {
        self.bytes += bytes;
        self.pending.push_back(Pending {
            reply: tokio::spawn(reply),
            bytes,
        });
    }

    /// The first reply, once it is there. Waits for ever if no message is in flight. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Reply, JoinError> {
        let Some(first) = self.pending.front_mut() else {
            return std::future::pending().await;
        };
        let reply = (&mut first.reply).await;
        self.pop();
        reply
    }

    /// The first reply, if it is there already.
    pub fn next_ready(&mut self) -> Option<Reply> {
        let reply = (&mut self.pending.front_mut()?.reply).now_or_never()?.ok()?;
        self.pop();
        Some(reply)
    }

    fn pop(&mut self) {
        if let Some(answered) = self.pending.pop_front() {
            self.bytes -= answered.bytes;
        }
    }
}
