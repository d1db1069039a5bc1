//! The columns of `events` as an insert writes them: the one list.
//!
//! Each column travels as the bytes of all its values, in a block of one row, and the server makes rows of them. The
//! driver would make, move and write a value of its own for each row and column: half of the processor time that
//! consuming took, and some kilobytes for a row.

use klickhouse::block::{Block, BlockInfo};
use klickhouse::{IndexMap, Type, Value};
use uuid::Uuid;

use super::row::{Row, RowKind};
use crate::clickhouse::quote;
use crate::event::{Event, EventType};
use crate::rules::{Pair, Role, RoleAndPair};
use crate::topic_partition::TopicPartition;

/// The columns whose values differ from row to row, in the order of the table; `topic` and `partition` do not. The
/// words of `kind` and `type` travel as numbers.
static COLUMNS: [Column; 15] = [
    fixed("offset", "Int64", |rows| {
        encode(rows, |row| row.offset.get().to_le_bytes())
    }),
    fixed("arrival", "DateTime64(3, 'UTC')", |rows| {
        encode(rows, |row| row.arrival_millis.to_le_bytes())
    }),
    fixed("span", "Int64", |rows| encode(rows, |row| span(row).to_le_bytes())).same_for_events("1"),
    fixed("kind", "Enum8('event' = 0, 'bad' = 1, 'gap' = 2)", |rows| {
        encode(rows, kind)
    })
    .same_for_events("'event'"),
    text("reason", take_reason).same_for_events("''"),
    text("raw", take_raw).same_for_events("''"),
    fixed("repeat", "UInt8", |rows| encode(rows, repeat)),
    fixed("site_id", "UUID", |rows| {
        encode_events(rows, |event| uuid_bytes(event.site_id))
    }),
    fixed("type", "Enum8('' = 0, 'serve' = 1, 'solve' = 2)", |rows| {
        encode_events(rows, event_type)
    }),
    fixed("correlation_id", "UUID", |rows| {
        encode_events(rows, |event| uuid_bytes(event.correlation_id))
    }),
    fixed("time", "DateTime64(6, 'UTC')", |rows| {
        encode_events(rows, |event| event.time.micros().to_le_bytes())
    }),
    fixed(
        "role",
        "Enum8('' = 0, 'first' = 1, 'again' = 2, 'answer' = 3, 'open' = 4)",
        |rows| encode(rows, role),
    ),
    fixed("solve_after_micros", "Int64", |rows| {
        encode_pairs(rows, |pair| pair.solve_after_micros.to_le_bytes())
    }),
    fixed("other_month", "UInt32", |rows| {
        encode_pairs(rows, |pair| pair.other_month.to_le_bytes())
    }),
    fixed("rules", "UInt8", |rows| encode(rows, |_| [RULES])).same_for_events("1"),
];

/// The version of [`rules`](crate::rules) by which rows are judged. Rows of an older captcha have 0, and no roles.
pub(crate) const RULES: u8 = 1;

/// A column, and how it travels.
struct Column {
    name: &'static str,
    encoding: Encoding,
    /// Its value in each row of a batch of nothing but events, which does not send it; `None` if it is always sent.
    same_for_events: Option<&'static str>,
}

enum Encoding {
    /// As a string, which the server reads as an array of this type. Servers before 25.8 cannot read it as an array of
    /// texts.
    Fixed(&'static str, fn(&[Row]) -> Vec<u8>),
    /// As an array of texts, which are moved out of the rows: one may have a MiB.
    Text(fn(&mut Row) -> Vec<u8>),
}

const fn fixed(name: &'static str, data_type: &'static str, encode: fn(&[Row]) -> Vec<u8>) -> Column {
    Column {
        name,
        encoding: Encoding::Fixed(data_type, encode),
        same_for_events: None,
    }
}

const fn text(name: &'static str, take: fn(&mut Row) -> Vec<u8>) -> Column {
    Column {
        name,
        encoding: Encoding::Text(take),
        same_for_events: None,
    }
}

impl Column {
    const fn same_for_events(self, value: &'static str) -> Column {
        Column {
            same_for_events: Some(value),
            ..self
        }
    }

    fn encode(&self, rows: &mut [Row]) -> Value {
        match self.encoding {
            Encoding::Fixed(_, encode) => Value::String(encode(rows)),
            Encoding::Text(take) => Value::Array(rows.iter_mut().map(|row| Value::String(take(row))).collect()),
        }
    }

