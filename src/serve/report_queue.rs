//! Whose turn it is to ask ClickHouse for a report: a few readers at once, the others in a queue in the order in which
//! they came.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::pace::Schedule;

/// Reports asked of ClickHouse at once. The answer to one may have a million rows, and ClickHouse uses all its processors
/// for one alone.
const ASKING_MAX: usize = 4;

/// Why a report is refused that is wrong in nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// This many readers wait already.
    QueueFull(usize),
    /// There was no turn within this time.
    WaitOver(Duration),
    /// Reports that are being sent have all the rows that may be in memory.
    Rows,
    /// The reader closed its side of the connection while it waited.
    HungUp,
}

impl Refusal {
    /// The names of all in metrics.
    pub const NAMES: [&str; 4] = ["queue_full", "wait_over", "rows", "hung_up"];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Refusal::QueueFull(_) => "queue_full",
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
            Refusal::WaitOver(time) => {
                write!(f, "the report had no turn within {} s", time.as_secs())
            }
            Refusal::Rows => f.write_str("the reports that are being sent have too many rows"),
            Refusal::HungUp => {
                f.write_str("the reader closed its side of the connection while the report waited")
            }
        }
    }
}

/// The queue of one `serve`. All readers are alike in it.
pub struct ReportQueue {
    asking: Semaphore,
    waiting: Semaphore,
    waiting_max: usize,
    wait: Duration,
    began: Instant,
    schedule: Mutex<Schedule>,
}

/// The right to ask for a report, until it is dropped.
pub struct Turn<'a> {
    queue: &'a ReportQueue,
    began: Instant,
    _permit: SemaphorePermit<'a>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.queue.with_schedule(|schedule| {
            schedule.took(self.began.elapsed());
        });
    }
}

impl ReportQueue {
    /// A queue of at most `waiting_max` readers, each of whom waits no longer than `wait`.
    pub fn new(waiting_max: usize, wait: Duration) -> ReportQueue {
        ReportQueue {
            asking: Semaphore::new(ASKING_MAX),
            waiting: Semaphore::new(waiting_max),
            waiting_max,
            wait,
            began: Instant::now(),
            schedule: Mutex::default(),
        }
    }

    /// Waits for a turn, unless `hung_up` comes first.
    ///
    /// # Errors
    /// There is none.
    pub async fn turn(&self, hung_up: impl Future<Output = ()>) -> Result<Turn<'_>, Refusal> {
        // Nobody is overtaken: what is given back goes to whoever waits longest, and is free only if nobody waits.
        let permit = match self.asking.try_acquire() {
            Ok(permit) => Ok(permit),
            Err(_) => self.wait(hung_up).await,
        };
        Ok(Turn {
            queue: self,
            began: Instant::now(),
            _permit: permit?,
        })
    }

    async fn wait(
        &self,
        hung_up: impl Future<Output = ()>,
    ) -> Result<SemaphorePermit<'_>, Refusal> {
        let place = self.waiting.try_acquire();
        let _place = place.map_err(|_| Refusal::QueueFull(self.waiting_max))?;
        let over = || Refusal::WaitOver(self.wait);
        tokio::select! {
            biased;
            turn = timeout(self.wait, self.asking.acquire()) => {
                turn.map_err(|_| over())?.map_err(|_| over())
            }
            () = hung_up => Err(Refusal::HungUp),
        }
    }

    /// Readers who wait.
    pub fn waiting(&self) -> usize {
        self.waiting_max - self.waiting.available_permits()
    }

    /// Seconds after which one who is refused now is to come back: those who are refused together come back one after
    /// the other, at the pace at which reports are answered, and never more of them in a second than the queue takes.
    pub fn retry_after(&self) -> u64 {
        let asking = ASKING_MAX - self.asking.available_permits();
        let (ahead, places) = (asking + self.waiting(), ASKING_MAX + self.waiting_max);
        let now = self.began.elapsed();
        self.with_schedule(|schedule| {
            let each = schedule.each() / ASKING_MAX as u32;
            // Whoever waits now is gone after its time, with a report or without.
            let drained = (each * ahead as u32).min(self.wait);
            let apart = each.max(Duration::from_secs(1) / places as u32);
            schedule.appoint(now, drained, apart)
        })
    }

    fn with_schedule<T>(&self, act: impl FnOnce(&mut Schedule) -> T) -> T {
        act(&mut self.schedule.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};
    use std::sync::Arc;
    use tokio::task::yield_now;

    fn queue(waiting_max: usize) -> Arc<ReportQueue> {
        Arc::new(ReportQueue::new(waiting_max, Duration::from_secs(5)))
    }

    async fn all_places(queue: &ReportQueue) -> Vec<Turn<'_>> {
        let mut turns = Vec::new();
        for _ in 0..ASKING_MAX {
            turns.push(queue.turn(pending()).await.unwrap());
        }
        turns
    }

    #[tokio::test(start_paused = true)]
    async fn readers_have_their_turn_in_the_order_in_which_they_came() {
        let queue = queue(10);
        let mut turns = all_places(&queue).await;
        let order = Arc::new(Mutex::new(Vec::new()));
        for number in 0..10 {
            let (queue, order) = (Arc::clone(&queue), Arc::clone(&order));
            tokio::spawn(async move {
                let _turn = queue.turn(pending()).await.unwrap();
                order.lock().unwrap().push(number);
            });
            yield_now().await;
        }
        assert_eq!(queue.waiting(), 10);
        turns.pop();
        while order.lock().unwrap().len() < 10 {
            yield_now().await;
        }
        assert_eq!(*order.lock().unwrap(), Vec::from_iter(0..10));
        assert_eq!(queue.waiting(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_without_a_turn_learns_why_and_leaves_its_place() {
        let queue = queue(1);
        let _turns = all_places(&queue).await;
        let refused = async |hung_up: bool| {
            let turn = match hung_up {
                true => queue.turn(ready(())).await,
                false => queue.turn(pending()).await,
            };
            turn.map(drop).unwrap_err()
        };
        assert_eq!(refused(true).await, Refusal::HungUp);
        let five_seconds = Duration::from_secs(5);
        assert_eq!(refused(false).await, Refusal::WaitOver(five_seconds));
        let waiting = {
            let queue = Arc::clone(&queue);
            tokio::spawn(async move { queue.turn(pending()).await.map(drop) })
        };
        yield_now().await;
        assert_eq!(refused(false).await, Refusal::QueueFull(1));
        // As when a client of HTTP/2 gives up.
        waiting.abort();
        assert!(waiting.await.is_err());
        assert_eq!(queue.waiting(), 0);
        assert_eq!(refused(true).await, Refusal::HungUp);
    }

    #[test]
    fn every_refusal_has_a_name() {
        let all = [
            Refusal::QueueFull(1),
            Refusal::WaitOver(Duration::ZERO),
            Refusal::Rows,
            Refusal::HungUp,
        ];
        assert_eq!(all.map(Refusal::name), Refusal::NAMES);
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_of_none_refuses_at_once() {
        let queue = queue(0);
        let _turns = all_places(&queue).await;
        let refused = queue.turn(pending()).await.map(drop).unwrap_err();
        assert_eq!(refused, Refusal::QueueFull(0));
        assert_eq!(queue.retry_after(), 1);
    }
}
