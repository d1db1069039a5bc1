//! The log in the table `events`, written: rows, and the insert that is guarded by the head.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use klickhouse::KlickhouseError;
use klickhouse::block::Block;
use tokio::time::timeout;

use super::columns::Packed;
use super::read::at;
use crate::clickhouse::connection::server_version::Version;
use crate::clickhouse::connection::settings;
use crate::clickhouse::replication::Turn;
use crate::clickhouse::{Connection, Error, quote};
use crate::event::{Event, parse_record};
use crate::topic_partition::TopicPartition;

/// For one insert. A slow disk may need seconds; after half a minute it is better to look at the head.
const INSERT_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of a bad record that are kept: Kafka's default limit for a record.
pub const RAW_BYTES_MAX: usize = 1 << 20;

/// And in a flood of them: enough to see what it is, and little more than the row itself.
pub const RAW_BYTES_LEAST: usize = 32;

/// The last millisecond of the year 2200; `DateTime64` and `toYYYYMM` are safe up to it.
const ARRIVAL_MILLIS_MAX: i64 = 7_289_654_399_999;

/// A record's own timestamp, as the table can hold it.
pub fn arrival_millis(timestamp_millis: i64) -> i64 {
    timestamp_millis.clamp(0, ARRIVAL_MILLIS_MAX)
}

/// As much of a bad record as is kept.
pub fn kept_raw(value: &[u8]) -> &[u8] {
    &value[..value.len().min(RAW_BYTES_MAX)]
}

/// One row of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Kafka offset.
    pub offset: i64,
    /// The record's own timestamp, in milliseconds since 1970, within the years 1970 to 2200.
    pub arrival_millis: i64,
    /// What stood at the offset.
    pub kind: RowKind,
}

/// What stood at an offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowKind {
    /// A good record; `repeat` if the same event stands in the window before it.
    Event {
        /// The event.
        event: Event,
        /// Left out by reports.
        repeat: bool,
    },
    /// A record that is no event.
    Bad {
        /// Why.
        reason: String,
        /// Its value.
        raw: Vec<u8>,
    },
    /// Offsets that Kafka does not have (any more): `span` of them, the last one at the row's offset.
    Gap {
        /// How many, at least 1.
        span: i64,
    },
}

impl Row {
    /// Whether this is what becomes of a record at its offset, which arrived at one of these times.
    pub fn is_made_of(&self, times_millis: [i64; 2], value: Option<&[u8]>) -> bool {
        let value = value.unwrap_or_default();
        let same = match &self.kind {
            RowKind::Event { event, .. } => parse_record(value).as_ref() == Ok(event),
            RowKind::Bad { raw, .. } => {
                let is_shortened = raw.len() == RAW_BYTES_LEAST && value.starts_with(raw);
                raw == kept_raw(value) || is_shortened
            }
            RowKind::Gap { .. } => false,
        };
        same && times_millis.map(arrival_millis).contains(&self.arrival_millis)
    }
}

/// One batch for one partition: one insert, one block, one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Insert {
    /// Where the rows belong.
    pub topic_partition: TopicPartition,
    /// The head that was read before; the server refuses the insert if it has moved.
    pub head: i64,
    /// 0, and one more for each token of this head that was burnt.
    pub generation: u32,
    /// Whether the table is one of several replicas.
    pub is_replicated: bool,
    /// Rows of one arrival month, ascending by offset, without a hole from `head` on.
    pub rows: Vec<Row>,
}

impl Insert {
    /// The deduplication token: rivals at one head share it, so that one of them wins.
    pub fn token(&self) -> String {
        match self.generation {
            0 => self.first_token(),
            g => format!("{}#{g}", self.first_token()),
        }
    }

    fn first_token(&self) -> String {
        format!("{}:{}", self.topic_partition, self.head)
    }

    /// The condition under which the server takes the rows: the head is where it was, and nobody is inserting at it
    /// with another token. Of two such inserts one would see the other: each is in `system.processes` before it
    /// looks there, and looks at the head afterwards.
    fn guard(&self) -> String {
        // Made of parts, so that the text of a guard is not what it looks for.
        let with_token = |token: &str, end: &str| {
            let token = quote(token);
            format!("position(query, concat('insert_deduplication_token = ', char(39), {token}, {end})) > 0")
        };
        let others = format!(
            "(SELECT count() FROM system.processes WHERE query_id != queryID() \
             AND startsWith(query, 'INSERT') AND ({} OR {}) AND NOT {})",
            with_token(&self.first_token(), "char(39)"),
            with_token(&self.first_token(), "'#'"),
            with_token(&self.token(), "char(39)"),
        );
        format!(
            "throwIf(if({others} > 0, -1, ifNull((SELECT max(offset) + 1 FROM events WHERE {} AND {others} = 0 \
             GROUP BY topic, partition), 0)) != {}, 'head moved') = 0",
            at(&self.topic_partition),
            self.head,
        )
    }

