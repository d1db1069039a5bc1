//! Batches: records in, rows of one insert out. Pure, and the same in every process.

use std::collections::VecDeque;

use chrono::{DateTime, Datelike as _};

use crate::clickhouse::{RAW_BYTES_MAX, RAW_BYTES_MIN, Row, RowKind, clamp_arrival_millis, truncate_raw};
use crate::event::parse_record;
use crate::kafka::{Record, VALUE_BYTES_MAX};
use crate::rules::{self, Judgement, Window};
use crate::topic_partition::Offset;

/// Rows of one insert; far below the 1,048,449 at which ClickHouse would split a block into two parts. An insert
/// costs ClickHouse about 20 ms of processor time whatever it holds, so with 20,000 a million rows took twice as much.
pub const ROWS_MAX: usize = 100_000;

/// Characters of the reason against a bad record that are kept.
const REASON_CHARS_MAX: usize = 1_000;

/// And when too many come at once.
const REASON_CHARS_LEAST: usize = 100;

/// Rows that were fetched and are not stored yet.
#[derive(Debug, Default)]
pub struct Pending {
    /// One for each record, in ascending order; events are not judged yet.
    pub rows: VecDeque<Row>,
    /// The offset to fetch next: everything before it is stored, among the rows, or not in Kafka.
    pub end: Offset,
    /// Bytes that the rows keep of bad records.
    heap_bytes: usize,
}

impl Pending {
    /// Adds records. They are parsed here, once, because an event takes less memory than its record.
    pub fn push(&mut self, records: Vec<Record>) {
        for record in records {
            let row = row_of(record);
            self.heap_bytes += heap_bytes(&row);
            self.rows.push_back(row);
        }
    }

    /// Forgets the rows below a head, which may be beyond everything that was fetched.
    pub fn skip_to(&mut self, head: Offset) {
        let stored = self.rows.partition_point(|row| row.offset < head);
        let stored = self.rows.drain(..stored);
        self.heap_bytes -= stored.map(|row| heap_bytes(&row)).sum::<usize>();
        self.end = self.end.max(head);
    }

    /// Memory of the rows.
    pub fn bytes(&self) -> usize {
        self.rows.len() * size_of::<Row>() + self.heap_bytes
    }
}

/// The rows that follow a head, and what they add to the window.
#[derive(Debug, Default)]
pub struct Batch {
    /// Ascending, without a hole, of one arrival month.
    pub rows: Vec<Row>,
    /// The head once the rows are stored.
    pub end: Offset,
    /// Its events, for the window once the rows are stored.
    pub judged: rules::Pending,
    /// Arrival of the last row.
    pub last_arrival_millis: Option<i64>,
    /// Bytes that are kept of bad records.
    pub raw_bytes: usize,
    /// Bad records of which less is kept because too many came at once.
    pub truncated: u64,
}

/// The next batch of the pending rows. It ends where the arrival month changes, because the table is partitioned by it
/// and deduplication tokens hold within one table partition. Offsets that Kafka does not have become a gap, dated like
/// the row before it, on which all readers of the log agree. Before the first row of a table it is dated 1970: not
/// every reader has fetched the record after it. Of bad records `raw_bytes` are kept in all, and a little of each.
pub fn next_batch(
    head: Offset,
    last_arrival_millis: Option<i64>,
    pending: &Pending,
    window: &Window,
    raw_bytes: usize,
) -> Batch {
    let mut batch = Batch {
        end: head,
        last_arrival_millis,
        ..Batch::default()
    };
    for row in &pending.rows {
        // In this order: an event that is judged is in `judged`, so it must be in the batch.
        if !batch.add_gap(row.offset) || !batch.accepts(row.arrival_millis) {
            return batch;
        }
        let mut row = row.clone();
        batch.judge(&mut row, window);
        batch.truncate_raw(&mut row, raw_bytes);
        batch.add(row);
    }
    batch.add_gap(pending.end);
    batch
}

impl Batch {
    /// Adds a gap up to an offset, if there is one. Returns `false` if it is for the next batch.
    fn add_gap(&mut self, to: Offset) -> bool {
        let span = to - self.end;
        let arrival_millis = self.last_arrival_millis.unwrap_or(0);
        if span <= 0 {
            return true;
        }
        let is_accepted = self.accepts(arrival_millis);
        if is_accepted {
            self.add(Row {
                offset: to - 1,
                arrival_millis,
                kind: RowKind::Gap { span },
            });
        }
        is_accepted
    }

    /// Whether a row that arrived then is for this batch.
    fn accepts(&self, arrival_millis: i64) -> bool {
        let is_same_month = |first: &Row| month(first.arrival_millis) == month(arrival_millis);
        self.rows.len() < ROWS_MAX && self.rows.first().is_none_or(is_same_month)
    }

