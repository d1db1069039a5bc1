//! The time of an event: ISO 8601 text to microseconds since 1970 and back.

use std::fmt;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Timelike};

/// First and last year that an event's time may fall in (UTC). ClickHouse's `DateTime64` reaches
/// from 1900 to 2299; staying well inside leaves room for every offset and time zone.
const YEARS: std::ops::RangeInclusive<i32> = 1970..=2200;

/// Digits after the point that are kept: ClickHouse's `DateTime64(6)`. The rest is cut, never rounded: a rounded time
/// may be that of the next day.
const FRACTION_DIGITS_KEPT: usize = 6;

/// Digits after the point that are accepted: nanoseconds, which Go and Java write. No common clock writes more.
const FRACTION_DIGITS_MAX: usize = 9;

/// A second is 59 at most, as in ClickHouse and in Unix time.
const LEAP_SECOND: u32 = 60;

/// Microseconds since 1970-01-01 00:00:00 UTC, within the years 1970 to 2200.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Parses `2001-01-01T05:55:07`, with up to nine fractional digits, which are cut to microseconds, and an optional
    /// offset (`Z`, `+02:00`, `+0200` or `+02`). Without an offset it is UTC. `t` and `z` are accepted too.
    ///
    /// # Errors
    /// A short phrase for the end of an error.
    pub fn parse(text: &str) -> Result<Timestamp, &'static str> {
        const SHAPE: &str = "not a time like 2001-01-01T05:55:07 with optional fraction and offset";
        let bytes = text.as_bytes();
        if bytes.len() < 19 || !bytes.is_ascii() {
            return Err(SHAPE);
        }
        let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
        if !separators.iter().all(|&(at, want)| bytes[at] == want) || !matches!(bytes[10], b'T' | b't') {
            return Err(SHAPE);
        }
        let number = |from: usize, to: usize| digits(&bytes[from..to]).ok_or(SHAPE);
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        let (fraction_micros, rest) = fraction(&bytes[19..])?;
        let offset_minutes = offset(rest).ok_or(SHAPE)?;

        let date = NaiveDate::from_ymd_opt(year as i32, month, day).ok_or("no such date")?;
        let time = NaiveTime::from_hms_micro_opt(hour, minute, second, fraction_micros)
            .ok_or_else(|| wrong_time_of_day(hour, minute, second))?;
        let utc = NaiveDateTime::new(date, time)
            .checked_sub_signed(TimeDelta::minutes(offset_minutes))
            .ok_or("no such date")?;
        if !YEARS.contains(&utc.year()) {
            return Err("outside the years 1970 to 2200");
        }
        Ok(Timestamp(utc.and_utc().timestamp_micros()))
    }

    /// From the `time` column; `None` outside the years that [`Timestamp::parse`] accepts.
    pub fn from_micros(micros: i64) -> Option<Timestamp> {
        let time = DateTime::from_timestamp_micros(micros)?;
        YEARS.contains(&time.year()).then_some(Timestamp(micros))
    }

    /// Microseconds since 1970-01-01 00:00:00 UTC.
    pub fn micros(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_text(|text| f.write_str(text))
    }
}

impl Timestamp {
    /// Lends the text: `2001-01-01T05:55:07`, with six fractional digits unless they are zero. A formatter would take
    /// longer for it than reading the event took.
    pub(crate) fn with_text<T>(self, take: impl FnOnce(&str) -> T) -> T {
        let time = DateTime::from_timestamp_micros(self.0).unwrap_or_default();
        let micros = time.nanosecond() / 1_000;
        let mut text = *b"0000-00-00T00:00:00.000000";
        for (place, number) in [
            (0..4, time.year() as u32),
            (5..7, time.month()),
            (8..10, time.day()),
            (11..13, time.hour()),
            (14..16, time.minute()),
            (17..19, time.second()),
            (20..26, micros),
        ] {
            write_digits(&mut text[place], number);
        }
        let length = if micros == 0 { 19 } else { text.len() };
        // Digits and separators are UTF-8.
        take(std::str::from_utf8(&text[..length]).unwrap_or_default())
    }
}

/// Fills the place with the last digits of a number.
fn write_digits(place: &mut [u8], mut number: u32) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// The value of a run of ASCII digits, at most nine of them.
fn digits(bytes: &[u8]) -> Option<u32> {
    bytes.iter().try_fold(0, |value, byte| {
        byte.is_ascii_digit().then(|| value * 10 + u32::from(byte - b'0'))
    })
}

/// The reason against a time of day. Senders know two wrong ones from ISO 8601.
fn wrong_time_of_day(hour: u32, minute: u32, second: u32) -> &'static str {
    match (hour, minute, second) {
        (24, 0, 0) => "no hour 24; the end of a day is 00:00:00 of the next day",
        (0..=23, 0..=59, LEAP_SECOND) => "no second 60; a leap second is second 59",
        _ => "no such time of day",
    }
}

