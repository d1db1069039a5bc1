//! One stream: messages in, their answers out in the same order, and an end that loses no answer.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::mem::{self, MaybeUninit};
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::http::websocket::{CloseCode, Decoder, Ending, Item, write_close, write_ping, write_pong, write_text};
use crate::resource_pool::Share;
use crate::serve::limits::Limits;
use crate::serve::problem::Problem;
use crate::serve::request::body::Body;

/// Messages of one stream that are answered at once. A message waits for Kafka some milliseconds.
const IN_FLIGHT_MAX: usize = 64;

/// Bytes of theirs; no further one is begun past it. Answers that wait for a slow reader are a part of it.
const IN_FLIGHT_BYTES_MAX: usize = 256 << 10;

/// Bytes read at once.
const READ_BYTES: usize = 8 << 10;

/// Answers are written once they are so many bytes, or once none is ready.
const WRITE_BYTES: usize = 64 << 10;

/// How long a write may take: who does not read for so long is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Silence until a ping. Shorter than the minute of common balancers.
const PING: Duration = Duration::from_secs(20);

/// Pings that may stay without an answer.
const PINGS_MAX: u32 = 2;

/// How long a stream may take to read our close and to close itself.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// How much of what it still sends is read meanwhile: closing on it would lose our close.
const FAREWELL_BYTES_MAX: usize = 4 << 20;

/// What streams may take.
#[derive(Debug, Clone)]
pub struct Terms {
    idle: Duration,
    message_time: Duration,
    stop: CancellationToken,
}

impl Terms {
    /// Streams that end once `stop` is cancelled.
    pub fn new(limits: &Limits, stop: CancellationToken) -> Terms {
        Terms {
            idle: limits.stream_idle(),
            message_time: limits.body_time(),
            stop,
        }
    }
}

/// What a message is answered with, and its memory.
pub struct Reply {
    text: String,
    share: Share,
}

impl Reply {
    /// An answer.
    pub fn new(text: String, share: Share) -> Reply {
        Reply { text, share }
    }
}

/// A message that is being answered.
struct Pending {
    answer: JoinHandle<Reply>,
    bytes: usize,
}

enum Happened {
    Stopped,
    Answered(Result<Reply, JoinError>),
    Came(io::Result<Vec<u8>>),
    TimeUp,
}

/// Answers the messages of a stream until it ends. Each takes its memory of a `share`.
pub async fn converse<S, A, F>(stream: S, message_bytes_max: usize, share: impl Fn() -> Share, terms: &Terms, answer: A)
where
    S: AsyncRead + AsyncWrite + Unpin,
    A: Fn(Result<Body, Problem>) -> F,
    F: Future<Output = Reply> + Send + 'static,
{
    let now = Instant::now();
    let session = Session {
        stream,
        new_share: share,
        terms,
        answer,
        decoder: Decoder::new(message_bytes_max),
        input: Vec::new(),
        share: Ok(None),
        in_flight: VecDeque::new(),
        in_flight_bytes: 0,
        out: Vec::new(),
        out_shares: Vec::new(),
        ending: None,
        is_paused: false,
        heard: now,
        pings: 0,
        message_since: None,
        idle_since: now,
    };
    session.run().await;
}

struct Session<'a, S, N, A> {
    stream: S,
    new_share: N,
    terms: &'a Terms,
    answer: A,
    decoder: Decoder,
    /// What came and is not decoded, for want of room.
    input: Vec<u8>,
    /// Memory for the message that comes, or why there is none.
    share: Result<Option<Share>, Problem>,
    in_flight: VecDeque<Pending>,
    in_flight_bytes: usize,
    out: Vec<u8>,
    /// Of the answers in it.
    out_shares: Vec<Share>,
    /// The code and reason of our close, which is sent after the last answer.
    ending: Option<(Option<CloseCode>, String)>,
    is_paused: bool,
    /// When the last bytes came.
    heard: Instant,
    /// Pings since then.
    pings: u32,
    /// When the message began that is coming.
    message_since: Option<Instant>,
    /// When the last message came or was answered.
    idle_since: Instant,
}

