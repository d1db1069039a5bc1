//! Reading bodies, within limits for each and for all of them together.

use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::content_type::{BodyFormat, Source};
use super::deadline::{Deadline, Deadlines};
use super::decompress::{ContentCoding, DecompressError, decompress};
use super::mistake::Mistake;
use super::unread_body::UnreadBody;
use crate::event::Event;
use crate::kafka::ProducerRecord;
use crate::resource_pool::{Holder, Pool, Share};
use crate::serve::client::Client;
use crate::serve::limits::Limits;
use crate::serve::problem::Problem;

/// A larger body is parsed on a thread for blocking work: parsing takes 10 ms for each megabyte, and other requests
/// would wait meanwhile. So is a compressed body, which may become large.
const PARSE_INLINE_BYTES_MAX: usize = 128 << 10;

/// A body of this many bytes is worth a larger receive buffer in the system.
const LARGE_BYTES: usize = 64 << 10;

/// How long a body may wait for such a thread. A longer queue cannot be worked off in time.
const PARSE_PERMIT_TIMEOUT: Duration = Duration::from_secs(1);

/// The bytes of a body, and their share of the memory of all clients.
pub struct Body {
    bytes: Bytes,
    share: Share,
}

impl Body {
    /// Bytes whose memory a share was acquired for.
    pub fn new(bytes: impl Into<Bytes>, share: Share) -> Body {
        Body {
            bytes: bytes.into(),
            share,
        }
    }
}

/// Reads and parses bodies within limits.
pub struct BodyReader {
    body_bytes_max: usize,
    inflated_bytes_max: usize,
    events_max: usize,
    memory: Arc<Pool>,
    /// One for each processor.
    parsing: Arc<Semaphore>,
    deadlines: Deadlines,
}

impl BodyReader {
    /// Once `stop` is cancelled bodies have half of the time of requests in flight.
    pub fn new(limits: &Limits, memory: Arc<Pool>, stop: CancellationToken) -> BodyReader {
        let processors = available_parallelism().map_or(1, NonZero::get);
        BodyReader {
            body_bytes_max: limits.body_bytes_max as usize,
            inflated_bytes_max: limits.inflated_bytes_max as usize,
            events_max: limits.events_max as usize,
            memory,
            parsing: Arc::new(Semaphore::new(processors)),
            deadlines: Deadlines::new(limits.body_timeout(), stop, limits.grace() / 2),
        }
    }

    /// The largest body in bytes, as it is sent.
    pub fn body_bytes_max(&self) -> usize {
        self.body_bytes_max
    }

    /// The deadline of a body that begins now.
    pub fn deadline(&self) -> Deadline {
        self.deadlines.start()
    }

    /// An empty share for a body.
    pub fn share(&self, holder: Holder) -> Share {
        self.memory.share(holder)
    }

    /// Reads the body of a request until a deadline. A large one gets a larger receive buffer.
    ///
    /// # Errors
    /// The body is broken, too large or late, or there is no memory for it.
    pub async fn read(&self, unread: &mut UnreadBody, deadline: &Deadline, client: &Client) -> Result<Body, Problem> {
        // Before a client that asks first is asked to send it.
        self.check_announced(unread.announced_bytes())?;
        let body = tokio::select! {
            // Most bodies have come with their heads, and need no timer.
            biased;
            body = self.collect(unread.start_reading(), client) => body?,
            () = deadline.wait() => return Err(Problem::BodyTimeout(self.deadlines.timeout())),
        };
        unread.finish_reading();
        Ok(body)
    }

    fn check_announced(&self, bytes: u64) -> Result<(), Problem> {
        match bytes > self.body_bytes_max as u64 {
            true => Err(Problem::BodyTooLarge(self.body_bytes_max)),
            false => Ok(()),
        }
    }

    /// The share of the memory grows with the bytes that have come: a body that is only announced takes nothing from
    /// others.
    async fn collect(&self, body: &mut Incoming, client: &Client) -> Result<Body, Problem> {
        let mut buffer = Buffer::Empty;
        let mut len = 0;
        let mut share = self.memory.share(client.holder);
        let mut _large_buffer = None;
        while let Some(frame) = body.frame().await {
            // Trailers are ignored.
            let Ok(data) = frame.map_err(|_| Problem::BodyBroken)?.into_data() else {
                continue;
            };
            if len < LARGE_BYTES && len + data.len() >= LARGE_BYTES {
                _large_buffer = client.peer.grow_receive_buffer(client.holder);
            }
            len += data.len();
            if len > self.body_bytes_max {
                return Err(Problem::BodyTooLarge(self.body_bytes_max));
            }
            buffer = buffer.append(data);
            // The bytes that have come fill at least half of the buffer.
            if !share.grow_to(buffer.capacity()) {
                return Err(Problem::MemoryFull);
            }
        }
        Ok(Body::new(buffer.freeze(), share))
    }

