//! The range that a report is compared with.

use chrono::{Datelike as _, Days, Months, NaiveDate};

use super::choice::Choice;
use super::instant::{self, DAY_MICROS, midnight_micros, whole_quarter_hour};
use super::moment::Moment;
use super::period::{Extent, Range, Step};
use super::zone::Zone;

/// The range to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compare {
    /// The one just before: calendar periods move by their own unit, days by their number, instants by their length.
    PreviousPeriod,
    /// Seven local days before.
    PreviousWeek,
    /// Twelve months before; 29 February becomes 28.
    YearOverYear,
}

impl Choice for Compare {
    const CHOICES: &'static [(&'static str, Compare)] = &[
        ("previous_period", Compare::PreviousPeriod),
        ("previous_week", Compare::PreviousWeek),
        ("year_over_year", Compare::YearOverYear),
    ];
}

/// Both sides of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResolvedComparison {
    /// The range of the report. It ends at the last whole quarter hour before `complete_through` if that is earlier
    /// than its end, so that it is counted from aggregates.
    pub current: Range,
    /// The range it is compared with, which ends after the same local time.
    pub previous: Range,
}

impl ResolvedComparison {
    /// Both sides; `None` if the range is open. `current` is the range of the report.
    pub fn new(
        compare: Compare,
        extent: Extent,
        current: Range,
        zone: Zone,
        complete_through_micros: i64,
    ) -> Option<ResolvedComparison> {
        let (from, to) = (current.from?, current.to?);
        let whole_to = extent.to?.micros(zone);
        let (previous_from, previous_to) = previous(compare, extent, zone)?;
        let cut = whole_quarter_hour(complete_through_micros).clamp(from, to.max(from));
        let (to, previous_to) = match cut < whole_to {
            false => (to, previous_to),
            true => {
                let elapsed = zone.local_micros(cut) - zone.local_micros(from);
                let previous_cut = zone.first_at(zone.local_micros(previous_from) + elapsed);
                (cut, previous_cut.clamp(previous_from, previous_to))
            }
        };
        let side = |from, to| Range {
            from: Some(from),
            to: Some(to),
        };
        Some(ResolvedComparison {
            current: side(from, to),
            previous: side(previous_from, previous_to),
        })
    }
}

/// The whole range before.
fn previous(compare: Compare, extent: Extent, zone: Zone) -> Option<(i64, i64)> {
    let (from, to) = (extent.from?, extent.to?);
    let step = match compare {
        Compare::PreviousPeriod => extent.step,
        Compare::PreviousWeek => Step::Days(7),
        Compare::YearOverYear => Step::Months(12),
    };
    if step == Step::Length {
        let (from, to) = (from.micros(zone), to.micros(zone));
        return Some((from - (to - from), from));
    }
    let before = |moment| shift(moment, zone, |date| date_before(date, step));
    let local_date = |moment: Moment| match moment {
        Moment::Date(date) => date,
        Moment::Instant(micros) => zone.date(micros),
    };
    // Where 29 February becomes 28, what ends within it or before it ends a day later: the 28th would be lost, which
    // comes before it. Unless all of the range is on the 29th.
    let loses_a_day = |moment| date_before(local_date(moment), step).day() < local_date(moment).day();
    let previous_to = match step {
        Step::Months(_) if loses_a_day(to) && !loses_a_day(from) => {
            shift(to, zone, |date| date_before(date, step) + Days::new(1))
        }
        _ => before(to),
    };
    let previous_from = before(from);
    Some((previous_from, previous_to.max(previous_from)))
}

/// Moves the date of a moment and keeps the time on its clock.
fn shift(moment: Moment, zone: Zone, to_date: impl Fn(NaiveDate) -> NaiveDate) -> i64 {
    match moment {
        Moment::Date(date) => zone.day_start(to_date(date)),
        Moment::Instant(micros) => {
            let local = zone.local_micros(micros);
            let date = to_date(instant::date(local));
            zone.first_at(midnight_micros(date) + local.rem_euclid(DAY_MICROS))
        }
    }
}