    /// The name and the type under which its values travel.
    fn sent_as(&self) -> (String, &'static str) {
        let data_type = match self.encoding {
            Encoding::Fixed(..) => "String",
            Encoding::Text(_) => "Array(String)",
        };
        (format!("{}_values", self.name), data_type)
    }

    /// The array of which the server makes rows.
    fn array(&self) -> String {
        let (name, (values, _)) = (self.name, self.sent_as());
        match self.encoding {
            Encoding::Fixed(data_type, _) => {
                let array = quote(&format!("Array({data_type})"));
                format!("reinterpret({values}, {array}) AS {name}")
            }
            Encoding::Text(_) => format!("{values} AS {name}"),
        }
    }
}

/// The columns of one insert.
pub(crate) struct Columns {
    /// Those that are sent, each with the values of all rows.
    sent: Vec<(&'static Column, Value)>,
}

impl Columns {
    pub(crate) fn new(mut rows: Vec<Row>) -> Columns {
        let only_events = rows.iter().all(|row| row.event().is_some());
        let sent = COLUMNS
            .iter()
            .filter(|column| !only_events || column.same_for_events.is_none())
            .map(|column| (column, column.encode(&mut rows)));
        Columns { sent: sent.collect() }
    }

    fn is_sent(&self, column: &Column) -> bool {
        self.sent.iter().any(|(sent, _)| sent.name == column.name)
    }

