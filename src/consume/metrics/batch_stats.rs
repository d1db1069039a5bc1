//! What is counted of the rows of an insert, taken before they leave for ClickHouse. Pure.

use crate::clickhouse::{Row, RowKind};

/// What stands at an offset, as the label of a metric has it.
pub const KINDS: [&str; 4] = ["event", "repeat", "bad", "gap"];

const BAD: usize = 2;
const GAP: usize = 3;

fn kind(row: &RowKind) -> usize {
    match row {
        RowKind::Event { repeat: false, .. } => 0,
        RowKind::Event { repeat: true, .. } => 1,
        RowKind::Bad { .. } => BAD,
        RowKind::Gap { .. } => GAP,
    }
}

/// The rows of one insert.
#[derive(Debug, Default)]
pub struct Tally {
    /// By [`KINDS`].
    counts: [u64; KINDS.len()],
    /// Arrivals of records, in milliseconds since 1970, and how many one after the other had each: under load hundreds.
    arrivals: Vec<(i64, u64)>,
}

impl Tally {
    /// Counts rows.
    pub fn of(rows: &[Row]) -> Tally {
        let mut tally = Tally::default();
        for row in rows {
            let kind = kind(&row.kind);
            tally.counts[kind] += 1;
            // A record without a timestamp did not wait since 1970.
            if kind == GAP || row.arrival_millis == 0 {
                continue;
            }
            match tally.arrivals.last_mut() {
                Some((arrival_millis, count)) if *arrival_millis == row.arrival_millis => {
                    *count += 1;
                }
                _ => tally.arrivals.push((row.arrival_millis, 1)),
            }
        }
        tally
    }

    /// All rows.
    pub fn rows(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Those that are no events.
    pub fn bad(&self) -> u64 {
        self.counts[BAD]
    }

    /// How many there are of each kind.
    pub fn kinds(&self) -> impl Iterator<Item = (&'static str, u64)> {
        KINDS.into_iter().zip(self.counts)
    }

    /// How long ago records arrived, and how many did then; 0 if that is yet to come.
    pub fn waits_millis(&self, now_millis: i64) -> impl Iterator<Item = (u64, u64)> {
        self.arrivals.iter().map(move |(arrival_millis, count)| {
            let wait = now_millis.saturating_sub(*arrival_millis);
            (wait.max(0) as u64, *count)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::numbered as event;

    fn row(arrival_millis: i64, kind: RowKind) -> Row {
        Row {
            offset: 0,
            arrival_millis,
            kind,
        }
    }

    #[test]
    fn records_wait_from_their_arrival_and_gaps_do_not() {
        let some = |repeat| RowKind::Event {
            event: event(1),
            repeat,
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
        let tally = Tally::of(&rows);
        assert_eq!((tally.rows(), tally.bad()), (7, 1));
        let kinds: Vec<_> = tally.kinds().collect();
        assert_eq!(kinds, [("event", 4), ("repeat", 1), ("bad", 1), ("gap", 1)]);
        let waits: Vec<_> = tally.waits_millis(20).collect();
        assert_eq!(waits, [(10, 3), (3, 1), (10, 1), (0, 1)]);
    }
}
