//! When to come back, from what is measured: how fast requests get done, and how long a server has been away.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

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

/// When those who are refused are to come back: one after the other, so that they do not meet again. Times are since
/// some beginning.
#[derive(Debug, Default)]
pub struct Schedule {
    /// How long one takes, a moving average; zero until one was measured.
    each: Duration,
    /// No moment is taken from here on.
    free_from: Duration,
}

impl Schedule {
    /// One is done, and took this long.
    pub fn took(&mut self, time: Duration) {
        // The last eight weigh two thirds.
        self.each = match self.each {
            Duration::ZERO => time,
            each => (each * 7 + time) / 8,
        };
    }

    /// How long one takes.
    pub fn each(&self) -> Duration {
        self.each
    }

    /// Seconds from `now` to the next free moment: not before `earliest` has passed, and `apart` from the one before.
    /// Once all moments within the limit are taken, they are given out again from the first.
    pub fn appoint(&mut self, now: Duration, earliest: Duration, apart: Duration) -> u64 {
        let latest = now + Duration::from_secs(RETRY_SECONDS_MAX);
        let earliest = (now + earliest).min(latest);
        let moment = match self.free_from {
            taken if taken > latest => earliest,
            taken => taken.max(earliest),
        };
        self.free_from = moment + apart;
        let seconds = (moment - now).as_secs_f64().ceil() as u64;
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
        let began = self.since.compare_exchange(0, now, Relaxed, Relaxed).is_ok();
        began.then_some(Change::Began)
    }

    /// Seconds until another try is worth it: as long again as it has been failing.
    pub fn retry_after(&self) -> u64 {
        let since = self.since.load(Relaxed);
        let now = self.began.elapsed().as_millis() as u64 + 1;
        let lasting = if since == 0 { 0 } else { now.saturating_sub(since) };
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
            assert_eq!(pace.retry_after_at(now, in_progress), seconds, "{now} {in_progress}");
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
    fn those_who_are_refused_together_come_back_one_after_the_other() {
        let mut schedule = Schedule::default();
        let (now, earliest) = (Duration::from_secs(100), Duration::from_millis(1_500));
        let mut appoint = |millis| schedule.appoint(now, earliest, Duration::from_millis(millis));
        let seconds: Vec<u64> = (0..10).map(|_| appoint(250)).collect();
        assert_eq!(seconds, [2, 2, 2, 3, 3, 3, 3, 4, 4, 4]);
        // Up to 30 s, and then from the beginning.
        let seconds: Vec<u64> = (0..5).map(|_| appoint(8_700)).collect();
        assert_eq!(seconds, [4, 13, 22, 2, 11]);
        // Moments that have passed hold up nobody.
        let later = now + Duration::from_secs(1_000);
        assert_eq!(schedule.appoint(later, Duration::ZERO, now), 1);
        // Nobody has to stay away for longer than that, whatever is before them.
        let mut schedule = Schedule::default();
        assert_eq!(schedule.appoint(now, now, now), 30);
        assert_eq!(schedule.appoint(now, now, now), 30);
    }

    #[test]
    fn what_one_takes_is_an_average_of_the_last() {
        let mut schedule = Schedule::default();
        let millis = Duration::from_millis;
        schedule.took(millis(80));
        assert_eq!(schedule.each(), millis(80));
        schedule.took(millis(160));
        assert_eq!(schedule.each(), millis(90));
        (0..100).for_each(|_| schedule.took(millis(10)));
        assert!(schedule.each() < millis(11), "{:?}", schedule.each());
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
