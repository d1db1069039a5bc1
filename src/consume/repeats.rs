//! Which events were seen lately: a repeat is a function of the log, whoever consumes it and however often.
//!
//! Record `o` is a repeat if and only if the same event stands at an offset in `[o - N, o)`. So the memory
//! maps each event to its *last* offset; a set of events would forget when, and call first copies repeats.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use crate::event::Event;

/// 128 bits that stand for an event. Keyed anew in each process, so that nobody can choose two events
/// with one fingerprint; by chance a pair among 10^12 events has one with a probability below 10^-14.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u64; 2]);

/// The events at the last N offsets of one partition, 24 bytes and some slack for each.
pub struct Repeats {
    window: i64,
    last: HashMap<Fingerprint, i64>,
    known_to: i64,
    noted_to: i64,
    keys: [RandomState; 2],
}

impl Repeats {
    /// An empty memory for a window of N records.
    pub fn new(window: i64) -> Repeats {
        Repeats {
            window,
            last: HashMap::new(),
            known_to: 0,
            noted_to: 0,
            keys: [RandomState::new(), RandomState::new()],
        }
    }

    /// The fingerprint of an event in this memory.
    pub fn fingerprint(&self, event: &Event) -> Fingerprint {
        Fingerprint([self.keys[0].hash_one(event), self.keys[1].hash_one(event)])
    }

    /// Whether an offset lies in the window before another one.
    pub fn in_window(&self, earlier: i64, offset: i64) -> bool {
        (offset - self.window..offset).contains(&earlier)
    }

    /// The last known offset of an event, which may be too long ago.
    pub fn last(&self, fingerprint: Fingerprint) -> Option<i64> {
        self.last.get(&fingerprint).copied()
    }

    /// Notes that an event stands at an offset. What is noted is a fact of the log and never wrong.
    pub fn note(&mut self, fingerprint: Fingerprint, offset: i64) {
        let last = self.last.entry(fingerprint).or_insert(offset);
        *last = (*last).max(offset);
        self.noted_to = self.noted_to.max(offset + 1);
    }

    /// The offsets below a head that are not noted yet and can still matter. A head that went back, because
    /// the table lost rows, makes what stood above it unknown: an event's last offset may be one of those.
    pub fn missing(&mut self, head: i64) -> std::ops::Range<i64> {
        if head < self.noted_to {
            self.last.clear();
            self.noted_to = 0;
            self.known_to = 0;
        }
        self.known_to.max(head - self.window).max(0)..head
    }

    /// Says that everything that matters below a head is noted, and forgets what is too old to matter.
    pub fn complete_to(&mut self, head: i64) {
        self.known_to = head;
        // Sweeping at one and a half windows makes it cheap: at least half a window was added since.
        let limit =
            usize::try_from(self.window.saturating_add(self.window / 2)).unwrap_or(usize::MAX);
        if self.last.len() > limit {
            let oldest = head - self.window;
            self.last.retain(|_, offset| *offset >= oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Kind, Timestamp, numbered as event};
    use uuid::Uuid;

    #[test]
    fn all_four_fields_make_the_fingerprint() {
        let repeats = Repeats::new(10);
        let base = event(1);
        let others = [
            Event {
                site_id: Uuid::max(),
                ..base.clone()
            },
            Event {
                kind: Kind::Solve,
                ..base.clone()
            },
            event(2),
            Event {
                time: Timestamp::from_micros(1).unwrap(),
                ..base.clone()
            },
        ];
        assert_eq!(repeats.fingerprint(&base), repeats.fingerprint(&event(1)));
        for other in others {
            assert_ne!(
                repeats.fingerprint(&base),
                repeats.fingerprint(&other),
                "{other:?}"
            );
        }
    }

    #[test]
    fn the_window_is_the_n_records_before() {
        let repeats = Repeats::new(10);
        assert!(repeats.in_window(90, 100));
        assert!(repeats.in_window(99, 100));
        assert!(!repeats.in_window(89, 100));
        assert!(
            !repeats.in_window(100, 100),
            "a record is no repeat of itself"
        );
    }

    #[test]
    fn memory_is_bounded_and_keeps_what_matters() {
        let mut repeats = Repeats::new(100);
        for offset in 0..100_000 {
            let fingerprint = repeats.fingerprint(&event(offset as u128));
            repeats.note(fingerprint, offset);
            repeats.complete_to(offset + 1);
            assert!(repeats.last.len() <= 151);
        }
        for offset in 99_900..100_000 {
            let fingerprint = repeats.fingerprint(&event(offset as u128));
            assert_eq!(repeats.last(fingerprint), Some(offset));
        }
    }

    #[test]
    fn what_is_missing_after_a_rebuild_or_a_rival() {
        let mut repeats = Repeats::new(100);
        assert_eq!(repeats.missing(30), 0..30);
        assert_eq!(repeats.missing(1_000), 900..1_000);
        repeats.complete_to(1_000);
        assert!(repeats.missing(1_000).is_empty());
        assert_eq!(repeats.missing(1_010), 1_000..1_010);
        assert_eq!(repeats.missing(5_000), 4_900..5_000);
    }

    #[test]
    fn a_head_that_went_back_is_forgotten_and_read_again() {
        let mut repeats = Repeats::new(100);
        let fingerprint = repeats.fingerprint(&event(1));
        // Noted while the events below 50 were being read, which failed before the end.
        repeats.note(fingerprint, 40);
        assert_eq!(repeats.missing(30), 0..30);
        assert_eq!(repeats.last(fingerprint), None);
    }
}
