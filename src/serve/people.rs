//! Numbers, times and ranges as people read them on pages and pictures. Pure.

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveDateTime};

use crate::statistics::people::{duration, grouped, percent};
use crate::statistics::{Interval, Metric, Range, Value, Zone};

/// Shown where nothing can be said.
pub const NOTHING: &str = "–";

const SECOND_MICROS: i64 = 1_000_000;
const HOUR_MICROS: i64 = 3_600 * SECOND_MICROS;

/// Of an offset such as `+02:00`.
const OFFSET_CHARS: usize = 6;

/// `1.2k`, `34M`: at most four characters for a number below a trillion, for the ticks of an axis.
pub fn short_count(number: u64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (1_000_000_000_000, "T"),
        (1_000_000_000, "G"),
        (1_000_000, "M"),
        (1_000, "k"),
    ];
    let Some((unit, name)) = UNITS.into_iter().find(|(unit, _)| number >= *unit) else {
        return number.to_string();
    };
    let tenths = number / (unit / 10);
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole}{name}"),
        (whole, _) if whole >= 100 => format!("{whole}{name}"),
        (whole, tenth) => format!("{whole}.{tenth}{name}"),
    }
}

pub fn value(value: Value) -> String {
    match value {
        Value::Count(number) => grouped(number),
        Value::Rate(part) => percent(part),
        Value::Seconds(time) => duration(time),
        Value::Null => NOTHING.to_string(),
    }
}

/// A change: `+12.3%` of counts and times, `−1.2 points` of rates.
pub fn change(metric: Metric, change: f64) -> String {
    let magnitude = change.abs();
    let number = match magnitude {
        _ if magnitude < 0.05 => return "unchanged".to_string(),
        _ if magnitude < 99.95 => format!("{magnitude:.1}"),
        _ => grouped(magnitude.round() as u64),
    };
    let sign = if change < 0.0 { "−" } else { "+" };
    let unit = if metric.is_rate() { " points" } else { "%" };
    format!("{sign}{number}{unit}")
}

/// The name of a metric for people.
pub fn metric(metric: Metric) -> &'static str {
    match metric {
        Metric::Served => "served",
        Metric::Solved => "solved",
        Metric::Challenges => "challenges",
        Metric::SolvedOfServed => "solved in time",
        Metric::Late => "solved late",
        Metric::Pending => "pending",
        Metric::Unsolved => "unsolved",
        Metric::SolveRate => "solve rate",
        Metric::SolveTimeP50 => "median time to solve",
        Metric::SolveTimeP90 => "p90 time to solve",
        Metric::SolveTimeP99 => "p99 time to solve",
        Metric::SolvedBeforeServed => "solved before served",
        Metric::SolvedAgain => "solved again",
        Metric::Unmatched => "unmatched",
        Metric::Retries => "retries",
        Metric::Share => "share",
    }
}

/// The local time, as a clock on the wall has it.
fn local(zone: Zone, micros: i64) -> NaiveDateTime {
    let local = DateTime::from_timestamp_micros(zone.local_micros(micros));
    local.unwrap_or_default().naive_utc()
}

/// `30 Nov 2026`.
pub fn date(date: NaiveDate) -> String {
    date.format("%-d %b %Y").to_string()
}

/// `30 Nov 2026, 13:04:22`.
pub fn moment(zone: Zone, micros: i64) -> String {
    local(zone, micros).format("%-d %b %Y, %H:%M:%S").to_string()
}

/// The name of a bucket, long enough to stand alone.
pub fn bucket(zone: Zone, interval: Interval, start: i64, end: i64) -> String {
    let begin = local(zone, start);
    match interval {
        Interval::Hour => {
            let hours = format!(
                "{}–{}",
                begin.format("%a %-d %b %Y, %H:%M"),
                local(zone, end).format("%H:%M")
            );
            // An hour that comes twice has the same name but for its offset.
            let text = zone.text(start);
            let is_near_change = zone
                .change_between(start - 2 * HOUR_MICROS, end + 2 * HOUR_MICROS)
                .is_some();
            match is_near_change {
                true => format!("{hours} ({})", &text[text.len() - OFFSET_CHARS..]),
                false => hours,
            }
        }
        Interval::Day => begin.format("%a %-d %b %Y").to_string(),
        Interval::Week => dates(begin.date(), local(zone, end - SECOND_MICROS).date()),
        Interval::Month => begin.format("%B %Y").to_string(),
        Interval::All => "everything".to_string(),
    }
}

