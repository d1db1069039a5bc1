//! What a connection may take its time for: watches that heads come, that answers are read, and that nothing idles for ever.

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::Version;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::Body;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// How long an answer may be on its way without [`WINDOW_BYTES_MIN`] of it being taken.
const WINDOW: Duration = Duration::from_secs(30);

/// Bytes that a reader must take within [`WINDOW`]. With less than 35 kB/s it is not worth the memory
/// that its answer holds. Answers that fit the kernel's buffers are never held up.
const WINDOW_BYTES_MIN: u64 = 1 << 20;

/// Limits of time on a connection.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// From the first byte of a head to its last; of a new connection, from its beginning.
    pub head: Duration,
    /// From the end of an answer to the first byte of the next head.
    pub idle: Duration,
}

/// Why a connection is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenUp {
    /// A head did not come in time.
    HeadLate,
    /// Nothing was asked for too long.
    Idle,
    /// An answer was not read.
    NotReading,
}

/// What happens on one connection, as its stream, its requests and its answers tell it. Times are
/// milliseconds since `began`, plus one, so that 0 can say never.
#[derive(Debug)]
pub struct Vigil {
    began: Instant,
    /// Requests without an answer that was taken to its end.
    open: AtomicU32,
    /// The first byte of a head that is not whole.
    head_since: AtomicU64,
    /// The end of the last answer.
    idle_since: AtomicU64,
    /// Answers on their way.
    sending: AtomicU32,
    /// How often `sending` rose from 0.
    sendings: AtomicU64,
    sent_bytes: AtomicU64,
    /// HTTP/2: bytes between two requests are mostly no head, and half a head is found by the pings that
    /// it holds up.
    multiplexed: AtomicBool,
}

impl Vigil {
    /// Begins with a connection, whose first head is awaited from now on.
    pub fn begin() -> Arc<Vigil> {
        Arc::new(Vigil {
            began: Instant::now(),
            open: AtomicU32::new(0),
            head_since: AtomicU64::new(1),
            idle_since: AtomicU64::new(1),
            sending: AtomicU32::new(0),
            sendings: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            multiplexed: AtomicBool::new(false),
        })
    }

    /// A head is whole. The request is open until what this returns is dropped.
    pub fn request(self: &Arc<Vigil>, version: Version) -> Request {
        self.open.fetch_add(1, Relaxed);
        if version == Version::HTTP_2 {
            self.multiplexed.store(true, Relaxed);
        }
        self.head_since.store(0, Relaxed);
        Request {
            vigil: Arc::clone(self),
            sending: false,
        }
    }

    fn bytes_came(&self) {
        let between = self.open.load(Relaxed) == 0 && !self.multiplexed.load(Relaxed);
        if between && self.head_since.load(Relaxed) == 0 {
            self.head_since.store(self.now(), Relaxed);
        }
    }

    /// Between two requests: when it is too late for the rest of a head, or for a head at all.
    pub fn deadline(&self, patience: Patience) -> Option<(Instant, GivenUp)> {
        if self.open.load(Acquire) > 0 {
            return None;
        }
        Some(match self.head_since.load(Relaxed) {
            0 => {
                let since = self.instant(self.idle_since.load(Relaxed));
                (since + patience.idle, GivenUp::Idle)
            }
            since => (self.instant(since) + patience.head, GivenUp::HeadLate),
        })
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64 + 1
    }

    fn instant(&self, since: u64) -> Instant {
        self.began + Duration::from_millis(since - 1)
    }
}

/// One request of a connection that is watched.
#[derive(Debug)]
pub struct Request {
    vigil: Arc<Vigil>,
    sending: bool,
}

