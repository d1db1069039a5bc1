//! Partitions whose records Kafka does not confirm, and what the log says about them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::topic_partition::Partition;

/// Between two log lines about one partition whose reason for failing changes.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// After this time without a failure (and without a success, because nothing was sent) the next failure is a new one.
const FORGET_AFTER: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(super) struct FailingPartitions(Mutex<HashMap<Partition, Failing>>);

struct Failing {
    since: Instant,
    last_failure: Instant,
    /// The last reason in the log, and when it was written.
    logged: Option<(Arc<str>, Instant)>,
}

impl FailingPartitions {
    /// Returns since when the partition fails: from now on, if it did not before.
    pub fn record_failure(&self, partition: Partition) -> Instant {
        let now = Instant::now();
        let mut partitions = self.0.lock();
        let failing = partitions.entry(partition).or_insert(Failing {
            since: now,
            last_failure: now,
            logged: None,
        });
        if now - failing.last_failure > FORGET_AFTER {
            failing.since = now;
        }
        failing.last_failure = now;
        failing.since
    }

    /// Logs that a partition fails: once, and again if the reason changes, but not too often. Readiness does not depend
    /// on it: a process that gets no requests because it is not ready would never become ready again.
    pub fn log_once(&self, partition: Partition, reason: &Arc<str>) {
        let mut partitions = self.0.lock();
        let Some(failing) = partitions.get_mut(&partition) else {
            return;
        };
        let logged = failing.logged.as_ref();
        let is_due = logged.is_none_or(|(before, when)| before != reason && when.elapsed() >= LOG_INTERVAL);
        if is_due {
            tracing::warn!(partition = partition.get(), %reason, "kafka does not confirm");
            failing.logged = Some((Arc::clone(reason), Instant::now()));
        }
    }

    /// The partition does not fail any more; logged if its failure was.
    pub fn record_success(&self, partition: Partition) {
        let failing = self.0.lock().remove(&partition);
        if failing.is_some_and(|failing| failing.logged.is_some()) {
            tracing::info!(partition = partition.get(), "kafka confirms again");
        }
    }
}
