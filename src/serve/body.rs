//! Reading bodies, within limits for each and for all of them together.

use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::form::Form;
use super::inflate::{Coding, InflateError, inflate};
use super::limits::Limits;
use super::problem::Problem;
use super::refused::Refused;
use crate::event::Event;

/// A larger body is read on a thread for such work: parsing takes 10 ms for each megabyte, in which
/// others want to be answered. So is one that is to be inflated, which may become large.
const PARSE_INLINE_BYTES_MAX: usize = 128 << 10;

/// How long a body may wait for such a thread: what has waited longer stands behind more than can be done in time.
const TURN_TIMEOUT: Duration = Duration::from_secs(1);

/// How much of a body that is too large is still read, so that its sender gets to read the answer.
const DISCARD_BYTES_MAX: usize = 4 << 20;

/// And for how long.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes, and their share of all bodies in progress.
pub struct Body {
    bytes: Bytes,
    share: OwnedSemaphorePermit,
}

/// A share of all bodies in progress, for one that has not come to its end.
pub struct Room {
    share: OwnedSemaphorePermit,
}

impl Room {
    /// The body that it was for.
    pub fn body(self, bytes: impl Into<Bytes>) -> Body {
        Body {
            bytes: bytes.into(),
            share: self.share,
        }
    }
}

/// Reads bodies.
pub struct Bodies {
    body_bytes_max: usize,
    inflated_bytes_max: usize,
    events_max: usize,
    body_time: Duration,
    all_bytes_max: usize,
    /// Bytes that bodies in progress may still take.
    free: Arc<Semaphore>,
    /// One for each processor.
    parsing: Arc<Semaphore>,
    stop: CancellationToken,
    /// How long bodies may still take once `stop` is cancelled.
    stop_time: Duration,
}

impl Bodies {
    /// Bodies within these limits. Once `stop` is cancelled they have half of what requests in flight have.
    pub fn new(limits: &Limits, stop: CancellationToken) -> Bodies {
        let all_bytes_max = limits.bodies_bytes_max as usize;
        let processors = available_parallelism().map_or(1, NonZero::get);
        Bodies {
            body_bytes_max: limits.body_bytes_max as usize,
            inflated_bytes_max: limits.inflated_bytes_max as usize,
            events_max: limits.events_max as usize,
            body_time: limits.body_time(),
            all_bytes_max,
            free: Arc::new(Semaphore::new(all_bytes_max)),
            parsing: Arc::new(Semaphore::new(processors)),
            stop,
            stop_time: limits.grace() / 2,
        }
    }

    /// Bytes of all bodies in progress.
    pub fn in_progress_bytes(&self) -> usize {
        self.all_bytes_max - self.free.available_permits()
    }

    /// The largest body in bytes, as it is sent.
    pub fn body_bytes_max(&self) -> usize {
        self.body_bytes_max
    }

    /// Room for a body that comes some other way than as that of a request; none is taken yet.
    ///
    /// # Errors
    /// [`Problem::BodiesFull`].
    pub fn room(&self) -> Result<Room, Problem> {
        let share = share(&self.free, 0).ok_or(Problem::BodiesFull)?;
        Ok(Room { share })
    }

    /// Takes as much more room as so many bytes need.
    ///
    /// # Errors
    /// [`Problem::BodiesFull`].
    pub fn grow(&self, room: &mut Room, bytes: usize) -> Result<(), Problem> {
        let more = bytes.saturating_sub(room.share.num_permits());
        let more = share(&self.free, more).ok_or(Problem::BodiesFull)?;
        room.share.merge(more);
        Ok(())
    }

    /// Reads the body of a request. Who asked first whether to send it (`asks_first`) has not sent it, and is not made to.
    ///
    /// # Errors
    /// It is broken, too large or late, or there is no memory for it.
    pub async fn read(&self, mut body: Incoming, asks_first: bool) -> Result<Body, Problem> {
        let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if announced > self.body_bytes_max {
            if !asks_first {
                discard(body).await;
            }
            return Err(Problem::BodyTooLarge(self.body_bytes_max));
        }
        let stopped = async {
            self.stop.cancelled().await;
            sleep(self.stop_time).await;
        };
        let whole = tokio::select! {
            // Most bodies have come with their heads, and need no timer.
            biased;
            whole = self.collect(&mut body) => whole,
            () = sleep(self.body_time) => Err(Problem::BodyLate(self.body_time)),
            () = stopped => Err(Problem::BodyLate(self.body_time)),
        };
        if matches!(whole, Err(Problem::BodyTooLarge(_) | Problem::BodiesFull)) {
            discard(body).await;
        }
        whole
    }

