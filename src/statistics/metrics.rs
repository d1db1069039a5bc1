//! The metrics: what each is made of.

use std::cmp::Ordering;

use super::choice::Choice;
use super::counts::Counts;

/// A number of a row. `docs/reports.md` defines each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metric {
    Served,
    Solved,
    Challenges,
    SolvedOfServed,
    Late,
    Pending,
    Unsolved,
    SolveRate,
    SolveTimeP50,
    SolveTimeP90,
    SolveTimeP99,
    SolvedBeforeServed,
    SolvedAgain,
    Unmatched,
    Retries,
    Share,
}

impl Choice for Metric {
    const CHOICES: &'static [(&'static str, Metric)] = &[
        ("served", Metric::Served),
        ("solved", Metric::Solved),
        ("challenges", Metric::Challenges),
        ("solved_of_served", Metric::SolvedOfServed),
        ("late", Metric::Late),
        ("pending", Metric::Pending),
        ("unsolved", Metric::Unsolved),
        ("solve_rate", Metric::SolveRate),
        ("solve_time_p50", Metric::SolveTimeP50),
        ("solve_time_p90", Metric::SolveTimeP90),
        ("solve_time_p99", Metric::SolveTimeP99),
        ("solved_before_served", Metric::SolvedBeforeServed),
        ("solved_again", Metric::SolvedAgain),
        ("unmatched", Metric::Unmatched),
        ("retries", Metric::Retries),
        ("share", Metric::Share),
    ];
}

/// The counts that an answer uses, besides `served` and `solved`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// `challenges`.
    pub challenges: bool,
    /// `pairs`, `pairs_within` and `pairs_before_serve`.
    pub pairs: bool,
    /// `solve_times`.
    pub solve_times: bool,
    /// `pending`. Every metric of pairs needs it, because a bucket with pending challenges is marked as partial.
    pub pending: bool,
    /// `solved_again`.
    pub solved_again: bool,
    /// `open_solves` and `open_solves_answered`.
    pub open_solves: bool,
    /// `retries`.
    pub retries: bool,
}

/// What a row has under a metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    Count(u64),
    /// 0 to 1.
    Rate(f64),
    Seconds(f64),
    /// Nothing can be said: there is nothing to divide by, or what was counted may not be complete.
    Null,
}

/// What values are made of, besides the counts of their row.
#[derive(Debug, Clone, Copy)]
pub struct Basis {
    /// `served` of all rows.
    pub served_total: u64,
    /// Whether any moment is known through which everything is counted.
    pub has_complete_through: bool,
}

impl Metric {
    /// Whether its values are parts of a whole.
    pub fn is_rate(self) -> bool {
        matches!(self, Metric::SolveRate | Metric::Share)
    }

    /// Which change of it people want; `None` if neither is better: more traffic is no news by itself.
    pub fn better(self) -> Option<Ordering> {
        match self {
            Metric::SolveRate => Some(Ordering::Greater),
            Metric::SolveTimeP50 | Metric::SolveTimeP90 | Metric::SolveTimeP99 => Some(Ordering::Less),
            _ => None,
        }
    }

    /// The value of a row.
    pub fn value(self, counts: &Counts, basis: Basis) -> Value {
        let known = |count| match basis.has_complete_through {
            true => Value::Count(count),
            false => Value::Null,
        };
        match self {
            Metric::Served => Value::Count(counts.served),
            Metric::Solved => Value::Count(counts.solved),
            Metric::Challenges => Value::Count(counts.challenges),
            Metric::SolvedOfServed => Value::Count(counts.pairs_within),
            Metric::Late => Value::Count(counts.pairs.saturating_sub(counts.pairs_within)),
            Metric::Pending => known(counts.pending),
            Metric::Unsolved => known(counts.challenges.saturating_sub(counts.pairs_within + counts.pending)),
            Metric::SolveRate => rate(counts.pairs_within, counts.challenges),
            Metric::SolveTimeP50 => quantile(counts, 0.5),
            Metric::SolveTimeP90 => quantile(counts, 0.9),
            Metric::SolveTimeP99 => quantile(counts, 0.99),
            Metric::SolvedBeforeServed => Value::Count(counts.pairs_before_serve),
            Metric::SolvedAgain => Value::Count(counts.solved_again),
            Metric::Unmatched => Value::Count(counts.open_solves.saturating_sub(counts.open_solves_answered)),
            Metric::Retries => Value::Count(counts.retries),
            Metric::Share => rate(counts.served, basis.served_total),
        }
    }

