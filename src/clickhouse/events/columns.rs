//! The rows of an insert as they travel: each column is one string of its values' bytes, and the server makes
//! rows of them. The driver would make, move and write a value of its own for each row and column, which took
//! half of the processor time that consuming took, and some kilobytes for a row.

use klickhouse::block::{Block, BlockInfo};
use klickhouse::{IndexMap, Type, Value};
use uuid::Uuid;

use super::row::{Row, RowKind};
use crate::clickhouse::quote;
use crate::event::EventType;
use crate::topic_partition::TopicPartition;

/// Columns whose values have one size, and the types as which the server is to read them. Servers before 25.8
/// cannot `reinterpret` a string as an array. The words of `type` and `kind` travel as their numbers here.
const COLUMNS: [(&str, &str); 9] = [
    ("offset", "Int64"),
    ("arrival", "DateTime64(3, 'UTC')"),
    ("repeat", "UInt8"),
    ("site_id", "UUID"),
    ("type", "Enum8('' = 0, 'serve' = 1, 'solve' = 2)"),
    ("correlation_id", "UUID"),
    ("time", "DateTime64(6, 'UTC')"),
    ("span", "Int64"),
    ("kind", "Enum8('event' = 0, 'bad' = 1, 'gap' = 2)"),
];

/// Columns of texts, which travel as arrays.
const TEXTS: [&str; 2] = ["reason", "raw"];

/// Columns that a batch of nothing but events does not send, and what they hold then.
const SAME_FOR_EVENTS: [(&str, &str); 4] = [("span", "1"), ("kind", "'event'"), ("reason", "''"), ("raw", "''")];

/// The columns of one insert.
pub(crate) struct Columns {
    /// As [`COLUMNS`].
    columns: [Vec<u8>; 9],
    /// As [`TEXTS`].
    texts: [Vec<Value>; 2],
    only_events: bool,
}

impl Columns {
    pub(crate) fn new(rows: Vec<Row>) -> Columns {
        let is_event = |row: &Row| matches!(row.kind, RowKind::Event { .. });
        let mut packed = Columns {
            columns: Default::default(),
            texts: Default::default(),
            only_events: rows.iter().all(is_event),
        };
        for row in rows {
            packed.add(row);
        }
        packed
    }

    fn add(&mut self, row: Row) {
        let (mut repeat, mut span, mut texts) = (0, 1, [Vec::new(), Vec::new()]);
        let (mut site_id, mut correlation_id) = (Uuid::nil(), Uuid::nil());
        let (mut event_type, mut time) = (0, 0);
        let kind = match row.kind {
            RowKind::Event { event, repeat: again } => {
                repeat = u8::from(again);
                site_id = event.site_id;
                event_type = match event.event_type {
                    EventType::Serve => 1,
                    EventType::Solve => 2,
                };
                correlation_id = event.correlation_id;
                time = event.time.micros();
                0
            }
            RowKind::Bad { reason, raw } => {
                texts = [reason.into_bytes(), raw];
                1
            }
            RowKind::Gap { span: missing } => {
                span = missing;
                2
            }
        };
        let [
            offsets,
            arrivals,
            repeats,
            sites,
            types,
            correlations,
            times,
            spans,
            kinds,
        ] = &mut self.columns;
        offsets.extend(row.offset.to_le_bytes());
        arrivals.extend(row.arrival_millis.to_le_bytes());
        repeats.push(repeat);
        sites.extend(uuid_bytes(site_id));
        types.push(event_type);
        correlations.extend(uuid_bytes(correlation_id));
        times.extend(time.to_le_bytes());
        if self.only_events {
            return;
        }
        spans.extend(i64::to_le_bytes(span));
        kinds.push(kind);
        for (column, text) in self.texts.iter_mut().zip(texts) {
            column.push(Value::String(text));
        }
    }

    /// The columns of `events` that the insert names, and the query that makes their values of what travels.
    pub(crate) fn sql(&self, topic_partition: &TopicPartition) -> (String, String) {
        let mut names = vec!["topic", "partition"];
        let mut values = vec![
            quote(topic_partition.log.as_str()),
            topic_partition.partition.to_string(),
        ];
        let (mut structure, mut arrays) = (Vec::new(), Vec::new());
        for (name, value) in SAME_FOR_EVENTS.iter().filter(|_| self.only_events) {
            names.push(name);
            values.push(value.to_string());
        }
        for (name, column_type) in COLUMNS.iter().filter(|(name, _)| sends(name, self.only_events)) {
            names.push(name);
            values.push(name.to_string());
            structure.push(format!("packed_{name} String"));
            let array = quote(&format!("Array({column_type})"));
            arrays.push(format!("reinterpret(packed_{name}, {array}) AS {name}"));
        }
        for name in TEXTS.iter().filter(|name| sends(name, self.only_events)) {
            names.push(name);
            values.push(name.to_string());
            structure.push(format!("packed_{name} Array(String)"));
            arrays.push(format!("packed_{name} AS {name}"));
        }
        let query = format!(
            "SELECT {} FROM input({}) ARRAY JOIN {}",
            values.join(", "),
            quote(&structure.join(", ")),
            arrays.join(", ")
        );
        (names.join(", "), query)
    }

