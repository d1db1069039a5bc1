//! The records of each challenge among the last N positions of a log, in 35 bytes for each position: 24 in a ring of
//! what is known of a record, the rest in two tables that lead from a challenge to the slot of its last record. From
//! there, each record leads to the one before it.
//!
//! Nothing is ever deleted from a table. A cell counts only if the ring has the challenge in its slot, and each table
//! covers N positions in a row; so everything in the older one is too old when the next one starts.
//!
//! `hashbrown::HashTable` takes more, measured at 1,000,000 positions: one table that deletes takes 26.5 bytes for each
//! at first and 37 after 12 times as many records, because deleted cells pile up until it doubles; two tables that do
//! not delete take 37. A lookup and an insert take as long.

use std::collections::HashMap;

use super::challenge::{Challenge, Part};
use super::fingerprint::Fingerprint;
use super::slot::{Entry, Slot};
use crate::topic_partition::Offset;

/// Cells of a new table, 4 kB: a quiet partition needs no more for long.
const CELLS_FIRST: usize = 1 << 10;

/// Records of a challenge that are looked at one after another. A challenge has about two; one with more than this gets
/// a map of its own, so that thousands of events with one correlation id cost no more than others.
const CHAIN_MAX: usize = 32;

/// What the window has of an event and its challenge.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub challenge: Challenge,
    /// The last offset of the same event.
    pub same: Option<Offset>,
}

/// A ring of records and the way to them.
pub struct RecordIndex {
    /// N.
    window: usize,
    /// The offset of position 0.
    base: Offset,
    /// The record of position `p` in slot `p % N`, of the last N positions or as many as there were.
    ring: Vec<Slot>,
    /// How many positions there were.
    end: u64,
    /// Of the N positions that include the last one, and of the N before.
    tables: [Table; 2],
    /// Challenges with more records than [`CHAIN_MAX`].
    crowds: HashMap<u128, Crowd>,
}

/// A challenge of many records. Its map costs about 40 bytes for each.
struct Crowd {
    challenge: Challenge,
    /// The last position of each event.
    events: HashMap<u64, u64>,
    /// Events that it may have until those that are too old are removed.
    events_max: usize,
    last: u64,
}

impl RecordIndex {
    /// Without any position, from an offset on. N is at most [`super::slot::WINDOW_MAX`].
    pub fn new(window: usize, base: Offset) -> RecordIndex {
        RecordIndex {
            window,
            base,
            ring: Vec::new(),
            end: 0,
            tables: [Table::new(window), Table::new(window)],
            crowds: HashMap::new(),
        }
    }

    /// The offset of the next position.
    pub fn end(&self) -> Offset {
        self.base + self.end as i64
    }

    /// Adds positions without a record up to a new end, and forgets those that are N before it.
    pub fn extend(&mut self, end: Offset) {
        while self.end() < end {
            let slot = self.slot(self.end);
            if slot == 0 {
                self.tables.swap(0, 1);
                self.tables[0].clear();
                let oldest = self.end.saturating_sub(self.window as u64);
                self.crowds.retain(|_, crowd| crowd.last >= oldest);
            }
            if slot < self.ring.len() {
                self.ring[slot] = Slot::default();
            } else {
                self.grow();
                self.ring.push(Slot::default());
            }
            self.end += 1;
        }
    }

    /// Sets the record at an offset, unless that is forgotten. It is found once [`RecordIndex::link`] was called for it.
    pub fn set(&mut self, offset: Offset, challenge: Fingerprint, entry: Entry) {
        if let Some(position) = self.kept_position(offset) {
            let slot = self.slot(position);
            self.ring[slot] = Slot::new(challenge, entry);
        }
    }

