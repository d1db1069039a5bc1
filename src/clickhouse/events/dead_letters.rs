//! The records that are no events, read back.

use std::time::Duration;

use klickhouse::Value;

use super::audit::ArrivalDays;
use crate::clickhouse::connection::rows_of;
use crate::clickhouse::{Connection, Error, quote, unexpected};

/// To read them all; a flood of them may be gigabytes.
const DEAD_LETTERS_TIMEOUT: Duration = Duration::from_secs(1_800);

/// Rows that ClickHouse sends at once: each may be a MiB, and the driver queues 32 blocks.
const BLOCK_ROWS: usize = 16;

/// A record that is no event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Kafka partition.
    pub partition: i32,
    /// Kafka offset.
    pub offset: i64,
    /// The record's own timestamp, in milliseconds since 1970.
    pub arrival_millis: i64,
    /// Why it is none.
    pub reason: String,
    /// Its bytes, the first MiB of them.
    pub raw: Vec<u8>,
}

impl Connection {
    /// Hands over the dead letters of a topic that arrived on some days, by log, partition and offset, until
    /// `take` has had enough and says `false`; whether it would take more.
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
            "SELECT partition, offset, toUnixTimestamp64Milli(arrival), reason, raw FROM dead_letters \
             WHERE (topic = {} OR startsWith(topic, {})){} \
             ORDER BY topic, partition, offset LIMIT {limit} SETTINGS max_block_size = {BLOCK_ROWS}",
            quote(topic),
            // Logs of the same topic, made anew.
            quote(&format!("{topic}@")),
            span.condition()
        );
        let mut wanted = limit > 0;
        self.for_each_block(&sql, DEAD_LETTERS_TIMEOUT, |block| {
            for row in rows_of(block) {
                let letter = dead_letter(row).ok_or_else(|| unexpected("the dead letters"))?;
                wanted = wanted && on_letter(letter);
            }
            Ok(())
        })
        .await?;
        Ok(wanted)
    }
}

fn dead_letter(row: Vec<Value>) -> Option<DeadLetter> {
    let [
        Value::Int32(partition),
        Value::Int64(offset),
        Value::Int64(arrival_millis),
        Value::String(reason),
        Value::String(raw),
    ] = <[Value; 5]>::try_from(row).ok()?
    else {
        return None;
    };
    Some(DeadLetter {
        partition,
        offset,
        arrival_millis,
        reason: String::from_utf8_lossy(&reason).into_owned(),
        raw,
    })
}
