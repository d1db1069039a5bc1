//! The events at the last N offsets of a partition.
//!
//! A repeat is a function of the log, whoever consumes it and however often: record `o` is a repeat if and only if the
//! same event is at an offset in `[o - N, o)`. So the window maps each event to its *last* offset. A set of events
//! would forget when, and call first copies repeats.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::ops::Range;

use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::fingerprint::Fingerprint;
use super::index::FingerprintIndex;
use crate::event::{Event, EventType};
use crate::topic_partition::Offset;

/// The events at the last N offsets of one partition.
pub struct DedupWindow {
    /// N.
    records: i64,
    index: FingerprintIndex,
    /// The offset of the first position in `index`.
    base: Offset,
    /// Everything that matters below this offset is recorded.
    loaded_to: Offset,
    hasher: SipHasher13,
}

impl DedupWindow {
    /// An empty window of N records.
    pub fn new(records: i64) -> DedupWindow {
        // What the standard library hashes with a key from the system is as secret as the key.
        let random = RandomState::new();
        DedupWindow {
            records,
            index: FingerprintIndex::new(usize::try_from(records).unwrap_or(usize::MAX)),
            base: Offset::ZERO,
            loaded_to: Offset::ZERO,
            hasher: SipHasher13::new_with_keys(random.hash_one(0), random.hash_one(1)),
        }
    }

    /// N.
    pub fn records(&self) -> i64 {
        self.records
    }

    /// The fingerprint of an event, which only this window understands.
    pub fn fingerprint(&self, event: &Event) -> Fingerprint {
        let mut bytes = [0; 41];
        bytes[..16].copy_from_slice(event.site_id.as_bytes());
        bytes[16..32].copy_from_slice(event.correlation_id.as_bytes());
        bytes[32..40].copy_from_slice(&event.time.micros().to_le_bytes());
        bytes[40] = match event.event_type {
            EventType::Serve => 0,
            EventType::Solve => 1,
        };
        let mut hasher = self.hasher;
        hasher.write(&bytes);
        Fingerprint::from_bits(hasher.finish128().as_u128())
    }

    /// Whether `earlier` is one of the N offsets before `offset`.
    pub fn reaches_back(&self, offset: Offset, earlier: Offset) -> bool {
        (offset - self.records..offset).contains(&earlier)
    }

    /// The last offset of an event, if it is among the last N that are known.
    pub fn last_offset(&self, fingerprint: Fingerprint) -> Option<Offset> {
        let position = self.index.last(fingerprint)?;
        Some(self.base + position as i64)
    }

    /// Records that an event is at an offset. That is a fact of the log and never wrong.
    pub fn record(&mut self, fingerprint: Fingerprint, offset: Offset) {
        self.extend_to(offset + 1);
        if let Ok(position) = u64::try_from(offset - self.base) {
            self.index.set(position, fingerprint);
        }
    }

    /// The offsets below a head that are still to be recorded, because they matter. If a head goes back, because the
    /// table lost rows, the window forgets everything: an event's last offset may be above that head.
    pub fn missing_below(&mut self, head: Offset) -> Range<Offset> {
        if head < self.end() {
            self.restart_at(Offset::ZERO);
        }
        let start = self.loaded_to.max(head - self.records).max(Offset::ZERO);
        if start > self.end() {
            self.restart_at(start);
        }
        start..head
    }

    /// Records that nothing that matters is missing below a head, and forgets what is too old to matter.
    pub fn complete_to(&mut self, head: Offset) {
        self.extend_to(head);
        self.loaded_to = head;
    }

    /// The offset after the last one that was recorded.
    fn end(&self) -> Offset {
        self.base + self.index.end() as i64
    }

    fn extend_to(&mut self, end: Offset) {
        if end - self.end() > self.records {
            self.restart_at(end - self.records);
        }
        self.index.extend((end - self.base).max(0) as u64);
    }

