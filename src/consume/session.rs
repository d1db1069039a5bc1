//! The two connections of a worker, and where they stand.

use std::time::Duration;

use anyhow::{Context as _, bail};

use super::batch::Pending;
use crate::clickhouse::{Connection, Head, Shard};
use crate::kafka::{Kafka, PartitionConsumer};
use crate::topic_partition::TopicPartition;

/// From opening to the first failure.
pub struct Session {
    /// ClickHouse.
    pub clickhouse: Connection,
    /// Whether its table is one of several replicas.
    pub is_replicated: bool,
    /// Kafka.
    log: PartitionConsumer,
    /// The partition, under the name that its log has now.
    pub topic_partition: TopicPartition,
    /// The head that was read last.
    pub head: i64,
    /// Arrival of the row before it.
    pub last_arrival_millis: Option<i64>,
    /// What follows the head.
    pub pending: Pending,
}

impl Session {
    /// Connects to both, reads the head, and checks that no row is hidden, which would make the head too low, and that
    /// Kafka's log is the one that the table was made of.
    ///
    /// # Errors
    /// One of them is away, there are no tables, rows are hidden, or the log is another one.
    pub async fn open(kafka: &Kafka, shard: &Shard, partition: i32) -> anyhow::Result<Session> {
        let opened = shard.connect_for_topic(kafka.topic().as_str()).await;
        let (clickhouse, facts) = opened.context("cannot consume")?;
        let topic_partition = TopicPartition {
            log: facts.log.clone(),
            partition,
        };
        let head = clickhouse.head(&topic_partition).await?;
        let log = kafka.partition_consumer(partition, 0).await?;
        if !facts.matches_id(log.topic_id()) {
            bail!(
                "topic {} was deleted and made again; `captcha migrate --topic-recreated` consumes the new one from its beginning",
                kafka.topic()
            );
        }
        clickhouse.check_row_policies().await?;
        let mut session = Session {
            is_replicated: clickhouse.check_events_table().await?,
            clickhouse,
            log,
            topic_partition,
            head: 0,
            last_arrival_millis: None,
            pending: Pending::default(),
        };
        session.go_on_at(head);
        if let Some(head) = head {
            session.check_log(&head).await?;
        }
        Ok(session)
    }

    /// The record before the head must be the one that its row was made of. What Kafka does not have any
    /// more cannot be compared.
    async fn check_log(&self, head: &Head) -> anyhow::Result<()> {
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

    /// Fetches once, about `bytes_max` bytes, and says whether that led on.
    ///
    /// # Errors
    /// Kafka is away, or its log is not the one that was consumed.
    pub async fn fetch(&mut self, bytes_max: i32) -> anyhow::Result<bool> {
        let records = self.log.fetch(bytes_max).await?;
        self.pending.add(records);
        let led_on = self.log.position() > self.pending.reached;
        self.pending.reached = self.log.position();
        Ok(led_on)
    }

    /// How long the broker hands out nothing, because a quota is used up; 0 if none is.
    pub fn throttled(&self) -> Duration {
        self.log.throttled()
    }

    /// The offset after the last record that was confirmed before this was called.
    ///
    /// # Errors
    /// Kafka is away.
    pub async fn confirmed_end(&self) -> anyhow::Result<i64> {
        self.log.confirmed_end().await
    }

    /// Takes a head for true and forgets the records below it.
    pub fn go_on_at(&mut self, head: Option<Head>) {
        self.head = head.map_or(0, |head| head.next);
        self.last_arrival_millis = head.map(|head| head.arrival_millis);
        self.pending.go_on_at(self.head);
        self.log.skip_to(self.head);
    }

    /// Whether anything is to be stored.
    pub fn has_pending(&self) -> bool {
        self.pending.reached > self.head
    }

    /// Whether Kafka has more than was fetched.
    pub fn is_behind(&self) -> bool {
        self.pending.reached < self.log.end_offset()
    }

    /// Records in Kafka that are not in ClickHouse yet.
    pub fn lag_records(&self) -> i64 {
        (self.log.end_offset() - self.head).max(0)
    }
}