    fn add(&mut self, row: Row) {
        self.end = row.offset + 1;
        self.last_arrival_millis = Some(row.arrival_millis);
        self.rows.push(row);
    }

    /// Judges an event by the window and the batch before it.
    fn judge(&mut self, row: &mut Row, window: &Window) {
        let RowKind::Event {
            event,
            repeat,
            challenge,
        } = &mut row.kind
        else {
            return;
        };
        let (year, month) = month(row.arrival_millis);
        let month = year.unsigned_abs() * 100 + month;
        match window.judge(&mut self.judged, row.offset, event, month) {
            Judgement::Repeat => *repeat = true,
            Judgement::First(judged) => *challenge = Some(judged),
        }
    }

    /// Keeps as much of a bad record as `raw_bytes` allows for the batch.
    fn truncate_raw(&mut self, row: &mut Row, raw_bytes: usize) {
        let RowKind::Bad { reason, raw } = &mut row.kind else {
            return;
        };
        if raw.len() > RAW_BYTES_MIN && self.raw_bytes + raw.len() > raw_bytes {
            raw.truncate(RAW_BYTES_MIN);
            *reason = reason.chars().take(REASON_CHARS_LEAST).collect();
            reason.push_str(&format!(
                " (too many at once: the first {RAW_BYTES_MIN} bytes are kept)"
            ));
            self.truncated += 1;
        }
        self.raw_bytes += raw.len();
    }
}

// At least as much of a value is read as is kept of it.
const _: () = assert!(VALUE_BYTES_MAX as usize >= RAW_BYTES_MAX);

/// The row of a record.
fn row_of(record: Record) -> Row {
    let bytes = record.value_bytes;
    let kind = match (record.read_error, record.value) {
        (Some(reason), value) => dead_letter(reason, &value.unwrap_or_default(), bytes),
        (None, None) => dead_letter("no value".to_string(), &[], bytes),
        (None, Some(value)) => match parse_record(&value) {
            Ok(event) => RowKind::Event {
                event,
                repeat: false,
                challenge: None,
            },
            Err(reason) => dead_letter(reason, &value, bytes),
        },
    };
    Row {
        offset: record.offset,
        arrival_millis: clamp_arrival_millis(record.timestamp_millis),
        kind,
    }
}

/// Memory that a row takes outside of itself.
fn heap_bytes(row: &Row) -> usize {
    match &row.kind {
        RowKind::Bad { reason, raw } => reason.len() + raw.len(),
        RowKind::Event { .. } | RowKind::Gap { .. } => 0,
    }
}

/// A record that is not an event: `value` is what was read of its `bytes` bytes.
fn dead_letter(reason: String, value: &[u8], bytes: u64) -> RowKind {
    let mut reason: String = reason.chars().take(REASON_CHARS_MAX).collect();
    if bytes > RAW_BYTES_MAX as u64 {
        reason.push_str(&format!(" (the first {RAW_BYTES_MAX} of {bytes} bytes are kept)"));
    }
    RowKind::Bad {
        reason,
        raw: truncate_raw(value).to_vec(),
    }
}

