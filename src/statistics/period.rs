//! The range of a report: its bounds, or a period that ends now.

use chrono::{Datelike as _, Days, Months, NaiveDate};

use super::buckets::{Buckets, Interval};
use super::choice::Choice;
use super::instant::HOUR_MICROS;
use super::moment::Moment;
use super::zone::Zone;

/// From an instant up to another one, which is not in it; in microseconds. `None` is open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Range {
    pub from: Option<i64>,
    pub to: Option<i64>,
}

/// The range that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RangeChoice {
    /// Without a bound it is open.
    Bounds {
        from: Option<Moment>,
        to: Option<Moment>,
    },
    Period(Period),
}

impl Default for RangeChoice {
    /// Everything.
    fn default() -> RangeChoice {
        RangeChoice::Bounds { from: None, to: None }
    }
}

impl RangeChoice {
    /// Whether it has both ends.
    pub fn is_bounded(self) -> bool {
        match self {
            RangeChoice::Bounds { from, to } => from.is_some() && to.is_some(),
            RangeChoice::Period(period) => period != Period::All,
        }
    }
}

/// A range by the calendar, or by its distance from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Period {
    Today,
    Yesterday,
    /// 24 whole hours, the current one last.
    Hours24,
    /// Local days, today last.
    Days(u8),
    /// The calendar month.
    Month,
    LastMonth,
    /// The calendar year.
    Year,
    /// Calendar months, this one last.
    Months12,
    All,
}

impl Choice for Period {
    const CHOICES: &'static [(&'static str, Period)] = &[
        ("today", Period::Today),
        ("yesterday", Period::Yesterday),
        ("24h", Period::Hours24),
        ("7d", Period::Days(7)),
        ("28d", Period::Days(28)),
        ("30d", Period::Days(30)),
        ("91d", Period::Days(91)),
        ("month", Period::Month),
        ("last_month", Period::LastMonth),
        ("year", Period::Year),
        ("12mo", Period::Months12),
        ("all", Period::All),
    ];
}

/// How far back the range before a range is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Local days.
    Days(u64),
    /// Calendar months.
    Months(u32),
    /// Its own length in time.
    Length,
}

/// A range before its current bucket cuts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    pub from: Option<Moment>,
    pub to: Option<Moment>,
    pub step: Step,
}

impl Extent {
    /// The whole range that is asked for, at this time.
    pub fn new(choice: RangeChoice, zone: Zone, now_micros: i64) -> Extent {
        let period = match choice {
            RangeChoice::Bounds { from, to } => return Extent::of_bounds(from, to),
            RangeChoice::Period(period) => period,
        };
        let days_of = |interval| Buckets::new(interval, zone, chrono::Weekday::Mon);
        let days = days_of(Interval::Day);
        let today = days.date(days.start_of(now_micros));
        let month = today.with_day(1).unwrap_or(today);
        let year = month.with_month(1).unwrap_or(month);
        match period {
            Period::Today => Extent::of_days(today, 1),
            Period::Yesterday => Extent::of_days(days_before(today, 1), 1),
            Period::Days(count) => Extent::of_days(days_before(today, u64::from(count) - 1), count.into()),
            Period::Month => Extent::of_months(month, 1),
            Period::LastMonth => Extent::of_months(months_before(month, 1), 1),
            Period::Year => Extent::of_months(year, 12),
            Period::Months12 => Extent::of_months(months_before(month, 11), 12),
            Period::Hours24 => {
                let hours = days_of(Interval::Hour);
                let current = hours.start_of(now_micros);
                Extent {
                    from: Some(Moment::Instant(hours.start_of(current - 23 * HOUR_MICROS))),
                    to: Some(Moment::Instant(hours.end_of(current))),
                    step: Step::Length,
                }
            }
            Period::All => Extent::of_bounds(None, None),
        }
    }

    fn of_bounds(from: Option<Moment>, to: Option<Moment>) -> Extent {
        let step = match (from, to) {
            (Some(Moment::Date(from)), Some(Moment::Date(to))) => Step::Days((to - from).num_days().unsigned_abs()),
            _ => Step::Length,
        };
        Extent { from, to, step }
    }

    fn of_days(from: NaiveDate, count: u64) -> Extent {
        let to = from.checked_add_days(Days::new(count)).unwrap_or(from);
        Extent {
            from: Some(Moment::Date(from)),
            to: Some(Moment::Date(to)),
            step: Step::Days(count),
        }
    }

    fn of_months(from: NaiveDate, count: u32) -> Extent {
        let to = from.checked_add_months(Months::new(count)).unwrap_or(from);
        Extent {
            from: Some(Moment::Date(from)),
            to: Some(Moment::Date(to)),
            step: Step::Months(count),
        }
    }

    pub fn range(self, zone: Zone) -> Range {
        Range {
            from: self.from.map(|from| from.micros(zone)),
            to: self.to.map(|to| to.micros(zone)),
        }
    }
}

impl RangeChoice {
    /// The range as instants. A period that goes on after now ends with its current bucket.
    pub fn range(self, buckets: &Buckets, zone: Zone, now_micros: i64) -> Range {
        let whole = Extent::new(self, zone, now_micros).range(zone);
        let (RangeChoice::Period(_), Some(to)) = (self, whole.to) else {
            return whole;
        };
        let current_end = match to > now_micros {
            true => buckets.end_of(buckets.start_of(now_micros)),
            false => to,
        };
        Range {
            from: whole.from,
            to: Some(to.min(current_end)),
        }
    }
}

