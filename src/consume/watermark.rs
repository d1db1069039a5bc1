//! Watermarks: up to which moment each partition is complete, for the report's `complete_through`. The table of
//! watermarks is called `claims`.
//!
//! A watermark of a partition is a moment t of ClickHouse's clock, and says that every event that was confirmed before
//! t is in the table. It is made in three steps: read t; at least a second later read where Kafka's log ends; once the
//! head is there, record t. What was confirmed before t is before that end, and the head is read from the table.
//!
//! Between t and the end that counts there is another reading of the end, a second before it: a broker that was frozen
//! while another one took its partition over answers once with the end that it knew, and learns the new one meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::session::Session;
use crate::clickhouse::{Connection, Shard, Watermark};
use crate::http::admin_port::Health;
use crate::kafka::{Kafka, MetadataClient};
use crate::topic_partition::{Offset, TopicPartition};

/// Between readings of the clock, between those of an end, and between writes.
const WATERMARK_INTERVAL: Duration = Duration::from_secs(1);

/// The next watermark of one partition, until its end is reached. Pure.
#[derive(Debug, Default)]
struct NextWatermark {
    /// The clock before the end was read last, unless anything failed since.
    earlier_millis: Option<i64>,
    target: Option<Target>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Target {
    through_millis: i64,
    end: Offset,
}

impl NextWatermark {
    /// Whether the end of the log is worth reading.
    fn needs_end(&self) -> bool {
        self.target.is_none()
    }

    /// Records the end of the log, which was read after the clock showed this.
    fn record_end(&mut self, clock_millis: i64, end: Offset) {
        let target = |through_millis| Target { through_millis, end };
        self.target = self.earlier_millis.map(target);
        self.earlier_millis = Some(clock_millis);
    }

    /// Forgets the last reading of an end, because something failed: the next one is the first of two.
    fn forget_end(&mut self) {
        self.earlier_millis = None;
    }

    /// The watermark that a head has reached, if any, in milliseconds since 1970.
    fn take_reached(&mut self, head: Offset) -> Option<i64> {
        let reached = self.target.filter(|target| head >= target.end)?;
        self.target = None;
        Some(reached.through_millis)
    }
}

/// Makes the watermarks of one partition.
pub struct WatermarkTracker {
    watermarks: Watermarks,
    next: NextWatermark,
    next_end: Instant,
}

impl WatermarkTracker {
    /// For a partition without a watermark.
    pub fn new(watermarks: Watermarks) -> WatermarkTracker {
        WatermarkTracker {
            watermarks,
            next: NextWatermark::default(),
            next_end: Instant::now(),
        }
    }

    /// Records the watermark that the head has reached, and asks Kafka now and then for the end of the next one.
    /// Returns that watermark, if any, in milliseconds since 1970. If Kafka does not answer, there is no watermark;
    /// rows are stored all the same.
    pub async fn advance(&mut self, session: &Session) -> Option<i64> {
        let reached = self.next.take_reached(session.head);
        if let Some(through_millis) = reached {
            self.watermarks.record(&session.topic_partition, through_millis);
        }
        let is_due = self.next_end <= Instant::now() && self.next.needs_end();
        if let Some(clock_millis) = self.watermarks.clock_millis().filter(|_| is_due) {
            match session.confirmed_end().await {
                Ok(end) => self.next.record_end(clock_millis, end),
                Err(err) => {
                    let reason = format!("{err:#}");
                    tracing::debug!(partition = session.topic_partition.partition.get(), %reason, "cannot make a watermark");
                    self.next.forget_end();
                }
            }
            self.next_end = Instant::now() + WATERMARK_INTERVAL;
        }
        reached
    }

    /// Forgets the last reading of an end, because something failed.
    pub fn forget_end(&mut self) {
        self.next.forget_end();
    }

    /// Forgets everything: the log is another one, and offsets of the former one mean nothing.
    pub fn reset(&mut self) {
        self.next = NextWatermark::default();
    }
}

/// Where workers leave their watermarks until they are written. Clones share it.
#[derive(Clone, Default)]
pub struct Watermarks(Arc<Mutex<Unwritten>>);

#[derive(Default)]
struct Unwritten {
    clock_millis: Option<i64>,
    due: BTreeMap<TopicPartition, i64>,
}

impl Watermarks {
    /// ClickHouse's clock when it was read last, at most a second ago while ClickHouse answers.
    pub fn clock_millis(&self) -> Option<i64> {
        self.0.lock().clock_millis
    }

