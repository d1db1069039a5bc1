//! The events at the last N offsets of a partition, and what they make of the next one.
//!
//! A repeat is a function of the log, whoever consumes it and however often: record `o` is a repeat if and only if the
//! same event is at an offset in `[o - N, o)`. So the window knows the *last* offset of each event. A set of events
//! would forget when, and call first copies repeats. Roles are functions of the log in the same way:
//! see [`challenge`](super::challenge).

use std::collections::HashMap;
use std::hash::{BuildHasher as _, BuildHasherDefault, Hasher as _, RandomState};
use std::ops::Range;

use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::challenge::{Challenge, Part, RoleAndPair};
use super::fingerprint::{Fingerprint, PassThroughHasher};
use super::index::RecordIndex;
use super::slot::{Entry, WINDOW_MAX};
use crate::event::{Event, EventType};
use crate::topic_partition::Offset;

/// The events at the last N offsets of one partition.
pub struct Window {
    /// N.
    records: i64,
    index: RecordIndex,
    /// Everything that matters below this offset is recorded.
    loaded_to: Offset,
    hasher: SipHasher13,
}

/// What an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// The window has the same event.
    Repeat,
    First(RoleAndPair),
}

/// Events that follow a window and are not part of it yet, because they may still not be stored.
#[derive(Debug, Default)]
pub struct Pending {
    challenges: HashMap<Fingerprint, Challenge, BuildHasherDefault<PassThroughHasher>>,
    events: HashMap<Fingerprint, Offset, BuildHasherDefault<PassThroughHasher>>,
    records: Vec<(Offset, Fingerprint, Entry)>,
}

impl Window {
    /// An empty window of N records.
    pub fn new(records: i64) -> Window {
        // What the standard library hashes with a key from the system is as secret as the key.
        let random = RandomState::new();
        Window {
            records,
            index: new_index(records, Offset::ZERO),
            loaded_to: Offset::ZERO,
            hasher: SipHasher13::new_with_keys(random.hash_one(0), random.hash_one(1)),
        }
    }

    /// N.
    pub fn records(&self) -> i64 {
        self.records
    }

    /// Judges the event at an offset, which follows the window and `pending`, and adds it to the latter. The month is
    /// that of its arrival, as `toYYYYMM` has it.
    pub fn judge(&self, pending: &mut Pending, offset: Offset, event: &Event, arrival_month: u32) -> Judgement {
        let challenge = self.challenge_fingerprint(event);
        let mut entry = Entry::new(event, Part::Unknown, arrival_month);
        let found = self.index.find(challenge, entry.identity());
        let is_near = |earlier: Offset| (offset - self.records..offset).contains(&earlier);
        let earlier = pending.events.insert(self.event_fingerprint(event), offset);
        let known = pending.challenges.entry(challenge).or_insert(found.challenge);
        let judgement = if earlier.or(found.same).is_some_and(is_near) {
            entry.part = Part::Repeat;
            Judgement::Repeat
        } else {
            let judged = known.judge(event.event_type, entry.time_micros, is_near);
            entry.part = Part::of(Some(judged.role), judged.pair.is_some());
            known.add(event.event_type, entry.part, entry.half(offset));
            Judgement::First(judged)
        };
        pending.records.push((offset, challenge, entry));
        judgement
    }

    /// Records events that [`Window::judge`] added, once they are stored.
    pub fn record_pending(&mut self, pending: Pending) {
        for (offset, challenge, entry) in pending.records {
            self.record_entry(offset, challenge, entry);
        }
    }

    /// Records what is stored at an offset. That is a fact of the log and never wrong.
    pub fn record(&mut self, offset: Offset, event: &Event, part: Part, arrival_month: u32) {
        let challenge = self.challenge_fingerprint(event);
        self.record_entry(offset, challenge, Entry::new(event, part, arrival_month));
    }

    fn record_entry(&mut self, offset: Offset, challenge: Fingerprint, entry: Entry) {
        self.extend_to(offset + 1);
        self.index.set(offset, challenge, entry);
    }

    /// The offsets below a head that are still to be recorded, because they matter. If a head goes back, because the
    /// table lost rows, the window forgets everything: an event's last offset may be above that head.
    pub fn missing_below(&mut self, head: Offset) -> Range<Offset> {
        if head < self.index.end() {
            self.restart_at(Offset::ZERO);
        }
        let start = self.loaded_to.max(head - self.records).max(Offset::ZERO);
        if start > self.index.end() {
            self.restart_at(start);
        }
        start..head
    }

