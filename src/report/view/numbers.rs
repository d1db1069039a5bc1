//! Numbers as people read them. Programs get those of `statistics`.

use super::signs::Signs;
use crate::statistics::Value;
use crate::statistics::people::{duration, grouped, percent};

/// A value under its metric.
pub fn text(value: Value, signs: &Signs) -> String {
    match value {
        Value::Count(count) => grouped(count),
        Value::Rate(rate) => percent(rate),
        Value::Seconds(seconds) => duration(seconds),
        Value::Null => signs.null.to_string(),
    }
}

/// The columns that [`text`] takes, without the text of a count: a report may have millions.
pub fn width(value: Value, signs: &Signs) -> usize {
    match value {
        Value::Count(count) => {
            let digits = count.checked_ilog10().unwrap_or(0) as usize + 1;
            digits + (digits - 1) / 3
        }
        Value::Rate(_) | Value::Seconds(_) | Value::Null => text(value, signs).chars().count(),
    }
}

/// The change from one value to another: per cent of counts and times, points of rates.
pub fn change(now: Value, before: Value, signs: &Signs) -> String {
    let Some(change) = now.change_from(before) else {
        return signs.null.to_string();
    };
    let unit = if matches!(now, Value::Rate(_)) { " pt" } else { "%" };
    let size = match change.abs() {
        size if size < 0.05 => return format!("0{unit}"),
        size if size >= 99.95 => grouped(size.round() as u64),
        size => format!("{size:.1}"),
    };
    let sign = match change {
        change if change > 0.0 => signs.up,
        _ => signs.down,
    };
    let blank = if sign.is_ascii() { "" } else { " " };
    format!("{sign}{blank}{size}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::view::signs::{ASCII, UTF8};

    #[test]
    fn numbers_are_short_and_are_not_rounded_to_nothing_or_all() {
        for (value, expected) in [
            (Value::Count(0), "0"),
            (Value::Count(999), "999"),
            (Value::Count(1_000), "1,000"),
            (Value::Count(u64::MAX), "18,446,744,073,709,551,615"),
            (Value::Rate(0.0), "0%"),
            (Value::Rate(0.000_1), "<0.1%"),
            (Value::Rate(0.816_66), "81.7%"),
            (Value::Rate(0.999_99), ">99.9%"),
            (Value::Rate(1.0), "100%"),
            (Value::Seconds(0.0), "0 s"),
            (Value::Seconds(0.000_2), "<1 ms"),
            (Value::Seconds(0.000_999_7), "1 ms"),
            (Value::Seconds(0.84), "840 ms"),
            (Value::Seconds(0.999_7), "1.00 s"),
            (Value::Seconds(9.996), "10.0 s"),
            (Value::Seconds(59.96), "1m 00s"),
            (Value::Seconds(3_599.6), "1h 00m"),
            (Value::Seconds(86_400.0), "1d 00h"),
            (Value::Null, "\u{2013}"),
        ] {
            assert_eq!(text(value, &UTF8), expected);
            assert_eq!(width(value, &UTF8), expected.chars().count(), "{expected}");
        }
    }

    #[test]
    fn a_change_has_a_direction_and_a_unit() {
        for (now, before, utf8, ascii) in [
            (Value::Count(109), Value::Count(100), "\u{2191} 9.0%", "+9.0%"),
            (Value::Count(50), Value::Count(100), "\u{2193} 50.0%", "-50.0%"),
            (Value::Count(5), Value::Count(5), "0%", "0%"),
            (Value::Count(4_000), Value::Count(4_001), "0%", "0%"),
            (Value::Count(5_000), Value::Count(1), "\u{2191} 499,900%", "+499,900%"),
            (Value::Count(5), Value::Count(0), "\u{2013}", "-"),
            (Value::Rate(0.5), Value::Rate(0.512), "\u{2193} 1.2 pt", "-1.2 pt"),
            (Value::Seconds(3.0), Value::Seconds(2.0), "\u{2191} 50.0%", "+50.0%"),
        ] {
            assert_eq!(change(now, before, &UTF8), utf8);
            assert_eq!(change(now, before, &ASCII), ascii);
        }
    }
}