    /// Makes the record at an offset the last one of its challenge: in the order of offsets, once for each.
    pub fn link(&mut self, offset: Offset) {
        let Some(position) = self.kept_position(offset) else {
            return;
        };
        let slot = self.slot(position);
        let record = self.ring[slot];
        let Some(challenge) = record.challenge() else {
            return;
        };
        let (base, window, entry) = (self.base, self.window as u64, record.entry());
        if let Some(crowd) = self.crowds.get_mut(&challenge.bits()) {
            crowd.add(base, position, &entry, window);
            return;
        }
        let chain = self.chain(challenge, position);
        if let Some((before, _)) = chain.first() {
            self.ring[slot].set_link(position - before);
        }
        if chain.len() == CHAIN_MAX {
            let mut crowd = Crowd::default();
            let entries = chain.iter().rev().map(|(position, entry)| (*position, entry));
            for (position, entry) in entries.chain([(position, &entry)]) {
                crowd.add(base, position, entry, window);
            }
            self.crowds.insert(challenge.bits(), crowd);
        }
        let is_older = self.turn(position) != self.turn(self.end - 1);
        self.tables[usize::from(is_older)].set(challenge, slot, &self.ring);
    }

    /// What there is of a challenge, and of an event of it, by [`Entry::identity`].
    pub fn find(&self, challenge: Fingerprint, identity: u64) -> Found {
        if let Some(crowd) = self.crowds.get(&challenge.bits()) {
            let same = crowd.events.get(&identity).copied();
            return Found {
                challenge: crowd.challenge,
                same: same.map(|position| self.base + position as i64),
            };
        }
        let mut found = Found::default();
        for (position, entry) in self.chain(challenge, self.end).iter().rev() {
            let offset = self.base + *position as i64;
            if entry.identity() == identity {
                found.same = Some(offset);
            }
            add(&mut found.challenge, offset, entry);
        }
        found
    }

    /// The records of a challenge from the last one before a position on, [`CHAIN_MAX`] at most.
    fn chain(&self, challenge: Fingerprint, before: u64) -> Vec<(u64, Entry)> {
        let mut chain = Vec::new();
        let mut next = self.last(challenge, before);
        while let Some(position) = next.filter(|position| self.is_kept(*position) && chain.len() < CHAIN_MAX) {
            let record = &self.ring[self.slot(position)];
            chain.push((position, record.entry()));
            next = match record.link() {
                0 => None,
                distance => position.checked_sub(distance),
            };
        }
        chain
    }

    /// The last position of a challenge before another one. A slot may have a record already that is not linked yet.
    fn last(&self, challenge: Fingerprint, before: u64) -> Option<u64> {
        let is_before = |slot| self.position_of(slot) < before;
        let slots = self
            .tables
            .iter()
            .filter_map(|table| table.get(challenge, &self.ring, is_before));
        slots.map(|slot| self.position_of(slot)).max()
    }

    /// The position of an offset, if it is one of the last N.
    fn kept_position(&self, offset: Offset) -> Option<u64> {
        let position = u64::try_from(offset - self.base).ok();
        position.filter(|position| self.is_kept(*position))
    }

    /// Whether a position is one of the last N.
    fn is_kept(&self, position: u64) -> bool {
        position < self.end && self.end - position <= self.window as u64
    }

    fn slot(&self, position: u64) -> usize {
        (position % self.window as u64) as usize
    }

    fn turn(&self, position: u64) -> u64 {
        position / self.window as u64
    }

    /// The last position in a slot.
    fn position_of(&self, slot: usize) -> u64 {
        let last = self.end - 1;
        let back = (self.slot(last) + self.window - slot) % self.window;
        last - back as u64
    }

    /// Makes room in the ring: twice as much, and never more than N.
    fn grow(&mut self) {
        if self.ring.len() == self.ring.capacity() {
            let more = self.ring.len().max(64).min(self.window - self.ring.len());
            self.ring.reserve_exact(more);
        }
    }
}

/// Adds a record to what is known of its challenge.
fn add(challenge: &mut Challenge, offset: Offset, entry: &Entry) {
    if entry.part != Part::Repeat {
        challenge.add(entry.event_type, entry.part, entry.half(offset));
    }
}

