//! The last position of each fingerprint among the last N positions of a log, in 27 bytes for each: 16 in a ring of the
//! fingerprints themselves, the rest in two tables that lead to slots of the ring.
//!
//! Nothing is ever deleted from a table. A cell counts only if the ring has the fingerprint in its slot, and each table
//! covers N positions in a row; so everything in the older one is too old when the next one starts.
//!
//! `hashbrown::HashTable` takes more, measured at 1,000,000 positions: one table that deletes takes 26.5 bytes for each
//! at first and 37 after 12 times as many records, because deleted cells pile up until it doubles; two tables that do
//! not delete take 37. A lookup and an insert take as long.

use super::fingerprint::Fingerprint;

/// Cells of a new table, 4 kB: a quiet partition needs no more for long.
const CELLS_FIRST: usize = 1 << 10;

/// A ring of fingerprints and the way to them.
pub struct FingerprintIndex {
    /// N.
    window: usize,
    /// The fingerprint of position `p` in slot `p % N`, of the last N positions or as many as there were.
    ring: Vec<Option<Fingerprint>>,
    /// How many positions there were.
    end: u64,
    /// Of the N positions that include the last one, and of the N before.
    tables: [Table; 2],
}

impl FingerprintIndex {
    /// Without any position. N is at most 2^32 - 2; `captcha migrate` allows much less.
    pub fn new(window: usize) -> FingerprintIndex {
        FingerprintIndex {
            window,
            ring: Vec::new(),
            end: 0,
            tables: [Table::new(window), Table::new(window)],
        }
    }

    /// How many positions there were.
    pub fn end(&self) -> u64 {
        self.end
    }

    pub fn clear(&mut self) {
        *self = FingerprintIndex::new(self.window);
    }

    /// Adds positions without a fingerprint up to a new end, and forgets those that are N before it.
    pub fn extend(&mut self, end: u64) {
        while self.end < end {
            let slot = self.slot(self.end);
            if slot == 0 {
                self.tables.swap(0, 1);
                self.tables[0].clear();
            }
            if slot < self.ring.len() {
                self.ring[slot] = None;
            } else {
                self.grow();
                self.ring.push(None);
            }
            self.end += 1;
        }
    }

    /// Sets the fingerprint of a position, unless the position is forgotten.
    pub fn set(&mut self, position: u64, fingerprint: Fingerprint) {
        if self.end - position > self.window as u64 {
            return;
        }
        let slot = self.slot(position);
        self.ring[slot] = Some(fingerprint);
        let is_older = self.turn(position) != self.turn(self.end - 1);
        self.tables[usize::from(is_older)].set(fingerprint, slot, &self.ring);
    }

    /// The last position of a fingerprint.
    pub fn last(&self, fingerprint: Fingerprint) -> Option<u64> {
        let slots = self.tables.iter().map(|table| table.get(fingerprint, &self.ring));
        slots.flatten().map(|slot| self.position_of(slot)).max()
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

    fn get(&self, fingerprint: Fingerprint, ring: &[Option<Fingerprint>]) -> Option<usize> {
        let at = self.find(fingerprint, ring).ok()?;
        Some(self.slot(self.cells[at]))
    }

    /// Points a fingerprint to a slot, unless it points to a later one.
    fn set(&mut self, fingerprint: Fingerprint, slot: usize, ring: &[Option<Fingerprint>]) {
        if (self.taken + 1) * 4 > self.cells.len() * 3 && self.cells.len() < self.cells_max {
            self.grow(ring);
        }
        match self.find(fingerprint, ring) {
            Ok(at) if self.slot(self.cells[at]) >= slot => {}
            Ok(at) => self.cells[at] = self.cell(fingerprint, slot),
            Err(at) => {
                self.cells[at] = self.cell(fingerprint, slot);
                self.taken += 1;
            }
        }
    }

    /// The cell that points to where the ring has the fingerprint, or the free one where it would be.
    fn find(&self, fingerprint: Fingerprint, ring: &[Option<Fingerprint>]) -> Result<usize, usize> {
        let mut at = self.home(fingerprint);
        let wanted = self.cell(fingerprint, 0);
        loop {
            let cell = *self.cells.get(at).unwrap_or(&0);
            if cell == 0 {
                return Err(at);
            }
            let may_be = (cell ^ wanted) & !self.slot_mask == 0;
            if may_be && ring[self.slot(cell)] == Some(fingerprint) {
                return Ok(at);
            }
            at = if at + 1 < self.cells.len() { at + 1 } else { 0 };
        }
    }

    /// Doubles the cells. A slot with another fingerprint by now points to that one, which is as true.
    fn grow(&mut self, ring: &[Option<Fingerprint>]) {
        let count = (self.cells.len() * 2).clamp(CELLS_FIRST, self.cells_max);
        let cells = std::mem::replace(&mut self.cells, vec![0; count]);
        self.taken = 0;
        for cell in cells.into_iter().filter(|cell| *cell != 0) {
            let slot = self.slot(cell);
            if let Some(fingerprint) = ring[slot] {
                self.set(fingerprint, slot, ring);
            }
        }
    }

    fn home(&self, fingerprint: Fingerprint) -> usize {
        let low = fingerprint.bits() as u64;
        ((u128::from(low) * self.cells.len() as u128) >> 64) as usize
    }

    fn cell(&self, fingerprint: Fingerprint, slot: usize) -> u32 {
        let high = (fingerprint.bits() >> 96) as u32;
        (high & !self.slot_mask) | (slot as u32 + 1)
    }

    fn slot(&self, cell: u32) -> usize {
        (cell & self.slot_mask) as usize - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Spread over all bits, as the real ones are.
    fn fingerprint(number: u64) -> Fingerprint {
        let bits = u128::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        Fingerprint::from_bits(bits)
    }

    #[test]
    fn what_a_position_takes_is_bounded() {
        let window = 100_000;
        let mut index = FingerprintIndex::new(window);
        for position in 0..3 * window as u64 + 17 {
            index.extend(position + 1);
            index.set(position, fingerprint(position));
        }
        let cells = index.tables.iter().map(|table| table.cells.capacity());
        let bytes = index.ring.capacity() * 16 + cells.sum::<usize>() * 4;
        assert!(bytes <= 27 * window, "{bytes}");
        for position in 2 * window as u64 + 17..3 * window as u64 + 17 {
            assert_eq!(index.last(fingerprint(position)), Some(position));
        }
        assert_eq!(index.last(fingerprint(2 * window as u64 + 16)), None);
    }

    proptest! {
        /// Fingerprints few and many, set in any order within what is remembered, with positions left out.
        #[test]
        fn the_last_position_is_the_last_position(
            window in 1_usize..40,
            steps in proptest::collection::vec((0_u64..60, proptest::collection::vec((0_u64..70, 0_u64..30), 0..50)), 1..12),
        ) {
            let mut index = FingerprintIndex::new(window);
            let mut positions: Vec<Option<u64>> = Vec::new();
            for (more, sets) in steps {
                index.extend(index.end() + more);
                positions.resize(index.end() as usize, None);
                for (back, number) in sets {
                    let Some(position) = index.end().checked_sub(back + 1) else { continue };
                    let number = *positions[position as usize].get_or_insert(number);
                    index.set(position, fingerprint(number));
                }
                let oldest = positions.len().saturating_sub(window);
                for number in 0..30 {
                    let last = (oldest..positions.len()).rev().find(|at| positions[*at] == Some(number));
                    prop_assert_eq!(index.last(fingerprint(number)), last.map(|at| at as u64));
                }
            }
        }
    }
}
