//! What Kafka has of a partition and ClickHouse lacks: how many records, and since when.

use chrono::Utc;

use super::metrics::Metrics;
use super::metrics::labels::PartitionLabel;
use super::session::Session;
use crate::clickhouse::clamp_arrival_millis;
use crate::kafka::Kafka;
use crate::topic_partition::{Offset, Partition};

/// Sets the metrics of the lag of one partition.
pub struct LagTracker {
    partition: Partition,
    metrics: Metrics,
}

impl LagTracker {
    /// The metrics have nothing of the partition before [`LagTracker::record`] was called.
    pub fn new(partition: Partition, metrics: Metrics) -> LagTracker {
        LagTracker { partition, metrics }
    }

    /// Records the lag of a session. If there is a record in Kafka that was not fetched, or that an open transaction
    /// hides, nothing else is known of it: what was recorded before stays, or it arrived now.
    pub fn record(&self, session: &Session) {
        self.set_records(session.lag_records());
        let lag = &self.metrics.lag;
        match session.pending.rows.front() {
            None if session.is_behind() => lag.start_unless_known(self.partition, Utc::now().timestamp_millis()),
            first => lag.set_first(self.partition, first.map(|row| row.arrival_millis)),
        }
    }

    /// Reads the lag without a session, from the head that was known last, if one was.
    ///
    /// # Errors
    /// Kafka is away, or its log is another one.
    pub async fn read(&self, kafka: &Kafka, head: Offset) -> anyhow::Result<()> {
        if !self.metrics.lag.has(self.partition) {
            return Ok(());
        }
        let (first, end) = kafka.first_record_from(self.partition, head).await?;
        self.set_records((end - head).max(0));
        if let Some(first) = first {
            let arrival_millis = clamp_arrival_millis(first.timestamp_millis);
            self.metrics.lag.set_first(self.partition, Some(arrival_millis));
        }
        Ok(())
    }

    fn set_records(&self, records: i64) {
        let label = PartitionLabel {
            partition: self.partition.get(),
        };
        self.metrics.lag_records.get_or_create(&label).set(records);
    }
}
