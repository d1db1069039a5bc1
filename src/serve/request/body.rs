//! Reading bodies, within limits for each and for all of them together.

use std::num::NonZero;
use std::sync::{Arc, OnceLock};
use std::thread::available_parallelism;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::content_type::Form;
use super::decompress::{Coding, InflateError, inflate};
use crate::event::Event;
use crate::resource_pool::{Holder, Pool, Share};
use crate::serve::limits::Limits;
use crate::serve::problem::Problem;
use crate::serve::rejection::Refused;

/// A larger body is read on a thread for such work: parsing takes 10 ms for each megabyte, in which
/// others want to be answered. So is one that is to be inflated, which may become large.
const PARSE_INLINE_BYTES_MAX: usize = 128 << 10;

/// A body of so many bytes is worth a larger buffer in the system.
const LARGE_BYTES: usize = 64 << 10;

/// How long a body may wait for such a thread: what has waited longer stands behind more than can be done in time.
const TURN_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes, and their share of the memory of all.
pub struct Body {
    bytes: Bytes,
    share: Share,
}

impl Body {
    /// Bytes that a share was taken for.
    pub fn new(bytes: impl Into<Bytes>, share: Share) -> Body {
        Body {
            bytes: bytes.into(),
            share,
        }
    }
}

/// Reads bodies.
pub struct Bodies {
    body_bytes_max: usize,
    inflated_bytes_max: usize,
    events_max: usize,
    body_time: Duration,
    memory: Arc<Pool>,
    /// One for each processor.
    parsing: Arc<Semaphore>,
    end: Arc<End>,
}

/// When the time of a body is over.
#[derive(Debug)]
pub struct Deadline {
    by: Instant,
    end: Arc<End>,
}

/// The end of a process, in which all bodies end.
#[derive(Debug)]
struct End {
    stop: CancellationToken,
    /// How long bodies may still take once `stop` is cancelled.
    time: Duration,
    by: OnceLock<Instant>,
}

impl Deadline {
    /// Waits for it.
    pub async fn over(&self) {
        tokio::select! {
            () = sleep_until(self.by) => {}
            () = self.end.over() => {}
        }
    }
}

impl End {
    async fn over(&self) {
        self.stop.cancelled().await;
        sleep_until(*self.by.get_or_init(|| Instant::now() + self.time)).await;
    }
}

impl Bodies {
    /// Bodies within these limits. Once `stop` is cancelled they have half of what requests in flight have.
    pub fn new(limits: &Limits, memory: Arc<Pool>, stop: CancellationToken) -> Bodies {
        let processors = available_parallelism().map_or(1, NonZero::get);
        Bodies {
            body_bytes_max: limits.body_bytes_max as usize,
            inflated_bytes_max: limits.inflated_bytes_max as usize,
            events_max: limits.events_max as usize,
            body_time: limits.body_time(),
            memory,
            parsing: Arc::new(Semaphore::new(processors)),
            end: Arc::new(End {
                stop,
                time: limits.grace() / 2,
                by: OnceLock::new(),
            }),
        }
    }

    /// The largest body in bytes, as it is sent.
    pub fn body_bytes_max(&self) -> usize {
        self.body_bytes_max
    }

    /// When a body that begins now has taken all of its time.
    pub fn deadline(&self) -> Deadline {
        Deadline {
            by: Instant::now() + self.body_time,
            end: Arc::clone(&self.end),
        }
    }

    /// A share of nothing yet.
    pub fn share(&self, holder: Holder) -> Share {
        self.memory.share(holder)
    }

    /// Refuses a body that is announced as too large, before its sender is told to go on.
    ///
    /// # Errors
    /// [`Problem::BodyTooLarge`].
    pub fn check_announced(&self, bytes: u64) -> Result<(), Problem> {
        match bytes > self.body_bytes_max as u64 {
            true => Err(Problem::BodyTooLarge(self.body_bytes_max)),
            false => Ok(()),
        }
    }

    /// Reads the body of a request until a deadline. A large one may `hurry`.
    ///
    /// # Errors
    /// It is broken, too large or late, or there is no memory for it.
    pub async fn read<H>(
        &self,
        body: &mut Incoming,
        holder: Holder,
        deadline: &Deadline,
        hurry: impl Fn() -> Option<H>,
    ) -> Result<Body, Problem> {
        tokio::select! {
            // Most bodies have come with their heads, and need no timer.
            biased;
            whole = self.collect(body, holder, hurry) => whole,
            () = deadline.over() => Err(Problem::BodyLate(self.body_time)),
        }
    }

