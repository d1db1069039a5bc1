//! Reads rows: the head of a partition, its last row, and the events of a range of offsets.

use std::time::Duration;

use klickhouse::Bytes;
use uuid::Uuid;

use super::columns::RULES;
use super::retention::MARK_ARRIVAL_MILLIS;
use crate::clickhouse::{Connection, Error, Row, RowKind, partition_condition, quote, unexpected};
use crate::event::{Event, EventType, Timestamp};
use crate::rules::Part;
use crate::topic_partition::{Offset, TopicPartition};

/// To read many rows: the identities of a repeat window take 1.3 s for 1 million on a small machine, to find
/// one row among 10 million 0.04 s.
const SCAN_TIMEOUT: Duration = Duration::from_secs(120);

/// Whole rows that ClickHouse sends at once. The driver queues 32 blocks, and makes large values of them.
const STORED_BLOCK_ROWS: usize = 8_192;

/// Events that ClickHouse sends at once: its own default. A profile may want more than a block may have.
const IDENTITIES_BLOCK_ROWS: usize = 65_409;

/// How far the table has come in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, klickhouse::Row)]
pub struct Head {
    /// The offset that comes next: one more than the largest one stored.
    pub next: Offset,
    /// Arrival of the last row, in milliseconds since 1970.
    pub arrival_millis: i64,
}

/// The columns of an event, as [`StoredEvent`] reads them.
const STORED_EVENT: &str =
    "offset, site_id, toString(type) AS type_name, correlation_id, toUnixTimestamp64Micro(time) AS time_micros";

/// The event of a row; its fields are empty in a row of another kind.
#[derive(klickhouse::Row)]
struct StoredEvent {
    offset: Offset,
    site_id: Uuid,
    type_name: String,
    correlation_id: Uuid,
    time_micros: i64,
}

impl StoredEvent {
    /// `None` if no event has such a type or time.
    fn event(&self) -> Option<Event> {
        Some(Event {
            site_id: self.site_id,
            event_type: EventType::from_name(&self.type_name)?,
            correlation_id: self.correlation_id,
            time: Timestamp::from_micros(self.time_micros)?,
        })
    }
}

/// Of [`Part::ALL`], the index of an event's part in its challenge.
const PART: &str = "toUInt8(if(repeat = 1, 0, transform(toString(role), ['first', 'again', 'answer', 'open'], \
                    [2, 4, 5, 6], 1) + (role = 'first' AND other_month != 0)))";

/// An event, and its part in its challenge.
#[derive(klickhouse::Row)]
struct StoredPart {
    #[klickhouse(flatten)]
    event: StoredEvent,
    part: u8,
    arrival_month: u32,
}

/// A stored event, as later ones of its partition see it.
#[derive(Debug)]
pub struct JudgedEvent {
    pub offset: Offset,
    pub event: Event,
    pub part: Part,
    /// As `toYYYYMM` has it.
    pub arrival_month: u32,
}

impl StoredPart {
    fn judged(&self) -> Option<JudgedEvent> {
        Some(JudgedEvent {
            offset: self.event.offset,
            event: self.event.event()?,
            part: *Part::ALL.get(usize::from(self.part))?,
            arrival_month: self.arrival_month,
        })
    }
}

/// A row, but for the reason against a bad record and the role of an event.
#[derive(klickhouse::Row)]
struct StoredRow {
    #[klickhouse(flatten)]
    event: StoredEvent,
    arrival_millis: i64,
    kind_name: String,
    raw: Bytes,
    span: i64,
    repeat: u8,
}

impl StoredRow {
    /// `None` for a mark.
    fn into_row(self) -> Option<Row> {
        let kind = match self.kind_name.as_str() {
            "event" => RowKind::Event {
                event: self.event.event()?,
                repeat: self.repeat == 1,
                challenge: None,
            },
            "bad" => RowKind::Bad {
                reason: String::new(),
                raw: self.raw.0,
            },
            "gap" => RowKind::Gap { span: self.span },
            _ => return None,
        };
        Some(Row {
            offset: self.event.offset,
            arrival_millis: self.arrival_millis,
            kind,
        })
    }
}