/// The fraction in microseconds, and the rest after it.
fn fraction(bytes: &[u8]) -> Result<(u32, &[u8]), &'static str> {
    let Some(rest) = bytes.strip_prefix(b".") else {
        return Ok((0, bytes));
    };
    let count = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    match count {
        0 => Err("no digits after the point"),
        1..=FRACTION_DIGITS_MAX => {
            let kept = count.min(FRACTION_DIGITS_KEPT);
            let value = digits(&rest[..kept]).unwrap_or(0);
            let scale = 10_u32.pow((FRACTION_DIGITS_KEPT - kept) as u32);
            Ok((value * scale, &rest[count..]))
        }
        _ => Err("more than 9 digits after the point"),
    }
}

/// The offset from UTC in minutes: nothing, `Z`, `+hh:mm`, `+hhmm` or `+hh`.
fn offset(bytes: &[u8]) -> Option<i64> {
    let (sign, rest) = match bytes {
        b"" | b"Z" | b"z" => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = match rest {
        [h1, h2] => (digits(&[*h1, *h2])?, 0),
        [h1, h2, m1, m2] | [h1, h2, b':', m1, m2] => (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?),
        _ => return None,
    };
    (hours < 24 && minutes < 60).then(|| sign * i64::from(hours * 60 + minutes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(text: &str) -> String {
        Timestamp::parse(text).unwrap().to_string()
    }

    #[test]
    fn what_is_accepted_is_written_as_utc() {
        for (text, utc) in [
            ("2001-01-01T05:55:07", "2001-01-01T05:55:07"),
            ("2001-01-01T05:55:07Z", "2001-01-01T05:55:07"),
            ("2001-01-01T05:55:07.5", "2001-01-01T05:55:07.500000"),
            ("2001-01-01T05:55:07.000001", "2001-01-01T05:55:07.000001"),
            ("2001-01-01T05:55:07.000000+00:00", "2001-01-01T05:55:07"),
            ("2001-01-01T05:55:07.1234567", "2001-01-01T05:55:07.123456"),
            ("2001-01-01T05:55:07.12345678+02:00", "2001-01-01T03:55:07.123456"),
            ("2001-01-01T05:55:07.123456789Z", "2001-01-01T05:55:07.123456"),
            ("2001-01-01T05:55:07.000000999Z", "2001-01-01T05:55:07"),
            ("2000-12-31T23:59:59.999999999", "2000-12-31T23:59:59.999999"),
            ("2200-12-31T23:59:59.999999999", "2200-12-31T23:59:59.999999"),
            ("2001-01-01t05:55:07z", "2001-01-01T05:55:07"),
            ("2001-01-01T05:55:07+02:00", "2001-01-01T03:55:07"),
            ("2001-01-01T05:55:07-0730", "2001-01-01T13:25:07"),
            ("2001-01-01T05:55:07+14", "2000-12-31T15:55:07"),
            ("2000-02-29T23:59:59.999999Z", "2000-02-29T23:59:59.999999"),
            ("1970-01-01T00:00:00", "1970-01-01T00:00:00"),
            ("1969-12-31T23:00:00-01:00", "1970-01-01T00:00:00"),
            ("2200-12-31T23:59:59", "2200-12-31T23:59:59"),
        ] {
            assert_eq!(round_trip(text), utc, "{text}");
            assert_eq!(round_trip(utc), utc, "{utc} read again");
        }
    }

    #[test]
    fn what_is_refused_says_why() {
        for (text, reason) in [
            ("", "not a time"),
            ("now", "not a time"),
            ("2001-01-01", "not a time"),
            ("2001-01-01T05:55", "not a time"),
            ("2001-01-01 05:55:07", "not a time"),
            ("2001-01-01T05:55:07 Z", "not a time"),
            ("2001-01-01T05:55:07+2", "not a time"),
            ("2001-01-01T05:55:07+24:00", "not a time"),
            ("2001-01-01T05:55:07+02:60", "not a time"),
            ("2001-01-01T05:55:07\u{661}", "not a time"),
            ("+001-01-01T05:55:07", "not a time"),
            ("2001-01-01T05:55:07.", "no digits"),
            ("2001-01-01T05:55:07.1234567890", "more than 9"),
            ("2001-01-01T05:55:07.0000000000Z", "more than 9"),
            ("2001-02-29T05:55:07", "no such date"),
            ("2001-13-01T05:55:07", "no such date"),
            ("2001-01-01T24:00:00", "no hour 24"),
            ("2001-01-01T24:00:01", "no such time"),
            ("2001-01-01T05:55:60", "no second 60"),
            ("2016-12-31T23:59:60.5Z", "no second 60"),
            ("2001-01-01T24:00:60", "no such time"),
            ("2001-01-01T05:55:61", "no such time"),
            ("2001-01-01_05:55:07", "not a time"),
            ("1969-12-31T23:59:59.999999999", "outside"),
            ("1969-12-31T23:59:59", "outside"),
            ("1970-01-01T00:00:00+01:00", "outside"),
            ("2201-01-01T00:00:00", "outside"),
        ] {
            let err = Timestamp::parse(text).unwrap_err();
            assert!(err.starts_with(reason), "{text:?}: {err}");
        }
    }

    #[test]
    fn micros_outside_the_years_are_no_time() {
        assert_eq!(Timestamp::from_micros(-1), None);
        assert_eq!(Timestamp::from_micros(i64::MAX), None);
        assert_eq!(Timestamp::from_micros(0).unwrap().to_string(), "1970-01-01T00:00:00");
    }
}