    /// Forgets everything; the next event is at this offset or after it.
    fn restart_at(&mut self, offset: Offset) {
        self.index.clear();
        self.base = offset;
        self.loaded_to = offset;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EventType, Timestamp, numbered as event};
    use uuid::Uuid;

    #[test]
    fn all_four_fields_make_the_fingerprint() {
        let window = DedupWindow::new(10);
        let base = event(1);
        let others = [
            Event {
                site_id: Uuid::max(),
                ..base.clone()
            },
            Event {
                event_type: EventType::Solve,
                ..base.clone()
            },
            event(2),
            Event {
                time: Timestamp::from_micros(1).unwrap(),
                ..base.clone()
            },
        ];
        assert_eq!(window.fingerprint(&base), window.fingerprint(&event(1)));
        for other in others {
            assert_ne!(window.fingerprint(&base), window.fingerprint(&other), "{other:?}");
        }
    }

    #[test]
    fn the_window_is_the_n_records_before() {
        let window = DedupWindow::new(10);
        assert!(window.reaches_back(Offset::new(100), Offset::new(90)));
        assert!(window.reaches_back(Offset::new(100), Offset::new(99)));
        assert!(!window.reaches_back(Offset::new(100), Offset::new(89)));
        assert!(
            !window.reaches_back(Offset::new(100), Offset::new(100)),
            "a record is not a repeat of itself"
        );
    }

    #[test]
    fn what_matters_is_kept() {
        let mut window = DedupWindow::new(100);
        for offset in 0..100_000 {
            let fingerprint = window.fingerprint(&event(offset as u128));
            window.record(fingerprint, Offset::new(offset));
            window.complete_to(Offset::new(offset + 1));
        }
        for offset in 99_900..100_000 {
            let fingerprint = window.fingerprint(&event(offset as u128));
            assert_eq!(window.last_offset(fingerprint), Some(Offset::new(offset)));
        }
    }

    #[test]
    fn what_is_missing_after_a_rebuild_or_a_rival() {
        let mut window = DedupWindow::new(100);
        assert_eq!(window.missing_below(Offset::new(30)), Offset::ZERO..Offset::new(30));
        assert_eq!(
            window.missing_below(Offset::new(1_000)),
            Offset::new(900)..Offset::new(1_000)
        );
        window.complete_to(Offset::new(1_000));
        assert!(window.missing_below(Offset::new(1_000)).is_empty());
        assert_eq!(
            window.missing_below(Offset::new(1_010)),
            Offset::new(1_000)..Offset::new(1_010)
        );
        assert_eq!(
            window.missing_below(Offset::new(5_000)),
            Offset::new(4_900)..Offset::new(5_000)
        );
    }

    #[test]
    fn a_head_that_went_back_is_forgotten_and_read_again() {
        let mut window = DedupWindow::new(100);
        let fingerprint = window.fingerprint(&event(1));
        // Recorded while the events below 50 were being read, which failed before the end.
        window.record(fingerprint, Offset::new(40));
        assert_eq!(window.missing_below(Offset::new(30)), Offset::ZERO..Offset::new(30));
        assert_eq!(window.last_offset(fingerprint), None);
    }

    #[test]
    fn a_gap_of_more_than_the_window_ends_it() {
        let mut window = DedupWindow::new(100);
        let [before, first, last] = [1, 2, 3].map(|number| window.fingerprint(&event(number)));
        assert_eq!(window.missing_below(Offset::new(10)), Offset::ZERO..Offset::new(10));
        window.record(before, Offset::new(9));
        window.complete_to(Offset::new(10));
        assert_eq!(window.last_offset(before), Some(Offset::new(9)));
        let after = Offset::new(1_000_000_000_000);
        window.record(last, after + 99);
        window.record(first, after);
        window.complete_to(after + 100);
        let known = [before, first, last].map(|fingerprint| window.last_offset(fingerprint));
        assert_eq!(known, [None, Some(after), Some(after + 99)]);
        assert!(window.missing_below(after + 100).is_empty());
    }
}
