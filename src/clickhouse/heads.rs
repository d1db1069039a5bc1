//! The heads of a topic's partitions in a shard, for readers who wait for one.

use std::collections::BTreeMap;

use super::{Connection, Error, Shard, quote};
use crate::topic_partition::{LogName, Offset, Partition};

/// How far a shard has come in the newest log of a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heads {
    /// The number of partitions as `migrate` recorded it; 0 before that, and of a retired topic.
    pub partitions: i32,
    /// The offset that comes next, of the partitions with a row in this shard.
    pub next: BTreeMap<Partition, Offset>,
}

impl Heads {
    /// Whether there is such a partition. Consumers may know of it before `migrate` records it.
    pub fn has(&self, partition: Partition) -> bool {
        (0..self.partitions).contains(&partition.get()) || self.next.contains_key(&partition)
    }
}

#[derive(klickhouse::Row)]
struct HeadRow {
    partition: Partition,
    next: Offset,
}

impl Connection {
    async fn heads(&self, topic: &str) -> Result<Heads, Error> {
        let Some(record) = self.topic_record(topic).await? else {
            return Ok(Heads::default());
        };
        let rows = self.query_rows::<HeadRow>(&heads_sql(&record.log)).await?;
        Ok(Heads {
            partitions: record.partitions,
            next: rows.into_iter().map(|row| (row.partition, row.next)).collect(),
        })
    }
}

fn heads_sql(log: &LogName) -> String {
    format!(
        "SELECT partition, max(offset) + 1 AS next FROM events WHERE topic = {} GROUP BY topic, partition",
        quote(log.as_str())
    )
}

impl Shard {
    /// The heads of the newest log of a topic, on a connection of those that are kept for reports.
    ///
    /// # Errors
    /// As [`Shard::connect_to_schema`].
    pub async fn heads(&self, topic: &str) -> Result<Heads, Error> {
        if let Some(kept) = self.reports.take() {
            if let Ok(heads) = kept.connection.heads(topic).await {
                self.reports.put(kept);
                return Ok(heads);
            }
            self.reports.clear();
        }
        let new = self.new_report_connection().await?;
        let heads = new.connection.heads(topic).await?;
        self.reports.put(new);
        Ok(heads)
    }
}
