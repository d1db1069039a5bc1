//! The log in the table `events`, read: its head, the inserts that still run, the events that were seen lately.

use std::time::Duration;

use klickhouse::Value;

use super::retention::MARK_ARRIVAL_MILLIS;
use crate::clickhouse::connection::rows_of;
use crate::clickhouse::{Connection, Error, Row, RowKind, partition_condition, quote, unexpected};
use crate::event::{Event, EventType, Timestamp};
use crate::topic_partition::TopicPartition;

/// To read many rows: the identities of a repeat window take 1.3 s for 1 million on a small machine, to find
/// one row among 10 million 0.04 s.
const SCAN_TIMEOUT: Duration = Duration::from_secs(120);

/// Whole rows that ClickHouse sends at once; the driver queues 32 blocks of its own large values.
const STORED_BLOCK_ROWS: usize = 8_192;

/// As many as servers send by themselves; a profile may want more than are taken of a block.
const IDENTITIES_BLOCK_ROWS: usize = 65_409;

/// How far the table has come in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The offset that comes next: one more than the largest one stored.
    pub next: i64,
    /// Arrival of the last row, in milliseconds since 1970.
    pub arrival_millis: i64,
}

impl Connection {
    /// The head of a partition; `None` while the table has no row of it.
    ///
    /// # Errors
    /// No answer, or the tables are not there.
    pub async fn head(&self, topic_partition: &TopicPartition) -> Result<Option<Head>, Error> {
        // GROUP BY makes an empty table answer with no row; without it max() would answer 0.
        let sql = format!(
            "SELECT max(offset) + 1, argMax(toUnixTimestamp64Milli(arrival), offset) FROM events \
             WHERE {} GROUP BY topic, partition",
            partition_condition(topic_partition)
        );
        let rows = self.rows(&sql).await?;
        match rows.first().map(Vec::as_slice) {
            None => Ok(None),
            Some([Value::Int64(next), Value::Int64(MARK_ARRIVAL_MILLIS)]) => Ok(Some(Head {
                next: *next,
                arrival_millis: self.arrival_of_mark(topic_partition, next - 1).await?,
            })),
            Some([Value::Int64(next), Value::Int64(arrival_millis)]) => Ok(Some(Head {
                next: *next,
                arrival_millis: *arrival_millis,
            })),
            Some(_) => Err(unexpected("the head of a partition")),
        }
    }

    /// The row before a head; `None` if it is not there any more, or was not made of a record or their lack.
    ///
    /// # Errors
    /// No answer, or the tables are not there.
    pub async fn last_row(&self, topic_partition: &TopicPartition, head: &Head) -> Result<Option<Row>, Error> {
        let offset = head.next - 1;
        // The arrival prunes months and parts; within a part every row is looked at.
        let condition = format!(
            "{} AND offset = {offset} AND arrival = fromUnixTimestamp64Milli({})",
            partition_condition(topic_partition),
            head.arrival_millis
        );
        let mut last = None;
        self.for_each_row(&condition, SCAN_TIMEOUT, |row| last = Some(row))
            .await?;
        Ok(last)
    }

    /// Hands over the rows that a condition selects. Rows of a kind that nothing makes of a record or of
    /// their lack are left out.
    pub(crate) async fn for_each_row(
        &self,
        condition: &str,
        limit: Duration,
        mut on_row: impl FnMut(Row),
    ) -> Result<(), Error> {
        let sql = format!(
            "SELECT offset, toUnixTimestamp64Milli(arrival), {EVENT_COLUMNS}, toString(kind), raw, \
             span, repeat FROM events \
             WHERE {condition} SETTINGS max_block_size = {STORED_BLOCK_ROWS}"
        );
        self.for_each_block(&sql, limit, |block| {
            for row in rows_of(block) {
                let [Value::Int64(offset), Value::Int64(arrival_millis), rest @ ..] = &row[..] else {
                    return Err(unexpected("stored rows"));
                };
                if let Some(kind) = stored_kind(rest) {
                    on_row(Row {
                        offset: *offset,
                        arrival_millis: *arrival_millis,
                        kind,
                    });
                }
            }
            Ok(())
        })
        .await
    }

    /// Whether the server is still working on an insert with this token.
    ///
    /// # Errors
    /// No answer.
    pub async fn is_inserting(&self, token: &str) -> Result<bool, Error> {
        let sql = format!(
            "SELECT toUInt64(count()) FROM system.processes \
             WHERE startsWith(query, 'INSERT') AND position(query, {}) > 0",
            quote(&quote(token))
        );
        match self.rows(&sql).await?.first().map(Vec::as_slice) {
            Some([Value::UInt64(count)]) => Ok(*count > 0),
            _ => Err(unexpected("the running inserts")),
        }
    }

    /// Hands over the events stored at the offsets `from..to` of a partition, repeats too, in no order.
    ///
    /// # Errors
    /// No answer, or not all of it: then some events may have been handed over, each of them true.
    pub async fn for_each_event(
        &self,
        topic_partition: &TopicPartition,
        from: i64,
        to: i64,
        mut on_row: impl FnMut(i64, Event),
    ) -> Result<(), Error> {
        let sql = format!(
            "SELECT offset, {EVENT_COLUMNS} FROM events WHERE {} AND kind = 'event' \
             AND offset >= {from} AND offset < {to} SETTINGS max_block_size = {IDENTITIES_BLOCK_ROWS}",
            partition_condition(topic_partition)
        );
        self.for_each_block(&sql, SCAN_TIMEOUT, |block| {
            for row in rows_of(block) {
                let [Value::Int64(offset), event @ ..] = &row[..] else {
                    return Err(unexpected("the stored events"));
                };
                let event = stored_event(event).ok_or_else(|| unexpected("the stored events"))?;
                on_row(*offset, event);
            }
            Ok(())
        })
        .await
    }
}

/// What [`stored_event`] reads.
const EVENT_COLUMNS: &str = "site_id, toString(type), correlation_id, toUnixTimestamp64Micro(time)";

/// `None` for a kind that nothing makes of a record or of their lack.
fn stored_kind(row: &[Value]) -> Option<RowKind> {
    let (event, rest) = row.split_at_checked(4)?;
    let [
        Value::String(kind),
        Value::String(raw),
        Value::Int64(span),
        Value::UInt8(repeat),
    ] = rest
    else {
        return None;
    };
    match kind.as_slice() {
        b"event" => Some(RowKind::Event {
            event: stored_event(event)?,
            repeat: *repeat == 1,
        }),
        b"bad" => Some(RowKind::Bad {
            reason: String::new(),
            raw: raw.clone(),
        }),
        b"gap" => Some(RowKind::Gap { span: *span }),
        _ => None,
    }
}

fn stored_event(row: &[Value]) -> Option<Event> {
    let [
        Value::Uuid(site_id),
        Value::String(kind),
        Value::Uuid(correlation_id),
        Value::Int64(micros),
    ] = row
    else {
        return None;
    };
    Some(Event {
        site_id: *site_id,
        event_type: EventType::from_name(std::str::from_utf8(kind).ok()?)?,
        correlation_id: *correlation_id,
        time: Timestamp::from_micros(*micros)?,
    })
}
