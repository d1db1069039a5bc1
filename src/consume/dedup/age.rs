//! How long the repeat window of a partition is in time: N records are fixed, the time that they take is not.

use std::collections::VecDeque;

/// Places that are kept of one window; the answer is right to so many parts of it.
const SAMPLES_MAX: i64 = 1_000;

/// Where in the log which arrival stood, at some places of the last window.
#[derive(Debug)]
pub struct Window {
    records: i64,
    samples: VecDeque<(i64, i64)>,
}

impl Window {
    /// Of N records; nothing is known of it yet.
    pub fn new(records: i64) -> Window {
        Window {
            records,
            samples: VecDeque::new(),
        }
    }

    /// Notes that the row before a head arrived then, and says how many milliseconds the window before that head
    /// spans at least: as far back as was seen.
    pub fn reached(&mut self, head: i64, arrival_millis: i64) -> i64 {
        let apart = self.records / SAMPLES_MAX;
        match self.samples.back() {
            // The table has lost rows.
            Some((last, _)) if head < *last => self.samples.clear(),
            Some((last, _)) if head - last <= apart => {}
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
        let mut window = Window::new(10_000);
        // One record a second, then ten.
        let mut spans = Vec::new();
        let mut now = 0;
        for head in 0..60_000 {
            now += if head < 30_000 { 1_000 } else { 100 };
            spans.push(window.reached(head, now));
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
        assert!(window.samples.len() <= SAMPLES_MAX as usize + 2);
    }

    #[test]
    fn a_head_that_went_back_begins_anew() {
        let mut window = Window::new(10);
        window.reached(100, 5_000);
        assert_eq!(window.reached(50, 9_000), 0);
    }
}