    /// Records that nothing that matters is missing below a head, and forgets what is too old to matter.
    pub fn complete_to(&mut self, head: Offset) {
        self.extend_to(head);
        let mut offset = self.loaded_to.max(head - self.records);
        while offset < head {
            self.index.link(offset);
            offset += 1;
        }
        self.loaded_to = head;
    }

    fn extend_to(&mut self, end: Offset) {
        if end - self.index.end() > self.records {
            self.restart_at(end - self.records);
        }
        self.index.extend(end);
    }

    /// Forgets everything; the next event is at this offset or after it.
    fn restart_at(&mut self, offset: Offset) {
        self.index = new_index(self.records, offset);
        self.loaded_to = offset;
    }

    fn challenge_fingerprint(&self, event: &Event) -> Fingerprint {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(event.site_id.as_bytes());
        bytes[16..].copy_from_slice(event.correlation_id.as_bytes());
        self.fingerprint(&bytes)
    }

    fn event_fingerprint(&self, event: &Event) -> Fingerprint {
        let mut bytes = [0; 41];
        bytes[..16].copy_from_slice(event.site_id.as_bytes());
        bytes[16..32].copy_from_slice(event.correlation_id.as_bytes());
        bytes[32..40].copy_from_slice(&event.time.micros().to_le_bytes());
        bytes[40] = match event.event_type {
            EventType::Serve => 0,
            EventType::Solve => 1,
        };
        self.fingerprint(&bytes)
    }

    fn fingerprint(&self, bytes: &[u8]) -> Fingerprint {
        let mut hasher = self.hasher;
        hasher.write(bytes);
        Fingerprint::from_bits(hasher.finish128().as_u128())
    }
}

