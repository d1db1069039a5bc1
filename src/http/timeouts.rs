//! What a connection may take its time for: watches that heads come, that answers are read, and that nothing idles for ever.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::Version;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;

use super::Body;
use crate::resource_pool::Share;

/// How long answers may be on their way without enough of them being taken.
pub const WINDOW: Duration = Duration::from_secs(30);

/// Bytes that a reader must take within [`WINDOW`] of all answers of its connection together. With less than 35 kB/s it
/// is not worth the memory that its answers hold. What fits the kernel's buffers counts as taken.
const WINDOW_BYTES_MIN: u64 = 1 << 20;

/// Of each single answer that did not come to its end: as much as is left for one of the 100 that an HTTP/2 connection
/// may have, so that nobody can hide behind a busy one.
const ANSWER_BYTES_MIN: u64 = WINDOW_BYTES_MIN / 100;

/// Limits of time on a connection.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
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
    /// Too little was read of all answers.
    NotReading,
    /// Too little was read of one answer, though others are read.
    AnswerUnread,
    /// Answers were not read, and there was no memory to wait.
    NoMemory,
    /// It broke off in the middle, or what came was no HTTP.
    Broken,
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
    /// Bytes of all answers that were written.
    written_bytes: AtomicU64,
    /// Answers on their way.
    sending: Mutex<Vec<Sending>>,
    /// There was no memory to wait for the reader.
    starved: AtomicBool,
    /// HTTP/2: bytes between two requests are mostly no head, and half a head is found by the pings that
    /// it holds up.
    multiplexed: AtomicBool,
}

/// An answer on its way, and where it was when it was last looked at.
#[derive(Debug)]
struct Sending {
    progress: Arc<AtomicU64>,
    looked_at: Instant,
    written_bytes: u64,
    all_written_bytes: u64,
}