    /// The columns of `events` that the insert names, and the query that makes their values of what travels.
    pub(crate) fn sql(&self, topic_partition: &TopicPartition) -> (String, String) {
        let mut names = vec!["topic", "partition"];
        let mut values = vec![
            quote(topic_partition.log.as_str()),
            topic_partition.partition.to_string(),
        ];
        for column in &COLUMNS {
            names.push(column.name);
            let constant = column.same_for_events.filter(|_| !self.is_sent(column));
            values.push(constant.unwrap_or(column.name).to_string());
        }
        let (mut structure, mut arrays) = (Vec::new(), Vec::new());
        for (column, _) in &self.sent {
            let (name, data_type) = column.sent_as();
            structure.push(format!("{name} {data_type}"));
            arrays.push(column.array());
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
        let mut block = Block {
            info: BlockInfo::default(),
            rows: 1,
            column_types: IndexMap::new(),
            column_data: IndexMap::new(),
        };
        for (column, values) in self.sent {
            let (name, _) = column.sent_as();
            let data_type = match column.encoding {
                Encoding::Fixed(..) => Type::String,
                Encoding::Text(_) => Type::Array(Box::new(Type::String)),
            };
            block.column_types.insert(name.clone(), data_type);
            block.column_data.insert(name, vec![values]);
        }
        block
    }
}

/// The bytes of one value of each row.
fn encode<const BYTES: usize>(rows: &[Row], value: impl Fn(&Row) -> [u8; BYTES]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(rows.len() * BYTES);
    for row in rows {
        bytes.extend_from_slice(&value(row));
    }
    bytes
}

/// The bytes of one value of each event; zeros in rows of another kind.
fn encode_events<const BYTES: usize>(rows: &[Row], value: impl Fn(&Event) -> [u8; BYTES]) -> Vec<u8> {
    encode(rows, |row| row.event().map_or([0; BYTES], &value))
}

fn span(row: &Row) -> i64 {
    match row.kind {
        RowKind::Gap { span } => span,
        RowKind::Event { .. } | RowKind::Bad { .. } => 1,
    }
}

fn kind(row: &Row) -> [u8; 1] {
    match row.kind {
        RowKind::Event { .. } => [0],
        RowKind::Bad { .. } => [1],
        RowKind::Gap { .. } => [2],
    }
}

fn repeat(row: &Row) -> [u8; 1] {
    [u8::from(matches!(row.kind, RowKind::Event { repeat: true, .. }))]
}

fn challenge(row: &Row) -> Option<RoleAndPair> {
    match row.kind {
        RowKind::Event { challenge, .. } => challenge,
        RowKind::Bad { .. } | RowKind::Gap { .. } => None,
    }
}

fn role(row: &Row) -> [u8; 1] {
    [match challenge(row).map(|challenge| challenge.role) {
        None => 0,
        Some(Role::First) => 1,
        Some(Role::Again) => 2,
        Some(Role::Answer) => 3,
        Some(Role::Open) => 4,
    }]
}

/// The bytes of one value of each row that completes a pair; zeros in the others.
fn encode_pairs<const BYTES: usize>(rows: &[Row], value: impl Fn(Pair) -> [u8; BYTES]) -> Vec<u8> {
    encode(rows, |row| {
        let pair = challenge(row).and_then(|challenge| challenge.pair);
        pair.map_or([0; BYTES], &value)
    })
}

fn event_type(event: &Event) -> [u8; 1] {
    match event.event_type {
        EventType::Serve => [1],
        EventType::Solve => [2],
    }
}

/// As ClickHouse keeps it in memory: two little-endian halves, the first one first.
fn uuid_bytes(uuid: Uuid) -> [u8; 16] {
    let (first, second) = uuid.as_u64_pair();
    (u128::from(second) << 64 | u128::from(first)).to_le_bytes()
}

fn take_reason(row: &mut Row) -> Vec<u8> {
    match &mut row.kind {
        RowKind::Bad { reason, .. } => std::mem::take(reason).into_bytes(),
        RowKind::Event { .. } | RowKind::Gap { .. } => Vec::new(),
    }
}

fn take_raw(row: &mut Row) -> Vec<u8> {
    match &mut row.kind {
        RowKind::Bad { raw, .. } => std::mem::take(raw),
        RowKind::Event { .. } | RowKind::Gap { .. } => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::numbered;
    use crate::topic_partition::{LogName, Offset, Partition};

    fn row(offset: i64, kind: RowKind) -> Row {
        Row {
            offset: Offset::new(offset),
            arrival_millis: 7,
            kind,
        }
    }

    fn event(offset: i64) -> Row {
        let event = numbered(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
        let challenge = Some(RoleAndPair {
            role: Role::Answer,
            pair: Some(Pair {
                solve_after_micros: -2,
                other_month: 202_401,
            }),
        });
        row(
            offset,
            RowKind::Event {
                event,
                repeat: true,
                challenge,
            },
        )
    }

    fn topic_partition() -> TopicPartition {
        TopicPartition {
            log: LogName::new("it's"),
            partition: Partition::new(3),
        }
    }

    fn sent(block: &Block) -> Vec<&str> {
        block.column_data.keys().map(String::as_str).collect()
    }

    #[test]
    fn events_alone_send_what_varies() {
        let columns = Columns::new(vec![event(5), event(6)]);
        let (names, query) = columns.sql(&topic_partition());
        assert_eq!(
            names,
            "topic, partition, offset, arrival, span, kind, reason, raw, repeat, site_id, type, correlation_id, time, \
             role, solve_after_micros, other_month, rules"
        );
        assert!(
            query.starts_with(r"SELECT 'it\'s', 3, offset, arrival, 1, 'event', '', '', repeat,"),
            "{query}"
        );
        let block = columns.into_block();
        assert_eq!(
            sent(&block),
            [
                "offset_values",
                "arrival_values",
                "repeat_values",
                "site_id_values",
                "type_values",
                "correlation_id_values",
                "time_values",
                "role_values",
                "solve_after_micros_values",
                "other_month_values"
            ]
        );
        let value = |name: &str| match &block.column_data[name][..] {
            [Value::String(bytes)] => bytes.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(value("offset_values"), [5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(value("type_values"), [1, 1]);
        assert_eq!(value("repeat_values"), [1, 1]);
        assert_eq!(value("role_values"), [3, 3]);
        assert_eq!(value("solve_after_micros_values")[..8], (-2_i64).to_le_bytes());
        assert_eq!(value("other_month_values")[4..], 202_401_u32.to_le_bytes());
        assert_eq!(
            value("correlation_id_values")[..16],
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
        let columns = Columns::new(vec![event(5), bad, gap]);
        let (names, query) = columns.sql(&topic_partition());
        assert_eq!(names.split(", ").count(), 17);
        assert!(query.starts_with(r"SELECT 'it\'s', 3, offset,"), "{query}");
        let block = columns.into_block();
        assert_eq!(block.column_data.len(), 15);
        assert_eq!(block.column_data["kind_values"], [Value::String(vec![0, 1, 2])]);
        let texts = |texts: [&[u8]; 3]| [Value::Array(texts.map(|text| Value::String(text.to_vec())).to_vec())];
        assert_eq!(block.column_data["reason_values"], texts([b"", b"no", b""]));
        assert_eq!(block.column_data["raw_values"], texts([b"", b"x", b""]));
    }
}
