//! What happens often and is logged now and then: failures when they start and end, and counts once an interval.

use std::time::{Duration, Instant};

/// What is worth a log line of something that fails again and again, and then works again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It fails, and did not before.
    Began,
    /// It works, and failed before.
    Ended,
}

impl Change {
    /// The change from one try to the next, if there is one.
    pub fn between(failed_before: bool, fails_now: bool) -> Option<Change> {
        match (failed_before, fails_now) {
            (false, true) => Some(Change::Began),
            (true, false) => Some(Change::Ended),
            _ => None,
        }
    }
}

/// A count that is logged at once, and then once an interval.
#[derive(Debug)]
pub struct LogCount {
    interval: Duration,
    last: Option<Instant>,
    unlogged: u64,
}

impl LogCount {
    /// Nothing counted, with this time between two lines.
    pub const fn new(interval: Duration) -> LogCount {
        LogCount {
            interval,
            last: None,
            unlogged: 0,
        }
    }

    /// Adds to the count. Returns all that was counted since the last line, if it is time for one.
    pub fn add(&mut self, count: u64, now: Instant) -> Option<u64> {
        self.unlogged += count;
        let is_due = self.last.is_none_or(|last| now >= last + self.interval);
        if self.unlogged == 0 || !is_due {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_logged_at_once_and_then_once_an_interval() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut log = LogCount::new(Duration::from_secs(60));
        assert_eq!(log.add(0, start), None);
        assert_eq!(log.add(2, start), Some(2));
        assert_eq!(log.add(3, at(1)), None);
        assert_eq!(log.add(0, at(59)), None);
        assert_eq!(log.add(1, at(60)), Some(4));
        assert_eq!(log.add(0, at(120)), None, "nothing to log");
    }

    #[test]
    fn a_failure_is_logged_when_it_starts_and_when_it_ends() {
        let tries = [false, true, true, false, false];
        let changes: Vec<_> = tries.windows(2).map(|pair| Change::between(pair[0], pair[1])).collect();
        assert_eq!(changes, [Some(Change::Began), None, Some(Change::Ended), None]);
    }
}
