//! Challenges over time: buckets without gaps, and the axis that fits them.

use crate::statistics::{Answer, Interval, Metric, Value};

/// Buckets of a chart: a month of hours. More cannot be told apart.
pub const BUCKETS_MAX: usize = 750;

/// The metrics that a chart is made of.
pub const METRICS: [Metric; 5] = [
    Metric::Challenges,
    Metric::SolvedOfServed,
    Metric::Unsolved,
    Metric::Pending,
    Metric::SolveRate,
];

/// Ticks of the axis above 0.
const TICKS: u64 = 4;

/// Challenges over time.
#[derive(Debug, Clone, PartialEq)]
pub struct Trend {
    pub buckets: Vec<Bucket>,
    /// The numbers at which the axis has a line, from the lowest on; the last one is its end.
    pub ticks: Vec<u64>,
    /// Whether buckets without events are missing between these, because there are too many.
    pub has_gaps: bool,
    /// Buckets with events that are before these, and are not drawn.
    pub left_out: usize,
}

/// An hour, day, week or month.
#[derive(Debug, Clone, PartialEq)]
pub struct Bucket {
    /// Microseconds since 1970.
    pub start: i64,
    pub end: i64,
    pub challenges: u64,
    /// In time.
    pub solved: u64,
    pub pending: u64,
    /// `None` as long as it is not known how far the report is complete.
    pub unsolved: Option<u64>,
    /// It has not ended, or was not read to its end.
    pub is_unfinished: bool,
    /// The range begins or ends within it.
    pub is_cut: bool,
}

impl Bucket {
    /// Whether its numbers are not all there will be of this hour, day, week or month.
    pub fn is_partial(&self) -> bool {
        self.is_unfinished || self.is_cut
    }

    /// The part of the challenges that was solved in time; `None` without challenges.
    pub fn rate(&self) -> Option<f64> {
        (self.challenges > 0).then(|| self.solved as f64 / self.challenges as f64)
    }
}

impl Trend {
    /// The trend of an answer about all sites in one. Buckets without events are added. Where even the range has too
    /// many buckets, as when one event is dated a century ahead, it has only those with events.
    pub fn of(answer: &Answer) -> Trend {
        let buckets = answer.query.buckets();
        let range = answer.resolved.range;
        let through = answer.complete_through_micros;
        let bucket = |start: i64| Bucket {
            start,
            end: buckets.end_of(start),
            is_cut: range.from.is_some_and(|from| start < from)
                || range.to.is_some_and(|to| buckets.end_of(start) > to),
            challenges: 0,
            solved: 0,
            pending: 0,
            unsolved: answer.complete_through_micros.map(|_| 0),
            is_unfinished: through.is_none_or(|through| buckets.end_of(start) > through),
        };
        let mut counted: Vec<Bucket> = answer
            .rows()
            .map(|row| Bucket {
                challenges: row.counts.challenges,
                solved: row.counts.pairs_within,
                pending: row.counts.pending,
                unsolved: match answer.value(Metric::Unsolved, row.counts) {
                    Value::Count(count) => Some(count),
                    _ => None,
                },
                ..bucket(row.bucket)
            })
            .collect();
        counted.sort_unstable_by_key(|bucket| bucket.start);
        if answer.query.interval == Interval::All {
            return Trend::of_buckets(counted);
        }
        let starts = span(answer).and_then(|(from, to)| buckets.between(from, to, BUCKETS_MAX));
        let Some(starts) = starts else {
            let left_out = counted.len().saturating_sub(BUCKETS_MAX);
            return Trend {
                left_out,
                has_gaps: true,
                ..Trend::of_buckets(counted.split_off(left_out))
            };
        };
        let mut counted = counted.into_iter().peekable();
        let filled = starts.into_iter().map(|start| {
            let found = counted.next_if(|counted| counted.start == start);
            found.unwrap_or_else(|| bucket(start))
        });
        Trend::of_buckets(filled.collect())
    }

    pub fn of_buckets(buckets: Vec<Bucket>) -> Trend {
        let most = buckets.iter().map(|bucket| bucket.challenges).max().unwrap_or(0);
        Trend {
            buckets,
            ticks: ticks(most),
            has_gaps: false,
            left_out: 0,
        }
    }

    /// The largest number of the axis.
    fn axis_end(&self) -> u64 {
        self.ticks.last().copied().unwrap_or(1)
    }

    /// The part of the axis that a number takes.
    pub fn part(&self, number: u64) -> f64 {
        number as f64 / self.axis_end() as f64
    }

    /// The indices of the buckets that have a name below the axis, at most this many.
    pub fn labels(&self, labels_max: usize) -> impl Iterator<Item = usize> {
        let step = self.buckets.len().div_ceil(labels_max).max(1);
        (0..self.buckets.len()).step_by(step)
    }