    /// The body as it comes. Its share of all memory grows with it, so that one which is only announced
    /// takes nothing from others.
    async fn collect<H>(
        &self,
        body: &mut Incoming,
        holder: Holder,
        hurry: impl Fn() -> Option<H>,
    ) -> Result<Body, Problem> {
        let mut whole = Whole::Empty;
        let mut len = 0;
        let mut share = self.memory.share(holder);
        let mut _hurry = None;
        while let Some(frame) = body.frame().await {
            // Trailers are no data, and nobody asked for them.
            let Ok(data) = frame.map_err(|_| Problem::BodyBroken)?.into_data() else {
                continue;
            };
            if len < LARGE_BYTES && len + data.len() >= LARGE_BYTES {
                _hurry = hurry();
            }
            len += data.len();
            if len > self.body_bytes_max {
                return Err(Problem::BodyTooLarge(self.body_bytes_max));
            }
            whole = whole.and(data);
            // Its memory, of which what has come fills half at least.
            if !share.grow_to(whole.capacity()) {
                return Err(Problem::MemoryFull);
            }
        }
        Ok(Body::new(whole.freeze(), share))
    }

    /// Makes something of the events of a body, told whether pointers number them; with it comes the body's share.
    ///
    /// # Errors
    /// There are none, or too many, or what `make` says.
    pub async fn events<T: Send + 'static>(
        &self,
        body: Body,
        form: Form,
        make: impl FnOnce(Vec<Event>, bool) -> Result<T, Refused> + Send + 'static,
    ) -> Result<(T, Share), Refused> {
        let events_max = self.events_max;
        let parse = move |bytes: &[u8]| {
            let events = form.parse(bytes, events_max).map_err(Problem::Body)?;
            make(events, form.is_array(bytes))
        };
        if form.coding == Coding::Identity && body.bytes.len() <= PARSE_INLINE_BYTES_MAX {
            return Ok((parse(&body.bytes)?, body.share));
        }
        let turn = Arc::clone(&self.parsing).acquire_owned();
        let turn = timeout(TURN_TIMEOUT, turn).await;
        let turn = turn.map_err(|_| Problem::MemoryFull)?;
        let inflated_bytes_max = self.inflated_bytes_max;
        let work = move || {
            // Held to the end of the work, which goes on when its request is cancelled.
            let _turn = turn;
            let body = match form.coding {
                Coding::Identity => body,
                coding => inflated(body, coding, inflated_bytes_max)?,
            };
            Ok((parse(&body.bytes)?, body.share))
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(made) => made,
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        }
    }
}

/// A body as it comes, most often in one piece, which is not copied then.
enum Whole {
    Empty,
    One(Bytes),
    Many(BytesMut),
}

impl Whole {
    fn and(self, data: Bytes) -> Whole {
        match self {
            Whole::Empty => Whole::One(data),
            Whole::One(first) => Whole::Many(BytesMut::from(first)).and(data),
            Whole::Many(mut bytes) => {
                bytes.extend_from_slice(&data);
                Whole::Many(bytes)
            }
        }
    }

    fn capacity(&self) -> usize {
        match self {
            Whole::Empty => 0,
            Whole::One(bytes) => bytes.len(),
            Whole::Many(bytes) => bytes.capacity(),
        }
    }

    fn freeze(self) -> Bytes {
        match self {
            Whole::Empty => Bytes::new(),
            Whole::One(bytes) => bytes,
            Whole::Many(bytes) => bytes.freeze(),
        }
    }
}

fn inflated(mut body: Body, coding: Coding, bytes_max: usize) -> Result<Body, Problem> {
    let take = |bytes| body.share.grow(bytes);
    let bytes = inflate(&body.bytes, coding, bytes_max, take).map_err(|err| match err {
        InflateError::TooLarge => Problem::InflatedTooLarge(bytes_max),
        InflateError::Broken(reason) => Problem::EncodingBroken(reason),
        InflateError::Overloaded => Problem::MemoryFull,
    })?;
    Ok(Body::new(bytes, body.share))
}
