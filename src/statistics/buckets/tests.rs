//! Buckets against a clock that is read minute by minute.

use chrono::{DateTime, Datelike as _, NaiveDateTime, Offset as _, TimeZone as _, Timelike as _};
use chrono_tz::Tz;
use proptest::prelude::*;

use super::*;
use crate::statistics::instant::{MINUTE_MICROS, SECOND_MICROS, midnight_micros};

fn zone(name: &str) -> Zone {
    Zone::parse(name).unwrap()
}

fn micros(text: &str) -> i64 {
    DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()
}

fn buckets(interval: Interval, name: &str) -> Buckets {
    Buckets::new(interval, zone(name), Weekday::Mon)
}

/// The bucket of an instant, as two texts.
fn bucket(buckets: Buckets, instant: &str) -> (String, String) {
    let start = buckets.start_of(micros(instant));
    let end = buckets.end_of(start);
    (buckets.start_text(start), buckets.start_text(end))
}

#[test]
fn local_days_have_23_to_25_hours() {
    for (name, instant, start, end, hours) in [
        (
            "UTC",
            "2001-01-01T05:55:07Z",
            "2001-01-01T00:00:00+00:00",
            "2001-01-02T00:00:00+00:00",
            24.0,
        ),
        (
            "Europe/Berlin",
            "2024-03-31T12:00:00Z",
            "2024-03-31T00:00:00+01:00",
            "2024-04-01T00:00:00+02:00",
            23.0,
        ),
        (
            "Europe/Berlin",
            "2024-10-27T12:00:00Z",
            "2024-10-27T00:00:00+02:00",
            "2024-10-28T00:00:00+01:00",
            25.0,
        ),
        (
            "Australia/Lord_Howe",
            "2024-10-05T20:00:00Z",
            "2024-10-06T00:00:00+10:30",
            "2024-10-07T00:00:00+11:00",
            23.5,
        ),
        (
            "Australia/Lord_Howe",
            "2024-04-06T20:00:00Z",
            "2024-04-07T00:00:00+11:00",
            "2024-04-08T00:00:00+10:30",
            24.5,
        ),
        // Without a midnight.
        (
            "America/Havana",
            "2024-03-10T05:00:00Z",
            "2024-03-10T01:00:00-04:00",
            "2024-03-11T00:00:00-04:00",
            23.0,
        ),
        // The clock goes from 00:01 back to 23:01: the new day has begun.
        (
            "America/St_Johns",
            "2010-11-07T03:00:00Z",
            "2010-11-07T00:00:00-02:30",
            "2010-11-08T00:00:00-03:30",
            25.0,
        ),
        // 30 December was skipped.
        (
            "Pacific/Apia",
            "2011-12-30T09:59:59Z",
            "2011-12-29T00:00:00-10:00",
            "2011-12-31T00:00:00+14:00",
            24.0,
        ),
        // The clock goes from 00:00 to 00:44:30.
        (
            "Africa/Monrovia",
            "1972-01-07T12:00:00Z",
            "1972-01-07T00:44:30+00:00",
            "1972-01-08T00:00:00+00:00",
            83_730.0 / 3_600.0,
        ),
        (
            "UTC",
            "2200-12-31T23:59:59Z",
            "2200-12-31T00:00:00+00:00",
            "2201-01-01T00:00:00+00:00",
            24.0,
        ),
        (
            "America/New_York",
            "1970-01-01T00:00:00Z",
            "1969-12-31T00:00:00-05:00",
            "1970-01-01T00:00:00-05:00",
            24.0,
        ),
    ] {
        let days = buckets(Interval::Day, name);
        assert_eq!(bucket(days, instant), (start.to_string(), end.to_string()), "{name}");
        let length = (micros(end) - micros(start)) as f64 / HOUR_MICROS as f64;
        assert_eq!(length, hours, "{name}");
    }
}

#[test]
fn hours_begin_at_whole_local_hours_and_at_changes_of_the_offset() {
    for (name, instant, start, end) in [
        (
            "Asia/Kathmandu",
            "2001-01-01T00:14:59Z",
            "2001-01-01T05:00:00+05:45",
            "2001-01-01T06:00:00+05:45",
        ),
        // 02:00 comes twice, as two hours.
        (
            "Europe/Berlin",
            "2024-10-27T00:30:00Z",
            "2024-10-27T02:00:00+02:00",
            "2024-10-27T02:00:00+01:00",
        ),
        (
            "Europe/Berlin",
            "2024-10-27T01:30:00Z",
            "2024-10-27T02:00:00+01:00",
            "2024-10-27T03:00:00+01:00",
        ),
        // From 02:00 back to 01:30.
        (
            "Australia/Lord_Howe",
            "2024-04-06T14:59:00Z",
            "2024-04-07T01:00:00+11:00",
            "2024-04-07T01:30:00+10:30",
        ),
        (
            "Australia/Lord_Howe",
            "2024-04-06T15:01:00Z",
            "2024-04-07T01:30:00+10:30",
            "2024-04-07T02:00:00+10:30",
        ),
        // From 00:01 back to 23:01.
        (
            "America/St_Johns",
            "2010-11-07T02:30:30Z",
            "2010-11-07T00:00:00-02:30",
            "2010-11-06T23:01:00-03:30",
        ),
        (
            "America/St_Johns",
            "2010-11-07T02:31:00Z",
            "2010-11-06T23:01:00-03:30",
            "2010-11-07T00:00:00-03:30",
        ),
        (
            "Africa/Monrovia",
            "1972-01-07T00:44:00Z",
            "1972-01-06T23:00:30-00:44",
            "1972-01-07T00:44:30+00:00",
        ),
    ] {
        let hours = buckets(Interval::Hour, name);
        assert_eq!(bucket(hours, instant), (start.to_string(), end.to_string()), "{name}");
    }
}

