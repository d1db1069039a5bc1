//! The session of one stream: messages in, their replies out in the same order, and a close that loses no reply.

use std::future::{Future, poll_fn};
use std::io;
use std::mem::{self, MaybeUninit};
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::task::JoinError;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::in_flight::{InFlight, Reply};
use crate::http::websocket::{CloseCode, Decoder, Ending, Item, write_close, write_ping, write_pong, write_text};
use crate::resource_pool::Share;
use crate::serve::limits::Limits;
use crate::serve::problem::Problem;
use crate::serve::request::body::Body;

/// Bytes read at once.
const READ_BYTES: usize = 8 << 10;

/// Replies are written once they have this many bytes, or once no further one is ready.
const WRITE_BYTES: usize = 64 << 10;

/// How long a write may take: the stream ends if its client does not read for this long.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Silence until a ping. Shorter than the minute of common load balancers.
const PING_INTERVAL: Duration = Duration::from_secs(20);

const _: () = assert!(
    PING_INTERVAL.as_secs() < 60,
    "load balancers close what is silent for a minute"
);

/// Pings that may stay without an answer.
const UNANSWERED_PINGS_MAX: u32 = 2;

/// How long a client may take to read the close frame and to close the connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes that are still read meanwhile: closing while bytes come would reset the connection, and lose the close frame.
const CLOSE_BYTES_MAX: usize = 4 << 20;

/// How long streams may take.
#[derive(Debug, Clone)]
pub struct StreamLimits {
    idle_timeout: Duration,
    message_timeout: Duration,
    stop: CancellationToken,
}

impl StreamLimits {
    /// Streams end once `stop` is cancelled.
    pub fn new(limits: &Limits, stop: CancellationToken) -> StreamLimits {
        StreamLimits {
            idle_timeout: limits.stream_idle(),
            message_timeout: limits.body_timeout(),
            stop,
        }
    }
}

enum SessionEvent {
    Stopped,
    Answered(Result<Reply, JoinError>),
    Read(io::Result<Vec<u8>>),
    Deadline,
}

