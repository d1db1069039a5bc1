//! How much is kept of records that are no events: a flood of garbage may cost rows, which are small, but not its bytes.

use std::time::Duration;

use tokio::time::Instant;

/// Bytes of bad records that one partition may keep at once: what a faulty producer sends until somebody looks.
const BURST_BYTES: usize = 64 << 20;

/// And a second in the long run: 1.4 GB a day before compression.
const BYTES_A_SECOND: usize = 16 << 10;

/// What one partition may still keep.
#[derive(Debug)]
pub struct Allowance {
    bytes: usize,
    refilled: Instant,
}

impl Allowance {
    /// All of it.
    pub fn new(now: Instant) -> Allowance {
        Allowance {
            bytes: BURST_BYTES,
            refilled: now,
        }
    }

    /// Bytes that may be kept now.
    pub fn bytes(&mut self, now: Instant) -> usize {
        let seconds = now.duration_since(self.refilled).as_secs();
        let more = usize::try_from(seconds)
            .unwrap_or(usize::MAX)
            .saturating_mul(BYTES_A_SECOND);
        self.bytes = self.bytes.saturating_add(more).min(BURST_BYTES);
        self.refilled += Duration::from_secs(seconds);
        self.bytes
    }

    /// Says that so many were kept.
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
        let mut allowance = Allowance::new(start);
        assert_eq!(allowance.bytes(start), BURST_BYTES);
        allowance.spend(BURST_BYTES + 1);
        assert_eq!(allowance.bytes(start + Duration::from_millis(1_900)), BYTES_A_SECOND);
        assert_eq!(
            allowance.bytes(start + Duration::from_millis(2_000)),
            2 * BYTES_A_SECOND
        );
        assert_eq!(allowance.bytes(start + Duration::from_secs(1 << 40)), BURST_BYTES);
    }
}
