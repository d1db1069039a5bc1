//! Counts of the rows of one insert, made before they leave for ClickHouse. Pure.

use crate::clickhouse::{Row, RowKind};

/// The kinds of rows, as the label of a metric has them.
pub const KINDS: [&str; 4] = ["event", "repeat", "bad", "gap"];

const BAD: usize = 2;
const GAP: usize = 3;

fn kind_index(kind: &RowKind) -> usize {
    match kind {
        RowKind::Event { repeat: false, .. } => 0,
        RowKind::Event { repeat: true, .. } => 1,
        RowKind::Bad { .. } => BAD,
        RowKind::Gap { .. } => GAP,
    }
}

/// An event that is dated later than its arrival by more than this was dated by a wrong clock. A missing offset does not
/// explain it: no time zone is more than 14 hours ahead of UTC.
const AHEAD_MICROS_MAX: i64 = 24 * 3_600 * 1_000_000;

/// Whether an event is dated more than a day after its arrival. A record without a timestamp has no arrival.
fn is_dated_ahead(row: &Row) -> bool {
    match &row.kind {
        RowKind::Event {
            event, repeat: false, ..
        } => row.arrival_millis != 0 && event.time.micros() - row.arrival_millis * 1_000 > AHEAD_MICROS_MAX,
        RowKind::Event { .. } | RowKind::Bad { .. } | RowKind::Gap { .. } => false,
    }
}

/// Counts of the rows of one insert.
#[derive(Debug)]
pub struct BatchStats {
    /// By [`KINDS`].
    counts: [u64; KINDS.len()],
    dated_ahead: u64,
    /// Arrivals of records, in milliseconds since 1970.
    arrivals_millis: Vec<i64>,
}

impl BatchStats {
    pub fn new(rows: &[Row]) -> BatchStats {
        let mut stats = BatchStats {
            counts: [0; KINDS.len()],
            dated_ahead: 0,
            arrivals_millis: Vec::with_capacity(rows.len()),
        };
        for row in rows {
            let kind = kind_index(&row.kind);
            stats.counts[kind] += 1;
            stats.dated_ahead += u64::from(is_dated_ahead(row));
            // A record without a timestamp did not wait since 1970.
            if kind != GAP && row.arrival_millis != 0 {
                stats.arrivals_millis.push(row.arrival_millis);
            }
        }
        stats
    }

    pub fn rows(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Records that are not events.
    pub fn bad(&self) -> u64 {
        self.counts[BAD]
    }

    /// Events, without repeats, that are dated more than a day after their arrival.
    pub fn dated_ahead(&self) -> u64 {
        self.dated_ahead
    }

    /// The count of each kind.
    pub fn kinds(&self) -> impl Iterator<Item = (&'static str, u64)> {
        KINDS.into_iter().zip(self.counts)
    }

    /// How long ago each record arrived, in seconds; 0 for one of the future.
    pub fn seconds_since_arrival(&self, now_millis: i64) -> impl Iterator<Item = f64> {
        let seconds = move |arrival_millis: &i64| now_millis.saturating_sub(*arrival_millis).max(0) as f64 / 1e3;
        self.arrivals_millis.iter().map(seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Timestamp, numbered as event};
    use crate::topic_partition::Offset;

    fn row(arrival_millis: i64, kind: RowKind) -> Row {
        Row {
            offset: Offset::ZERO,
            arrival_millis,
            kind,
        }
    }

    #[test]
    fn records_wait_from_their_arrival_and_gaps_do_not() {
        let some = |repeat| RowKind::Event {
            event: event(1),
            repeat,
            challenge: None,
        };
        let bad = RowKind::Bad {
            reason: String::new(),
            raw: Vec::new(),
        };
        let rows = [
            row(10, some(false)),
            row(10, some(true)),
            row(10, RowKind::Gap { span: 5 }),
            row(10, bad),
            row(17, some(false)),
            row(10, some(false)),
            row(99, some(false)),
        ];
        let stats = BatchStats::new(&rows);
        assert_eq!((stats.rows(), stats.bad()), (7, 1));
        let kinds: Vec<_> = stats.kinds().collect();
        assert_eq!(kinds, [("event", 4), ("repeat", 1), ("bad", 1), ("gap", 1)]);
        let seconds: Vec<_> = stats.seconds_since_arrival(20).collect();
        assert_eq!(seconds, [0.010, 0.010, 0.010, 0.003, 0.010, 0.0]);
    }

    #[test]
    fn events_are_dated_ahead_from_more_than_a_day_after_their_arrival_on() {
        let dated = |micros_after_arrival, arrival_millis, repeat| {
            let mut event = event(1);
            event.time = Timestamp::from_micros(arrival_millis * 1_000 + micros_after_arrival).unwrap();
            let rows = [row(
                arrival_millis,
                RowKind::Event {
                    event,
                    repeat,
                    challenge: None,
                },
            )];
            BatchStats::new(&rows).dated_ahead()
        };
        let day = 86_400_000_000;
        assert_eq!((dated(day, 10, false), dated(day + 1, 10, false)), (0, 1));
        assert_eq!((dated(-10_000, 10, false), dated(0, 10, false)), (0, 0));
        assert_eq!(dated(day + 1, 10, true), 0, "the event is counted already");
        assert_eq!(dated(day + 1, 0, false), 0, "without an arrival");
    }
}
