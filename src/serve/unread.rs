//! What a sender still sends of a body that was refused: it is read and thrown away for a while, with the answer already on
//! its way. A connection that closes in the middle of a body is reset, and the answer may be lost with it; senders that are
//! proxies then say 502, and those that were told nothing send the same again.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::http::pool::Share;

/// Bytes of a body that are thrown away. More is cut off; 64 MiB are the largest body that a `serve` can be told to take.
const DISCARD_BYTES_MAX: usize = 64 << 20;

/// What a body takes meanwhile, apart from its connection.
pub const DISCARD_MEMORY_BYTES: usize = 4 << 10;

/// The body of a request, as long as it has not come to its end.
pub struct Unread {
    body: Incoming,
    is_wanted: bool,
}

impl Unread {
    /// A body. A sender that asked first whether to send it (`asks_first`) has not sent it, and is not made to.
    pub fn new(body: Incoming, asks_first: bool) -> Unread {
        let is_wanted = !asks_first && !body.is_end_stream();
        Unread { body, is_wanted }
    }

    /// What there is to read.
    pub fn body(&mut self) -> &mut Incoming {
        &mut self.body
    }

    /// It was read to its end.
    pub fn ended(&mut self) {
        self.is_wanted = false;
    }

    /// Reads what still comes, in the background.
    pub fn discard(
        mut self,
        share: impl FnOnce() -> Option<Share>,
        time: Duration,
        stop: CancellationToken,
    ) {
        if !self.is_wanted {
            return;
        }
        let Some(share) = share() else {
            return;
        };
        tokio::spawn(async move {
            let reading = timeout(time, self.read());
            stop.run_until_cancelled(reading).await;
            drop(share);
        });
    }

    async fn read(&mut self) {
        let mut bytes = 0;
        while bytes < DISCARD_BYTES_MAX
            && let Some(Ok(frame)) = self.body.frame().await
        {
            bytes += frame.data_ref().map_or(0, Bytes::len);
        }
    }
}