#[test]
fn weeks_and_months_go_over_years() {
    for (interval, week_start, instant, start, end) in [
        (
            Interval::Week,
            Weekday::Mon,
            "2024-12-31T23:00:00Z",
            "2024-12-30",
            "2025-01-06",
        ),
        (
            Interval::Week,
            Weekday::Sun,
            "2025-01-04T23:00:00Z",
            "2024-12-29",
            "2025-01-05",
        ),
        (
            Interval::Week,
            Weekday::Sat,
            "2025-01-04T00:00:00Z",
            "2025-01-04",
            "2025-01-11",
        ),
        (
            Interval::Week,
            Weekday::Mon,
            "1970-01-01T00:00:00Z",
            "1969-12-29",
            "1970-01-05",
        ),
        (
            Interval::Month,
            Weekday::Mon,
            "2024-02-29T23:59:59Z",
            "2024-02-01",
            "2024-03-01",
        ),
        (
            Interval::Month,
            Weekday::Mon,
            "2024-12-31T00:00:00Z",
            "2024-12-01",
            "2025-01-01",
        ),
        (
            Interval::Month,
            Weekday::Mon,
            "2200-12-31T00:00:00Z",
            "2200-12-01",
            "2201-01-01",
        ),
    ] {
        let buckets = Buckets::new(interval, Zone::default(), week_start);
        let found = buckets.start_of(micros(instant));
        let dates = (buckets.date(found), buckets.date(buckets.end_of(found)));
        assert_eq!(dates, (start.parse().unwrap(), end.parse().unwrap()), "{instant}");
    }
    // The Saturday on which this week would have begun was skipped.
    let weeks = Buckets::new(Interval::Week, zone("Pacific/Kwajalein"), Weekday::Sat);
    let start = weeks.start_of(micros("1993-08-25T00:00:00Z"));
    assert_eq!(weeks.start_text(start), "1993-08-22T00:00:00+12:00");
}

#[test]
fn one_bucket_has_everything() {
    let all = buckets(Interval::All, "Asia/Kathmandu");
    assert_eq!((all.start_of(0), all.end_of(i64::MIN)), (i64::MIN, i64::MAX));
    assert_eq!(all.between(-5, 5, 1), Some(vec![i64::MIN]));
    assert_eq!(all.covering_days(&[3, 4]), [i64::MIN]);
}

#[test]
fn a_list_of_buckets_has_a_limit() {
    let days = buckets(Interval::Day, "UTC");
    let to = 10 * DAY_MICROS;
    assert_eq!(days.between(0, to, 10).unwrap().len(), 10);
    assert_eq!(days.between(0, to + 1, 10), None);
    assert_eq!(days.between(-1, to, 10), None);
    assert_eq!(days.between(to, to, 0), Some(vec![]));
    assert_eq!(days.between(to, 0, 0), Some(vec![]));
    assert_eq!(days.between(i64::MIN, i64::MAX, 1_000_000), None);
}

/// A clock that is read at each step, and the starts of buckets by their definition.
struct Clock {
    zone: Tz,
    week_start: Weekday,
    interval: Interval,
}

impl Clock {
    fn local(&self, micros: i64) -> (NaiveDateTime, i32) {
        let instant = self.zone.timestamp_micros(micros).unwrap();
        (instant.naive_local(), instant.offset().fix().local_minus_utc())
    }

    /// The first day of the day, week or month of a local time.
    fn period(&self, local: NaiveDateTime) -> chrono::NaiveDate {
        let mut day = local.date();
        let is_first = |day: chrono::NaiveDate| match self.interval {
            Interval::Week => day.weekday() == self.week_start,
            Interval::Month => day.day() == 1,
            _ => true,
        };
        while !is_first(day) {
            day = day.pred_opt().unwrap();
        }
        day
    }