impl Default for Crowd {
    fn default() -> Crowd {
        Crowd {
            challenge: Challenge::default(),
            events: HashMap::new(),
            events_max: 4 * CHAIN_MAX,
            last: 0,
        }
    }
}

impl Crowd {
    fn add(&mut self, base: Offset, position: u64, entry: &Entry, window: u64) {
        self.last = position;
        self.events.insert(entry.identity(), position);
        add(&mut self.challenge, base + position as i64, entry);
        if self.events.len() > self.events_max {
            self.events.retain(|_, last| position - *last <= window);
            self.events_max = (self.events.len() + self.events.len() / 4).max(4 * CHAIN_MAX);
            self.events.shrink_to(self.events_max);
        }
    }
}

/// From fingerprints to slots of the ring, by linear probing; three of four cells are taken at most.
struct Table {
    /// 0, or one more than a slot in the low bits and some bits of its fingerprint above.
    cells: Vec<u32>,
    taken: usize,
    cells_max: usize,
    slot_mask: u32,
}

impl Table {
    fn new(window: usize) -> Table {
        Table {
            cells: Vec::new(),
            taken: 0,
            cells_max: CELLS_FIRST.max(window / 3 * 4 + 4),
            slot_mask: u32::MAX >> (window as u32).leading_zeros(),
        }
    }

    fn clear(&mut self) {
        self.cells.fill(0);
        self.taken = 0;
    }

    /// The slot of a fingerprint, among those that count.
    fn get(&self, fingerprint: Fingerprint, ring: &[Slot], counts: impl Fn(usize) -> bool) -> Option<usize> {
        let at = self.find(fingerprint, ring, counts).ok()?;
        Some(self.slot(self.cells[at]))
    }

    /// Points a fingerprint to a slot, unless it points to a later one.
    fn set(&mut self, fingerprint: Fingerprint, slot: usize, ring: &[Slot]) {
        if (self.taken + 1) * 4 > self.cells.len() * 3 && self.cells.len() < self.cells_max {
            self.grow(ring);
        }
        match self.find(fingerprint, ring, |_| true) {
            Ok(at) if self.slot(self.cells[at]) >= slot => {}
            Ok(at) => self.cells[at] = self.cell(fingerprint, slot),
            Err(at) => {
                self.cells[at] = self.cell(fingerprint, slot);
                self.taken += 1;
            }
        }
    }

    /// The cell that points to where the ring has the fingerprint, or the free one where it would be.
    fn find(&self, fingerprint: Fingerprint, ring: &[Slot], counts: impl Fn(usize) -> bool) -> Result<usize, usize> {
        let mut at = self.home(fingerprint);
        let wanted = self.cell(fingerprint, 0);
        loop {
            let cell = *self.cells.get(at).unwrap_or(&0);
            if cell == 0 {
                return Err(at);
            }
            let may_be = (cell ^ wanted) & !self.slot_mask == 0;
            let slot = self.slot(cell);
            if may_be && ring[slot].challenge() == Some(fingerprint) && counts(slot) {
                return Ok(at);
            }
            at = if at + 1 < self.cells.len() { at + 1 } else { 0 };
        }
    }

    /// Doubles the cells. A slot with another fingerprint by now points to that one, which is as true.
    fn grow(&mut self, ring: &[Slot]) {
        let count = (self.cells.len() * 2).clamp(CELLS_FIRST, self.cells_max);
        let cells = std::mem::replace(&mut self.cells, vec![0; count]);
        self.taken = 0;
        for cell in cells.into_iter().filter(|cell| *cell != 0) {
            let slot = self.slot(cell);
            if let Some(fingerprint) = ring[slot].challenge() {
                self.set(fingerprint, slot, ring);
            }
        }
    }

    fn home(&self, fingerprint: Fingerprint) -> usize {
        let low = fingerprint.bits() as u64;
        ((u128::from(low) * self.cells.len() as u128) >> 64) as usize
    }

    fn cell(&self, fingerprint: Fingerprint, slot: usize) -> u32 {
        let high = (fingerprint.bits() >> 64) as u32;
        (high & !self.slot_mask) | (slot as u32 + 1)
    }