impl Vigil {
    /// Begins with a connection, whose first head is awaited from now on.
    pub fn begin() -> Arc<Vigil> {
        Arc::new(Vigil {
            began: Instant::now(),
            open: AtomicU32::new(0),
            head_since: AtomicU64::new(1),
            idle_since: AtomicU64::new(1),
            written_bytes: AtomicU64::new(0),
            sending: Mutex::default(),
            starved: AtomicBool::new(false),
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
        Request(Arc::clone(self))
    }

    /// Bytes came, of a body or a head.
    pub fn bytes_came(&self) {
        let between = self.open.load(Relaxed) == 0 && !self.multiplexed.load(Relaxed);
        if between && self.head_since.load(Relaxed) == 0 {
            self.head_since.store(self.now(), Relaxed);
        }
    }

    /// Whether no request is open.
    pub fn is_at_rest(&self) -> bool {
        self.open.load(Acquire) == 0
    }

    /// The connection ends for want of memory.
    pub fn starve(&self) {
        self.starved.store(true, Relaxed);
    }

    /// Whether it does.
    pub fn is_starved(&self) -> bool {
        self.starved.load(Relaxed)
    }

    /// Between two requests: when it is too late for the rest of a head, or for a head at all.
    pub fn deadline(&self, patience: Timeouts) -> Option<(Instant, GivenUp)> {
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

    /// When to look again, if nothing is late.
    ///
    /// # Errors
    /// What is late.
    pub fn look(&self, now: Instant, patience: Timeouts) -> Result<Instant, GivenUp> {
        match self.deadline(patience) {
            Some((by, given_up)) if by <= now => Err(given_up),
            Some((by, _)) => Ok(by),
            None => self.look_at_answers(now),
        }
    }

    fn look_at_answers(&self, now: Instant) -> Result<Instant, GivenUp> {
        let all_written_bytes = self.written_bytes.load(Relaxed);
        let mut next = now + WINDOW;
        for sending in &mut *self.sending() {
            let due = sending.looked_at + WINDOW;
            if now < due {
                next = next.min(due);
                continue;
            }
            let written_bytes = sending.progress.load(Relaxed);
            if all_written_bytes - sending.all_written_bytes < WINDOW_BYTES_MIN {
                // A proxy may have many readers on HTTP/2, of whom one is slow.
                return Err(match self.multiplexed.load(Relaxed) {
                    true => GivenUp::AnswerUnread,
                    false => GivenUp::NotReading,
                });
            }
            if written_bytes - sending.written_bytes < ANSWER_BYTES_MIN {
                return Err(GivenUp::AnswerUnread);
            }
            sending.looked_at = now;
            sending.written_bytes = written_bytes;
            sending.all_written_bytes = all_written_bytes;
        }
        Ok(next)
    }

    fn sending(&self) -> MutexGuard<'_, Vec<Sending>> {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
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
pub struct Request(Arc<Vigil>);

impl Request {
    /// Makes the body of its answer one that is watched. What the body holds, and `stream`, go back once its last byte was
    /// written. The request is open until what is still to be done after the answer is done too.
    pub fn answer(self, mut body: Body, stream: Option<Share>) -> Watched {
        let request = Arc::new(self);
        if let Some(rest) = body.take_rest() {
            let request = Arc::clone(&request);
            tokio::spawn(async move {
                rest.await;
                drop(request);
            });
        }
        let progress = Arc::default();
        request.0.sending().push(Sending {
            progress: Arc::clone(&progress),
            looked_at: Instant::now(),
            written_bytes: 0,
            all_written_bytes: request.0.written_bytes.load(Relaxed),
        });
        let share = body.take_share();
        Watched {
            body,
            answer: Arc::new(Answer {
                progress,
                request,
                _shares: [share, stream],
            }),
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let Request(vigil) = self;
        vigil.idle_since.store(vigil.now(), Relaxed);
        // Whoever sees that no request is open sees since when.
        vigil.open.fetch_sub(1, Release);
    }
}

/// An answer that is not written to its end.
#[derive(Debug)]
struct Answer {
    progress: Arc<AtomicU64>,
    request: Arc<Request>,
    _shares: [Option<Share>; 2],
}

impl Drop for Answer {
    fn drop(&mut self) {
        let mut sending = self.request.0.sending();
        sending.retain(|other| !Arc::ptr_eq(&other.progress, &self.progress));
    }
}

/// A part of an answer, which the library drops once it was written, or will never be.
struct Piece {
    bytes: Bytes,
    answer: Arc<Answer>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let bytes = self.bytes.len() as u64;
        self.answer.progress.fetch_add(bytes, Relaxed);
        self.answer.request.0.written_bytes.fetch_add(bytes, Relaxed);
    }
}

/// The body of an answer.
pub struct Watched {
    body: Body,
    answer: Arc<Answer>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let answer = Arc::clone(&self.answer);
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        polled.map(|frame| {
            let frame = frame?.map(|frame| frame.map_data(|bytes| Bytes::from_owner(Piece { bytes, answer })));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::peer::NoMemory;
    use crate::http::watched_stream::Telling;
    use crate::resource_pool::{Holder, Pool};
    use http_body_util::BodyExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::{advance, sleep};

    const PATIENCE: Timeouts = Timeouts {
        head: Duration::from_secs(30),
        idle: Duration::from_secs(75),
    };

    /// What becomes of a connection on which nothing happens any more, and after how long.
    async fn end(vigil: &Arc<Vigil>) -> (GivenUp, Duration) {
        let began = Instant::now();
        loop {
            match vigil.look(Instant::now(), PATIENCE) {
                Ok(next) => tokio::time::sleep_until(next).await,
                Err(given_up) => return (given_up, began.elapsed()),
            }
        }
    }

    fn body(bytes: usize) -> Body {
        Body::whole(vec![0; bytes])
    }

    /// Takes so much of an answer, which gets it first.
    async fn read(answer: &mut Watched, bytes: u64) {
        answer.body = body(bytes as usize);
        while answer.frame().await.is_some() {}
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_has_the_time_of_a_head() {
        assert_eq!(end(&Vigil::begin()).await, (GivenUp::HeadLate, PATIENCE.head));
    }

    #[tokio::test(start_paused = true)]
    async fn between_requests_is_time_until_the_next_head_begins() {
        let vigil = Vigil::begin();
        let (theirs, ours) = duplex(100);
        let (mut theirs, mut ours) = (
            theirs,
            Telling::new(ours, Arc::clone(&vigil), || Err::<Share, _>(NoMemory)),
        );
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
        let (mut theirs, mut ours) = (
            theirs,
            Telling::new(ours, Arc::clone(&vigil), || Err::<Share, _>(NoMemory)),
        );
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
        let unread = request.answer(body(1), None);
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
        let mut long = vigil.request(Version::HTTP_11).answer(body(0), None);
        for _ in 0..10 {
            sleep(WINDOW / 2).await;
            read(&mut long, WINDOW_BYTES_MIN).await;
        }
        assert!(!ended.is_finished());
        read(&mut long, WINDOW_BYTES_MIN - 1).await;
        assert_eq!(ended.await.unwrap().0, GivenUp::NotReading);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unread_answer_does_not_hide_behind_a_busy_one() {
        let vigil = Vigil::begin();
        let ended = tokio::spawn({
            let vigil = Arc::clone(&vigil);
            async move { end(&vigil).await }
        });
        let mut busy = vigil.request(Version::HTTP_2).answer(body(0), None);
        let mut slow = vigil.request(Version::HTTP_2).answer(body(0), None);
        for _ in 0..10 {
            sleep(WINDOW / 2).await;
            read(&mut busy, WINDOW_BYTES_MIN).await;
            read(&mut slow, ANSWER_BYTES_MIN).await;
        }
        assert!(!ended.is_finished());
        for _ in 0..4 {
            sleep(WINDOW / 2).await;
            read(&mut busy, WINDOW_BYTES_MIN).await;
        }
        assert_eq!(ended.await.unwrap().0, GivenUp::AnswerUnread);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_on_its_way_until_its_last_byte_was_written() {
        let pool = Pool::new(10);
        let share = pool.take(Holder::MANY, 10);
        let vigil = Vigil::begin();
        let mut answer = vigil.request(Version::HTTP_2).answer(body(7), share);
        let last = answer.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(answer.frame().await.is_none());
        drop(answer);
        assert!(vigil.deadline(PATIENCE).is_none());
        assert_eq!(pool.taken(), 10);
        drop(last);
        assert_eq!(vigil.deadline(PATIENCE).unwrap().1, GivenUp::Idle);
        assert_eq!(pool.taken(), 0);
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
            answer = Some(vigil.request(Version::HTTP_11).answer(body(1), None));
            sleep(WINDOW - Duration::from_secs(1)).await;
        }
        assert!(!ended.is_finished());
        drop(answer);
        assert_eq!(ended.await.unwrap().0, GivenUp::Idle);
    }
}