    fn sql(&self, packed: &Packed, version: Version) -> String {
        let (columns, query) = packed.sql(&self.topic_partition);
        format!(
            "INSERT INTO events ({columns}) {query} WHERE {} \
             SETTINGS {}, insert_deduplication_token = {} FORMAT Native",
            self.guard(),
            settings::known(settings::INSERT, version),
            quote(&self.token()),
        )
    }
}

impl Connection {
    /// Writes a batch, all or nothing. Ok means only that the server said nothing against it: the head,
    /// read on this connection afterwards, says whether the rows are there.
    ///
    /// # Errors
    /// The server refused, the head had moved ([`Action::HeadMoved`](crate::clickhouse::Class)), or no whole answer came.
    pub async fn insert(&self, mut insert: Insert) -> Result<(), Error> {
        let packed = Packed::new(std::mem::take(&mut insert.rows));
        let sql = insert.sql(&packed, self.version);
        let mut block = packed.into_block();
        let turn = Turn::new();
        let send = async {
            loop {
                // Only where it may have to be sent again: a batch is large.
                let again = insert.is_replicated.then(|| block.clone());
                let answer = self.send(&sql, block).await;
                let answer = answer.map_err(|err| self.explain(err));
                match again {
                    Some(again) if turn.comes_after(&answer).await => block = again,
                    _ => return answer,
                }
            }
        };
        match timeout(INSERT_TIMEOUT, send).await {
            Ok(done) => done,
            Err(_) => Err(self.failed(&format!(
                "did not confirm an insert within {} s",
                INSERT_TIMEOUT.as_secs()
            ))),
        }
    }

    async fn send(&self, sql: &str, block: Block) -> Result<(), KlickhouseError> {
        let sent = stream::iter([block]);
        let mut answer = self.client.insert_native_raw(sql, sent, None).await?;
        while let Some(part) = answer.next().await {
            part?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic_partition::LogName;

    #[test]
    fn the_token_is_the_place_the_head_and_the_generation() {
        let topic_partition = TopicPartition {
            log: LogName::new("captcha"),
            partition: 3,
        };
        let mut insert = Insert {
            topic_partition,
            head: 17,
            generation: 0,
            is_replicated: false,
            rows: Vec::new(),
        };
        assert_eq!(insert.token(), "captcha:3:17");
        insert.generation = 2;
        assert_eq!(insert.token(), "captcha:3:17#2");
    }

    #[test]
    fn a_row_is_known_by_its_record() {
        let event = crate::event::numbered(1);
        let json = event.to_json();
        let row = |kind| Row {
            offset: 5,
            arrival_millis: 1_000,
            kind,
        };
        let good = row(RowKind::Event { event, repeat: false });
        for (times, is_made_of) in [([1_000; 2], true), ([9, 1_000], true), ([9, 1_001], false)] {
            assert_eq!(good.is_made_of(times, Some(json.as_bytes())), is_made_of);
        }
        let other = crate::event::numbered(2).to_json();
        assert!(!good.is_made_of([1_000; 2], Some(other.as_bytes())));
        assert!(!good.is_made_of([1_000; 2], None));

        let bad = |raw: &[u8]| {
            row(RowKind::Bad {
                reason: String::new(),
                raw: raw.to_vec(),
            })
        };
        assert!(bad(b"garbage").is_made_of([1_000; 2], Some(b"garbage")));
        assert!(!bad(b"garbage").is_made_of([1_000; 2], Some(b"garbagf")));
        assert!(bad(b"").is_made_of([1_000; 2], None));
        let huge = vec![b'x'; RAW_BYTES_MAX + 1];
        assert!(bad(&huge[1..]).is_made_of([1_000; 2], Some(&huge)));
        assert!(!row(RowKind::Gap { span: 1 }).is_made_of([1_000; 2], Some(b"x")));
    }
}
