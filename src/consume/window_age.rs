//! How long the dedup window of a partition is in time: N records are fixed, the time that they take is not.

use std::collections::VecDeque;

use crate::topic_partition::Offset;

/// Samples of one window; the age is exact to one part in this many.
const SAMPLES_MAX: i64 = 1_000;

/// Arrivals at some offsets of the last window.
#[derive(Debug)]
pub struct WindowAge {
    records: i64,
    samples: VecDeque<(Offset, i64)>,
}

impl WindowAge {
    /// Of a window of N records, without a sample.
    pub fn new(records: i64) -> WindowAge {
        WindowAge {
            records,
            samples: VecDeque::new(),
        }
    }

    /// Records when the row before a head arrived. Returns the milliseconds that the window before that head spans at
    /// least, as far back as there are samples.
    pub fn record(&mut self, head: Offset, arrival_millis: i64) -> i64 {
        let apart = self.records / SAMPLES_MAX;
        match self.samples.back() {
            // The table has lost rows.
            Some((last, _)) if head < *last => self.samples.clear(),
            Some((last, _)) if head - *last <= apart => {}
            _ => self.samples.push_back((head, arrival_millis)),
        }
        while self
            .samples
            .get(1)
            .is_some_and(|(next, _)| *next <= head - self.records)
        {
            self.samples.pop_front();
        }
        let oldest = self.samples.front().map_or(arrival_millis, |(_, arrival)| *arrival);
        (arrival_millis - oldest).max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_long_as_its_records_took() {
        let mut age = WindowAge::new(10_000);
        // One record a second, then ten.
        let mut spans = Vec::new();
        let mut now = 0;
        for head in 0..60_000 {
            now += if head < 30_000 { 1_000 } else { 100 };
            spans.push(age.record(Offset::new(head), now));
        }
        assert_eq!(spans[0], 0);
        assert!(
            (4_980_000..=5_000_000).contains(&spans[5_000]),
            "not yet full: {}",
            spans[5_000]
        );
        let full = [(29_000, 10_000_000), (59_000, 1_000_000)];
        for (head, millis) in full {
            let span = spans[head as usize];
            assert!((millis..millis + millis / 500).contains(&span), "{head}: {span}");
        }
        assert!(age.samples.len() <= SAMPLES_MAX as usize + 2);
    }

    #[test]
    fn a_head_that_went_back_starts_again() {
        let mut age = WindowAge::new(10);
        age.record(Offset::new(100), 5_000);
        assert_eq!(age.record(Offset::new(50), 9_000), 0);
    }
}