    /// The body as it comes. Its share of all bodies grows with it, so that one which is only announced
    /// takes nothing from others.
    async fn collect(&self, body: &mut Incoming) -> Result<Body, Problem> {
        let mut whole = Whole::Empty;
        let mut len = 0;
        let mut room = self.room()?;
        while let Some(frame) = body.frame().await {
            // Trailers are no data, and nobody asked for them.
            let Ok(data) = frame.map_err(|_| Problem::BodyBroken)?.into_data() else {
                continue;
            };
            len += data.len();
            if len > self.body_bytes_max {
                return Err(Problem::BodyTooLarge(self.body_bytes_max));
            }
            whole = whole.and(data);
            // Its memory, of which what has come fills half at least.
            self.grow(&mut room, whole.capacity())?;
        }
        Ok(room.body(whole.freeze()))
    }

    /// Makes something of the events of a body, told whether pointers number them.
    ///
    /// # Errors
    /// There are none, or too many, or what `make` says.
    pub async fn events<T: Send + 'static>(
        &self,
        body: Body,
        form: Form,
        make: impl FnOnce(Vec<Event>, bool) -> Result<T, Refused> + Send + 'static,
    ) -> Result<T, Refused> {
        let events_max = self.events_max;
        let parse = move |bytes: &[u8]| {
            let events = form.parse(bytes, events_max).map_err(Problem::Body)?;
            make(events, form.is_array(bytes))
        };
        if form.coding == Coding::Identity && body.bytes.len() <= PARSE_INLINE_BYTES_MAX {
            return parse(&body.bytes);
        }
        let turn = Arc::clone(&self.parsing).acquire_owned();
        let turn = timeout(TURN_TIMEOUT, turn).await;
        let turn = turn.map_err(|_| Problem::BodiesFull)?;
        let (free, inflated_bytes_max) = (Arc::clone(&self.free), self.inflated_bytes_max);
        let work = move || {
            // Held to the end of the work, which goes on when its request is cancelled.
            let _turn = turn;
            match form.coding {
                Coding::Identity => parse(&body.bytes),
                coding => {
                    let inflated = inflated(body, coding, inflated_bytes_max, &free)?;
                    parse(&inflated.bytes)
                }
            }
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

fn inflated(
    mut body: Body,
    coding: Coding,
    bytes_max: usize,
    free: &Arc<Semaphore>,
) -> Result<Body, Problem> {
    let take = |bytes| match share(free, bytes) {
        Some(more) => {
            body.share.merge(more);
            true
        }
        None => false,
    };
    let bytes = inflate(&body.bytes, coding, bytes_max, take).map_err(|err| match err {
        InflateError::TooLarge => Problem::InflatedTooLarge(bytes_max),
        InflateError::Broken(reason) => Problem::EncodingBroken(reason),
        InflateError::Overloaded => Problem::BodiesFull,
    })?;
    Ok(Body {
        bytes: bytes.into(),
        share: body.share,
    })
}

fn share(free: &Arc<Semaphore>, bytes: usize) -> Option<OwnedSemaphorePermit> {
    let bytes = u32::try_from(bytes).ok()?;
    Arc::clone(free).try_acquire_many_owned(bytes).ok()
}

/// Reads some of a body that nobody wants, because a connection closed in the middle of sending may
/// lose the answer on its way.
async fn discard(mut body: Incoming) {
    let read = async {
        let mut seen = 0;
        while let Some(Ok(frame)) = body.frame().await {
            seen += frame.data_ref().map_or(0, Bytes::len);
            if seen > DISCARD_BYTES_MAX {
                break;
            }
        }
    };
    let _ = timeout(DISCARD_TIMEOUT, read).await;
}
