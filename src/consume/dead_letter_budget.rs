//! How much is kept of records that are not events: a flood of garbage may cost rows, which are small, but not its
//! bytes.

use std::time::Duration;

use tokio::time::Instant;

/// Bytes of bad records that one partition may keep at once: what a faulty producer sends until a person stops it.
const BURST_BYTES: usize = 64 << 20;

/// Bytes that one partition may keep in a second in the long run: 1.4 GB a day before compression.
const REFILL_BYTES_PER_SECOND: usize = 16 << 10;

/// Bytes of bad records that one partition may still keep.
#[derive(Debug)]
pub struct DeadLetterBudget {
    bytes: usize,
    refilled: Instant,
}

impl DeadLetterBudget {
    /// A full budget.
    pub fn new(now: Instant) -> DeadLetterBudget {
        DeadLetterBudget {
            bytes: BURST_BYTES,
            refilled: now,
        }
    }

    /// Adds what the time since the last refill is worth, and returns the bytes that may be kept now.
    pub fn refill(&mut self, now: Instant) -> usize {
        let seconds = now.duration_since(self.refilled).as_secs();
        let more = usize::try_from(seconds)
            .unwrap_or(usize::MAX)
            .saturating_mul(REFILL_BYTES_PER_SECOND);
        self.bytes = self.bytes.saturating_add(more).min(BURST_BYTES);
        self.refilled += Duration::from_secs(seconds);
        self.bytes
    }

    /// Takes bytes that are kept out of the budget.
    pub fn spend(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_comes_back_slowly() {
        let start = Instant::now();
        let mut budget = DeadLetterBudget::new(start);
        assert_eq!(budget.refill(start), BURST_BYTES);
        budget.spend(BURST_BYTES + 1);
        assert_eq!(
            budget.refill(start + Duration::from_millis(1_900)),
            REFILL_BYTES_PER_SECOND
        );
        assert_eq!(
            budget.refill(start + Duration::from_millis(2_000)),
            2 * REFILL_BYTES_PER_SECOND
        );
        assert_eq!(budget.refill(start + Duration::from_secs(1 << 40)), BURST_BYTES);
    }
}