    /// Leaves a watermark to be written, in the place of an older one.
    pub fn record(&self, topic_partition: &TopicPartition, through_millis: i64) {
        self.0.lock().due.insert(topic_partition.clone(), through_millis);
    }

    /// Takes all that are to be written, and sets the clock.
    fn drain(&self, clock_millis: i64) -> Vec<Watermark> {
        let due = {
            let mut unwritten = self.0.lock();
            unwritten.clock_millis = Some(clock_millis);
            std::mem::take(&mut unwritten.due)
        };
        due.into_iter()
            .map(|(TopicPartition { log, partition }, through_millis)| Watermark {
                log,
                partition,
                through_millis,
            })
            .collect()
    }
}

/// Reads the clock of a shard and writes watermarks of its partitions until the process is to stop.
pub async fn write(
    watermarks: Watermarks,
    kafka: Kafka,
    shard: Shard,
    health: Health,
    check: String,
    stop: CancellationToken,
) {
    health.add_loop(&check);
    let mut writer = Writer {
        watermarks,
        topic: kafka.metadata_client(),
        shard,
        connection: None,
    };
    loop {
        // May be cancelled in the middle of writing: a watermark that is written late is as true.
        let turn = async {
            match writer.write_due().await {
                Ok(()) => health.set(&check, Ok(())),
                Err(err) => health.record_failure(&check, format!("cannot write watermarks: {err:#}")),
            }
            sleep(WATERMARK_INTERVAL).await;
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = turn => {}
        }
    }
}

struct Writer {
    watermarks: Watermarks,
    topic: MetadataClient,
    shard: Shard,
    connection: Option<Connection>,
}

impl Writer {
    /// A connection on which anything failed is dropped; watermarks that were not written are made again.
    async fn write_due(&mut self) -> anyhow::Result<()> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.shard.connect().await?,
        };
        let due = self.watermarks.drain(connection.clock_millis().await?);
        if !due.is_empty() {
            // After the watermarks are made, so that no partition is older than a watermark and yet not counted.
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
    use crate::topic_partition::{LogName, Partition};

    #[test]
    fn a_watermark_is_made_once_the_end_after_it_is_reached() {
        let mut next = NextWatermark::default();
        next.record_end(1_000, Offset::new(5));
        assert_eq!(next.take_reached(Offset::new(5)), None, "the end was read once only");
        next.record_end(2_000, Offset::new(7));
        assert!(!next.needs_end());
        assert_eq!(next.take_reached(Offset::new(6)), None);
        assert_eq!(next.take_reached(Offset::new(7)), Some(1_000));
        assert_eq!(next.take_reached(Offset::new(7)), None);
        next.record_end(3_000, Offset::new(7));
        assert_eq!(next.take_reached(Offset::new(9)), Some(2_000));
    }

    #[test]
    fn after_a_failure_two_ends_are_read_again() {
        let mut next = NextWatermark::default();
        next.record_end(1_000, Offset::new(5));
        next.forget_end();
        next.record_end(9_000, Offset::new(5));
        assert_eq!(next.take_reached(Offset::new(5)), None);
        next.record_end(10_000, Offset::new(6));
        // What is known already stays true.
        next.forget_end();
        assert_eq!(next.take_reached(Offset::new(6)), Some(9_000));
    }

    #[test]
    fn the_newest_watermark_of_each_partition_is_written_once() {
        let watermarks = Watermarks::default();
        let topic_partition = |partition| TopicPartition {
            log: LogName::new("t"),
            partition,
        };
        assert_eq!(watermarks.clock_millis(), None);
        watermarks.record(&topic_partition(Partition::new(1)), 10);
        watermarks.record(&topic_partition(Partition::new(0)), 11);
        watermarks.record(&topic_partition(Partition::new(1)), 12);
        let written: Vec<_> = watermarks
            .drain(20)
            .into_iter()
            .map(|watermark| (watermark.partition.get(), watermark.through_millis))
            .collect();
        assert_eq!(written, [(0, 11), (1, 12)]);
        assert_eq!(watermarks.clock_millis(), Some(20));
        assert!(watermarks.drain(21).is_empty());
    }
}