    fn slot(&self, cell: u32) -> usize {
        (cell & self.slot_mask) as usize - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventType;
    use proptest::prelude::*;

    /// Spread over all bits, as the real ones are.
    fn fingerprint(number: u64) -> Fingerprint {
        let bits = u128::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        Fingerprint::from_bits(bits >> 32)
    }

    fn entry(time_micros: i64) -> Entry {
        Entry {
            event_type: EventType::Serve,
            time_micros,
            part: Part::First,
            arrival_month: 202_401,
        }
    }

    fn same(index: &RecordIndex, challenge: u64, time_micros: i64) -> Option<i64> {
        let found = index.find(fingerprint(challenge), entry(time_micros).identity());
        found.same.map(Offset::get)
    }

    #[test]
    fn what_a_position_takes_is_bounded() {
        let window = 100_000;
        let mut index = RecordIndex::new(window, Offset::ZERO);
        for position in 0..3 * window as i64 + 17 {
            let offset = Offset::new(position);
            index.extend(offset + 1);
            index.set(offset, fingerprint(position as u64), entry(0));
            index.link(offset);
        }
        let cells = index.tables.iter().map(|table| table.cells.capacity());
        let bytes = index.ring.capacity() * size_of::<Slot>() + cells.sum::<usize>() * 4;
        assert!(bytes <= 35 * window, "{bytes}");
        for position in 2 * window as u64 + 17..3 * window as u64 + 17 {
            assert_eq!(same(&index, position, 0), Some(position as i64));
        }
        assert_eq!(same(&index, 2 * window as u64 + 16, 0), None);
    }

    #[test]
    fn a_challenge_of_many_events_is_forgotten_too() {
        let window = 1_000;
        let mut index = RecordIndex::new(window, Offset::ZERO);
        for position in 0..10_000 {
            let offset = Offset::new(position);
            index.extend(offset + 1);
            index.set(offset, fingerprint(7), entry(position));
            index.link(offset);
        }
        let crowd = index.crowds.values().next().expect("a crowd");
        assert!(crowd.events.len() <= 2 * window + 1, "{}", crowd.events.len());
        index.extend(Offset::new(13_000));
        assert!(index.crowds.is_empty());
        assert_eq!(same(&index, 7, 9_999), None);
    }

    proptest! {
        /// Challenges few and many, records set in any order within what is remembered and then linked, with positions
        /// left out.
        #[test]
        fn records_are_found_while_they_are_in_the_window(
            window in 1_usize..60,
            challenges in 1_u64..30,
            steps in proptest::collection::vec((0_i64..70, proptest::collection::vec((0_i64..70, 0_u64..30, 0_i64..50), 0..80)), 1..12),
        ) {
            let mut index = RecordIndex::new(window, Offset::new(5));
            let mut records: Vec<Option<(u64, i64)>> = Vec::new();
            for (more, sets) in steps {
                let linked = records.len();
                records.resize(linked + more as usize, None);
                index.extend(Offset::new(5 + records.len() as i64));
                for (back, challenge, time_micros) in sets {
                    let Some(at) = records.len().checked_sub(back as usize + 1).filter(|at| *at >= linked) else { continue };
                    let (challenge, time_micros) = *records[at].get_or_insert((challenge % challenges, time_micros));
                    index.set(Offset::new(5 + at as i64), fingerprint(challenge), entry(time_micros));
                }
                for at in linked..records.len() {
                    index.link(Offset::new(5 + at as i64));
                }
                let oldest = records.len().saturating_sub(window);
                for challenge in 0..challenges {
                    for time_micros in 0..50 {
                        let last = (oldest..records.len()).rev().find(|at| records[*at] == Some((challenge, time_micros)));
                        let found = same(&index, challenge, time_micros).filter(|offset| *offset >= 5 + oldest as i64);
                        prop_assert_eq!(found, last.map(|at| 5 + at as i64));
                    }
                }
            }
        }
    }
}
