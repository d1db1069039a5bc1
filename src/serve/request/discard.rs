//! What a sender still sends of a body that is refused: it is read and thrown away, and then the answer is sent. An answer
//! that comes before the end of the body is lost by many: proxies that stream say 400 or 502 in its place, and a connection
//! that closes in the middle of a body is reset. A sender that was told nothing sends the same again, for ever.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::time::timeout;

use super::body::Deadline;
use crate::resource_pool::Share;

/// Bytes of a body that are thrown away. More is cut off; 64 MiB are the largest body that a `serve` can be told to take.
const DISCARD_BYTES_MAX: usize = 64 << 20;

/// After so much silence the sender counts as one that waits for the answer before it goes on.
const SILENCE: Duration = Duration::from_secs(1);

/// What a body takes that is still read after the answer, apart from its connection.
pub const DISCARD_MEMORY_BYTES: usize = 4 << 10;

/// The body of a request, as long as it has not come to its end.
pub struct Unread {
    body: Incoming,
    bytes_left: usize,
    is_wanted: bool,
}

impl Unread {
    /// A body. A sender that asked first whether to send it (`asks_first`) has not sent it, and need not.
    pub fn new(body: Incoming, asks_first: bool) -> Unread {
        Unread {
            is_wanted: !asks_first && !body.is_end_stream(),
            bytes_left: DISCARD_BYTES_MAX,
            body,
        }
    }

    /// How long it is said to be, at least.
    pub fn announced_bytes(&self) -> u64 {
        self.body.size_hint().lower()
    }

    /// What there is to read. Whoever asked first is told to send it.
    pub fn body(&mut self) -> &mut Incoming {
        self.is_wanted = !self.body.is_end_stream();
        &mut self.body
    }

    /// It was read to its end.
    pub fn ended(&mut self) {
        self.is_wanted = false;
    }

    /// Throws away what comes, within limits, as long as it comes without a pause, until a deadline.
    pub async fn discard(&mut self, deadline: &Deadline) {
        if self.is_wanted {
            let reading = async { while let Ok(true) = timeout(SILENCE, self.read_some()).await {} };
            tokio::select! {
                () = reading => {}
                () = deadline.over() => {}
            }
        }
    }

    /// Throws away what comes after the answer, holding what it takes; `None` if nothing can come.
    pub fn discard_rest(
        mut self,
        share: impl FnOnce() -> Option<Share>,
        deadline: Deadline,
    ) -> Option<impl Future<Output = ()> + Send + 'static> {
        let share = self.is_wanted.then(share).flatten()?;
        Some(async move {
            let reading = async { while self.read_some().await {} };
            tokio::select! {
                () = reading => {}
                () = deadline.over() => {}
            }
            drop(share);
        })
    }

    /// Whether there may be more.
    async fn read_some(&mut self) -> bool {
        let frame = self.body.frame().await;
        let bytes = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
            _ => self.bytes_left + 1,
        };
        match self.bytes_left.checked_sub(bytes) {
            Some(left) => self.bytes_left = left,
            None => self.is_wanted = false,
        }
        self.is_wanted
    }
}