/// Year and month of an arrival, as `toYYYYMM` sees it.
fn month(millis: i64) -> (i32, u32) {
    let time = DateTime::from_timestamp_millis(millis).unwrap_or_default();
    (time.year(), time.month())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, EventType, numbered as event};
    use proptest::prelude::*;

    const MAY: i64 = 1_746_057_600_000; // 2025-05-01T00:00:00Z

    fn record(offset: i64, timestamp_millis: i64, value: &str) -> Record {
        Record {
            offset: Offset::new(offset),
            timestamp_millis,
            create_time_millis: timestamp_millis,
            value: Some(value.as_bytes().to_vec()),
            value_bytes: value.len() as u64,
            ..Record::default()
        }
    }

    fn good(offset: i64, number: u128) -> Record {
        record(offset, MAY, &event(number).to_json())
    }

    fn pending(records: &[Record]) -> Pending {
        let mut pending = Pending::default();
        pending.push(records.to_vec());
        pending.end = records.last().map_or(Offset::ZERO, |last| last.offset + 1);
        pending
    }

    /// Makes batches until nothing is left, and records as the consumer does.
    fn consume(mut head: Offset, records: &[Record], window: &mut Window) -> Vec<Vec<Row>> {
        let mut batches = Vec::new();
        let (mut rest, mut last) = (pending(records), None);
        while head < rest.end {
            let batch = next_batch(head, last, &rest, window, usize::MAX);
            assert!(batch.end > head, "no progress at {head}");
            window.record_pending(batch.judged);
            window.complete_to(batch.end);
            (head, last) = (batch.end, batch.last_arrival_millis);
            rest.skip_to(head);
            batches.push(batch.rows);
        }
        batches
    }

    fn repeats_of(rows: &[Row]) -> Vec<bool> {
        let repeat = |row: &Row| match &row.kind {
            RowKind::Event { repeat, .. } => Some(*repeat),
            _ => None,
        };
        rows.iter().filter_map(repeat).collect()
    }

    #[test]
    fn every_record_becomes_one_row() {
        let records = [
            good(5, 1),
            record(6, MAY, "garbage"),
            Record {
                offset: Offset::new(7),
                timestamp_millis: MAY,
                ..Record::default()
            },
            good(8, 2),
        ];
        let batches = consume(Offset::new(5), &records, &mut Window::new(100));
        assert_eq!(batches.len(), 1);
        let kinds: Vec<_> = batches[0]
            .iter()
            .map(|row| match &row.kind {
                RowKind::Event { .. } => "event".to_string(),
                RowKind::Bad { reason, raw } => format!("{reason} {}", raw.len()),
                RowKind::Gap { .. } => "gap".to_string(),
            })
            .collect();
        assert_eq!(
            kinds,
            [
                "event",
                "not JSON: expected value at line 1 column 1 7",
                "no value 0",
                "event"
            ]
        );
    }

    #[test]
    fn a_batch_ends_with_the_month_and_with_the_limit() {
        let records = [(0, MAY - 1), (1, MAY), (2, MAY), (3, MAY - 1)]
            .map(|(offset, millis)| record(offset, millis, &event(offset as u128).to_json()));
        let sizes: Vec<_> = consume(Offset::ZERO, &records, &mut Window::new(10))
            .iter()
            .map(Vec::len)
            .collect();
        assert_eq!(sizes, [1, 2, 1]);

        let many: Vec<_> = (0..=ROWS_MAX as i64)
            .map(|offset| good(offset, offset as u128))
            .collect();
        let sizes: Vec<_> = consume(Offset::ZERO, &many, &mut Window::new(10))
            .iter()
            .map(Vec::len)
            .collect();
        assert_eq!(sizes, [ROWS_MAX, 1]);
    }

    #[test]
    fn skipped_offsets_become_a_gap_dated_like_the_row_before() {
        let june = MAY + 31 * 86_400_000;
        let window = Window::new(10);
        let records = pending(&[record(3, june, "x")]);
        let first = next_batch(Offset::ZERO, Some(MAY), &records, &window, usize::MAX);
        let gap = Row {
            offset: Offset::new(2),
            arrival_millis: MAY,
            kind: RowKind::Gap { span: 3 },
        };
        assert_eq!((first.rows, first.end), (vec![gap], Offset::new(3)));
        let second = next_batch(Offset::new(3), first.last_arrival_millis, &records, &window, usize::MAX);
        assert_eq!((second.rows.len(), second.end), (1, Offset::new(4)));

        let nothing_before = next_batch(Offset::ZERO, None, &records, &window, usize::MAX);
        assert_eq!((nothing_before.rows.len(), nothing_before.end), (1, Offset::new(3)));
        assert_eq!(nothing_before.rows[0].arrival_millis, 0);
        let mut lone = pending(&[]);
        lone.end = Offset::new(3);
        let lone = next_batch(Offset::ZERO, None, &lone, &window, usize::MAX);
        assert_eq!(lone.rows, nothing_before.rows);
    }

    #[test]
    fn what_kafka_does_not_have_at_the_end_becomes_a_gap_too() {
        let mut after = pending(&[good(5, 1)]);
        after.end = Offset::new(8);
        let gap = |offset, span| Row {
            offset,
            arrival_millis: MAY,
            kind: RowKind::Gap { span },
        };
        let batch = next_batch(Offset::new(5), Some(MAY), &after, &Window::new(10), usize::MAX);
        assert_eq!((batch.rows.len(), batch.end), (2, Offset::new(8)));
        assert_eq!(batch.rows[1], gap(Offset::new(7), 2));

        after.skip_to(Offset::new(6));
        let alone = next_batch(Offset::new(6), Some(MAY), &after, &Window::new(10), usize::MAX);
        assert_eq!((alone.rows, alone.end), (vec![gap(Offset::new(7), 2)], Offset::new(8)));
        let nothing = next_batch(Offset::new(8), Some(MAY), &after, &Window::new(10), usize::MAX);
        assert_eq!((nothing.rows.len(), nothing.end), (0, Offset::new(8)));
    }

    #[test]
    fn records_below_a_head_are_forgotten() {
        let mut pending = pending(&[good(5, 1), good(6, 2), good(7, 3)]);
        let row_bytes = size_of::<Row>();
        assert_eq!(pending.bytes(), 3 * row_bytes);
        let text = "not JSON: expected value at line 1 column 1".len() + "garbage".len();
        pending.push(vec![record(8, MAY, "garbage"), record(9, MAY, "garbage")]);
        assert_eq!(pending.bytes(), 5 * row_bytes + 2 * text);
        pending.skip_to(Offset::new(7));
        assert_eq!((pending.rows.len(), pending.end), (3, Offset::new(8)));
        pending.skip_to(Offset::new(9));
        assert_eq!(pending.bytes(), row_bytes + text);
        pending.skip_to(Offset::new(20));
        assert_eq!((pending.bytes(), pending.end), (0, Offset::new(20)));
    }

    #[test]
    fn timestamps_that_cannot_be_stored_are_moved_to_the_edge() {
        let records = [record(0, -1, "x"), record(1, i64::MIN, "x"), record(2, i64::MAX, "x")];
        let batches = consume(Offset::ZERO, &records, &mut Window::new(10));
        let arrivals: Vec<_> = batches.concat().iter().map(|row| row.arrival_millis).collect();
        let last = clamp_arrival_millis(i64::MAX);
        assert_eq!(arrivals, [0, 0, last]);
        assert_eq!(month(last), (2200, 12));
    }

    #[test]
    fn repeats_are_marked_within_the_window_only() {
        let mut window = Window::new(3);
        let records = [
            good(0, 1),
            good(1, 1),
            good(2, 2),
            good(3, 3),
            good(4, 1),
            good(5, 4),
            good(6, 5),
            good(7, 2),
            good(8, 1),
        ];
        let rows = consume(Offset::ZERO, &records, &mut window).concat();
        // 4 repeats 1; 7 is 5 after 2; 8 is 4 after 4.
        assert_eq!(
            repeats_of(&rows),
            [false, true, false, false, true, false, false, false, false]
        );
    }

    #[test]
    fn a_huge_bad_record_is_truncated_and_says_so() {
        let records = [record(0, MAY, &"x".repeat(RAW_BYTES_MAX + 1))];
        let batch = next_batch(Offset::ZERO, None, &pending(&records), &Window::new(10), usize::MAX);
        let RowKind::Bad { reason, raw } = &batch.rows[0].kind else {
            panic!("{:?}", batch.rows[0].kind);
        };
        assert_eq!(raw.len(), RAW_BYTES_MAX);
        assert!(
            reason.ends_with("(the first 1048576 of 1048577 bytes are kept)"),
            "{reason}"
        );
    }

    #[test]
    fn of_a_flood_of_garbage_little_is_kept() {
        let garbage = |size| "x".repeat(size);
        let records = [
            record(0, MAY, &garbage(100)),
            record(1, MAY, &garbage(100)),
            record(2, MAY, &garbage(RAW_BYTES_MIN)),
            record(3, MAY, &garbage(50)),
        ];
        let batch = next_batch(Offset::ZERO, None, &pending(&records), &Window::new(10), 160);
        let kept = |row: &Row| match &row.kind {
            RowKind::Bad { reason, raw } => (raw.len(), reason.contains("too many at once")),
            other => panic!("{other:?}"),
        };
        let kept: Vec<_> = batch.rows.iter().map(kept).collect();
        let least = RAW_BYTES_MIN;
        assert_eq!(kept, [(100, false), (least, true), (least, false), (least, true)]);
        assert_eq!((batch.truncated, batch.raw_bytes), (2, 100 + 3 * least));
        for (row, record) in batch.rows.iter().zip(&records) {
            assert!(row.matches_record([MAY; 2], record.value.as_deref()));
        }
    }

    proptest! {
        /// Wherever batches end, the rows are the same.
        #[test]
        fn rows_are_a_function_of_the_log(
            numbers in proptest::collection::vec((0_u128..6, any::<bool>()), 1..120),
            batch_rows in proptest::collection::vec(1_usize..9, 1..40),
            records_max in 1_i64..20,
        ) {
            let records: Vec<_> = numbers.iter().enumerate().map(|(offset, (number, is_solve))| {
                let event_type = if *is_solve { EventType::Solve } else { EventType::Serve };
                record(offset as i64, MAY, &Event { event_type, ..event(*number) }.to_json())
            }).collect();
            let whole = consume(Offset::ZERO, &records, &mut Window::new(records_max)).concat();
            let expected: Vec<bool> = numbers.iter().enumerate().map(|(at, number)| {
                numbers[at.saturating_sub(records_max as usize)..at].contains(number)
            }).collect();
            prop_assert_eq!(repeats_of(&whole), expected);
            let (mut rows, mut window) = (Vec::new(), Window::new(records_max));
            let mut sizes = batch_rows.iter().cycle();
            while rows.len() < records.len() {
                let head = rows.len();
                let to = records.len().min(head + sizes.next().unwrap());
                rows.extend(consume(Offset::new(head as i64), &records[head..to], &mut window).concat());
            }
            prop_assert_eq!(rows, whole);
        }
    }
}
