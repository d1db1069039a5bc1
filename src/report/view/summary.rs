//! The lines below a table: its range, how far it is complete, and what its marks mean.

use chrono::DateTime;

use super::columns::header;
use super::look::Look;
use crate::clickhouse::Freshness;
use crate::report::notes::completeness;
use crate::statistics::people::{LATE_MICROS, duration};
use crate::statistics::{Answer, By, Interval, Metric, Range, Zone};
use crate::terminal::escape::{self, display_width};
use crate::terminal::{Style, StyledText};

/// Marks a bucket that is not whole.
pub const PARTIAL: &str = "*";

/// The lines below the table, without those that only bars need.
pub fn lines(answer: &Answer, look: &Look<'_>) -> Vec<(Style, String)> {
    let mut lines = vec![(Style::Plain, range_line(answer, look))];
    lines.extend(completeness_lines(answer, look));
    lines.extend(partial_line(answer).map(|line| (Style::Plain, line)));
    lines.extend(comparison_line(answer));
    lines
}

/// Adds lines that fit the page; they break between words. An error among them may repeat a key, which is redacted.
pub fn push_lines(text: &mut StyledText, lines: &[(Style, String)], width: usize) {
    for (style, line) in lines {
        for part in wrap(&escape::log_line(line), width) {
            text.push(*style, &part);
            text.end_line();
        }
    }
}

/// Says which metrics a narrow page leaves out.
pub fn left_out_line(left_out: &[Metric]) -> Option<(Style, String)> {
    let names: Vec<_> = left_out.iter().map(|metric| header(*metric)).collect();
    let names = names.join(", ");
    (!names.is_empty()).then(|| (Style::Faint, format!("not shown in a window this narrow: {names}")))
}

fn range_line(answer: &Answer, look: &Look<'_>) -> String {
    let zone = answer.query.zone;
    let range = range_text(answer.resolved.range, zone);
    let period = look.period.and_then(period_text);
    let range = match period {
        Some(period) => format!("{period}, {range}, {}", zone.name()),
        None => format!("{range}, {}", zone.name()),
    };
    match (answer.query.by, answer.query.site_ids.len()) {
        (By::Site, _) | (By::None, 1) => range,
        (By::None, 0) => format!("{range}, all sites together"),
        (By::None, sites) => format!("{range}, {sites} sites together"),
    }
}

/// A period in words; `None` of one whose range says it all.
fn period_text(period: &str) -> Option<&'static str> {
    Some(match period {
        "today" => "today",
        "yesterday" => "yesterday",
        "24h" => "last 24 hours",
        "7d" => "last 7 days",
        "28d" => "last 28 days",
        "30d" => "last 30 days",
        "91d" => "last 91 days",
        "month" => "this month",
        "last_month" => "last month",
        "year" => "this year",
        "12mo" => "last 12 months",
        _ => return None,
    })
}

/// Whole days with their last one; else the instants by the clock on the wall.
pub fn range_text(range: Range, zone: Zone) -> String {
    let is_day_start = |micros: &i64| zone.day_start(zone.date(*micros)) == *micros;
    let ends_with_day = range.from.is_none_or(|from| is_day_start(&from));
    let first = range.from.map(|from| match is_day_start(&from) {
        true => zone.date(from).to_string(),
        false => wall_clock(from, zone),
    });
    let last = range.to.map(|to| match ends_with_day && is_day_start(&to) {
        true => zone.date(to - 1).to_string(),
        false => wall_clock(to, zone),
    });
    match (first, last) {
        (None, None) => "all time".to_string(),
        (Some(first), None) => format!("from {first} on"),
        (None, Some(last)) => format!("up to {last}"),
        (Some(first), Some(last)) if first == last => first,
        (Some(first), Some(last)) => match last.split_once(' ') {
            Some((date, time)) if first == date => format!("{first} until {time}"),
            Some((date, time)) if first.starts_with(date) => format!("{first} to {time}"),
            _ => format!("{first} to {last}"),
        },
    }
}

/// Date and time, with seconds only if they are not 0.
pub fn wall_clock(micros: i64, zone: Zone) -> String {
    format!("{} {}", zone.date(micros), time_of_day(micros, zone))
}

/// The time by the clock on the wall, with seconds only if they are not 0.
pub fn time_of_day(micros: i64, zone: Zone) -> String {
    let text = zone.text(micros);
    let time = text.get(11..19).unwrap_or_default();
    time.strip_suffix(":00").unwrap_or(time).to_string()
}