    /// Adds the counts that this metric is made of.
    pub fn add_needs(self, needs: &mut Needs) {
        match self {
            Metric::Served | Metric::Solved | Metric::Share => {}
            Metric::Challenges => needs.challenges = true,
            Metric::SolvedAgain => needs.solved_again = true,
            Metric::Unmatched => needs.open_solves = true,
            Metric::Retries => needs.retries = true,
            Metric::SolvedOfServed | Metric::Late | Metric::SolvedBeforeServed => {
                (needs.pairs, needs.pending) = (true, true);
            }
            Metric::Pending => needs.pending = true,
            Metric::Unsolved | Metric::SolveRate => {
                (needs.challenges, needs.pairs, needs.pending) = (true, true, true);
            }
            Metric::SolveTimeP50 | Metric::SolveTimeP90 | Metric::SolveTimeP99 => {
                (needs.solve_times, needs.pending) = (true, true);
            }
        }
    }
}

fn rate(part: u64, whole: u64) -> Value {
    match whole {
        0 => Value::Null,
        whole => Value::Rate(part as f64 / whole as f64),
    }
}

fn quantile(counts: &Counts, q: f64) -> Value {
    counts.solve_times.quantile(q).map_or(Value::Null, Value::Seconds)
}

impl Value {
    /// Whether a row is in the answer because of this value.
    pub fn is_zero(self) -> bool {
        match self {
            Value::Count(count) => count == 0,
            Value::Rate(rate) => rate == 0.0,
            Value::Seconds(seconds) => seconds == 0.0,
            Value::Null => true,
        }
    }

    /// The change from a value of the compared range to this one: per cent of counts and times, points of rates.
    pub fn change_from(self, before: Value) -> Option<f64> {
        let percent = |now: f64, before: f64| (before != 0.0).then(|| (now - before) / before * 100.0);
        match (self, before) {
            (Value::Count(now), Value::Count(before)) => percent(now as f64, before as f64),
            (Value::Seconds(now), Value::Seconds(before)) => percent(now, before),
            (Value::Rate(now), Value::Rate(before)) => Some((now - before) * 100.0),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts() -> Counts {
        let mut counts = Counts {
            served: 20,
            solved: 13,
            retries: 3,
            challenges: 16,
            solved_again: 2,
            open_solves: 4,
            open_solves_answered: 3,
            pairs: 10,
            pairs_within: 8,
            pairs_before_serve: 1,
            pending: 5,
            ..Counts::ZERO
        };
        // One second, and nine times two of them.
        counts.solve_times.add(super::super::solve_time_bucket(1_000_000), 1);
        counts.solve_times.add(super::super::solve_time_bucket(2_000_000), 9);
        counts
    }

    #[test]
    fn every_metric_has_its_formula() {
        let basis = Basis {
            served_total: 80,
            has_complete_through: true,
        };
        for (name, expected) in [
            ("served", Value::Count(20)),
            ("solved", Value::Count(13)),
            ("challenges", Value::Count(16)),
            ("solved_of_served", Value::Count(8)),
            ("late", Value::Count(2)),
            ("pending", Value::Count(5)),
            ("unsolved", Value::Count(3)),
            ("solve_rate", Value::Rate(0.5)),
            ("solved_before_served", Value::Count(1)),
            ("solved_again", Value::Count(2)),
            ("unmatched", Value::Count(1)),
            ("retries", Value::Count(3)),
            ("share", Value::Rate(0.25)),
        ] {
            let metric = Metric::from_name(name).unwrap();
            assert_eq!(metric.value(&counts(), basis), expected, "{name}");
        }
        let Value::Seconds(median) = Metric::SolveTimeP50.value(&counts(), basis) else {
            panic!("no median");
        };
        assert!((median - 2.0).abs() < 0.016, "{median}");
    }

    #[test]
    fn nothing_is_said_where_nothing_is_known() {
        let basis = Basis {
            served_total: 0,
            has_complete_through: false,
        };
        for (name, _) in Metric::CHOICES {
            let value = Metric::from_name(name).unwrap().value(&Counts::ZERO, basis);
            let is_null = value == Value::Null;
            let expects_null = ["pending", "unsolved", "solve_rate", "share"].contains(name) || name.contains("time");
            assert_eq!(is_null, expects_null, "{name}");
            assert!(value.is_zero(), "{name}");
        }
    }

    #[test]
    fn a_change_is_in_per_cent_or_points() {
        for (now, before, change) in [
            (Value::Count(15), Value::Count(10), Some(50.0)),
            (Value::Count(0), Value::Count(10), Some(-100.0)),
            (Value::Count(15), Value::Count(0), None),
            (Value::Rate(0.75), Value::Rate(0.5), Some(25.0)),
            (Value::Rate(0.5), Value::Rate(0.0), Some(50.0)),
            (Value::Rate(0.5), Value::Null, None),
            (Value::Seconds(1.0), Value::Seconds(2.0), Some(-50.0)),
            (Value::Null, Value::Count(3), None),
        ] {
            assert_eq!(now.change_from(before), change, "{now:?} {before:?}");
        }
    }
}
