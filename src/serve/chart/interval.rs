//! The interval that fits a range.

use super::BUCKETS_MAX;
use crate::statistics::{Interval, Query};

const DAY_MICROS: i64 = 86_400_000_000;

/// The interval of a chart: the one that is asked for, or one that fits the range; and whether a shorter one was asked
/// for that has more than [`BUCKETS_MAX`] buckets.
pub fn fitting_interval(query: &Query, asked: Option<Interval>, now_micros: i64) -> (Interval, bool) {
    let range = query.resolve(now_micros, None).range;
    let Some((from, to)) = range.from.zip(range.to) else {
        return (asked.unwrap_or(Interval::Month), false);
    };
    let fits = |interval| {
        let buckets = Query {
            interval,
            ..query.clone()
        }
        .buckets();
        buckets.between(from, to, BUCKETS_MAX).is_some()
    };
    let wanted = asked.unwrap_or(match (to - from) / DAY_MICROS {
        ..=2 => Interval::Hour,
        3..=92 => Interval::Day,
        93..=366 => Interval::Week,
        _ => Interval::Month,
    });
    if wanted == Interval::All || fits(wanted) {
        return (wanted, false);
    }
    let longer = [Interval::Day, Interval::Week]
        .into_iter()
        .find(|interval| fits(*interval));
    (longer.unwrap_or(Interval::Month), true)
}