impl<S, N, A, F> Session<'_, S, N, A>
where
    S: AsyncRead + AsyncWrite + Unpin,
    N: Fn() -> Share,
    A: Fn(Result<Body, Problem>) -> F,
    F: Future<Output = Reply> + Send + 'static,
{
    async fn run(mut self) {
        loop {
            self.decode();
            if !self.write().await {
                return;
            }
            if self.in_flight.is_empty()
                && let Some((code, reason)) = self.ending.take()
            {
                return self.part(code, &reason).await;
            }
            match self.next().await {
                Happened::Stopped => self.end(CloseCode::Restart, "this server stops"),
                Happened::Answered(Ok(reply)) => self.answered(reply),
                // The runtime ends.
                Happened::Answered(Err(_)) => return,
                Happened::Came(Ok(bytes)) if !bytes.is_empty() => self.came(bytes),
                // It says nothing more, and may still read: what it has sent is answered.
                Happened::Came(Ok(_)) => self.ending = Some((None, String::new())),
                // It broke off.
                Happened::Came(Err(_)) => return,
                Happened::TimeUp => self.time_up(),
            }
        }
    }

    fn end(&mut self, code: CloseCode, reason: impl Into<String>) {
        self.ending.get_or_insert((Some(code), reason.into()));
    }

    fn has_room(&self) -> bool {
        self.ending.is_none() && self.in_flight.len() < IN_FLIGHT_MAX && self.in_flight_bytes < IN_FLIGHT_BYTES_MAX
    }

    async fn next(&mut self) -> Happened {
        // Past the room nothing is read, which the sender comes to feel.
        let reads = self.has_room();
        if reads && mem::take(&mut self.is_paused) {
            self.go_on();
        }
        self.is_paused = !reads;
        let deadline = self.deadline();
        let first = self.in_flight.front_mut();
        let answered = async {
            match first {
                Some(pending) => (&mut pending.answer).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.terms.stop.cancelled(), if self.ending.is_none() => Happened::Stopped,
            answer = answered => Happened::Answered(answer),
            // Before reading, so that who always has something to say is told the time too.
            () = sleep_until(deadline), if reads => Happened::TimeUp,
            came = read(&mut self.stream), if reads => Happened::Came(came),
        }
    }

    /// While nothing was read, nothing could be heard.
    fn go_on(&mut self) {
        let now = Instant::now();
        self.heard = now;
        self.pings = 0;
        self.message_since = self.message_since.map(|_| now);
    }

    fn came(&mut self, bytes: Vec<u8>) {
        self.input = bytes;
        self.heard = Instant::now();
        self.pings = 0;
    }

    /// Begins to answer the messages that came, as many as there is room for.
    fn decode(&mut self) {
        let input = mem::take(&mut self.input);
        let mut left = &input[..];
        while self.has_room() {
            match self.decoder.decode(&mut left) {
                Ok(Some(item)) => self.take(item),
                Ok(None) => break,
                Err(Ending(code, reason)) => self.end(code, reason),
            }
        }
        self.hold(self.decoder.message_bytes());
        self.message_since = match self.decoder.is_within() {
            true => self.message_since.or(Some(self.heard)),
            false => None,
        };
        if self.ending.is_none() {
            self.input = left.to_vec();
        }
    }

    fn take(&mut self, item: Item) {
        match item {
            Item::Text(bytes) => self.begin(bytes),
            Item::Ping(payload) => write_pong(&payload, &mut self.out),
            Item::Pong => {}
            Item::Close(code) => self.ending = Some((code, String::new())),
        }
    }

    /// Takes room for so many bytes of the message that comes, and drops it if there is none.
    fn hold(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.share = mem::replace(&mut self.share, Ok(None)).and_then(|share| {
            let mut share = share.unwrap_or_else(|| (self.new_share)());
            match share.grow_to(bytes) {
                true => Ok(Some(share)),
                false => Err(Problem::MemoryFull),
            }
        });
        if self.share.is_err() {
            self.decoder.forget_message();
        }
    }

    fn begin(&mut self, bytes: Vec<u8>) {
        self.hold(bytes.capacity());
        self.message_since = None;
        self.idle_since = Instant::now();
        let message_bytes = bytes.len();
        let share = mem::replace(&mut self.share, Ok(None));
        let share = share.map(|share| share.unwrap_or_else(|| (self.new_share)()));
        let answer = (self.answer)(share.map(|share| Body::new(bytes, share)));
        self.in_flight_bytes += message_bytes;
        self.in_flight.push_back(Pending {
            // It goes on whether its answer can be written or not, and on another processor.
            answer: tokio::spawn(answer),
            bytes: message_bytes,
        });
    }

    /// Writes the first answer, and with it those that are ready behind it.
    fn answered(&mut self, first: Reply) {
        self.idle_since = Instant::now();
        self.forget_first();
        self.put(first);
        while self.out.len() < WRITE_BYTES
            && let Some(next) = self.in_flight.front_mut()
            && let Some(Ok(next)) = (&mut next.answer).now_or_never()
        {
            self.forget_first();
            self.put(next);
        }
    }

    fn put(&mut self, reply: Reply) {
        write_text(&reply.text, &mut self.out);
        self.out_shares.push(reply.share);
    }

    fn forget_first(&mut self) {
        if let Some(answered) = self.in_flight.pop_front() {
            self.in_flight_bytes -= answered.bytes;
        }
    }

    fn deadline(&self) -> Instant {
        let ping = self.heard + PING * (self.pings + 1);
        let message = self.message_since.map(|since| since + self.terms.message_time);
        let idle = self.in_flight.is_empty();
        let idle = idle.then(|| self.idle_since + self.terms.idle);
        [message, idle].into_iter().flatten().fold(ping, Instant::min)
    }

    fn time_up(&mut self) {
        let now = Instant::now();
        let Terms { idle, message_time, .. } = self.terms;
        let is_late = |since| now >= since + *message_time;
        if self.message_since.is_some_and(is_late) {
            let seconds = message_time.as_secs();
            let reason = format!("the message did not come within {seconds} seconds");
            self.end(CloseCode::Policy, reason);
        } else if self.in_flight.is_empty() && now >= self.idle_since + *idle {
            let reason = format!("no message came for {} seconds", idle.as_secs());
            self.end(CloseCode::Away, reason);
        } else if self.pings == PINGS_MAX {
            self.end(CloseCode::Away, "pings are not answered");
        } else {
            self.pings += 1;
            write_ping(&mut self.out);
        }
    }

    /// Whether what was to be written is.
    async fn write(&mut self) -> bool {
        if self.out.is_empty() {
            return true;
        }
        let (out, _shares) = (mem::take(&mut self.out), mem::take(&mut self.out_shares));
        let write = async {
            self.stream.write_all(&out).await?;
            self.stream.flush().await
        };
        matches!(timeout(WRITE_TIMEOUT, write).await, Ok(Ok(())))
    }

    /// Says the last word, and waits a moment for the other side to close.
    async fn part(mut self, code: Option<CloseCode>, reason: &str) {
        let mut out = Vec::new();
        write_close(code, reason, &mut out);
        let farewell = async {
            self.stream.write_all(&out).await?;
            self.stream.shutdown().await?;
            let mut bytes = 0;
            while bytes < FAREWELL_BYTES_MAX {
                match read(&mut self.stream).await?.len() {
                    0 => break,
                    more => bytes += more,
                }
            }
            Ok::<_, io::Error>(())
        };
        let _ = timeout(FAREWELL_TIMEOUT, farewell).await;
    }
}

/// Bytes that came; none at the end.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    poll_fn(|cx| {
        // On the stack, so that a stream that waits holds no buffer.
        let mut buffer = [MaybeUninit::uninit(); READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut buffer);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().to_vec()))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource_pool::{Holder, Pool};
    use clap::Parser as _;
    use futures_util::{SinkExt as _, StreamExt as _};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};
    use tokio::time::sleep;
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::protocol::Role;

    #[derive(clap::Parser)]
    struct Flags {
        #[command(flatten)]
        limits: Limits,
    }

    /// A stream's two ends; what it does with messages is up to `answer`.
    async fn open<A, F>(flags: &[&str], answer: A) -> Ends
    where
        A: Fn(Result<Body, Problem>) -> F + Send + 'static,
        F: Future<Output = String> + Send + 'static,
    {
        open_with(flags, 100 << 20, answer).await
    }

    async fn open_with<A, F>(flags: &[&str], memory_bytes: usize, answer: A) -> Ends
    where
        A: Fn(Result<Body, Problem>) -> F + Send + 'static,
        F: Future<Output = String> + Send + 'static,
    {
        let nothing = Pool::new(0);
        let answer = move |message| {
            let (answer, share) = (answer(message), nothing.share(Holder::MANY));
            async move { Reply::new(answer.await, share) }
        };
        let limits = Flags::parse_from([&["serve"], flags].concat()).limits;
        let stop = CancellationToken::new();
        let terms = Terms::new(&limits, stop.clone());
        let memory = Pool::new(memory_bytes);
        let share = move || memory.share(Holder::MANY);
        let body_bytes_max = limits.body_bytes_max as usize;
        let (theirs, ours) = duplex(4096);
        let session = tokio::spawn(async move {
            converse(ours, body_bytes_max, share, &terms, answer).await;
        });
        let client = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
        Ends { client, session, stop }
    }

    struct Ends {
        client: WebSocketStream<DuplexStream>,
        session: JoinHandle<()>,
        stop: CancellationToken,
    }

    impl Ends {
        async fn send(&mut self, text: &str) {
            self.client.send(Message::text(text)).await.unwrap();
        }

        /// The next message, or the code of a close as text.
        async fn next(&mut self) -> String {
            match self.client.next().await.unwrap().unwrap() {
                Message::Close(Some(close)) => u16::from(close.code).to_string(),
                Message::Ping(_) => "ping".to_string(),
                message => message.into_text().unwrap().to_string(),
            }
        }
    }

    async fn done(message: Result<Body, Problem>) -> String {
        message.map_or_else(|problem| problem.into_text(|| 1).1, |_| "done".to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_peer_is_pinged_twice_and_left() {
        let ends = open(&[], done).await;
        let began = Instant::now();
        // Nobody polls the client, so that no ping is answered.
        ends.session.await.unwrap();
        assert_eq!(began.elapsed(), PING * (PINGS_MAX + 1) + FAREWELL_TIMEOUT);
        // Past the client, which would answer them.
        let mut seen = Vec::new();
        let socket = ends.client.into_inner();
        socket.take(4096).read_to_end(&mut seen).await.unwrap();
        assert_eq!(seen[..4], [0x89, 0, 0x89, 0]);
        assert_eq!(seen[4..8], [0x88, 24, 0x03, 0xe9]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_lives_on_pings_until_it_is_idle_for_too_long() {
        let mut ends = open(&["--stream-idle-seconds", "600"], done).await;
        sleep(Duration::from_secs(19)).await;
        ends.send("1").await;
        assert_eq!(ends.next().await, "done");
        let began = Instant::now();
        let mut seen = Vec::new();
        while seen.last().is_none_or(|last| last == "ping") {
            seen.push(ends.next().await);
        }
        assert_eq!(began.elapsed().as_secs(), 600);
        assert_eq!((seen.len(), seen[seen.len() - 1].as_str()), (30, "1001"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_does_not_end_is_not_waited_for() {
        let mut ends = open(&["--body-seconds", "50"], done).await;
        let began = Instant::now();
        // A byte every second, after the header of a masked text frame of 100 bytes.
        let socket = ends.client.get_mut();
        socket.write_all(&[0x81, 0x80 | 100, 0, 0, 0, 0]).await.unwrap();
        while began.elapsed() < Duration::from_secs(60) && !ends.session.is_finished() {
            sleep(Duration::from_secs(1)).await;
            let _ = ends.client.get_mut().write_all(b"x").await;
        }
        assert_eq!(ends.next().await, "1008");
        assert_eq!(began.elapsed().as_secs() / 5, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_does_not_read_is_left_and_holds_few_messages() {
        let begun = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&begun);
        let ends = open(&[], move |_| {
            counting.fetch_add(1, Relaxed);
            async { "x".repeat(1000) }
        });
        let mut ends = ends.await;
        let began = Instant::now();
        let sent = async {
            loop {
                if ends.client.send(Message::text("1")).await.is_err() {
                    break;
                }
            }
        };
        sent.await;
        ends.session.await.unwrap();
        assert_eq!(began.elapsed(), WRITE_TIMEOUT);
        assert!(begun.load(Relaxed) < 2000, "{begun:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn answers_come_in_order_and_a_close_after_the_last() {
        let begun = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&begun);
        let answer = move |_| {
            let number = counting.fetch_add(1, Relaxed);
            async move {
                // The first are done last.
                sleep(Duration::from_millis(1000 - number as u64)).await;
                number.to_string()
            }
        };
        for stops in [true, false] {
            begun.store(0, Relaxed);
            let mut ends = open(&[], answer.clone()).await;
            for _ in 0..5 {
                ends.send("1").await;
            }
            while begun.load(Relaxed) < 5 {
                sleep(Duration::from_millis(1)).await;
            }
            let code = if stops {
                ends.stop.cancel();
                "1012"
            } else {
                // Past the client, which would not hand out what comes after its close.
                let close = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];
                ends.client.get_mut().write_all(&close).await.unwrap();
                "1000"
            };
            for number in 0..5 {
                assert_eq!(ends.next().await, number.to_string());
            }
            assert_eq!(ends.next().await, code);
            drop(ends.client);
            ends.session.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_messages_are_answered_at_once_and_no_more() {
        let begun = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&begun);
        let answer = move |_| {
            counting.fetch_add(1, Relaxed);
            async {
                sleep(Duration::from_secs(100)).await;
                String::new()
            }
        };
        for (text_bytes, at_once) in [(1, IN_FLIGHT_MAX), (100 << 10, 3)] {
            begun.store(0, Relaxed);
            let mut ends = open(&[], answer.clone()).await;
            let text = "1".repeat(text_bytes);
            let send = async {
                for _ in 0..2 * at_once {
                    ends.client.feed(Message::text(text.clone())).await.unwrap();
                }
                ends.client.flush().await.unwrap();
            };
            let _ = timeout(Duration::from_secs(98), send).await;
            sleep(Duration::from_secs(1)).await;
            assert_eq!(begun.load(Relaxed), at_once);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_memory_a_message_is_refused_and_the_next_is_not() {
        let mut ends = open_with(&[], 20_000, done).await;
        for _ in 0..2 {
            ends.send(&"x".repeat(30_000)).await;
            let refused = ends.next().await;
            assert!(refused.contains(r#""status":503"#), "{refused}");
            assert!(refused.contains(r#""retry_after":1"#), "{refused}");
            ends.send(&"x".repeat(20_000)).await;
            assert_eq!(ends.next().await, "done");
        }
    }
}
