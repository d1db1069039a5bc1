//! The interval that fits a range.

use super::trend::{BUCKETS_MAX, span};
use crate::statistics::{Answer, Interval, Query};

const DAY_MICROS: i64 = 86_400_000_000;

/// The interval of a chart: the one that is asked for, or one that fits the range; and whether a shorter one was asked
/// for that has more than [`BUCKETS_MAX`] buckets. An open end is now.
pub fn fitting_interval(query: &Query, asked: Option<Interval>, now_micros: i64) -> (Interval, bool) {
    let range = query.resolve(now_micros, None).range;
    let bounds = range.from.zip(range.to.or(Some(now_micros)));
    let Some((from, to)) = bounds else {
        return (asked.unwrap_or(Interval::Month), false);
    };
    let wanted = asked.unwrap_or(match (to - from) / DAY_MICROS {
        ..=2 => Interval::Hour,
        3..=92 => Interval::Day,
        93..=366 => Interval::Week,
        _ => Interval::Month,
    });
    match longer(query, wanted, (from, to)) {
        None => (wanted, false),
        Some(interval) => (interval, asked.is_some()),
    }
}

/// A longer interval for an answer with more than [`BUCKETS_MAX`] buckets: where the range is open, its events say how
/// many there are. `None` if they fit, or if no interval is long enough.
pub fn longer_interval(answer: &Answer) -> Option<Interval> {
    let longer = longer(&answer.query, answer.query.interval, span(answer)?)?;
    (longer != answer.query.interval).then_some(longer)
}

/// The shortest interval that fits, if the wanted one does not; months if none does.
fn longer(query: &Query, wanted: Interval, (from, to): (i64, i64)) -> Option<Interval> {
    let fits = |interval| {
        let buckets = Query {
            interval,
            ..query.clone()
        }
        .buckets();
        buckets.between(from, to, BUCKETS_MAX).is_some()
    };
    if wanted == Interval::All || fits(wanted) {
        return None;
    }
    let longer = [Interval::Day, Interval::Week]
        .into_iter()
        .find(|interval| fits(*interval));
    Some(longer.unwrap_or(Interval::Month))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_fits_the_range() {
        const NOW: i64 = 1_764_500_000_000_000;
        for (query, asked, interval, is_longer) in [
            ("period=today", None, Interval::Hour, false),
            ("period=91d", None, Interval::Day, false),
            ("period=12mo", None, Interval::Week, false),
            ("period=all", None, Interval::Month, false),
            ("from=2025-11-20", None, Interval::Day, false),
            ("period=all", Some(Interval::Day), Interval::Day, false),
            ("period=28d", Some(Interval::Hour), Interval::Hour, false),
            ("period=91d", Some(Interval::Hour), Interval::Day, true),
            (
                "from=1970-01-01&to=2026-01-01",
                Some(Interval::Hour),
                Interval::Month,
                true,
            ),
        ] {
            let asked_for = Query::parse(form_urlencoded::parse(query.as_bytes())).unwrap();
            assert_eq!(
                fitting_interval(&asked_for, asked, NOW),
                (interval, is_longer),
                "{query}"
            );
        }
    }
}
