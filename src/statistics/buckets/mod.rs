//! Buckets: the hours, days, weeks or months of a time zone.

use chrono::{Datelike as _, Days, Months, NaiveDate, Weekday};

use super::choice::Choice;
use super::instant::{DAY_MICROS, HOUR_MICROS};
use super::zone::Zone;

/// What a row of a report covers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Interval {
    Hour,
    #[default]
    Day,
    Week,
    Month,
    /// The whole range in one bucket.
    All,
}

impl Choice for Interval {
    const CHOICES: &'static [(&'static str, Interval)] = &[
        ("hour", Interval::Hour),
        ("day", Interval::Day),
        ("week", Interval::Week),
        ("month", Interval::Month),
        ("all", Interval::All),
    ];
}

/// All time, cut into buckets without gaps. A bucket is named by its start, its first instant.
///
/// Days, weeks and months begin at the first instant at which the clock on the wall shows their first day or a later
/// one; a bucket lasts until the next one begins. So a minute that comes again after midnight stays in the day that
/// has begun. Hours begin at each whole local hour and at each change of the offset. The one bucket of
/// [`Interval::All`] has the start `i64::MIN` and the end `i64::MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buckets {
    interval: Interval,
    zone: Zone,
    week_start: Weekday,
}

impl Buckets {
    pub fn new(interval: Interval, zone: Zone, week_start: Weekday) -> Buckets {
        Buckets {
            interval,
            zone,
            week_start,
        }
    }

    /// The start of the bucket that an instant is in.
    pub fn start_of(&self, micros: i64) -> i64 {
        match self.interval {
            Interval::All => i64::MIN,
            Interval::Hour => {
                let hour = micros - self.zone.local_micros(micros).rem_euclid(HOUR_MICROS);
                self.zone.change_between(hour, micros).unwrap_or(hour)
            }
            Interval::Day | Interval::Week | Interval::Month => {
                let mut first = self.first_day(self.zone.date(micros));
                let mut start = self.zone.day_start(first);
                loop {
                    first = self.next(first);
                    let next = self.zone.day_start(first);
                    if next > micros {
                        return start;
                    }
                    start = next;
                }
            }
        }
    }

    /// The first instant after the bucket that starts here.
    pub fn end_of(&self, start: i64) -> i64 {
        match self.interval {
            Interval::All => i64::MAX,
            Interval::Hour => {
                let end = start + HOUR_MICROS - self.zone.local_micros(start).rem_euclid(HOUR_MICROS);
                self.zone.change_between(start, end).unwrap_or(end)
            }
            Interval::Day | Interval::Week | Interval::Month => {
                let mut first = self.first_day(self.zone.date(start));
                loop {
                    first = self.next(first);
                    let end = self.zone.day_start(first);
                    if end > start {
                        return end;
                    }
                }
            }
        }
    }

    /// The starts of all buckets that overlap the range; `None` if they are more than `max`.
    pub fn between(&self, from: i64, to: i64, max: usize) -> Option<Vec<i64>> {
        let mut starts = Vec::new();
        if from >= to {
            return Some(starts);
        }
        // Far too many are not even counted. Local time is never three days from UTC.
        let least = to.saturating_sub(from) / self.length_micros_max() - 3;
        if usize::try_from(least).is_ok_and(|least| least > max) {
            return None;
        }
        let mut start = self.start_of(from);
        while start < to {
            if starts.len() == max {
                return None;
            }
            starts.push(start);
            start = self.end_of(start);
        }
        Some(starts)
    }

    /// The longest bucket, if offsets did not change.
    fn length_micros_max(&self) -> i64 {
        match self.interval {
            Interval::Hour => HOUR_MICROS,
            Interval::Day => DAY_MICROS,
            Interval::Week => 7 * DAY_MICROS,
            Interval::Month => 31 * DAY_MICROS,
            Interval::All => i64::MAX,
        }
    }

    /// The starts of all buckets that overlap one of these days of UTC (their numbers since 1970), in order.
    pub fn covering_days(&self, utc_days: &[i64]) -> Vec<i64> {
        let mut days = utc_days.to_vec();
        days.sort_unstable();
        let mut starts = Vec::new();
        let mut covered_to = i64::MIN;
        for begin in days.iter().map(|day| day * DAY_MICROS) {
            let end = begin + DAY_MICROS;
            while covered_to < end {
                let start = self.start_of(begin.max(covered_to));
                starts.push(start);
                covered_to = self.end_of(start);
            }
        }
        starts
    }

    /// The first local day of the bucket.
    pub fn date(&self, start: i64) -> NaiveDate {
        self.zone.date(start)
    }

    /// The start by the clock on the wall with its offset, `2001-01-01T00:00:00+05:45`.
    pub fn start_text(&self, start: i64) -> String {
        self.zone.text(start)
    }

    /// The first day of the day, week or month that has this date.
    fn first_day(&self, date: NaiveDate) -> NaiveDate {
        match self.interval {
            Interval::Week => {
                let days = date.weekday().days_since(self.week_start);
                date.checked_sub_days(Days::new(days.into())).unwrap_or(date)
            }
            Interval::Month => date.with_day(1).unwrap_or(date),
            _ => date,
        }
    }

    /// The first day of the next day, week or month.
    fn next(&self, first: NaiveDate) -> NaiveDate {
        let next = match self.interval {
            Interval::Week => first.checked_add_days(Days::new(7)),
            Interval::Month => first.checked_add_months(Months::new(1)),
            _ => first.checked_add_days(Days::new(1)),
        };
        // Dates reach 262,000 years further than instants.
        next.unwrap_or(NaiveDate::MAX)
    }
}

#[cfg(test)]
mod tests;