impl Connection {
    /// The head of a partition; `None` while the table has no row of it.
    ///
    /// # Errors
    /// No answer, or the tables are not there.
    pub async fn head(&self, topic_partition: &TopicPartition) -> Result<Option<Head>, Error> {
        // GROUP BY makes an empty table answer with no row; without it max() would answer 0.
        let sql = format!(
            "SELECT max(offset) + 1 AS next, argMax(toUnixTimestamp64Milli(arrival), offset) AS arrival_millis \
             FROM events WHERE {} GROUP BY topic, partition",
            partition_condition(topic_partition)
        );
        let Some(mut head) = self.query_opt::<Head>(&sql).await? else {
            return Ok(None);
        };
        if head.arrival_millis == MARK_ARRIVAL_MILLIS {
            head.arrival_millis = self.arrival_of_mark(topic_partition, head.next - 1).await?;
        }
        Ok(Some(head))
    }

    /// The row before a head; `None` if it was dropped, or is a mark.
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
        self.for_each_stored(&condition, SCAN_TIMEOUT, |row| last = Some(row))
            .await?;
        Ok(last)
    }

    /// Whether a row that a condition selects was judged by other rules than ours, or by none.
    ///
    /// # Errors
    /// No answer.
    pub async fn has_other_rules(&self, condition: &str) -> Result<bool, Error> {
        // Almost all rows have our rules, so of the other columns almost nothing is read.
        let sql = format!(
            "SELECT toUInt64(count()) FROM (SELECT 1 FROM events PREWHERE rules != {RULES} WHERE {condition} LIMIT 1)"
        );
        Ok(self.query_value::<u64>(&sql).await? > 0)
    }

    /// Hands over the rows that a condition selects, without marks.
    pub(crate) async fn for_each_stored(
        &self,
        condition: &str,
        limit: Duration,
        mut on_row: impl FnMut(Row),
    ) -> Result<(), Error> {
        let sql = format!(
            "SELECT {STORED_EVENT}, toUnixTimestamp64Milli(arrival) AS arrival_millis, toString(kind) AS kind_name, \
             raw, span, repeat FROM events WHERE {condition} SETTINGS max_block_size = {STORED_BLOCK_ROWS}"
        );
        self.for_each_row(&sql, limit, |stored: StoredRow| {
            if let Some(row) = stored.into_row() {
                on_row(row);
            }
            Ok(())
        })
        .await
    }

    /// Whether an insert with this token runs in the server.
    ///
    /// # Errors
    /// No answer.
    pub async fn is_inserting(&self, token: &str) -> Result<bool, Error> {
        let sql = format!(
            "SELECT toUInt64(count()) FROM system.processes \
             WHERE startsWith(query, 'INSERT') AND position(query, {}) > 0",
            quote(&quote(token))
        );
        Ok(self.query_value::<u64>(&sql).await? > 0)
    }

    /// Hands over the events stored at the offsets `from..to` of a partition, repeats too, in no order.
    ///
    /// # Errors
    /// No answer, or not all of it: some events may have been handed over before, each of them stored.
    pub async fn for_each_event(
        &self,
        topic_partition: &TopicPartition,
        from: Offset,
        to: Offset,
        mut on_event: impl FnMut(JudgedEvent),
    ) -> Result<(), Error> {
        let sql = format!(
            "SELECT {STORED_EVENT}, {PART} AS part, toYYYYMM(arrival) AS arrival_month FROM events \
             WHERE {} AND kind = 'event' \
             AND offset >= {from} AND offset < {to} SETTINGS max_block_size = {IDENTITIES_BLOCK_ROWS}",
            partition_condition(topic_partition)
        );
        self.for_each_row(&sql, SCAN_TIMEOUT, |stored: StoredPart| {
            on_event(stored.judged().ok_or_else(|| unexpected("the stored events"))?);
            Ok(())
        })
        .await
    }
}