/// Answers the messages of a stream until it ends. Each message grows a share of its own, which `new_share` makes.
pub async fn run<S, A, F>(
    stream: S,
    message_bytes_max: usize,
    new_share: impl Fn() -> Share,
    limits: &StreamLimits,
    answer: A,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    A: Fn(Result<Body, Problem>) -> F,
    F: Future<Output = Reply> + Send + 'static,
{
    let now = Instant::now();
    let session = Session {
        stream,
        new_share,
        limits,
        answer,
        decoder: Decoder::new(message_bytes_max),
        input: Vec::new(),
        share: Ok(None),
        in_flight: InFlight::default(),
        output: Vec::new(),
        output_shares: Vec::new(),
        close: None,
        is_paused: false,
        last_read: now,
        unanswered_pings: 0,
        message_since: None,
        idle_since: now,
    };
    session.run().await;
}

struct Session<'a, S, N, A> {
    stream: S,
    new_share: N,
    limits: &'a StreamLimits,
    answer: A,
    decoder: Decoder,
    /// Bytes that came and are not decoded, because too many messages are in flight.
    input: Vec<u8>,
    /// Memory for the message that is coming, or why there is none.
    share: Result<Option<Share>, Problem>,
    in_flight: InFlight,
    /// Frames that are not written yet.
    output: Vec<u8>,
    /// The memory of its replies.
    output_shares: Vec<Share>,
    /// The code and reason of the close frame, which is sent after the last reply.
    close: Option<(Option<CloseCode>, String)>,
    /// Whether nothing is read, because too many messages are in flight.
    is_paused: bool,
    /// When the last bytes came.
    last_read: Instant,
    /// Pings since then.
    unanswered_pings: u32,
    /// When the message that is coming began.
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
                && let Some((code, reason)) = self.close.take()
            {
                return self.close(code, &reason).await;
            }
            match self.next().await {
                SessionEvent::Stopped => self.start_close(CloseCode::Restart, "this server stops"),
                SessionEvent::Answered(Ok(reply)) => self.queue_replies(reply),
                // The runtime ends.
                SessionEvent::Answered(Err(_)) => return,
                SessionEvent::Read(Ok(bytes)) if !bytes.is_empty() => self.record_read(bytes),
                // The client sends nothing more, and may still read: its messages are answered.
                SessionEvent::Read(Ok(_)) => self.close = Some((None, String::new())),
                // The connection broke.
                SessionEvent::Read(Err(_)) => return,
                SessionEvent::Deadline => self.handle_deadline(),
            }
        }
    }

    fn start_close(&mut self, code: CloseCode, reason: impl Into<String>) {
        self.close.get_or_insert((Some(code), reason.into()));
    }

    fn has_room(&self) -> bool {
        self.close.is_none() && self.in_flight.has_room()
    }

    async fn next(&mut self) -> SessionEvent {
        // Without room nothing is read, and TCP slows the client down.
        let reads = self.has_room();
        if reads && mem::take(&mut self.is_paused) {
            self.resume();
        }
        self.is_paused = !reads;
        let deadline = self.deadline();
        tokio::select! {
            biased;
            () = self.limits.stop.cancelled(), if self.close.is_none() => SessionEvent::Stopped,
            reply = self.in_flight.next() => SessionEvent::Answered(reply),
            // Before reading, so that deadlines hold for a client that sends all the time.
            () = sleep_until(deadline), if reads => SessionEvent::Deadline,
            bytes = read(&mut self.stream), if reads => SessionEvent::Read(bytes),
        }
    }

    /// Restarts the times of reading: nothing was read meanwhile.
    fn resume(&mut self) {
        let now = Instant::now();
        self.last_read = now;
        self.unanswered_pings = 0;
        self.message_since = self.message_since.map(|_| now);
    }

    fn record_read(&mut self, bytes: Vec<u8>) {
        self.input = bytes;
        self.last_read = Instant::now();
        self.unanswered_pings = 0;
    }

    /// Starts to answer the messages that came, as many as there is room for.
    fn decode(&mut self) {
        let input = mem::take(&mut self.input);
        let mut left = &input[..];
        while self.has_room() {
            match self.decoder.decode(&mut left) {
                Ok(Some(item)) => self.handle_item(item),
                Ok(None) => break,
                Err(Ending(code, reason)) => self.start_close(code, reason),
            }
        }
        self.reserve(self.decoder.message_bytes());
        self.message_since = match self.decoder.is_within() {
            true => self.message_since.or(Some(self.last_read)),
            false => None,
        };
        if self.close.is_none() {
            self.input = left.to_vec();
        }
    }

    fn handle_item(&mut self, item: Item) {
        match item {
            Item::Text(bytes) => self.spawn_answer(bytes),
            Item::Ping(payload) => write_pong(&payload, &mut self.output),
            Item::Pong => {}
            Item::Close(code) => self.close = Some((code, String::new())),
        }
    }

    /// Acquires memory for this many bytes of the message that is coming, and drops the message if there is none.
    fn reserve(&mut self, bytes: usize) {
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

    fn spawn_answer(&mut self, bytes: Vec<u8>) {
        self.reserve(bytes.capacity());
        self.message_since = None;
        self.idle_since = Instant::now();
        let message_bytes = bytes.len();
        let share = mem::replace(&mut self.share, Ok(None));
        let share = share.map(|share| share.unwrap_or_else(|| (self.new_share)()));
        let reply = (self.answer)(share.map(|share| Body::new(bytes, share)));
        self.in_flight.spawn(message_bytes, reply);
    }

    /// Queues the first reply for writing, and those behind it that are ready.
    fn queue_replies(&mut self, first: Reply) {
        self.idle_since = Instant::now();
        self.queue(first);
        while self.output.len() < WRITE_BYTES
            && let Some(next) = self.in_flight.next_ready()
        {
            self.queue(next);
        }
    }

    fn queue(&mut self, reply: Reply) {
        write_text(&reply.text, &mut self.output);
        self.output_shares.push(reply.share);
    }

    fn deadline(&self) -> Instant {
        let ping = self.last_read + PING_INTERVAL * (self.unanswered_pings + 1);
        let message = self.message_since.map(|since| since + self.limits.message_timeout);
        let idle = self.in_flight.is_empty();
        let idle = idle.then(|| self.idle_since + self.limits.idle_timeout);
        [message, idle].into_iter().flatten().fold(ping, Instant::min)
    }

    fn handle_deadline(&mut self) {
        let now = Instant::now();
        let StreamLimits {
            idle_timeout,
            message_timeout,
            ..
        } = self.limits;
        let is_late = |since| now >= since + *message_timeout;
        if self.message_since.is_some_and(is_late) {
            let seconds = message_timeout.as_secs();
            let reason = format!("the message did not come within {seconds} seconds");
            self.start_close(CloseCode::Policy, reason);
        } else if self.in_flight.is_empty() && now >= self.idle_since + *idle_timeout {
            let reason = format!("no message came for {} seconds", idle_timeout.as_secs());
            self.start_close(CloseCode::Away, reason);
        } else if self.unanswered_pings == UNANSWERED_PINGS_MAX {
            self.start_close(CloseCode::Away, "pings are not answered");
        } else {
            self.unanswered_pings += 1;
            write_ping(&mut self.output);
        }
    }

    /// Writes the output, and returns whether it was written.
    async fn write(&mut self) -> bool {
        if self.output.is_empty() {
            return true;
        }
        let (output, _shares) = (mem::take(&mut self.output), mem::take(&mut self.output_shares));
        let write = async {
            self.stream.write_all(&output).await?;
            self.stream.flush().await
        };
        matches!(timeout(WRITE_TIMEOUT, write).await, Ok(Ok(())))
    }

    /// Sends the close frame, and waits a moment for the client to close the connection.
    async fn close(mut self, code: Option<CloseCode>, reason: &str) {
        let mut output = Vec::new();
        write_close(code, reason, &mut output);
        let closing = async {
            self.stream.write_all(&output).await?;
            self.stream.shutdown().await?;
            let mut bytes = 0;
            while bytes < CLOSE_BYTES_MAX {
                match read(&mut self.stream).await?.len() {
                    0 => break,
                    more => bytes += more,
                }
            }
            Ok::<_, io::Error>(())
        };
        let _ = timeout(CLOSE_TIMEOUT, closing).await;
    }
}