    /// Parses the events of a body.
    ///
    /// # Errors
    /// The body has no events, or too many, or cannot be decompressed.
    pub async fn parse(&self, body: Body, format: BodyFormat) -> Result<ParsedBody, Problem> {
        let events_max = self.events_max;
        if format.coding == ContentCoding::Identity && body.bytes.len() <= PARSE_INLINE_BYTES_MAX {
            return ParsedBody::parse(body, format, events_max);
        }
        let permit = Arc::clone(&self.parsing).acquire_owned();
        let permit = timeout(PARSE_PERMIT_TIMEOUT, permit).await;
        let permit = permit.map_err(|_| Problem::RequestsFull)?;
        let inflated_bytes_max = self.inflated_bytes_max;
        let work = move || {
            // Held to the end of the work, which goes on when its request is cancelled.
            let _permit = permit;
            let body = match format.coding {
                ContentCoding::Identity => body,
                coding => decompressed(body, coding, inflated_bytes_max)?,
            };
            ParsedBody::parse(body, format, events_max)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(parsed) => parsed,
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        }
    }
}

/// The events of a body.
pub struct ParsedBody {
    pub events: Vec<Event>,
    /// The same for Kafka: made here, because it takes as long as parsing.
    pub records: Vec<ProducerRecord>,
    /// Whether pointers number the events.
    pub is_array: bool,
    /// The memory of the body.
    pub share: Share,
}

impl ParsedBody {
    fn parse(body: Body, format: BodyFormat, events_max: usize) -> Result<ParsedBody, Problem> {
        let events = format.parse(&body.bytes, events_max).map_err(|rejection| {
            let mistake = Mistake::of(&body.bytes, format, &rejection);
            Problem::Body(rejection, mistake.map(|mistake| mistake.advice(format.source)))
        })?;
        let record = |event: &Event| ProducerRecord {
            key: event.key(),
            value: event.to_json(),
        };
        Ok(ParsedBody {
            records: events.iter().map(record).collect(),
            is_array: format.is_array(&body.bytes),
            share: body.share,
            events,
        })
    }
}

/// A body as it comes. Most bodies come in one piece, which is not copied.
enum Buffer {
    Empty,
    One(Bytes),
    Many(BytesMut),
}

impl Buffer {
    fn append(self, data: Bytes) -> Buffer {
        match self {
            Buffer::Empty => Buffer::One(data),
            Buffer::One(first) => Buffer::Many(BytesMut::from(first)).append(data),
            Buffer::Many(mut bytes) => {
                bytes.extend_from_slice(&data);
                Buffer::Many(bytes)
            }
        }
    }

    fn capacity(&self) -> usize {
        match self {
            Buffer::Empty => 0,
            Buffer::One(bytes) => bytes.len(),
            Buffer::Many(bytes) => bytes.capacity(),
        }
    }

    fn freeze(self) -> Bytes {
        match self {
            Buffer::Empty => Bytes::new(),
            Buffer::One(bytes) => bytes,
            Buffer::Many(bytes) => bytes.freeze(),
        }
    }
}

fn decompressed(mut body: Body, coding: ContentCoding, bytes_max: usize) -> Result<Body, Problem> {
    let acquire = |bytes| body.share.grow(bytes);
    let bytes = decompress(&body.bytes, coding, bytes_max, acquire).map_err(|err| match err {
        DecompressError::TooLarge => Problem::InflatedTooLarge(bytes_max),
        DecompressError::Broken(reason) => match Mistake::of_compressed(&body.bytes) {
            Some(mistake) => Problem::EncodingBroken(format!("{reason}; {}", mistake.advice(Source::Request))),
            None => Problem::EncodingBroken(reason),
        },
        DecompressError::NoMemory => Problem::MemoryFull,
    })?;
    Ok(Body::new(bytes, body.share))
}
