//! How long to wait after failures in a row.

use std::time::Duration;

/// Waits that double from one failure to the next, up to the longest.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// The wait after the first failure.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
}

impl Backoff {
    /// The wait after a failure that followed this many others, less up to half of it by chance, so that those that
    /// failed together do not come back together.
    pub fn wait(&self, failures_before: u32) -> Duration {
        let doubled = self
            .first
            .saturating_mul(1_u32.checked_shl(failures_before).unwrap_or(u32::MAX));
        doubled.min(self.longest).mul_f64(1.0 - fastrand::f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let [first, longest] = [100, 1_000].map(Duration::from_millis);
        let backoff = Backoff { first, longest };
        for (failures_before, millis) in [
            (0, 100),
            (1, 200),
            (3, 800),
            (4, 1_000),
            (31, 1_000),
            (32, 1_000),
            (u32::MAX, 1_000),
        ] {
            let wait = backoff.wait(failures_before);
            let whole = Duration::from_millis(millis);
            assert!((whole / 2..=whole).contains(&wait), "{failures_before}: {wait:?}");
        }
    }
}
