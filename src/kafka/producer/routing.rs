//! Which way leads to which partition, and which partitions fail.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::sender::{Job, Lane};
use crate::kafka::protocol::timestamp_type::TimestampType;

/// Between two log lines about one partition whose reasons for failing change.
const TELL_INTERVAL: Duration = Duration::from_secs(10);

/// Without a failure for so long, and without a success because nothing was sent, the next failure is a new one.
const FORGET_AFTER: Duration = Duration::from_secs(30);

/// The way to the leader of each partition, by number, once they are known; until then why they are not.
pub(crate) type Lanes = Result<Arc<[Lane]>, Arc<str>>;

/// Is told of each request how it went.
pub(crate) type Observe = Box<dyn Fn(&Requested) + Send + Sync>;

/// How a request with records of many senders went.
#[derive(Debug, Clone, Copy)]
pub struct Requested {
    /// Until it was answered or given up.
    pub elapsed: Duration,
    /// Whether all of it was confirmed.
    pub is_confirmed: bool,
    /// Records that were refused for their timestamp.
    pub timestamps_refused: usize,
    /// Who dated what was confirmed; `None` if nothing was.
    pub timestamp_type: Option<TimestampType>,
}

/// What the lanes share with who looks for the leaders.
pub(crate) struct Switch {
    observe: Observe,
    lanes: watch::Sender<Lanes>,
    look: Notify,
    troubles: Mutex<HashMap<i32, Trouble>>,
}

/// A partition that fails: since when, and what was said of it when.
struct Trouble {
    since: Instant,
    last: Instant,
    said: Option<(Arc<str>, Instant)>,
}

impl Switch {
    /// Without any way yet.
    pub fn new(observe: Observe) -> Switch {
        Switch {
            observe,
            lanes: watch::Sender::new(Err("not connected to kafka yet".into())),
            look: Notify::new(),
            troubles: Mutex::default(),
        }
    }

    /// The ways as they are and become.
    pub fn watch(&self) -> watch::Receiver<Lanes> {
        self.lanes.subscribe()
    }

    /// The ways as they are.
    pub fn lanes(&self) -> Lanes {
        self.lanes.borrow().clone()
    }

    /// Changes the ways.
    pub fn set(&self, lanes: Lanes) {
        drop(self.lanes.send_replace(lanes));
    }

    /// Sends a job on its way; gives it back if there is none.
    pub fn send(&self, job: Job) -> Result<(), Job> {
        let lane = match self.lanes().ok().as_deref() {
            Some(lanes) => lanes.get(job.partition as usize).cloned(),
            None => None,
        };
        match lane {
            Some(lane) => lane.jobs.send(job).map_err(|refused| refused.0),
            None => Err(job),
        }
    }

    /// A request was answered, or given up.
    pub fn requested(&self, requested: &Requested) {
        (self.observe)(requested);
    }

    /// Asks for the leaders to be looked up now.
    pub fn look_again(&self) {
        self.look.notify_one();
    }

    /// Waits until that was asked.
    pub async fn asked_to_look(&self) {
        self.look.notified().await;
    }

    fn troubles(&self) -> MutexGuard<'_, HashMap<i32, Trouble>> {
        // Each change of the map is whole.
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when a partition fails; from now on, if it did not before.
    pub fn failing_since(&self, partition: i32) -> Instant {
        let now = Instant::now();
        let mut troubles = self.troubles();
        let trouble = troubles.entry(partition).or_insert(Trouble {
            since: now,
            last: now,
            said: None,
        });
        if now - trouble.last > FORGET_AFTER {
            trouble.since = now;
        }
        trouble.last = now;
        trouble.since
    }

    /// Says once that a partition fails, and now and then if for another reason. The readiness of a process does not
    /// depend on it: without requests it would never get better.
    pub fn tell(&self, partition: i32, reason: &Arc<str>) {
        let mut troubles = self.troubles();
        let Some(trouble) = troubles.get_mut(&partition) else {
            return;
        };
        let said = trouble.said.as_ref();
        let is_news = said.is_none_or(|(before, when)| before != reason && when.elapsed() >= TELL_INTERVAL);
        if is_news {
            tracing::warn!(partition, %reason, "kafka does not confirm");
            trouble.said = Some((Arc::clone(reason), Instant::now()));
        }
    }

    /// Says once that a partition works again.
    pub fn confirmed(&self, partition: i32) {
        let trouble = self.troubles().remove(&partition);
        if trouble.is_some_and(|trouble| trouble.said.is_some()) {
            tracing::info!(partition, "kafka confirms again");
        }
    }
}