    /// Whether any bucket may still change.
    pub fn may_change(&self) -> bool {
        self.buckets
            .iter()
            .any(|bucket| bucket.is_partial() || bucket.pending > 0)
    }
}

/// The range of an answer; where it is open, from its first to its last event. `None` without events.
pub fn span(answer: &Answer) -> Option<(i64, i64)> {
    let buckets = answer.query.buckets();
    let starts = || answer.rows().map(|row| row.bucket);
    let range = answer.resolved.range;
    let from = range.from.or_else(|| starts().min());
    let to = range.to.or_else(|| starts().max().map(|last| buckets.end_of(last)));
    from.zip(to)
}

/// Round numbers up to one that is not below `most`.
fn ticks(most: u64) -> Vec<u64> {
    let step = (1..)
        .flat_map(|power| {
            let ten = 10_u64.saturating_pow(power - 1);
            [1, 2, 5].map(|digit| ten.saturating_mul(digit))
        })
        .find(|step| step.saturating_mul(TICKS) >= most || *step == u64::MAX)
        .unwrap_or(u64::MAX);
    let count = most.div_ceil(step).clamp(1, TICKS);
    (1..=count).map(|number| step.saturating_mul(number)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::{CountRow, Counts, Query};

    #[test]
    fn an_axis_ends_with_a_round_number_above_all_bars() {
        for (most, expected) in [
            (0, vec![1]),
            (1, vec![1]),
            (3, vec![1, 2, 3]),
            (7, vec![2, 4, 6, 8]),
            (100, vec![50, 100]),
            (101, vec![50, 100, 150]),
            (19_999, vec![5_000, 10_000, 15_000, 20_000]),
        ] {
            assert_eq!(ticks(most), expected, "{most}");
        }
        assert!(*ticks(u64::MAX).last().unwrap() >= u64::MAX / 2);
    }

    const DAY: i64 = 86_400_000_000;

    fn answer(query: &str, days: &[i64], through: Option<i64>) -> Answer {
        let query = Query::parse(form_urlencoded::parse(query.as_bytes())).unwrap();
        let resolved = query.resolve(4 * DAY + 1, through);
        let rows = days.iter().map(|day| CountRow {
            bucket: day * DAY,
            site_id: None,
            counts: Counts {
                served: 10,
                challenges: 10,
                pairs_within: 7,
                pending: 1,
                ..Counts::default()
            },
        });
        query.answer(&resolved, rows.collect(), None, through).unwrap()
    }

    const ASKED: &str = "by=none&metrics=challenges,solved_of_served,unsolved,pending";

    #[test]
    fn days_without_events_are_in_it() {
        let trend = Trend::of(&answer(
            &format!("{ASKED}&period=7d&order=desc"),
            &[-1, 2],
            Some(2 * DAY + 5),
        ));
        let challenges: Vec<_> = trend.buckets.iter().map(|bucket| bucket.challenges).collect();
        assert_eq!(challenges, [0, 10, 0, 0, 10, 0, 0]);
        let unfinished: Vec<_> = trend.buckets.iter().map(|bucket| bucket.is_unfinished).collect();
        assert_eq!(unfinished, [false, false, false, false, true, true, true]);
        assert!(trend.buckets.iter().all(|bucket| !bucket.is_cut));
        assert_eq!(trend.buckets[1].unsolved, Some(2));
        assert_eq!(trend.buckets[1].rate(), Some(0.7));
        assert!(trend.may_change());
        assert_eq!(trend.labels(4).collect::<Vec<_>>(), [0, 2, 4, 6]);
    }

    #[test]
    fn a_week_that_the_range_cuts_is_partial() {
        let query = format!("{ASKED}&from=1970-01-02&to=1970-01-08&interval=week");
        let trend = Trend::of(&answer(&query, &[-3, 4], Some(90 * DAY)));
        let cut: Vec<_> = trend
            .buckets
            .iter()
            .map(|bucket| (bucket.is_cut, bucket.is_unfinished))
            .collect();
        assert_eq!(cut, [(true, false), (true, false)]);
    }

    #[test]
    fn an_open_range_goes_from_the_first_to_the_last_event() {
        let trend = Trend::of(&answer(&format!("{ASKED}&period=all"), &[3, 5], None));
        assert_eq!(trend.buckets.len(), 3);
        assert_eq!(trend.buckets[0].unsolved, None);
        let far = Trend::of(&answer(&format!("{ASKED}&period=all"), &[3, 50_000], None));
        assert_eq!((far.buckets.len(), far.has_gaps), (2, true));
    }
}