/// The name of a bucket below an axis, where `before` is the start of the label before it.
pub fn tick(zone: Zone, interval: Interval, start: i64, before: Option<i64>) -> String {
    let begin = local(zone, start);
    let before = before.map(|before| local(zone, before).date());
    match interval {
        Interval::Hour if before != Some(begin.date()) => begin.format("%-d %b %H:%M").to_string(),
        Interval::Hour => begin.format("%H:%M").to_string(),
        Interval::Day | Interval::Week => match before.is_none_or(|before| before.year() != begin.year()) {
            true => begin.format("%-d %b %Y").to_string(),
            false => begin.format("%-d %b").to_string(),
        },
        Interval::Month => begin.format("%b %Y").to_string(),
        Interval::All => String::new(),
    }
}

/// `3–9 Nov 2026`; the last day is in it.
pub fn dates(first: NaiveDate, last: NaiveDate) -> String {
    match () {
        () if first == last => date(first),
        () if (first.year(), first.month()) == (last.year(), last.month()) => {
            format!("{}–{}", first.day(), date(last))
        }
        () if first.year() == last.year() => format!("{} – {}", first.format("%-d %b"), date(last)),
        () => format!("{} – {}", date(first), date(last)),
    }
}

/// A range in the days of its zone, with the time of day where it does not end with a day.
pub fn range(zone: Zone, range: Range) -> String {
    let is_midnight = |micros: i64| zone.day_start(zone.date(micros)) == micros;
    match (range.from, range.to) {
        (None, None) => "all time".to_string(),
        (Some(from), None) => format!("since {}", edge(zone, from, is_midnight(from))),
        (None, Some(to)) => match is_midnight(to) {
            true => format!("until {}", date(zone.date(to - 1))),
            false => format!("until {}", edge(zone, to, false)),
        },
        (Some(from), Some(to)) if is_midnight(from) && is_midnight(to) && from < to => {
            dates(zone.date(from), zone.date(to - 1))
        }
        (Some(from), Some(to)) => {
            let (begin, end) = (edge(zone, from, false), edge(zone, to, false));
            match zone.date(from) == zone.date(to) {
                true => format!("{begin}–{}", local(zone, to).format("%H:%M")),
                false => format!("{begin} – {end}"),
            }
        }
    }
}

/// The range that `current` is compared with. Where both sides are cut because `whole` has not ended, the text names that.
pub fn comparison(zone: Zone, current: Range, previous: Range, whole: Range) -> String {
    let is_midnight = |micros: i64| zone.day_start(zone.date(micros)) == micros;
    let is_cut = current.to < whole.to;
    match (previous.from.zip(previous.to), current.to) {
        (Some((from, to)), Some(end)) if is_cut && is_midnight(from) && from < to => {
            let (first, last) = (zone.date(from), zone.date(to - 1));
            format!(
                "{}, both up to {}",
                dates(first, last),
                local(zone, end).format("%H:%M")
            )
        }
        _ if is_cut => format!("{}, for the same length of time", range(zone, previous)),
        _ => range(zone, previous),
    }
}