impl Request {
    /// Makes the body of its answer one that is watched.
    pub fn answer(mut self, body: Body) -> Watched {
        self.sending = true;
        if self.vigil.sending.fetch_add(1, Relaxed) == 0 {
            self.vigil.sendings.fetch_add(1, Relaxed);
        }
        Watched {
            body,
            request: self,
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if self.sending {
            self.vigil.sending.fetch_sub(1, Relaxed);
        }
        self.vigil.idle_since.store(self.vigil.now(), Relaxed);
        // Whoever sees that no request is open sees since when.
        self.vigil.open.fetch_sub(1, Release);
    }
}

/// The body of an answer.
pub struct Watched {
    body: Body,
    request: Request,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
            self.request.vigil.sent_bytes.fetch_add(bytes, Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Looks at a [`Vigil`] from time to time.
pub struct Watch {
    vigil: Arc<Vigil>,
    patience: Patience,
    mark: Option<Mark>,
}

/// Where the answers on their way were at the last look.
struct Mark {
    at: Instant,
    sendings: u64,
    sent_bytes: u64,
}

impl Watch {
    /// Watches with these limits.
    pub fn new(vigil: Arc<Vigil>, patience: Patience) -> Watch {
        Watch {
            vigil,
            patience,
            mark: None,
        }
    }

    /// When to look again, if nothing is late.
    pub fn look(&mut self, now: Instant) -> Result<Instant, GivenUp> {
        let Some((by, given_up)) = self.vigil.deadline(self.patience) else {
            return self.look_at_answers(now);
        };
        self.mark = None;
        if by <= now { Err(given_up) } else { Ok(by) }
    }

    fn look_at_answers(&mut self, now: Instant) -> Result<Instant, GivenUp> {
        let vigil = &self.vigil;
        let mark = Mark {
            at: now,
            sendings: vigil.sendings.load(Relaxed),
            sent_bytes: vigil.sent_bytes.load(Relaxed),
        };
        let sending = vigil.sending.load(Relaxed) > 0;
        match &self.mark {
            Some(before) if sending && before.sendings == mark.sendings => {
                if now < before.at + WINDOW {
                    return Ok(before.at + WINDOW);
                }
                if mark.sent_bytes - before.sent_bytes < WINDOW_BYTES_MIN {
                    return Err(GivenUp::NotReading);
                }
            }
            _ => {}
        }
        self.mark = sending.then_some(mark);
        Ok(now + WINDOW)
    }
}

/// A stream that tells its vigil when bytes come.
pub struct Telling<S> {
    inner: S,
    vigil: Arc<Vigil>,
}

impl<S> Telling<S> {
    /// Wraps a stream.
    pub fn new(inner: S, vigil: Arc<Vigil>) -> Telling<S> {
        Telling { inner, vigil }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Telling<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.vigil.bytes_came();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Telling<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::{advance, sleep};

    const PATIENCE: Patience = Patience {
        head: Duration::from_secs(30),
        idle: Duration::from_secs(75),
    };

    /// What becomes of a connection on which nothing happens any more, and after how long.
    async fn end(vigil: &Arc<Vigil>) -> (GivenUp, Duration) {
        let began = Instant::now();
        let mut watch = Watch::new(Arc::clone(vigil), PATIENCE);
        loop {
            match watch.look(Instant::now()) {
                Ok(next) => tokio::time::sleep_until(next).await,
                Err(given_up) => return (given_up, began.elapsed()),
            }
        }
    }

    fn body(bytes: usize) -> Body {
        Body::whole(vec![0; bytes])
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_has_the_time_of_a_head() {
        assert_eq!(
            end(&Vigil::begin()).await,
            (GivenUp::HeadLate, PATIENCE.head)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn between_requests_is_time_until_the_next_head_begins() {
        let vigil = Vigil::begin();
        let (theirs, ours) = duplex(100);
        let (mut theirs, mut ours) = (theirs, Telling::new(ours, Arc::clone(&vigil)));
        drop(vigil.request(Version::HTTP_11));
        assert_eq!(end(&vigil).await, (GivenUp::Idle, PATIENCE.idle));

        drop(vigil.request(Version::HTTP_11));
        advance(PATIENCE.idle - Duration::from_secs(1)).await;
        theirs.write_all(b"POST /").await.unwrap();
        ours.read_exact(&mut [0; 6]).await.unwrap();
        assert_eq!(end(&vigil).await, (GivenUp::HeadLate, PATIENCE.head));
    }

    #[tokio::test(start_paused = true)]
    async fn frames_between_http2_requests_are_no_heads() {
        let vigil = Vigil::begin();
        let (theirs, ours) = duplex(100);
        let (mut theirs, mut ours) = (theirs, Telling::new(ours, Arc::clone(&vigil)));
        drop(vigil.request(Version::HTTP_2));
        theirs.write_all(b"ping").await.unwrap();
        ours.read_exact(&mut [0; 4]).await.unwrap();
        assert_eq!(end(&vigil).await, (GivenUp::Idle, PATIENCE.idle));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_until_an_answer_is_not_the_readers() {
        let vigil = Vigil::begin();
        let request = vigil.request(Version::HTTP_11);
        let ended = tokio::spawn({
            let vigil = Arc::clone(&vigil);
            async move { end(&vigil).await }
        });
        sleep(10 * WINDOW).await;
        assert!(!ended.is_finished());
        let unread = request.answer(body(1));
        let (given_up, _) = ended.await.unwrap();
        assert_eq!(given_up, GivenUp::NotReading);
        drop(unread);
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_at_a_pace_gets_everything() {
        let vigil = Vigil::begin();
        let ended = tokio::spawn({
            let vigil = Arc::clone(&vigil);
            async move { end(&vigil).await }
        });
        let mut long = vigil.request(Version::HTTP_2).answer(body(0));
        for _ in 0..10 {
            sleep(WINDOW / 2).await;
            long.body = body(WINDOW_BYTES_MIN as usize);
            long.frame().await.unwrap().unwrap();
        }
        assert!(!ended.is_finished());
        long.body = body(WINDOW_BYTES_MIN as usize - 1);
        long.frame().await.unwrap().unwrap();
        assert_eq!(ended.await.unwrap().0, GivenUp::NotReading);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_read_makes_way_for_the_next() {
        let vigil = Vigil::begin();
        let ended = tokio::spawn({
            let vigil = Arc::clone(&vigil);
            async move { end(&vigil).await }
        });
        // Looked at while one is on its way, and again while another is.
        let mut answer = None;
        for _ in 0..20 {
            drop(answer.take());
            answer = Some(vigil.request(Version::HTTP_11).answer(body(1)));
            sleep(WINDOW - Duration::from_secs(1)).await;
        }
        assert!(!ended.is_finished());
        drop(answer);
        assert_eq!(ended.await.unwrap().0, GivenUp::Idle);
    }
}
