//! The body of a response, whose written bytes the connection's timer counts.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::timer::OpenRequest;
use crate::http::Body;
use crate::resource_pool::Share;

/// The body of a response to an open request.
pub struct WatchedResponse {
    body: Body,
    progress: Arc<Progress>,
}

/// How much of a response is written. The response has ended when this is dropped.
#[derive(Debug)]
struct Progress {
    written: Arc<AtomicU64>,
    request: Arc<OpenRequest>,
    _shares: [Option<Share>; 2],
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.request.end_response(&self.written);
    }
}

impl WatchedResponse {
    /// Watches the body of a response. What the body holds, and `stream`, go back once its last byte was written. The
    /// request is open until what is to be done after the response is done too.
    pub fn new(request: OpenRequest, mut body: Body, stream: Option<Share>) -> WatchedResponse {
        let request = Arc::new(request);
        if let Some(rest) = body.take_rest() {
            let request = Arc::clone(&request);
            tokio::spawn(async move {
                rest.await;
                drop(request);
            });
        }
        let share = body.take_share();
        WatchedResponse {
            body,
            progress: Arc::new(Progress {
                written: request.start_response(),
                request,
                _shares: [share, stream],
            }),
        }
    }
}

impl HttpBody for WatchedResponse {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let progress = Arc::clone(&self.progress);
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        polled.map(|frame| {
            let frame = frame?.map(|frame| frame.map_data(|bytes| Bytes::from_owner(Piece { bytes, progress })));
            Some(frame)
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A part of a response. Hyper drops it once it was written, or will never be.
struct Piece {
    bytes: Bytes,
    progress: Arc<Progress>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let Progress { written, request, .. } = &*self.progress;
        request.record_written(written, self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::super::peer::NoMemory;
    use super::super::timer::{ConnectionTimer, RESPONSE_BYTES_MIN, WINDOW, WINDOW_BYTES_MIN};
    use super::super::watched_stream::WatchedStream;
    use super::*;
    use crate::http::limits::Timeouts;
    use crate::http::metrics::CloseReason;
    use crate::resource_pool::{Holder, Pool};
    use http_body_util::BodyExt as _;
    use hyper::Version;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::{Instant, advance, sleep};

    const TIMEOUTS: Timeouts = Timeouts {
        head: Duration::from_secs(30),
        idle: Duration::from_secs(75),
    };

    /// Why and when a connection closes on which nothing happens any more.
    async fn end(timer: &Arc<ConnectionTimer>) -> (CloseReason, Duration) {
        let began = Instant::now();
        loop {
            match timer.check(Instant::now(), TIMEOUTS) {
                Ok(next) => tokio::time::sleep_until(next).await,
                Err(reason) => return (reason, began.elapsed()),
            }
        }
    }

    fn body(bytes: usize) -> Body {
        Body::whole(vec![0; bytes])
    }

    /// Reads this much of a response, which gets it first.
    async fn read(response: &mut WatchedResponse, bytes: u64) {
        response.body = body(bytes as usize);
        while response.frame().await.is_some() {}
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_has_the_time_of_a_head() {
        assert_eq!(
            end(&ConnectionTimer::start()).await,
            (CloseReason::HeadTimeout, TIMEOUTS.head)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn between_requests_is_time_until_the_next_head_begins() {
        let timer = ConnectionTimer::start();
        let (theirs, ours) = duplex(100);
        let (mut theirs, mut ours) = (
            theirs,
            WatchedStream::new(ours, Arc::clone(&timer), || Err::<Share, _>(NoMemory)),
        );
        drop(timer.open_request(Version::HTTP_11));
        assert_eq!(end(&timer).await, (CloseReason::Idle, TIMEOUTS.idle));

        drop(timer.open_request(Version::HTTP_11));
        advance(TIMEOUTS.idle - Duration::from_secs(1)).await;
        theirs.write_all(b"POST /").await.unwrap();
        ours.read_exact(&mut [0; 6]).await.unwrap();
        assert_eq!(end(&timer).await, (CloseReason::HeadTimeout, TIMEOUTS.head));
    }

    #[tokio::test(start_paused = true)]
    async fn frames_between_http2_requests_are_no_heads() {
        let timer = ConnectionTimer::start();
        let (theirs, ours) = duplex(100);
        let (mut theirs, mut ours) = (
            theirs,
            WatchedStream::new(ours, Arc::clone(&timer), || Err::<Share, _>(NoMemory)),
        );
        drop(timer.open_request(Version::HTTP_2));
        theirs.write_all(b"ping").await.unwrap();
        ours.read_exact(&mut [0; 4]).await.unwrap();
        assert_eq!(end(&timer).await, (CloseReason::Idle, TIMEOUTS.idle));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_until_an_answer_is_not_the_readers() {
        let timer = ConnectionTimer::start();
        let request = timer.open_request(Version::HTTP_11);
        let ended = tokio::spawn({
            let timer = Arc::clone(&timer);
            async move { end(&timer).await }
        });
        sleep(10 * WINDOW).await;
        assert!(!ended.is_finished());
        let unread = WatchedResponse::new(request, body(1), None);
        let (reason, _) = ended.await.unwrap();
        assert_eq!(reason, CloseReason::NotReading);
        drop(unread);
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_at_a_pace_gets_everything() {
        let timer = ConnectionTimer::start();
        let ended = tokio::spawn({
            let timer = Arc::clone(&timer);
            async move { end(&timer).await }
        });
        let mut long = WatchedResponse::new(timer.open_request(Version::HTTP_11), body(0), None);
        for _ in 0..10 {
            sleep(WINDOW / 2).await;
            read(&mut long, WINDOW_BYTES_MIN).await;
        }
        assert!(!ended.is_finished());
        read(&mut long, WINDOW_BYTES_MIN - 1).await;
        assert_eq!(ended.await.unwrap().0, CloseReason::NotReading);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unread_answer_does_not_hide_behind_a_busy_one() {
        let timer = ConnectionTimer::start();
        let ended = tokio::spawn({
            let timer = Arc::clone(&timer);
            async move { end(&timer).await }
        });
        let mut busy = WatchedResponse::new(timer.open_request(Version::HTTP_2), body(0), None);
        let mut slow = WatchedResponse::new(timer.open_request(Version::HTTP_2), body(0), None);
        for _ in 0..10 {
            sleep(WINDOW / 2).await;
            read(&mut busy, WINDOW_BYTES_MIN).await;
            read(&mut slow, RESPONSE_BYTES_MIN).await;
        }
        assert!(!ended.is_finished());
        for _ in 0..4 {
            sleep(WINDOW / 2).await;
            read(&mut busy, WINDOW_BYTES_MIN).await;
        }
        assert_eq!(ended.await.unwrap().0, CloseReason::ResponseUnread);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_on_its_way_until_its_last_byte_was_written() {
        let pool = Pool::new(10);
        let share = pool.acquire(Holder::MANY, 10);
        let timer = ConnectionTimer::start();
        let mut response = WatchedResponse::new(timer.open_request(Version::HTTP_2), body(7), share);
        let last = response.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(response.frame().await.is_none());
        drop(response);
        assert!(timer.deadline(TIMEOUTS).is_none());
        assert_eq!(pool.used(), 10);
        drop(last);
        assert_eq!(timer.deadline(TIMEOUTS).unwrap().1, CloseReason::Idle);
        assert_eq!(pool.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_read_makes_way_for_the_next() {
        let timer = ConnectionTimer::start();
        let ended = tokio::spawn({
            let timer = Arc::clone(&timer);
            async move { end(&timer).await }
        });
        // Looked at while one is on its way, and again while another is.
        let mut response = None;
        for _ in 0..20 {
            drop(response.take());
            response = Some(WatchedResponse::new(
                timer.open_request(Version::HTTP_11),
                body(1),
                None,
            ));
            sleep(WINDOW - Duration::from_secs(1)).await;
        }
        assert!(!ended.is_finished());
        drop(response);
        assert_eq!(ended.await.unwrap().0, CloseReason::Idle);
    }
}