fn days_before(date: NaiveDate, days: u64) -> NaiveDate {
    date.checked_sub_days(Days::new(days)).unwrap_or(date)
}

fn months_before(date: NaiveDate, months: u32) -> NaiveDate {
    date.checked_sub_months(Months::new(months)).unwrap_or(date)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, Weekday};

    fn resolve(period: &str, interval: Interval, zone: &str, now: &str) -> (String, String) {
        let zone = Zone::parse(zone).unwrap();
        let now = DateTime::parse_from_rfc3339(now).unwrap().timestamp_micros();
        let buckets = Buckets::new(interval, zone, Weekday::Mon);
        let choice = RangeChoice::Period(Period::parse(period).unwrap());
        let range = choice.range(&buckets, zone, now);
        (zone.text(range.from.unwrap()), zone.text(range.to.unwrap()))
    }

    #[test]
    fn a_period_ends_with_its_current_bucket() {
        use Interval::{All, Day, Hour, Month, Week};
        for (period, interval, from, to) in [
            ("today", Day, "2024-10-27T00:00:00+02:00", "2024-10-28T00:00:00+01:00"),
            ("today", Hour, "2024-10-27T00:00:00+02:00", "2024-10-27T13:00:00+01:00"),
            ("today", All, "2024-10-27T00:00:00+02:00", "2024-10-28T00:00:00+01:00"),
            (
                "yesterday",
                Hour,
                "2024-10-26T00:00:00+02:00",
                "2024-10-27T00:00:00+02:00",
            ),
            ("24h", Hour, "2024-10-26T14:00:00+02:00", "2024-10-27T13:00:00+01:00"),
            ("24h", Day, "2024-10-26T14:00:00+02:00", "2024-10-27T13:00:00+01:00"),
            ("7d", Day, "2024-10-21T00:00:00+02:00", "2024-10-28T00:00:00+01:00"),
            ("7d", Week, "2024-10-21T00:00:00+02:00", "2024-10-28T00:00:00+01:00"),
            ("28d", Day, "2024-09-30T00:00:00+02:00", "2024-10-28T00:00:00+01:00"),
            ("30d", Day, "2024-09-28T00:00:00+02:00", "2024-10-28T00:00:00+01:00"),
            ("91d", Day, "2024-07-29T00:00:00+02:00", "2024-10-28T00:00:00+01:00"),
            ("month", Day, "2024-10-01T00:00:00+02:00", "2024-10-28T00:00:00+01:00"),
            ("month", Month, "2024-10-01T00:00:00+02:00", "2024-11-01T00:00:00+01:00"),
            ("month", All, "2024-10-01T00:00:00+02:00", "2024-11-01T00:00:00+01:00"),
            (
                "last_month",
                Day,
                "2024-09-01T00:00:00+02:00",
                "2024-10-01T00:00:00+02:00",
            ),
            ("year", Month, "2024-01-01T00:00:00+01:00", "2024-11-01T00:00:00+01:00"),
            ("12mo", Month, "2023-11-01T00:00:00+01:00", "2024-11-01T00:00:00+01:00"),
        ] {
            let range = resolve(period, interval, "Europe/Berlin", "2024-10-27T11:30:00Z");
            assert_eq!(range, (from.to_string(), to.to_string()), "{period} {interval:?}");
        }
    }

    #[test]
    fn today_is_the_day_that_has_begun() {
        // The clock went from 00:01 on the 7th back to 23:01 on the 6th.
        let (from, _) = resolve("today", Interval::Day, "America/St_Johns", "2010-11-07T02:45:00Z");
        assert_eq!(from, "2010-11-07T00:00:00-02:30");
        let (from, _) = resolve("yesterday", Interval::Day, "Pacific/Apia", "2011-12-30T10:00:00Z");
        assert_eq!(from, "2011-12-31T00:00:00+14:00", "the day before was skipped");
    }

    #[test]
    fn twenty_four_hours_are_whole_hours() {
        let range = resolve("24h", Interval::Hour, "Asia/Kathmandu", "2024-01-02T00:14:59Z");
        let expected = ("2024-01-01T06:00:00+05:45", "2024-01-02T06:00:00+05:45");
        assert_eq!(range, (expected.0.to_string(), expected.1.to_string()));
        // The offset changed by half an hour.
        let range = resolve("24h", Interval::Hour, "Australia/Lord_Howe", "2024-10-05T20:10:00Z");
        let expected = ("2024-10-05T07:00:00+10:30", "2024-10-06T08:00:00+11:00");
        assert_eq!(range, (expected.0.to_string(), expected.1.to_string()));
    }

    #[test]
    fn all_is_open() {
        let choice = RangeChoice::Period(Period::All);
        let buckets = Buckets::new(Interval::Day, Zone::default(), Weekday::Mon);
        assert_eq!(choice.range(&buckets, Zone::default(), 5), Range::default());
        assert!(!choice.is_bounded() && RangeChoice::Period(Period::Today).is_bounded());
    }
}