    /// The starts of all buckets that begin in the range, with steps in which no change hides.
    fn starts(&self, from: i64, to: i64) -> Vec<i64> {
        let step = match self.zone {
            Tz::Africa__Monrovia => 30 * SECOND_MICROS,
            _ => MINUTE_MICROS,
        };
        let mut starts = Vec::new();
        let (before, mut offset) = self.local(from - step);
        let mut latest = self.period(before);
        let mut at = from;
        while at < to {
            let (local, new_offset) = self.local(at);
            let begins = match self.interval {
                Interval::Hour => (local.minute(), local.second()) == (0, 0) || new_offset != offset,
                // Most days of a month are not its first one.
                _ => local.date() > latest && self.period(local) > latest,
            };
            if begins {
                starts.push(at);
                latest = self.period(local).max(latest);
            }
            offset = new_offset;
            at += step;
        }
        starts
    }
}

/// Zones and days with something odd, and any others.
fn places() -> impl Strategy<Value = (Tz, i64)> {
    let odd = [
        (Tz::Europe__Berlin, "2024-03-31"),
        (Tz::Europe__Berlin, "2024-10-27"),
        (Tz::America__Havana, "2024-03-10"),
        (Tz::America__Havana, "2024-11-03"),
        (Tz::America__St_Johns, "2010-11-07"),
        (Tz::America__St_Johns, "1988-10-30"),
        (Tz::America__Goose_Bay, "1988-10-30"),
        (Tz::Antarctica__Casey, "2010-03-05"),
        (Tz::Australia__Lord_Howe, "2024-10-06"),
        (Tz::Australia__Lord_Howe, "2024-04-07"),
        (Tz::Pacific__Apia, "2011-12-30"),
        (Tz::Pacific__Kwajalein, "1993-08-21"),
        (Tz::Pacific__Kiritimati, "1994-12-31"),
        (Tz::Asia__Kathmandu, "1986-01-01"),
        (Tz::Asia__Gaza, "2011-08-30"),
        (Tz::Africa__Casablanca, "2024-03-10"),
        (Tz::Africa__Monrovia, "1972-01-07"),
        (Tz::America__Sao_Paulo, "2018-11-04"),
        (Tz::UTC, "2000-02-29"),
    ];
    let odd =
        proptest::sample::select(odd.to_vec()).prop_map(|(zone, day)| (zone, midnight_micros(day.parse().unwrap())));
    let any = (proptest::sample::select(&chrono_tz::TZ_VARIANTS[..]), 0..84_000_i64);
    prop_oneof![odd, any.prop_map(|(zone, day)| (zone, day * DAY_MICROS))]
}

fn agree(interval: Interval, week_start: Weekday, zone: Tz, from: i64, days: i64) {
    let clock = Clock {
        zone,
        week_start,
        interval,
    };
    let to = from + days * DAY_MICROS;
    let starts = clock.starts(from, to);
    let buckets = Buckets::new(interval, Zone::parse(zone.name()).unwrap(), week_start);
    let place = format!("{interval:?} {week_start} {zone} {}", buckets.start_text(from));
    assert!(starts.len() >= 2, "{place}");
    for pair in starts.windows(2) {
        let [start, end] = pair else { unreachable!() };
        assert_eq!(buckets.end_of(*start), *end, "{place}");
        for inside in [*start, start + 1, start + (end - start) / 2, end - 1] {
            assert_eq!(buckets.start_of(inside), *start, "{place}");
        }
    }
    let (first, last) = (starts[0], starts[starts.len() - 1]);
    let between = buckets.between(first, last, starts.len()).unwrap();
    assert_eq!(between, starts[..starts.len() - 1], "{place}");

    let one_day = first.div_euclid(DAY_MICROS) + 1;
    let chosen = [one_day + 3, one_day, one_day];
    let overlaps = |start: &i64| {
        let end = buckets.end_of(*start);
        let covers = |day: &i64| *start < (day + 1) * DAY_MICROS && end > day * DAY_MICROS;
        chosen.iter().any(covers)
    };
    if (one_day + 4) * DAY_MICROS < last {
        let covering: Vec<i64> = starts.iter().copied().filter(overlaps).collect();
        assert_eq!(buckets.covering_days(&chosen), covering, "{place}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn hours_and_days_are_those_of_a_clock((zone, day) in places(), is_hour: bool, earlier in 0..3_i64) {
        let interval = if is_hour { Interval::Hour } else { Interval::Day };
        agree(interval, Weekday::Mon, zone, day - earlier * DAY_MICROS, 7);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(25))]

    #[test]
    fn weeks_and_months_are_those_of_a_clock(
        (zone, day) in places(),
        is_week: bool,
        week_start in proptest::sample::select(vec![Weekday::Mon, Weekday::Sun, Weekday::Sat]),
        earlier in 0..40_i64,
    ) {
        let (interval, days) = if is_week { (Interval::Week, 25) } else { (Interval::Month, 65) };
        agree(interval, week_start, zone, day - earlier * DAY_MICROS, days);
    }
}
