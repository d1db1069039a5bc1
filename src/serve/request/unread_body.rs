//! The rest of a body that is refused: it is read and discarded before the response is sent. Many clients lose a
//! response that comes before the end of the body: proxies that stream answer 400 or 502 in its place, and a connection
//! that closes in the middle of a body is reset. A client without a response sends the same again, for ever.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::time::timeout;

use super::deadline::Deadline;
use crate::resource_pool::Share;

/// Bytes of a body that are discarded. More is cut off; 64 MiB is the largest `--body-bytes-max`.
const DISCARD_BYTES_MAX: usize = 64 << 20;

/// After this much silence the client counts as one that waits for the response before it sends more.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(1);

/// Memory of a body that is still read after the response, beyond that of its connection.
pub const DISCARD_MEMORY_BYTES: usize = 4 << 10;

/// The body of a request, until it has come to its end.
pub struct UnreadBody {
    body: Incoming,
    bytes_left: usize,
    is_awaited: bool,
}

impl UnreadBody {
    /// A client that asks first whether to send the body (`asks_first`: `Expect: 100-continue`) has not sent it, and
    /// need not.
    pub fn new(body: Incoming, asks_first: bool) -> UnreadBody {
        UnreadBody {
            is_awaited: !asks_first && !body.is_end_stream(),
            bytes_left: DISCARD_BYTES_MAX,
            body,
        }
    }

    /// Its `Content-Length`; 0 if there is none.
    pub fn announced_bytes(&self) -> u64 {
        self.body.size_hint().lower()
    }

    /// The body to read. A client that asks first is asked to send it.
    pub fn start_reading(&mut self) -> &mut Incoming {
        self.is_awaited = !self.body.is_end_stream();
        &mut self.body
    }

    /// Records that the body was read to its end.
    pub fn finish_reading(&mut self) {
        self.is_awaited = false;
    }

    /// Discards the body within limits, as long as it comes without a pause, until a deadline.
    pub async fn discard(&mut self, deadline: &Deadline) {
        if self.is_awaited {
            let reading = async { while let Ok(true) = timeout(SILENCE_TIMEOUT, self.read_some()).await {} };
            tokio::select! {
                () = reading => {}
                () = deadline.wait() => {}
            }
        }
    }

    /// Discards the rest after the response, and holds a share meanwhile; `None` if nothing can come.
    pub fn discard_rest(
        mut self,
        share: impl FnOnce() -> Option<Share>,
        deadline: Deadline,
    ) -> Option<impl Future<Output = ()> + Send + 'static> {
        let share = self.is_awaited.then(share).flatten()?;
        Some(async move {
            let reading = async { while self.read_some().await {} };
            tokio::select! {
                () = reading => {}
                () = deadline.wait() => {}
            }
            drop(share);
        })
    }

    /// Discards a frame, and returns whether there may be more.
    async fn read_some(&mut self) -> bool {
        let frame = self.body.frame().await;
        let bytes = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
            _ => self.bytes_left + 1,
        };
        match self.bytes_left.checked_sub(bytes) {
            Some(left) => self.bytes_left = left,
            None => self.is_awaited = false,
        }
        self.is_awaited
    }
}
