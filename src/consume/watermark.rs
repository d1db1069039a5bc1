//! Claims: up to which moment each partition is complete, for the report's `complete_through`.
//!
//! A claim of a partition names a moment t of ClickHouse's clock, and says that every event which was confirmed before
//! t is in the table. It is made so: read t; a second later at the earliest read where Kafka's log ends; once the
//! head is there, claim t. What was confirmed before t lies before that end, and the head is read from the table.
//!
//! Between t and the end that counts lies another reading of the end, a second before it: a broker that was frozen
//! while another one took its partition over answers once with the end that it knew, and learns of it meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::session::Session;
use crate::clickhouse::{Connection, Shard, Watermark};
use crate::http::admin_port::Health;
use crate::kafka::{Kafka, MetadataClient};
use crate::topic_partition::TopicPartition;

/// Between readings of the clock, of an end, and between writings.
const CLAIM_INTERVAL: Duration = Duration::from_secs(1);

/// What is to be claimed next of one partition. Pure.
#[derive(Debug, Default)]
struct Claiming {
    /// The clock before the end was read last, unless anything failed since.
    earlier_millis: Option<i64>,
    target: Option<Target>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Target {
    through_millis: i64,
    end: i64,
}

impl Claiming {
    /// Whether it is of use to read the end of the log.
    fn wants_end(&self) -> bool {
        self.target.is_none()
    }

    /// The end of the log was read, after the clock showed this.
    fn end_is(&mut self, clock_millis: i64, end: i64) {
        let target = |through_millis| Target { through_millis, end };
        self.target = self.earlier_millis.map(target);
        self.earlier_millis = Some(clock_millis);
    }

    /// Something failed; the next reading of an end is the first one.
    fn failed(&mut self) {
        self.earlier_millis = None;
    }

    /// The head was read; the moment that may be claimed now, if any.
    fn head_is(&mut self, head: i64) -> Option<i64> {
        let reached = self.target.filter(|target| head >= target.end)?;
        self.target = None;
        Some(reached.through_millis)
    }
}

/// Claims one partition.
pub struct WatermarkTracker {
    claims: Watermarks,
    claiming: Claiming,
    next_end: Instant,
}

impl WatermarkTracker {
    /// For a partition of which nothing was claimed yet.
    pub fn new(claims: Watermarks) -> WatermarkTracker {
        WatermarkTracker {
            claims,
            claiming: Claiming::default(),
            next_end: Instant::now(),
        }
    }

    /// Claims what the head has reached, and asks Kafka now and then for the end that it is to reach next. The
    /// moment that is claimed, if any, in milliseconds since 1970. If Kafka does not tell, there is no claim, which is
    /// no reason to store nothing.
    pub async fn step(&mut self, session: &Session) -> Option<i64> {
        let claimed = self.claiming.head_is(session.head);
        if let Some(through_millis) = claimed {
            self.claims.note(&session.topic_partition, through_millis);
        }
        let is_time = self.next_end <= Instant::now() && self.claiming.wants_end();
        if let Some(clock_millis) = self.claims.clock_millis().filter(|_| is_time) {
            match session.confirmed_end().await {
                Ok(end) => self.claiming.end_is(clock_millis, end),
                Err(err) => {
                    let reason = format!("{err:#}");
                    tracing::debug!(partition = session.topic_partition.partition, %reason, "cannot claim");
                    self.claiming.failed();
                }
            }
            self.next_end = Instant::now() + CLAIM_INTERVAL;
        }
        claimed
    }

    /// Something failed.
    pub fn failed(&mut self) {
        self.claiming.failed();
    }

    /// The log is another one, and offsets of the former one mean nothing.
    pub fn begin_anew(&mut self) {
        self.claiming = Claiming::default();
    }
}

/// Where workers leave their claims until they are written. Clones share it.
#[derive(Clone, Default)]
pub struct Watermarks(Arc<Mutex<Open>>);

#[derive(Default)]
struct Open {
    clock_millis: Option<i64>,
    due: BTreeMap<TopicPartition, i64>,
}

impl Watermarks {
    /// ClickHouse's clock when it was read last, at most a round ago if all is well.
    pub fn clock_millis(&self) -> Option<i64> {
        self.open(|open| open.clock_millis)
    }