/// Bytes that came; empty at the end.
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
    use super::super::in_flight::IN_FLIGHT_MAX;
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
            async move {
                Reply {
                    text: answer.await,
                    share,
                }
            }
        };
        let limits = Flags::parse_from([&["serve"], flags].concat()).limits;
        let stop = CancellationToken::new();
        let stream_limits = StreamLimits::new(&limits, stop.clone());
        let memory = Pool::new(memory_bytes);
        let share = move || memory.share(Holder::MANY);
        let body_bytes_max = limits.body_bytes_max as usize;
        let (theirs, ours) = duplex(4096);
        let session = tokio::spawn(async move {
            run(ours, body_bytes_max, share, &stream_limits, answer).await;
        });
        let client = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
        Ends { client, session, stop }
    }

    struct Ends {
        client: WebSocketStream<DuplexStream>,
        session: tokio::task::JoinHandle<()>,
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
        message.map_or_else(|problem| problem.row().into_text().1, |_| "done".to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_peer_is_pinged_twice_and_left() {
        let ends = open(&[], done).await;
        let began = Instant::now();
        // Nobody polls the client, so that no ping is answered.
        ends.session.await.unwrap();
        assert_eq!(
            began.elapsed(),
            PING_INTERVAL * (UNANSWERED_PINGS_MAX + 1) + CLOSE_TIMEOUT
        );
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
            assert!(refused.contains(r#""retry_after":"#), "{refused}");
            ends.send(&"x".repeat(20_000)).await;
            assert_eq!(ends.next().await, "done");
        }
    }
}