fn edge(zone: Zone, micros: i64, is_day: bool) -> String {
    match is_day {
        true => date(zone.date(micros)),
        false => local(zone, micros).format("%-d %b %Y %H:%M").to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()
    }

    #[test]
    fn a_tick_has_four_characters_at_most() {
        for (number, short) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1k"),
            (1_250, "1.2k"),
            (999_999, "999k"),
            (12_345_678, "12.3M"),
        ] {
            assert_eq!(short_count(number), short);
        }
    }

    #[test]
    fn a_change_has_its_sign_and_its_unit() {
        for (metric, by, text) in [
            (Metric::Challenges, 12.34, "+12.3%"),
            (Metric::Challenges, -99.96, "−100%"),
            (Metric::SolveTimeP50, 1_234.5, "+1,235%"),
            (Metric::SolveRate, -1.25, "−1.2 points"),
            (Metric::SolveRate, 0.04, "unchanged"),
        ] {
            assert_eq!(change(metric, by), text);
        }
    }

    #[test]
    fn a_range_is_told_in_days_of_its_zone() {
        let berlin = Zone::parse("Europe/Berlin").unwrap();
        for (from, to, text) in [
            (
                Some("2026-11-01T00:00:00+01:00"),
                Some("2026-12-01T00:00:00+01:00"),
                "1–30 Nov 2026",
            ),
            (
                Some("2026-10-30T00:00:00+01:00"),
                Some("2026-12-01T00:00:00+01:00"),
                "30 Oct – 30 Nov 2026",
            ),
            (
                Some("2025-12-31T00:00:00+01:00"),
                Some("2026-01-02T00:00:00+01:00"),
                "31 Dec 2025 – 1 Jan 2026",
            ),
            (
                Some("2026-11-01T00:00:00+01:00"),
                Some("2026-11-02T00:00:00+01:00"),
                "1 Nov 2026",
            ),
            (
                Some("2026-11-01T06:00:00+01:00"),
                Some("2026-11-01T09:00:00+01:00"),
                "1 Nov 2026 06:00–09:00",
            ),
            (
                Some("2026-11-01T00:00:00+01:00"),
                Some("2026-11-02T09:00:00+01:00"),
                "1 Nov 2026 00:00 – 2 Nov 2026 09:00",
            ),
            (Some("2026-11-01T00:00:00+01:00"), None, "since 1 Nov 2026"),
            (None, Some("2026-11-02T00:00:00+01:00"), "until 1 Nov 2026"),
            (None, None, "all time"),
        ] {
            let shown = range(
                berlin,
                Range {
                    from: from.map(micros),
                    to: to.map(micros),
                },
            );
            assert_eq!(shown, text);
        }
    }

    #[test]
    fn a_comparison_of_days_that_are_cut_is_one_of_days() {
        let utc = Zone::default();
        let range = |from, to| Range {
            from: Some(micros(from)),
            to: Some(micros(to)),
        };
        let current = range("2026-11-03T00:00:00Z", "2026-11-30T13:30:00Z");
        let previous = range("2026-10-06T00:00:00Z", "2026-11-02T13:30:00Z");
        let whole = range("2026-11-03T00:00:00Z", "2026-12-01T00:00:00Z");
        let text = comparison(utc, current, previous, whole);
        assert_eq!(text, "6 Oct – 2 Nov 2026, both up to 13:30");
        let before = range("2026-10-06T00:00:00Z", "2026-11-03T00:00:00Z");
        assert_eq!(comparison(utc, whole, before, whole), "6 Oct – 2 Nov 2026");
        let hours = range("2026-11-29T21:00:00Z", "2026-11-30T21:00:00Z");
        let cut = range("2026-11-29T21:00:00Z", "2026-11-30T20:15:00Z");
        let before = range("2026-11-28T21:00:00Z", "2026-11-29T20:15:00Z");
        assert_eq!(
            comparison(utc, cut, before, hours),
            "28 Nov 2026 21:00 – 29 Nov 2026 20:15, for the same length of time"
        );
    }

    #[test]
    fn an_hour_that_comes_twice_has_its_offset() {
        let berlin = Zone::parse("Europe/Berlin").unwrap();
        let start = micros("2026-10-25T02:00:00+02:00");
        for (start, text) in [
            (start, "Sun 25 Oct 2026, 02:00–02:00 (+02:00)"),
            (start + HOUR_MICROS, "Sun 25 Oct 2026, 02:00–03:00 (+01:00)"),
            (start + 5 * HOUR_MICROS, "Sun 25 Oct 2026, 06:00–07:00"),
        ] {
            assert_eq!(bucket(berlin, Interval::Hour, start, start + HOUR_MICROS), text);
        }
    }

    #[test]
    fn a_bucket_has_a_name_and_a_tick() {
        let utc = Zone::default();
        let start = micros("2026-11-30T13:00:00Z");
        let hour = HOUR_MICROS;
        assert_eq!(
            bucket(utc, Interval::Hour, start, start + hour),
            "Mon 30 Nov 2026, 13:00–14:00"
        );
        assert_eq!(bucket(utc, Interval::Day, start, start), "Mon 30 Nov 2026");
        assert_eq!(
            bucket(utc, Interval::Week, start, start + 7 * 24 * hour),
            "30 Nov – 7 Dec 2026"
        );
        assert_eq!(bucket(utc, Interval::Month, start, start), "November 2026");
        assert_eq!(tick(utc, Interval::Hour, start, None), "30 Nov 13:00");
        assert_eq!(tick(utc, Interval::Hour, start, Some(start - hour)), "13:00");
        assert_eq!(tick(utc, Interval::Day, start, None), "30 Nov 2026");
        assert_eq!(tick(utc, Interval::Day, start, Some(start - 48 * hour)), "30 Nov");
        assert_eq!(tick(utc, Interval::Month, start, None), "Nov 2026");
    }
}
