//! One row of `events`: what became of a record, or of offsets that Kafka does not have.

use crate::event::{Event, parse_record};
use crate::rules::RoleAndPair;
use crate::topic_partition::Offset;

/// Bytes of a bad record that are kept: Kafka's default limit for a record.
pub const RAW_BYTES_MAX: usize = 1 << 20;

/// Bytes of each that are kept in a flood of bad records: enough to recognise one, and little more than the row itself.
pub const RAW_BYTES_MIN: usize = 32;

/// The last millisecond of the year 2200; `DateTime64` and `toYYYYMM` are safe up to it.
const ARRIVAL_MILLIS_MAX: i64 = 7_289_654_399_999;

/// A record's own timestamp, as the table can hold it.
pub fn clamp_arrival_millis(timestamp_millis: i64) -> i64 {
    timestamp_millis.clamp(0, ARRIVAL_MILLIS_MAX)
}

/// As much of a bad record as is kept.
pub fn truncate_raw(value: &[u8]) -> &[u8] {
    &value[..value.len().min(RAW_BYTES_MAX)]
}

/// One row of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub offset: Offset,
    /// The record's own timestamp, in milliseconds since 1970, within the years 1970 to 2200.
    pub arrival_millis: i64,
    pub kind: RowKind,
}

/// What the log has at an offset, as the column `kind`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowKind {
    Event {
        event: Event,
        /// Whether the window before it has the same event. Reports leave it out.
        repeat: bool,
        /// Its role in its challenge; `None` for a repeat, and while it is not judged.
        challenge: Option<RoleAndPair>,
    },
    /// A record that is not an event.
    Bad {
        /// Why it is not an event.
        reason: String,
        /// The record's value, at most [`RAW_BYTES_MAX`].
        raw: Vec<u8>,
    },
    /// Offsets that Kafka does not have, or no longer has; the last one is the row's offset.
    Gap {
        /// The number of them, at least 1.
        span: i64,
    },
}

impl Row {
    /// The event of a good record.
    pub fn event(&self) -> Option<&Event> {
        match &self.kind {
            RowKind::Event { event, .. } => Some(event),
            RowKind::Bad { .. } | RowKind::Gap { .. } => None,
        }
    }

    /// Whether a record at this offset, which arrived at one of these times, becomes this row.
    pub fn matches_record(&self, times_millis: [i64; 2], value: Option<&[u8]>) -> bool {
        let value = value.unwrap_or_default();
        let same = match &self.kind {
            RowKind::Event { event, .. } => parse_record(value).as_ref() == Ok(event),
            RowKind::Bad { raw, .. } => {
                let is_shortened = raw.len() == RAW_BYTES_MIN && value.starts_with(raw);
                raw == truncate_raw(value) || is_shortened
            }
            RowKind::Gap { .. } => false,
        };
        same && times_millis.map(clamp_arrival_millis).contains(&self.arrival_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_known_by_its_record() {
        let event = crate::event::numbered(1);
        let json = event.to_json();
        let row = |kind| Row {
            offset: Offset::new(5),
            arrival_millis: 1_000,
            kind,
        };
        let good = row(RowKind::Event {
            event,
            repeat: false,
            challenge: None,
        });
        for (times, is_made_of) in [([1_000; 2], true), ([9, 1_000], true), ([9, 1_001], false)] {
            assert_eq!(good.matches_record(times, Some(json.as_bytes())), is_made_of);
        }
        let other = crate::event::numbered(2).to_json();
        assert!(!good.matches_record([1_000; 2], Some(other.as_bytes())));
        assert!(!good.matches_record([1_000; 2], None));

        let bad = |raw: &[u8]| {
            row(RowKind::Bad {
                reason: String::new(),
                raw: raw.to_vec(),
            })
        };
        assert!(bad(b"garbage").matches_record([1_000; 2], Some(b"garbage")));
        assert!(!bad(b"garbage").matches_record([1_000; 2], Some(b"garbagf")));
        assert!(bad(b"").matches_record([1_000; 2], None));
        let huge = vec![b'x'; RAW_BYTES_MAX + 1];
        assert!(bad(&huge[1..]).matches_record([1_000; 2], Some(&huge)));
        assert!(!row(RowKind::Gap { span: 1 }).matches_record([1_000; 2], Some(b"x")));
    }

    /// A later captcha may take more records for events, as with times of nanoseconds. A row stays what it is.
    #[test]
    fn a_dead_letter_is_known_by_its_record_also_if_that_is_an_event_now() {
        let value = crate::event::numbered(1).to_json().replace(":00\"}", ":00.1234567Z\"}");
        assert!(parse_record(value.as_bytes()).is_ok(), "{value}");
        for bytes in [value.len(), RAW_BYTES_MIN] {
            let letter = Row {
                offset: Offset::new(5),
                arrival_millis: 1_000,
                kind: RowKind::Bad {
                    reason: "/time more than 6 digits after the point".to_string(),
                    raw: value.as_bytes()[..bytes].to_vec(),
                },
            };
            assert!(letter.matches_record([1_000; 2], Some(value.as_bytes())));
            assert!(!letter.matches_record([1_001; 2], Some(value.as_bytes())));
            let other = value.replacen("00000000", "00000001", 1);
            assert!(!letter.matches_record([1_000; 2], Some(other.as_bytes())));
        }
    }
}