fn completeness_lines(answer: &Answer, look: &Look<'_>) -> Vec<(Style, String)> {
    let Some(through) = answer.complete_through_micros else {
        return vec![(Style::Warning, completeness(Freshness::default()))];
    };
    let moment = wall_clock(through - through.rem_euclid(1_000_000), answer.query.zone);
    let line = format!("every event confirmed before {moment} is counted");
    let Some(now) = look.now.filter(|now| now.timestamp_micros() - through > LATE_MICROS) else {
        return vec![(Style::Plain, line)];
    };
    let age = now - DateTime::from_timestamp_micros(through).unwrap_or(now);
    let age = duration(age.num_seconds() as f64);
    let late = format!("that is {age} ago: see whether `captcha consume` is behind");
    vec![(Style::Plain, line), (Style::Warning, late)]
}

/// The meaning of the mark of buckets; `None` if no bucket has one.
fn partial_line(answer: &Answer) -> Option<String> {
    answer.complete_through_micros?;
    if answer.partial.is_empty() {
        return None;
    }
    let unfinished = "not finished: events or solves may still come";
    if answer.query.interval == Interval::All {
        return Some(unfinished.to_string());
    }
    let (range, buckets) = (answer.resolved.range, answer.query.buckets());
    let is_cut = |bucket: &i64| {
        range.from.is_some_and(|from| *bucket < from) || range.to.is_some_and(|to| buckets.end_of(*bucket) > to)
    };
    let cut = answer.partial.iter().filter(|bucket| is_cut(bucket)).count();
    Some(match cut {
        0 => format!("{PARTIAL} {unfinished}"),
        cut if cut == answer.partial.len() => format!("{PARTIAL} only in part within the range"),
        _ => format!("{PARTIAL} {unfinished}; or only in part within the range"),
    })
}

fn comparison_line(answer: &Answer) -> Option<(Style, String)> {
    answer.query.compare?;
    let zone = answer.query.zone;
    Some(match &answer.resolved.comparison {
        Some(sides) => {
            let [current, before] = [sides.current, sides.previous].map(|range| range_text(range, zone));
            (Style::Plain, format!("change: {current} against {before}"))
        }
        None => (
            Style::Warning,
            "nothing is compared, because it is not known how far the report is complete".to_string(),
        ),
    })
}

/// Breaks a line between words.
fn wrap(line: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in line.split(' ') {
        match lines.last_mut() {
            Some(last) if display_width(last) + 1 + display_width(word) <= width => {
                last.push(' ');
                last.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_its_last_day_or_its_instants() {
        let zone = Zone::parse("Europe/Berlin").unwrap();
        let micros = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros();
        let text = |from: &str, to: &str| {
            let bound = |text: &str| (!text.is_empty()).then(|| micros(text));
            let (from, to) = (bound(from), bound(to));
            range_text(Range { from, to }, zone)
        };
        let day = "2024-10-27T00:00:00+02:00";
        assert_eq!(text(day, "2024-10-28T00:00:00+01:00"), "2024-10-27");
        assert_eq!(text(day, "2024-10-29T00:00:00+01:00"), "2024-10-27 to 2024-10-28");
        assert_eq!(text(day, ""), "from 2024-10-27 on");
        assert_eq!(text("", day), "up to 2024-10-26");
        assert_eq!(text("", ""), "all time");
        assert_eq!(text(day, "2024-10-27T12:00:00+01:00"), "2024-10-27 until 12:00");
        let hours = ("2024-10-28T06:00:00+01:00", "2024-10-28T07:30:00+01:00");
        assert_eq!(text(hours.0, hours.1), "2024-10-28 06:00 to 07:30");
        let instant = "2024-10-28T06:00:00.5+01:00";
        assert_eq!(text(day, "2024-10-28T06:30:00+01:00"), "2024-10-27 to 2024-10-28 06:30");
        assert_eq!(
            text(instant, "2024-10-29T00:00:00+01:00"),
            "2024-10-28 06:00 to 2024-10-29 00:00"
        );
        assert_eq!(text(day, instant), "2024-10-27 to 2024-10-28 06:00");
    }

    #[test]
    fn a_line_breaks_between_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("a-word-that-does-not-fit x", 5), ["a-word-that-does-not-fit", "x"]);
    }
}
