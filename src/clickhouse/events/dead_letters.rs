//! Reads the records that are not events.

use std::time::Duration;

use klickhouse::{Bytes, FromSql as _, Type, Value};

use super::audit::ArrivalDays;
use crate::clickhouse::{Connection, Error, quote};
use crate::topic_partition::{LogName, Offset, Partition};

/// To read them all; a flood of them may be gigabytes.
const DEAD_LETTERS_TIMEOUT: Duration = Duration::from_secs(1_800);

/// Rows that ClickHouse sends at once: each may be a MiB, and the driver queues 32 blocks.
const BLOCK_ROWS: usize = 16;

/// A record that is not an event.
#[derive(Debug, Clone, PartialEq, Eq, klickhouse::Row)]
pub struct DeadLetter {
    /// A topic that was recreated has the same partitions and offsets again, under another name.
    pub log: LogName,
    pub partition: Partition,
    pub offset: Offset,
    /// The record's own timestamp, in milliseconds since 1970.
    pub arrival_millis: i64,
    /// Why it is not an event.
    #[klickhouse(deserialize_with = "read_lossy")]
    pub reason: String,
    /// Its bytes, the first MiB of them.
    #[klickhouse(deserialize_with = "read_bytes", serialize_with = "write_bytes")]
    pub raw: Vec<u8>,
}

impl Connection {
    /// Hands over the dead letters of a topic that arrived on some days, by log, partition and offset, until
    /// `on_letter` returns `false`. Returns what it returned last.
    ///
    /// # Errors
    /// No answer, the tables are not there, or rows are hidden.
    pub async fn dead_letters(
        &self,
        topic: &str,
        span: &ArrivalDays,
        limit: u64,
        mut on_letter: impl FnMut(DeadLetter) -> bool,
    ) -> Result<bool, Error> {
        self.check_row_policies().await?;
        let sql = format!(
            "SELECT toString(topic) AS log, partition, offset, toUnixTimestamp64Milli(arrival) AS arrival_millis, reason, raw \
             FROM dead_letters WHERE (topic = {} OR startsWith(topic, {})){} \
             ORDER BY topic, partition, offset LIMIT {limit} SETTINGS max_block_size = {BLOCK_ROWS}",
            quote(topic),
            // Logs of the same topic, after it was deleted and made again.
            quote(&format!("{topic}@")),
            span.condition()
        );
        let mut wanted = limit > 0;
        self.for_each_row(&sql, DEAD_LETTERS_TIMEOUT, |letter| {
            wanted = wanted && on_letter(letter);
            Ok(())
        })
        .await?;
        Ok(wanted)
    }
}

/// As it is, UTF-8 or not.
fn read_bytes(column_type: &Type, value: Value) -> klickhouse::Result<Vec<u8>> {
    Bytes::from_sql(column_type, value).map(|Bytes(bytes)| bytes)
}

/// Never used: a derived row is written too.
fn write_bytes(bytes: Vec<u8>) -> klickhouse::Result<Value> {
    Ok(Value::String(bytes))
}

/// A reason, in which the record's own words may be cut.
fn read_lossy(column_type: &Type, value: Value) -> klickhouse::Result<String> {
    let bytes = read_bytes(column_type, value)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