fn new_index(records: i64, base: Offset) -> RecordIndex {
    RecordIndex::new(usize::try_from(records).unwrap_or(WINDOW_MAX).min(WINDOW_MAX), base)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Timestamp, numbered as event};
    use crate::rules::Role;
    use proptest::prelude::*;
    use uuid::Uuid;

    const MONTH: u32 = 202_401;

    fn is_repeat(window: &Window, offset: i64, event: &Event) -> bool {
        let mut pending = Pending::default();
        window.judge(&mut pending, Offset::new(offset), event, MONTH) == Judgement::Repeat
    }

    fn record(window: &mut Window, offset: i64, event: &Event) {
        window.record(Offset::new(offset), event, Part::First, MONTH);
    }

    #[test]
    fn all_four_fields_make_an_event() {
        let mut window = Window::new(10);
        let base = event(1);
        record(&mut window, 0, &base);
        window.complete_to(Offset::new(1));
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
        assert!(is_repeat(&window, 1, &base));
        for other in others {
            assert!(!is_repeat(&window, 1, &other), "{other:?}");
        }
    }

    #[test]
    fn the_window_is_the_n_records_before() {
        let mut window = Window::new(10);
        window.extend_to(Offset::new(90));
        window.loaded_to = Offset::new(90);
        record(&mut window, 90, &event(1));
        window.complete_to(Offset::new(91));
        assert!(is_repeat(&window, 91, &event(1)));
        assert!(is_repeat(&window, 100, &event(1)));
        assert!(!is_repeat(&window, 101, &event(1)));
    }

    #[test]
    fn what_matters_is_kept() {
        let mut window = Window::new(100);
        for offset in 0..10_000 {
            record(&mut window, offset, &event(offset as u128));
            window.complete_to(Offset::new(offset + 1));
        }
        for offset in 9_900..10_000 {
            assert!(is_repeat(&window, 10_000, &event(offset as u128)));
        }
        assert!(!is_repeat(&window, 10_000, &event(9_899)));
    }

    #[test]
    fn what_is_missing_after_a_rebuild_or_a_rival() {
        let mut window = Window::new(100);
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
        let mut window = Window::new(100);
        // Recorded while the events below 50 were being read, which failed before the end.
        record(&mut window, 40, &event(1));
        assert_eq!(window.missing_below(Offset::new(30)), Offset::ZERO..Offset::new(30));
        window.complete_to(Offset::new(30));
        assert!(!is_repeat(&window, 41, &event(1)));
    }

    #[test]
    fn a_gap_of_more_than_the_window_ends_it() {
        let mut window = Window::new(100);
        assert_eq!(window.missing_below(Offset::new(10)), Offset::ZERO..Offset::new(10));
        record(&mut window, 9, &event(1));
        window.complete_to(Offset::new(10));
        assert!(is_repeat(&window, 10, &event(1)));
        let after = 1_000_000_000_000;
        record(&mut window, after + 99, &event(3));
        record(&mut window, after, &event(2));
        window.complete_to(Offset::new(after + 100));
        let known = [1, 2, 3].map(|number| is_repeat(&window, after + 100, &event(number)));
        assert_eq!(known, [false, true, true]);
        assert!(window.missing_below(Offset::new(after + 100)).is_empty());
    }

    /// What each event is by the definition, from all that were before it: roles are looked up in the list.
    fn by_definition(events: &[Event], records: usize) -> Vec<Judgement> {
        let mut all: Vec<Judgement> = Vec::new();
        for (at, event) in events.iter().enumerate() {
            let near = at.saturating_sub(records)..at;
            if events[near.clone()].contains(event) {
                all.push(Judgement::Repeat);
                continue;
            }
            let earlier: Vec<_> = near
                .filter(|other| {
                    let other = &events[*other];
                    (other.site_id, other.correlation_id) == (event.site_id, event.correlation_id)
                })
                .filter_map(|other| match all[other] {
                    Judgement::Repeat => None,
                    Judgement::First(judged) => Some((other, &events[other], judged)),
                })
                .collect();
            let find = |role| earlier.iter().find(move |(.., judged)| judged.role == role);
            let has = |event_type| earlier.iter().any(|(_, other, _)| other.event_type == event_type);
            let first = find(Role::First);
            let is_answered = first.is_some_and(|(_, _, judged)| judged.pair.is_some())
                || first.is_some_and(|(first, ..)| {
                    earlier
                        .iter()
                        .any(|(other, _, judged)| other > first && judged.role == Role::Answer)
                });
            let (role, other) = match event.event_type {
                EventType::Serve if has(EventType::Serve) => (Role::Again, None),
                EventType::Serve => (Role::First, find(Role::Open)),
                EventType::Solve if first.is_some() && !is_answered => (Role::Answer, first),
                EventType::Solve if is_answered || has(EventType::Solve) => (Role::Again, None),
                EventType::Solve => (Role::Open, None),
            };
            let pair = other.map(|(_, other, _)| {
                let after = event.time.micros() - other.time.micros();
                crate::rules::Pair {
                    solve_after_micros: if event.event_type == EventType::Solve {
                        after
                    } else {
                        -after
                    },
                    other_month: MONTH,
                }
            });
            all.push(Judgement::First(RoleAndPair { role, pair }));
        }
        all
    }

    proptest! {
        /// Wherever batches end, and whatever a consumer forgot and read again before each of them, events are judged
        /// as the definition does it.
        #[test]
        fn judgements_are_a_function_of_the_log(
            numbers in proptest::collection::vec((0_u128..4, 0_u128..2, 0_i64..4, any::<bool>()), 1..150),
            batch_rows in proptest::collection::vec(1_usize..9, 1..40),
            records in 1_usize..140,
        ) {
            let events: Vec<Event> = numbers.iter().map(|(challenge, site, time, is_solve)| Event {
                site_id: Uuid::from_u128(*site),
                event_type: if *is_solve { EventType::Solve } else { EventType::Serve },
                correlation_id: Uuid::from_u128(*challenge),
                time: Timestamp::from_micros(*time).unwrap(),
            }).collect();
            let expected = by_definition(&events, records);
            let mut kept = Window::new(records as i64);
            let mut judged: Vec<Judgement> = Vec::new();
            let mut sizes = batch_rows.iter().cycle();
            while judged.len() < events.len() {
                let head = judged.len();
                let mut rebuilt = Window::new(records as i64);
                let missing = rebuilt.missing_below(Offset::new(head as i64));
                // In no order, as ClickHouse hands them over.
                for offset in (missing.start.get()..missing.end.get()).rev() {
                    let part = match judged[offset as usize] {
                        Judgement::Repeat => Part::Repeat,
                        Judgement::First(judged) => Part::of(Some(judged.role), judged.pair.is_some()),
                    };
                    rebuilt.record(Offset::new(offset), &events[offset as usize], part, MONTH);
                }
                rebuilt.complete_to(Offset::new(head as i64));
                let to = events.len().min(head + sizes.next().unwrap());
                let [mut ours, mut theirs] = [Pending::default(), Pending::default()];
                for (at, event) in (head..to).zip(&events[head..to]) {
                    let offset = Offset::new(at as i64);
                    let judgement = kept.judge(&mut ours, offset, event, MONTH);
                    prop_assert_eq!(judgement, rebuilt.judge(&mut theirs, offset, event, MONTH));
                    judged.push(judgement);
                }
                kept.record_pending(ours);
                kept.complete_to(Offset::new(to as i64));
            }
            prop_assert_eq!(judged, expected);
        }
    }
}
