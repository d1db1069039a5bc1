//! Which events were seen lately: a repeat is a function of the log, whoever consumes it and however often.
//!
//! Record `o` is a repeat if and only if the same event stands at an offset in `[o - N, o)`. So the memory
//! maps each event to its *last* offset; a set of events would forget when, and call first copies repeats.

use std::hash::{BuildHasher as _, Hash, Hasher, RandomState};
use std::num::NonZeroU128;
use std::ops::Range;

use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::index::Seen;
use crate::event::{Event, EventType};

/// 128 bits that stand for an event. Keyed anew in each process, so that nobody can choose two events
/// with one fingerprint; by chance a pair among 10^12 events has one with a probability below 10^-14.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(NonZeroU128);

impl Fingerprint {
    /// From bits as good as random ones.
    pub fn from_bits(bits: u128) -> Fingerprint {
        Fingerprint(NonZeroU128::new(bits).unwrap_or(NonZeroU128::MIN))
    }

    /// As good as random ones.
    pub fn bits(self) -> u128 {
        self.0.get()
    }
}

impl Hash for Fingerprint {
    /// For [`AsItIs`].
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.bits() as u64);
    }
}

/// Hashes a [`Fingerprint`] to its own bits: it is a keyed hash already.
#[derive(Debug, Clone, Copy, Default)]
pub struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, bits: u64) {
        self.0 = bits;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The events at the last N offsets of one partition.
pub struct Repeats {
    window: i64,
    seen: Seen,
    /// The offset of the first place in `seen`.
    base: i64,
    known_to: i64,
    hasher: SipHasher13,
}

impl Repeats {
    /// An empty memory for a window of N records.
    pub fn new(window: i64) -> Repeats {
        // What the standard library hashes with a key from the system is as secret as the key.
        let random = RandomState::new();
        Repeats {
            window,
            seen: Seen::new(usize::try_from(window).unwrap_or(usize::MAX)),
            base: 0,
            known_to: 0,
            hasher: SipHasher13::new_with_keys(random.hash_one(0), random.hash_one(1)),
        }
    }

    /// The fingerprint of an event in this memory.
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

    /// Whether an offset lies in the window before another one.
    pub fn in_window(&self, earlier: i64, offset: i64) -> bool {
        (offset - self.window..offset).contains(&earlier)
    }

    /// The last known offset of an event, of the last N.
    pub fn last(&self, fingerprint: Fingerprint) -> Option<i64> {
        let topic_partition = self.seen.last(fingerprint)?;
        Some(self.base + topic_partition as i64)
    }

    /// Notes that an event stands at an offset. What is noted is a fact of the log and never wrong.
    pub fn note(&mut self, fingerprint: Fingerprint, offset: i64) {
        self.reach(offset + 1);
        if let Ok(topic_partition) = u64::try_from(offset - self.base) {
            self.seen.set(topic_partition, fingerprint);
        }
    }

    /// The offsets below a head that are not noted yet and can still matter. A head that went back, because
    /// the table lost rows, makes what stood above it unknown: an event's last offset may be one of those.
    pub fn missing(&mut self, head: i64) -> Range<i64> {
        if head < self.noted_to() {
            self.begin_at(0);
        }
        let start = self.known_to.max(head - self.window).max(0);
        if start > self.noted_to() {
            self.begin_at(start);
        }
        start..head
    }

    /// Says that everything that matters below a head is noted, and forgets what is too old to matter.
    pub fn complete_to(&mut self, head: i64) {
        self.reach(head);
        self.known_to = head;
    }

    /// The offset after the last one that was noted.
    fn noted_to(&self) -> i64 {
        self.base + self.seen.end() as i64
    }

    /// Makes place for the offsets up to one.
    fn reach(&mut self, to: i64) {
        if to - self.noted_to() > self.window {
            self.begin_at(to - self.window);
        }
        self.seen.extend((to - self.base).max(0) as u64);
    }

    /// Forgets everything; what comes stands at this offset or after it.
    fn begin_at(&mut self, offset: i64) {
        self.seen.clear();
        self.base = offset;
        self.known_to = offset;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EventType, Timestamp, numbered as event};
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
                event_type: EventType::Solve,
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
            assert_ne!(repeats.fingerprint(&base), repeats.fingerprint(&other), "{other:?}");
        }
    }

    #[test]
    fn the_window_is_the_n_records_before() {
        let repeats = Repeats::new(10);
        assert!(repeats.in_window(90, 100));
        assert!(repeats.in_window(99, 100));
        assert!(!repeats.in_window(89, 100));
        assert!(!repeats.in_window(100, 100), "a record is no repeat of itself");
    }

    #[test]
    fn what_matters_is_kept() {
        let mut repeats = Repeats::new(100);
        for offset in 0..100_000 {
            let fingerprint = repeats.fingerprint(&event(offset as u128));
            repeats.note(fingerprint, offset);
            repeats.complete_to(offset + 1);
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

    #[test]
    fn a_gap_of_more_than_the_window_ends_it() {
        let mut repeats = Repeats::new(100);
        let [before, first, last] = [1, 2, 3].map(|number| repeats.fingerprint(&event(number)));
        assert_eq!(repeats.missing(10), 0..10);
        repeats.note(before, 9);
        repeats.complete_to(10);
        assert_eq!(repeats.last(before), Some(9));
        let after = 1_000_000_000_000;
        repeats.note(last, after + 99);
        repeats.note(first, after);
        repeats.complete_to(after + 100);
        let known = [before, first, last].map(|fingerprint| repeats.last(fingerprint));
        assert_eq!(known, [None, Some(after), Some(after + 99)]);
        assert!(repeats.missing(after + 100).is_empty());
    }
}
