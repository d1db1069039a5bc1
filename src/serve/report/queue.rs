//! The queue of reports: a few are asked of ClickHouse at once, the others wait, and turns go round among the readers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::cost::Cost;
use super::fair_queue::{Called, Entry, FairQueue, QueueLimits};
use super::reader::Reader;

/// Reports asked of ClickHouse at once. The answer to one may have a million rows, and ClickHouse uses all its
/// processors for one alone.
const ASKING_MAX: usize = 4;

/// Of these, reports that cost much: one turn is always left to those that take some milliseconds.
const COSTLY_ASKING_MAX: usize = 3;

/// Why a valid request for a report is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// This many reports wait already.
    QueueFull(usize),
    /// Its place went to a reader who had fewer.
    Displaced,
    /// There was no turn within this time.
    WaitOver(Duration),
    /// Reports that are being sent have all the rows that may be in memory.
    Rows,
    /// The reader closed its side of the connection while it waited for its turn, or for the answer.
    HungUp,
}

impl Refusal {
    /// The values of the label `reason`.
    pub const NAMES: [&str; 5] = ["queue_full", "displaced", "wait_over", "rows", "hung_up"];

    /// The value of the label `reason`.
    pub fn name(self) -> &'static str {
        match self {
            Refusal::QueueFull(_) => "queue_full",
            Refusal::Displaced => "displaced",
            Refusal::WaitOver(_) => "wait_over",
            Refusal::Rows => "rows",
            Refusal::HungUp => "hung_up",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::QueueFull(1) => f.write_str("one report waits already"),
            Refusal::QueueFull(count) => write!(f, "{count} reports wait already"),
            Refusal::Displaced => f.write_str(
                "the queue is full, and another reader has the place of this report; this reader has most of the \
                 places",
            ),
            Refusal::WaitOver(time) => {
                write!(f, "the report had no turn within {} s", time.as_secs())
            }
            Refusal::Rows => f.write_str("there is too little memory for the rows of the report"),
            Refusal::HungUp => f.write_str("the reader closed its side of the connection before the report was there"),
        }
    }
}

/// The queue of one process.
pub struct ReportQueue {
    queue: Mutex<FairQueue<Ticket>>,
    waiting_max: usize,
    wait: Duration,
}

/// Gives a waiting report its turn, or refuses it.
type Ticket = oneshot::Sender<Result<Turn, Refusal>>;

/// The right to ask for a report, until it is dropped. It may be dropped unused: the reader may be gone.
pub struct Turn {
    queue: Arc<ReportQueue>,
    reader: Reader,
    cost: Cost,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let next = self.queue.with_queue(|queue| queue.end_turn(&self.reader, self.cost));
        if let Some(Called { reader, cost, ticket }) = next {
            let queue = Arc::clone(&self.queue);
            // A turn that its reader does not receive is dropped, and goes to the next one.
            let _ = ticket.send(Ok(Turn { queue, reader, cost }));
        }
    }
}

/// A place in the queue, until it is dropped.
struct WaitingPlace<'a> {
    queue: &'a ReportQueue,
    reader: &'a Reader,
    number: u64,
}

impl Drop for WaitingPlace<'_> {
    fn drop(&mut self) {
        self.queue.with_queue(|queue| queue.leave(self.reader, self.number));
    }
}

impl ReportQueue {
    /// A queue in which at most `waiting_max` wait, each no longer than `wait`.
    pub fn new(waiting_max: usize, wait: Duration) -> Arc<ReportQueue> {
        let limits = QueueLimits {
            turns_max: ASKING_MAX,
            costly_turns_max: COSTLY_ASKING_MAX,
            waiting_max,
        };
        Arc::new(ReportQueue {
            queue: Mutex::new(FairQueue::new(limits)),
            waiting_max,
            wait,
        })
    }

    /// When the wait of a reader who comes now is over.
    pub fn wait_over_at(&self) -> Instant {
        Instant::now() + self.wait
    }

    /// The refusal of a reader whose wait is over.
    pub fn wait_over(&self) -> Refusal {
        Refusal::WaitOver(self.wait)
    }