    /// The one block of the insert, of one row.
    pub(crate) fn into_block(self) -> Block {
        let only_events = self.only_events;
        let fixed = COLUMNS.iter().zip(self.columns).map(|((name, _), bytes)| {
            let value = Value::String(bytes);
            (*name, Type::String, value)
        });
        let texts = TEXTS.iter().zip(self.texts).map(|(name, values)| {
            let column_type = Type::Array(Box::new(Type::String));
            (*name, column_type, Value::Array(values))
        });
        let mut block = Block {
            info: BlockInfo::default(),
            rows: 1,
            column_types: IndexMap::new(),
            column_data: IndexMap::new(),
        };
        for (name, column_type, value) in fixed.chain(texts).filter(|(name, ..)| sends(name, only_events)) {
            let name = format!("packed_{name}");
            block.column_types.insert(name.clone(), column_type);
            block.column_data.insert(name, vec![value]);
        }
        block
    }
}

/// Whether a batch sends this column.
fn sends(column: &str, only_events: bool) -> bool {
    !only_events || SAME_FOR_EVENTS.iter().all(|(name, _)| *name != column)
}

/// As ClickHouse keeps it in memory: two little-endian halves, the first one first.
fn uuid_bytes(uuid: Uuid) -> impl Iterator<Item = u8> {
    let (first, second) = uuid.as_u64_pair();
    first.to_le_bytes().into_iter().chain(second.to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::numbered;
    use crate::topic_partition::LogName;

    fn row(offset: i64, kind: RowKind) -> Row {
        Row {
            offset,
            arrival_millis: 7,
            kind,
        }
    }

    fn event(offset: i64) -> Row {
        let event = numbered(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
        row(offset, RowKind::Event { event, repeat: true })
    }

    fn topic_partition() -> TopicPartition {
        TopicPartition {
            log: LogName::new("it's"),
            partition: 3,
        }
    }

    fn names(block: &Block) -> Vec<&str> {
        block.column_data.keys().map(String::as_str).collect()
    }

    #[test]
    fn events_alone_send_what_varies() {
        let packed = Columns::new(vec![event(5), event(6)]);
        let (columns, query) = packed.sql(&topic_partition());
        assert_eq!(
            columns,
            "topic, partition, span, kind, reason, raw, offset, arrival, repeat, site_id, type, correlation_id, time"
        );
        assert!(
            query.starts_with(r"SELECT 'it\'s', 3, 1, 'event', '', '', offset, arrival, repeat,"),
            "{query}"
        );
        let block = packed.into_block();
        assert_eq!(
            names(&block),
            [
                "packed_offset",
                "packed_arrival",
                "packed_repeat",
                "packed_site_id",
                "packed_type",
                "packed_correlation_id",
                "packed_time"
            ]
        );
        let value = |name: &str| match &block.column_data[name][..] {
            [Value::String(bytes)] => bytes.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(value("packed_offset"), [5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(value("packed_type"), [1, 1]);
        assert_eq!(value("packed_repeat"), [1, 1]);
        assert_eq!(
            value("packed_correlation_id")[..16],
            [8, 7, 6, 5, 4, 3, 2, 1, 16, 15, 14, 13, 12, 11, 10, 9]
        );
    }

    #[test]
    fn one_other_row_makes_a_batch_send_all_columns() {
        let bad = row(
            6,
            RowKind::Bad {
                reason: "no".to_string(),
                raw: b"x".to_vec(),
            },
        );
        let gap = row(9, RowKind::Gap { span: 3 });
        let packed = Columns::new(vec![event(5), bad, gap]);
        let (columns, query) = packed.sql(&topic_partition());
        assert_eq!(columns.split(", ").count(), 13);
        assert!(query.starts_with(r"SELECT 'it\'s', 3, offset,"), "{query}");
        let block = packed.into_block();
        assert_eq!(block.column_data.len(), 11);
        assert_eq!(block.column_data["packed_kind"], [Value::String(vec![0, 1, 2])]);
        let texts = |texts: [&[u8]; 3]| [Value::Array(texts.map(|text| Value::String(text.to_vec())).to_vec())];
        assert_eq!(block.column_data["packed_reason"], texts([b"", b"no", b""]));
        assert_eq!(block.column_data["packed_raw"], texts([b"", b"x", b""]));
    }
}