    /// Leaves a claim.
    pub fn note(&self, topic_partition: &TopicPartition, through_millis: i64) {
        self.open(|open| open.due.insert(topic_partition.clone(), through_millis));
    }

    fn take(&self, clock_millis: i64) -> Vec<Watermark> {
        let due = self.open(|open| {
            open.clock_millis = Some(clock_millis);
            std::mem::take(&mut open.due)
        });
        due.into_iter()
            .map(|(TopicPartition { log, partition }, through_millis)| Watermark {
                log,
                partition,
                through_millis,
            })
            .collect()
    }

    fn open<T>(&self, work: impl FnOnce(&mut Open) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Reads the clock of a shard and writes claims of its partitions until the process is to stop.
pub async fn write(
    claims: Watermarks,
    kafka: Kafka,
    shard: Shard,
    health: Health,
    check: String,
    stop: CancellationToken,
) {
    health.expect_turns(&check);
    let mut writer = Writer {
        claims,
        topic: kafka.metadata_client(),
        shard,
        connection: None,
    };
    loop {
        // May be cancelled in the middle of writing: a claim that is written late is as true.
        let round = async {
            match writer.round().await {
                Ok(()) => health.set(&check, Ok(())),
                Err(err) => health.failed(&check, format!("cannot write claims: {err:#}")),
            }
            sleep(CLAIM_INTERVAL).await;
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = round => {}
        }
    }
}

struct Writer {
    claims: Watermarks,
    topic: MetadataClient,
    shard: Shard,
    connection: Option<Connection>,
}

impl Writer {
    /// A connection on which anything failed is dropped; claims that were not written are made again.
    async fn round(&mut self) -> anyhow::Result<()> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.shard.connect().await?,
        };
        let due = self.claims.take(connection.clock_millis().await?);
        if !due.is_empty() {
            // Asked after all that is claimed, so that no partition is older than a claim and yet not counted.
            let partitions = self.topic.partition_count().await?;
            connection.record_watermarks(partitions, &due).await?;
        }
        self.connection = Some(connection);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic_partition::LogName;

    #[test]
    fn a_moment_is_claimed_once_the_end_after_it_is_reached() {
        let mut claiming = Claiming::default();
        claiming.end_is(1_000, 5);
        assert_eq!(claiming.head_is(5), None, "the end was read once only");
        claiming.end_is(2_000, 7);
        assert!(!claiming.wants_end());
        assert_eq!(claiming.head_is(6), None);
        assert_eq!(claiming.head_is(7), Some(1_000));
        assert_eq!(claiming.head_is(7), None);
        claiming.end_is(3_000, 7);
        assert_eq!(claiming.head_is(9), Some(2_000));
    }

    #[test]
    fn after_a_failure_two_ends_are_read_again() {
        let mut claiming = Claiming::default();
        claiming.end_is(1_000, 5);
        claiming.failed();
        claiming.end_is(9_000, 5);
        assert_eq!(claiming.head_is(5), None);
        claiming.end_is(10_000, 6);
        // What is known already stays true.
        claiming.failed();
        assert_eq!(claiming.head_is(6), Some(9_000));
    }

    #[test]
    fn of_each_partition_the_newest_claim_is_written_once() {
        let claims = Watermarks::default();
        let topic_partition = |partition| TopicPartition {
            log: LogName::new("t"),
            partition,
        };
        assert_eq!(claims.clock_millis(), None);
        claims.note(&topic_partition(1), 10);
        claims.note(&topic_partition(0), 11);
        claims.note(&topic_partition(1), 12);
        let written: Vec<_> = claims
            .take(20)
            .into_iter()
            .map(|claim| (claim.partition, claim.through_millis))
            .collect();
        assert_eq!(written, [(0, 11), (1, 12)]);
        assert_eq!(claims.clock_millis(), Some(20));
        assert!(claims.take(21).is_empty());
    }
}