fn date_before(date: NaiveDate, step: Step) -> NaiveDate {
    let before = match step {
        Step::Days(days) => date.checked_sub_days(Days::new(days)),
        Step::Months(months) => date.checked_sub_months(Months::new(months)),
        Step::Length => None,
    };
    before.unwrap_or(date)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::buckets::{Buckets, Interval};
    use crate::statistics::period::{Period, RangeChoice};
    use chrono::{DateTime, Weekday};

    fn micros(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()
    }

    fn compare(choice: RangeChoice, compare: Compare, zone: Zone, now: &str, through: &str) -> [String; 4] {
        let buckets = Buckets::new(Interval::Day, zone, Weekday::Mon);
        let range = choice.range(&buckets, zone, micros(now));
        let extent = Extent::new(choice, zone, micros(now));
        let sides = ResolvedComparison::new(compare, extent, range, zone, micros(through)).unwrap();
        let ends = [
            sides.current.from,
            sides.current.to,
            sides.previous.from,
            sides.previous.to,
        ];
        ends.map(|end| zone.text(end.unwrap()))
    }

    fn bounds(from: &str, to: &str) -> RangeChoice {
        RangeChoice::Bounds {
            from: Some(Moment::parse(from).unwrap()),
            to: Some(Moment::parse(to).unwrap()),
        }
    }

    #[test]
    fn the_whole_range_before_is_compared_when_the_range_is_complete() {
        use Compare::{PreviousPeriod, PreviousWeek, YearOverYear};
        for (from, to, compared, previous_from, previous_to) in [
            ("2024-03-10", "2024-03-17", PreviousPeriod, "2024-03-03", "2024-03-10"),
            ("2024-03-10", "2024-03-12", PreviousWeek, "2024-03-03", "2024-03-05"),
            ("2024-03-10", "2024-03-12", YearOverYear, "2023-03-10", "2023-03-12"),
            ("2024-02-29", "2024-03-01", YearOverYear, "2023-02-28", "2023-03-01"),
            ("2024-02-28", "2024-02-29", YearOverYear, "2023-02-28", "2023-03-01"),
            ("2024-02-01", "2024-02-29", YearOverYear, "2023-02-01", "2023-03-01"),
            ("2024-02-01", "2024-03-01", YearOverYear, "2023-02-01", "2023-03-01"),
            ("2025-02-01", "2025-03-01", YearOverYear, "2024-02-01", "2024-03-01"),
            (
                "2024-02-29T08:00:00Z",
                "2024-02-29T10:00:00Z",
                YearOverYear,
                "2023-02-28T08",
                "2023-02-28T10",
            ),
            (
                "2024-02-28T12:00:00Z",
                "2024-02-29T06:00:00Z",
                YearOverYear,
                "2023-02-28T12",
                "2023-03-01T06",
            ),
            (
                "2024-03-10T08:00:00Z",
                "2024-03-10T10:30:00Z",
                PreviousPeriod,
                "2024-03-10T05:30",
                "2024-03-10T08",
            ),
            (
                "2024-03-10T08:00:00Z",
                "2024-03-10T10:00:00Z",
                PreviousWeek,
                "2024-03-03T08",
                "2024-03-03T10",
            ),
            (
                "2024-03-10T12:00:00Z",
                "2024-03-12",
                PreviousPeriod,
                "2024-03-09T00",
                "2024-03-10T12",
            ),
        ] {
            let through = "2026-01-01T00:00:00Z";
            let [.., begin, end] = compare(bounds(from, to), compared, Zone::default(), through, through);
            assert!(
                begin.starts_with(previous_from) && end.starts_with(previous_to),
                "{from} {to} {compared:?}: {begin} {end}"
            );
        }
    }

    #[test]
    fn calendar_periods_move_by_their_own_unit() {
        for (period, from, to) in [
            ("yesterday", "2024-03-29T00:00:00+01:00", "2024-03-30T00:00:00+01:00"),
            ("last_month", "2024-01-01T00:00:00+01:00", "2024-02-01T00:00:00+01:00"),
        ] {
            let choice = RangeChoice::Period(Period::parse(period).unwrap());
            let (zone, now) = (Zone::parse("Europe/Berlin").unwrap(), "2024-03-31T12:00:00Z");
            let [.., begin, end] = compare(choice, Compare::PreviousPeriod, zone, now, now);
            assert_eq!((begin.as_str(), end.as_str()), (from, to), "{period}");
        }
    }

    #[test]
    fn both_sides_end_after_the_same_local_time() {
        let zone = Zone::parse("Europe/Berlin").unwrap();
        let through = "2024-03-31T11:59:59.5Z";
        for (period, compared, previous_from, previous_to) in [
            (
                "today",
                Compare::PreviousPeriod,
                "2024-03-30T00:00:00+01:00",
                "2024-03-30T13:45:00+01:00",
            ),
            (
                "today",
                Compare::PreviousWeek,
                "2024-03-24T00:00:00+01:00",
                "2024-03-24T13:45:00+01:00",
            ),
            (
                "7d",
                Compare::PreviousPeriod,
                "2024-03-18T00:00:00+01:00",
                "2024-03-24T13:45:00+01:00",
            ),
            // February ends before.
            (
                "month",
                Compare::PreviousPeriod,
                "2024-02-01T00:00:00+01:00",
                "2024-03-01T00:00:00+01:00",
            ),
            (
                "month",
                Compare::YearOverYear,
                "2023-03-01T00:00:00+01:00",
                "2023-03-31T13:45:00+02:00",
            ),
            (
                "year",
                Compare::PreviousPeriod,
                "2023-01-01T00:00:00+01:00",
                "2023-04-01T13:45:00+02:00",
            ),
            (
                "12mo",
                Compare::PreviousPeriod,
                "2022-04-01T00:00:00+02:00",
                "2023-04-01T00:00:00+02:00",
            ),
        ] {
            let choice = RangeChoice::Period(Period::parse(period).unwrap());
            let [_, end, begin, previous_end] = compare(choice, compared, zone, "2024-03-31T12:00:00Z", through);
            assert_eq!(end, "2024-03-31T13:45:00+02:00", "{period}");
            assert_eq!(
                (begin.as_str(), previous_end.as_str()),
                (previous_from, previous_to),
                "{period}"
            );
        }
    }

    #[test]
    fn nothing_is_compared_with_nothing_before_the_range_begins() {
        let [from, to, previous_from, previous_to] = compare(
            bounds("2024-03-10", "2024-03-11"),
            Compare::PreviousPeriod,
            Zone::default(),
            "2024-03-01T00:00:00Z",
            "2024-03-01T00:00:00Z",
        );
        assert_eq!((from, previous_from), (to, previous_to));
    }
}
