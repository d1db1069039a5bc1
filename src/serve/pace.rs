//! When to come back, from what is measured: how fast requests get done, and how long a server has been away.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Whole seconds that a pace is measured over.
const WINDOW_SECONDS: u64 = 5;

/// Slots for seconds; more than [`WINDOW_SECONDS`], because the running second is not whole.
const SLOTS: usize = 8;

/// The longest that anybody is told to stay away: servers come back within seconds mostly.
const RETRY_SECONDS_MAX: u64 = 30;

/// How many requests got done in each of the last seconds.
pub struct Pace {
    began: Instant,
    /// A second in the upper half, what was done in it in the lower.
    slots: [AtomicU64; SLOTS],
}

impl Pace {
    /// Nothing done yet.
    pub fn new() -> Pace {
        Pace {
            began: Instant::now(),
            slots: Default::default(),
        }
    }

    /// One more is done.
    pub fn done(&self) {
        self.done_at(self.began.elapsed().as_secs());
    }

    fn done_at(&self, second: u64) {
        let slot = &self.slots[second as usize % SLOTS];
        let count = |packed: u64| match packed >> 32 == second {
            true => packed + 1,
            false => second << 32 | 1,
        };
        let _ = slot.fetch_update(Relaxed, Relaxed, |packed| Some(count(packed)));
    }

    /// Seconds until as many as are in progress will be done, at the pace of the last seconds.
    pub fn retry_after(&self, in_progress: usize) -> u64 {
        self.retry_after_at(self.began.elapsed().as_secs(), in_progress)
    }

    fn retry_after_at(&self, now: u64, in_progress: usize) -> u64 {
        let first = now.saturating_sub(WINDOW_SECONDS);
        let done: u64 = self
            .slots
            .iter()
            .map(|slot| slot.load(Relaxed))
            .filter(|packed| (first..now).contains(&(packed >> 32)))
            .map(|packed| packed & u64::from(u32::MAX))
            .sum();
        let seconds = match done {
            // Nothing gets done, or nothing was asked for.
            0 => 1,
            _ => (in_progress as u64 * (now - first)).div_ceil(done),
        };
        seconds.clamp(1, RETRY_SECONDS_MAX)
    }
}

/// Since when something has been failing without a success in between.
pub struct Outage {
    began: Instant,
    /// Milliseconds after `began`, plus one; 0 is no outage.
    since: AtomicU64,
}

/// What an outcome changed.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// It fails from now on.
    Began,
    /// It works again.
    Ended,
}

impl Outage {
    /// None yet.
    pub fn none() -> Outage {
        Outage {
            began: Instant::now(),
            since: AtomicU64::new(0),
        }
    }

    /// It worked, or did not.
    pub fn note(&self, works: bool) -> Option<Change> {
        let failing = self.since.load(Relaxed) != 0;
        if works {
            return (failing && self.since.swap(0, Relaxed) != 0).then_some(Change::Ended);
        }
        let now = self.began.elapsed().as_millis() as u64 + 1;
        let began = self
            .since
            .compare_exchange(0, now, Relaxed, Relaxed)
            .is_ok();
        began.then_some(Change::Began)
    }

    /// Seconds until another try is worth it: as long again as it has been failing.
    pub fn retry_after(&self) -> u64 {
        let since = self.since.load(Relaxed);
        let now = self.began.elapsed().as_millis() as u64 + 1;
        let lasting = if since == 0 {
            0
        } else {
            now.saturating_sub(since)
        };
        lasting.div_ceil(1_000).clamp(1, RETRY_SECONDS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_progress_takes_as_long_as_the_pace_says() {
        let pace = Pace::new();
        assert_eq!(pace.retry_after_at(0, 1_000), 1);
        for second in 10..15 {
            (0..20).for_each(|_| pace.done_at(second));
        }
        pace.done_at(15);
        for (now, in_progress, seconds) in [
            (15, 10, 1),
            (15, 20, 1),
            (15, 21, 2),
            (15, 100, 5),
            (15, 1_000_000, 30),
            // Half of the window without any.
            (17, 61, 5),
            (100, 61, 1),
        ] {
            assert_eq!(
                pace.retry_after_at(now, in_progress),
                seconds,
                "{now} {in_progress}"
            );
        }
    }

    #[test]
    fn an_old_second_does_not_count_for_a_new_one() {
        let pace = Pace::new();
        (0..80).for_each(|_| pace.done_at(0));
        pace.done_at(SLOTS as u64);
        assert_eq!(pace.retry_after_at(SLOTS as u64 + 1, 10), 30);
    }

    #[test]
    fn an_outage_begins_and_ends_once() {
        let outage = Outage::none();
        assert_eq!(outage.note(true), None);
        assert_eq!(outage.note(false), Some(Change::Began));
        assert_eq!(outage.note(false), None);
        assert_eq!(outage.retry_after(), 1);
        assert_eq!(outage.note(true), Some(Change::Ended));
        assert_eq!(outage.note(true), None);
    }
}
