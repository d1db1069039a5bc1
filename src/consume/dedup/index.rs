//! Where fingerprints stand among the last N places of a log, in 27 bytes for each: 16 in the ring of the
//! fingerprints themselves, the rest in two tables that lead to places in the ring.
//!
//! Nothing is ever deleted from a table. What a table says counts only if the ring holds the fingerprint there, and
//! each table covers N places in a row; so of the older one everything is too old when the next one begins.

use super::fingerprint::Fingerprint;

/// Cells of a table at first, 4 kB: a quiet partition needs no more for long.
const CELLS_FIRST: usize = 1 << 10;

/// A ring of fingerprints and the way to them.
pub struct Seen {
    /// N.
    window: usize,
    /// The fingerprint of place `p` at `p % N`, of the last N places or as many as there were.
    ring: Vec<Option<Fingerprint>>,
    /// How many places there were.
    end: u64,
    /// Of the N places that `end` lies in, and of those before.
    tables: [Table; 2],
}

impl Seen {
    /// Without any place. N is at most 2^32 - 2; `captcha migrate` allows much less.
    pub fn new(window: usize) -> Seen {
        Seen {
            window,
            ring: Vec::new(),
            end: 0,
            tables: [Table::new(window), Table::new(window)],
        }
    }

    /// How many places there were.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Seen::new(self.window);
    }

    /// Adds places without a fingerprint up to a new end; those that are N before it are forgotten.
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

    /// Sets the fingerprint of a place; one that is forgotten stays so.
    pub fn set(&mut self, topic_partition: u64, fingerprint: Fingerprint) {
        if self.end - topic_partition > self.window as u64 {
            return;
        }
        let slot = self.slot(topic_partition);
        self.ring[slot] = Some(fingerprint);
        let is_before = self.turn(topic_partition) != self.turn(self.end - 1);
        self.tables[usize::from(is_before)].set(fingerprint, slot, &self.ring);
    }

    /// The last place of a fingerprint.
    pub fn last(&self, fingerprint: Fingerprint) -> Option<u64> {
        let slots = self.tables.iter().map(|table| table.get(fingerprint, &self.ring));
        slots.flatten().map(|slot| self.topic_partition(slot)).max()
    }

    fn slot(&self, topic_partition: u64) -> usize {
        (topic_partition % self.window as u64) as usize
    }

    fn turn(&self, topic_partition: u64) -> u64 {
        topic_partition / self.window as u64
    }

    /// The last place that has this slot.
    fn topic_partition(&self, slot: usize) -> u64 {
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

    /// Leads a fingerprint to a slot, unless it leads to a later one.
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

    /// The cell that leads to where the ring has the fingerprint, or the free one where it would be.
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

    /// Twice as many cells. A slot whose fingerprint is another one by now leads to that one, which is as true.
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
    fn what_a_place_takes_is_bounded() {
        let window = 100_000;
        let mut seen = Seen::new(window);
        for topic_partition in 0..3 * window as u64 + 17 {
            seen.extend(topic_partition + 1);
            seen.set(topic_partition, fingerprint(topic_partition));
        }
        let cells = seen.tables.iter().map(|table| table.cells.capacity());
        let bytes = seen.ring.capacity() * 16 + cells.sum::<usize>() * 4;
        assert!(bytes <= 27 * window, "{bytes}");
        for topic_partition in 2 * window as u64 + 17..3 * window as u64 + 17 {
            assert_eq!(seen.last(fingerprint(topic_partition)), Some(topic_partition));
        }
        assert_eq!(seen.last(fingerprint(2 * window as u64 + 16)), None);
    }

    proptest! {
        /// Fingerprints few and many, set in any order within what is remembered, with places left out.
        #[test]
        fn the_last_place_is_the_last_place(
            window in 1_usize..40,
            steps in proptest::collection::vec((0_u64..60, proptest::collection::vec((0_u64..70, 0_u64..30), 0..50)), 1..12),
        ) {
            let mut seen = Seen::new(window);
            let mut places: Vec<Option<u64>> = Vec::new();
            for (more, sets) in steps {
                seen.extend(seen.end() + more);
                places.resize(seen.end() as usize, None);
                for (back, number) in sets {
                    let Some(topic_partition) = seen.end().checked_sub(back + 1) else { continue };
                    let number = *places[topic_partition as usize].get_or_insert(number);
                    seen.set(topic_partition, fingerprint(number));
                }
                let oldest = places.len().saturating_sub(window);
                for number in 0..30 {
                    let last = (oldest..places.len()).rev().find(|at| places[*at] == Some(number));
                    prop_assert_eq!(seen.last(fingerprint(number)), last.map(|at| at as u64));
                }
            }
        }
    }
}
