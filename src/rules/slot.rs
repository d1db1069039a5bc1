//! What a window keeps of one record, in 24 bytes.
//!
//! ```text
//! word 0           word 1 low 32   word 1 high 32        word 2
//! challenge, 96 bits               month 5 | link 27     month 7 | part 3 | type 1 | time 53
//! ```

use super::challenge::{Half, Part};
use super::fingerprint::Fingerprint;
use crate::event::{Event, EventType};
use crate::topic_partition::Offset;

const TIME_BITS: u32 = 53;
const TYPE_BITS: u32 = 1;
const PART_BITS: u32 = 3;
const MONTH_LOW_BITS: u32 = 7;
const MONTH_HIGH_BITS: u32 = 5;
const LINK_BITS: u32 = 27;

/// Records of the largest window: `captcha migrate` allows 100,000,000.
pub const WINDOW_MAX: usize = 1 << LINK_BITS;

/// The first year of an arrival month; later ones are kept as months since then, up to the year 2200.
const YEAR_FIRST: u32 = 1970;

const _: () = assert!(TIME_BITS + TYPE_BITS + PART_BITS + MONTH_LOW_BITS == 64);
const _: () = assert!(MONTH_HIGH_BITS + LINK_BITS == 32);
const _: () = assert!((2200 - YEAR_FIRST + 1) * 12 <= 1 << (MONTH_LOW_BITS + MONTH_HIGH_BITS));
// The last microsecond of the year 2200.
const _: () = assert!(7_289_654_399_999_999 < 1_i64 << TIME_BITS);

/// What is known of a record that is an event, besides its challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub event_type: EventType,
    pub time_micros: i64,
    pub part: Part,
    /// The month in which it arrived, as `toYYYYMM` has it.
    pub arrival_month: u32,
}

impl Entry {
    /// Of an event with this part in its challenge.
    pub fn new(event: &Event, part: Part, arrival_month: u32) -> Entry {
        Entry {
            event_type: event.event_type,
            time_micros: event.time.micros(),
            part,
            arrival_month,
        }
    }

    /// The same for two events of one challenge if and only if they are the same event.
    pub fn identity(&self) -> u64 {
        let is_solve = u64::from(self.event_type == EventType::Solve);
        is_solve << TIME_BITS | self.time_micros as u64
    }

    pub fn half(&self, offset: Offset) -> Half {
        Half {
            offset,
            time_micros: self.time_micros,
            arrival_month: self.arrival_month,
        }
    }
}

/// A record of the window; all zeros if it is not an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Slot([u64; 3]);

impl Slot {
    pub fn new(challenge: Fingerprint, entry: Entry) -> Slot {
        let bits = challenge.bits();
        let month = month_number(entry.arrival_month);
        let (low, high) = (month & ((1 << MONTH_LOW_BITS) - 1), month >> MONTH_LOW_BITS);
        let part = Part::ALL.iter().position(|part| *part == entry.part).unwrap_or(0) as u64;
        let link_word = u64::from(high) << (32 + LINK_BITS);
        let flags = u64::from(low) << PART_BITS | part;
        Slot([
            bits as u64,
            (bits >> 64) as u64 | link_word,
            flags << (TYPE_BITS + TIME_BITS) | entry.identity(),
        ])
    }

    /// The challenge; `None` if the record is not an event.
    pub fn challenge(&self) -> Option<Fingerprint> {
        let bits = u128::from(self.0[1] as u32) << 64 | u128::from(self.0[0]);
        Fingerprint::from_stored(bits)
    }

    pub fn entry(&self) -> Entry {
        let last = self.0[2];
        let low = (last >> (TIME_BITS + TYPE_BITS + PART_BITS)) as u32;
        let high = (self.0[1] >> (32 + LINK_BITS)) as u32;
        let part = (last >> (TIME_BITS + TYPE_BITS)) as usize & ((1 << PART_BITS) - 1);
        Entry {
            event_type: match last >> TIME_BITS & 1 {
                0 => EventType::Serve,
                _ => EventType::Solve,
            },
            time_micros: (last & ((1 << TIME_BITS) - 1)) as i64,
            part: Part::ALL.get(part).copied().unwrap_or(Part::Unknown),
            arrival_month: month_of_number(high << MONTH_LOW_BITS | low),
        }
    }

    /// How many positions before this one the challenge's record before it is; 0 if none is in the window.
    pub fn link(&self) -> u64 {
        (self.0[1] >> 32) & ((1 << LINK_BITS) - 1)
    }

    pub fn set_link(&mut self, distance: u64) {
        let kept = self.0[1] & !(((1 << LINK_BITS) - 1) << 32);
        self.0[1] = kept | distance << 32;
    }
}

/// Months since January 1970.
fn month_number(month: u32) -> u32 {
    (month / 100).saturating_sub(YEAR_FIRST) * 12 + (month % 100).saturating_sub(1)
}

fn month_of_number(number: u32) -> u32 {
    (YEAR_FIRST + number / 12) * 100 + number % 12 + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_slot_keeps_all_of_an_entry(
            bits in 1_u128..1 << 96,
            is_solve: bool,
            time_micros in 0_i64..=7_289_654_399_999_999,
            part in 0_usize..Part::ALL.len(),
            month in 0_u32..231 * 12,
            distance in 0_u64..1 << LINK_BITS,
        ) {
            let event_type = if is_solve { EventType::Solve } else { EventType::Serve };
            let entry = Entry { event_type, time_micros, part: Part::ALL[part], arrival_month: month_of_number(month) };
            let mut slot = Slot::new(Fingerprint::from_bits(bits), entry);
            prop_assert_eq!(slot.link(), 0);
            slot.set_link(distance);
            prop_assert_eq!((slot.challenge(), slot.entry(), slot.link()), (Some(Fingerprint::from_bits(bits)), entry, distance));
            slot.set_link(0);
            prop_assert_eq!((slot.entry(), slot.link()), (entry, 0));
        }
    }

    #[test]
    fn months_are_those_of_arrivals() {
        assert_eq!((month_number(197_001), month_of_number(0)), (0, 197_001));
        assert_eq!(month_of_number(month_number(220_012)), 220_012);
    }

    #[test]
    fn a_record_that_is_not_an_event_has_no_challenge() {
        assert_eq!(Slot::default().challenge(), None);
        assert_eq!(size_of::<Slot>(), 24);
    }
}