    /// Waits for a turn until a moment.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn turn(self: &Arc<Self>, reader: &Reader, cost: Cost, until: Instant) -> Result<Turn, Refusal> {
        let (ticket, outcome) = oneshot::channel();
        match self.with_queue(|queue| queue.enter(reader, cost, ticket)) {
            Entry::Full => Err(Refusal::QueueFull(self.waiting_max)),
            Entry::Turn => Ok(Turn {
                queue: Arc::clone(self),
                reader: reader.clone(),
                cost,
            }),
            Entry::Waits(number, displaced) => {
                if let Some(displaced) = displaced {
                    // It may have gone by itself.
                    let _ = displaced.send(Err(Refusal::Displaced));
                }
                let _place = WaitingPlace {
                    queue: self,
                    reader,
                    number,
                };
                match timeout_at(until, outcome).await {
                    Ok(Ok(outcome)) => outcome,
                    Ok(Err(_)) | Err(_) => Err(self.wait_over()),
                }
            }
        }
    }

    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.with_queue(|queue| queue.waiting())
    }

    fn with_queue<T>(&self, act: impl FnOnce(&mut FairQueue<Ticket>) -> T) -> T {
        act(&mut self.queue.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::yield_now;

    fn queue(waiting_max: usize) -> Arc<ReportQueue> {
        ReportQueue::new(waiting_max, Duration::from_secs(5))
    }

    fn reader(name: &str) -> Reader {
        Reader::Key(name.into())
    }

    async fn turn(queue: &Arc<ReportQueue>, name: &str) -> Result<Turn, Refusal> {
        queue.turn(&reader(name), Cost::Low, queue.wait_over_at()).await
    }

    async fn all_turns(queue: &Arc<ReportQueue>) -> Vec<Turn> {
        let mut turns = Vec::new();
        for _ in 0..ASKING_MAX {
            turns.push(turn(queue, "first").await.unwrap());
        }
        turns
    }

    #[tokio::test(start_paused = true)]
    async fn another_reader_does_not_wait_for_all_that_came_before_it() {
        let queue = queue(10);
        let mut turns = all_turns(&queue).await;
        let order = Arc::new(Mutex::new(Vec::new()));
        for name in ["first", "first", "first", "other", "other", "first"] {
            let (queue, order) = (Arc::clone(&queue), Arc::clone(&order));
            tokio::spawn(async move {
                let _turn = turn(&queue, name).await.unwrap();
                order.lock().push(name);
            });
            yield_now().await;
        }
        assert_eq!(queue.waiting(), 6);
        turns.pop();
        while order.lock().len() < 6 {
            yield_now().await;
        }
        let order = order.lock();
        let expected = ["other", "other", "first", "first", "first", "first"];
        assert_eq!(*order, expected);
        assert_eq!(queue.waiting(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_without_a_turn_learns_why_and_leaves_its_place() {
        let queue = queue(1);
        let _turns = all_turns(&queue).await;
        let refused = async |name: &str| turn(&queue, name).await.map(drop).unwrap_err();
        let five_seconds = Duration::from_secs(5);
        assert_eq!(refused("first").await, Refusal::WaitOver(five_seconds));
        let waiting = |name: &'static str| {
            let queue = Arc::clone(&queue);
            tokio::spawn(async move { turn(&queue, name).await.map(drop) })
        };
        let displaced = waiting("first");
        yield_now().await;
        assert_eq!(refused("first").await, Refusal::QueueFull(1));
        let second = waiting("second");
        assert_eq!(displaced.await.unwrap(), Err(Refusal::Displaced));
        assert_eq!(refused("third").await, Refusal::QueueFull(1));
        // As when a client of HTTP/2 gives up.
        second.abort();
        assert!(second.await.is_err());
        assert_eq!(queue.waiting(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_nobody_takes_goes_to_the_next() {
        let queue = queue(2);
        let mut turns = all_turns(&queue).await;
        let mut gone = Box::pin(turn(&queue, "gone"));
        assert!(futures_util::poll!(gone.as_mut()).is_pending());
        let next = {
            let queue = Arc::clone(&queue);
            tokio::spawn(async move { turn(&queue, "next").await.map(drop) })
        };
        yield_now().await;
        // It has the turn, and does not get to know.
        turns.pop();
        drop(gone);
        assert_eq!(next.await.unwrap(), Ok(()));
        drop(turns);
        assert_eq!(queue.with_queue(|queue| queue.turns()), 0);
    }

    #[test]
    fn every_refusal_has_a_name() {
        let all = [
            Refusal::QueueFull(1),
            Refusal::Displaced,
            Refusal::WaitOver(Duration::ZERO),
            Refusal::Rows,
            Refusal::HungUp,
        ];
        assert_eq!(all.map(Refusal::name), Refusal::NAMES);
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_of_none_refuses_at_once() {
        let queue = queue(0);
        let _turns = all_turns(&queue).await;
        let refused = turn(&queue, "other").await;
        assert_eq!(refused.map(drop), Err(Refusal::QueueFull(0)));
    }
}
