//! The two connections of a worker, and how far they are.

use std::time::Duration;

use anyhow::{Context as _, bail};

use super::batch::Pending;
use crate::clickhouse::{Connection, Head, JudgedEvent, Shard};
use crate::kafka::{Kafka, PartitionConsumer};
use crate::rules::Window;
use crate::topic_partition::{Offset, Partition, TopicPartition};

/// From opening to the first failure.
pub struct Session {
    /// The connection to ClickHouse.
    pub clickhouse: Connection,
    /// Whether the table is one of several replicas.
    pub is_replicated: bool,
    log: PartitionConsumer,
    /// The partition, under the name that its log has now.
    pub topic_partition: TopicPartition,
    /// The head that was read last.
    pub head: Offset,
    /// Arrival of the row before the head.
    pub last_arrival_millis: Option<i64>,
    /// Rows that follow the head.
    pub pending: Pending,
}

impl Session {
    /// Connects to both, reads the head, and checks that no row is hidden, which would make the head too low, and that
    /// Kafka's log is the one that the table was made of.
    ///
    /// # Errors
    /// A server is away, there are no tables, rows are hidden, or the log is another one.
    pub async fn open(kafka: &Kafka, shard: &Shard, partition: Partition) -> anyhow::Result<Session> {
        let opened = shard.connect_for_topic(kafka.topic().as_str()).await;
        let (clickhouse, record) = opened.context("cannot consume")?;
        let topic_partition = TopicPartition {
            log: record.log.clone(),
            partition,
        };
        let head = clickhouse.head(&topic_partition).await?;
        let log = kafka.partition_consumer(partition, Offset::ZERO).await?;
        if !record.matches_id(log.topic_id()) {
            bail!(
                "topic {} was deleted and made again; `captcha migrate --topic-recreated` consumes the new one from \
                 its beginning",
                kafka.topic()
            );
        }
        clickhouse.check_row_policies().await?;
        let mut session = Session {
            is_replicated: clickhouse.check_events_table().await?,
            clickhouse,
            log,
            topic_partition,
            head: Offset::ZERO,
            last_arrival_millis: None,
            pending: Pending::default(),
        };
        session.resume_at(head);
        if let Some(head) = head {
            session.verify_log(&head).await?;
        }
        Ok(session)
    }

    /// Checks that the record before the head is the one that its row was made of. What Kafka does not have any more
    /// cannot be compared.
    async fn verify_log(&self, head: &Head) -> anyhow::Result<()> {
        let before = head.next - 1;
        let Some(record) = self.log.record_at(before).await? else {
            return Ok(());
        };
        let row = self.clickhouse.last_row(&self.topic_partition, head).await?;
        let (times_millis, value) = (record.timestamps_millis(), record.value.as_deref());
        if row.is_none_or(|row| row.matches_record(times_millis, value)) {
            return Ok(());
        }
        Err(self.log.other_record_error(before))
    }

    /// Fetches once, about `bytes_max` bytes, and returns whether there is more now.
    ///
    /// # Errors
    /// Kafka is away, or its log is not the one that was consumed.
    pub async fn fetch(&mut self, bytes_max: i32) -> anyhow::Result<bool> {
        let records = self.log.fetch(bytes_max).await?;
        self.pending.push(records);
        let has_advanced = self.log.position() > self.pending.end;
        self.pending.end = self.log.position();
        Ok(has_advanced)
    }

    /// How long the broker hands out nothing, because a quota is used up; 0 if none is.
    pub fn throttled(&self) -> Duration {
        self.log.throttled()
    }

    /// The offset after the last record that was confirmed before this was called.
    ///
    /// # Errors
    /// Kafka is away.
    pub async fn confirmed_end(&self) -> anyhow::Result<Offset> {
        self.log.confirmed_end().await
    }

    /// Reads the events that a window lacks below the head.
    ///
    /// # Errors
    /// ClickHouse is away.
    pub async fn load(&self, window: &mut Window) -> anyhow::Result<()> {
        let missing = window.missing_below(self.head);
        if missing.is_empty() {
            return Ok(());
        }
        let record = |stored: JudgedEvent| {
            window.record(stored.offset, &stored.event, stored.part, stored.arrival_month);
        };
        self.clickhouse
            .for_each_event(&self.topic_partition, missing.start, missing.end, record)
            .await?;
        window.complete_to(self.head);
        Ok(())
    }

    /// Continues at a head that was read, and forgets the rows below it.
    pub fn resume_at(&mut self, head: Option<Head>) {
        self.head = head.map_or(Offset::ZERO, |head| head.next);
        self.last_arrival_millis = head.map(|head| head.arrival_millis);
        self.pending.skip_to(self.head);
        self.log.skip_to(self.head);
    }

    /// Whether there is anything to store.
    pub fn has_pending(&self) -> bool {
        self.pending.end > self.head
    }

    /// Whether Kafka has more than was fetched.
    pub fn is_behind(&self) -> bool {
        self.pending.end < self.log.end_offset()
    }

    /// Records in Kafka that are not in ClickHouse yet.
    pub fn lag_records(&self) -> i64 {
        (self.log.end_offset() - self.head).max(0)
    }
}
