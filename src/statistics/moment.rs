//! The bounds of a range as people write them: local days and instants.

use chrono::NaiveDate;
use uuid::Uuid;

use super::zone::Zone;
use crate::event::Timestamp;

/// A bound of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Moment {
    /// The first instant of a local day.
    Date(NaiveDate),
    /// Microseconds since 1970.
    Instant(i64),
}

/// What a wrong bound should be.
const SHAPE: &str = "not a date like 2001-01-31 or an instant like 2001-01-31T06:00:00Z";

impl Moment {
    /// Reads a date, or an instant with its offset.
    ///
    /// # Errors
    /// One short phrase that says what is expected.
    pub fn parse(text: &str) -> Result<Moment, String> {
        const DATE_BYTES: usize = 10;
        const SECONDS_BYTES: usize = 19;
        if !matches!(text.as_bytes().get(DATE_BYTES), Some(b'T' | b't')) {
            return parse_date(text).map(Moment::Date).map_err(|_| SHAPE.to_string());
        }
        let after_seconds = text.get(SECONDS_BYTES..).ok_or(SHAPE)?;
        if after_seconds.contains(' ') && Timestamp::parse(&text.replace(' ', "+")).is_ok() {
            return Err("a blank in place of a plus; an address needs a plus as %2B".to_string());
        }
        let time = Timestamp::parse(text).map_err(|reason| match reason.starts_with("not a time") {
            true => SHAPE,
            false => reason,
        })?;
        if !after_seconds.contains(['Z', 'z', '+', '-']) {
            return Err("an instant without an offset; add Z, or one like +02:00".to_string());
        }
        Ok(Moment::Instant(time.micros()))
    }

    /// Microseconds since 1970.
    pub fn micros(self, zone: Zone) -> i64 {
        match self {
            Moment::Date(date) => zone.day_start(date),
            Moment::Instant(micros) => micros,
        }
    }
}

/// Reads a day, `2001-01-31`.
///
/// # Errors
/// One short phrase that says what is expected.
pub fn parse_date(text: &str) -> Result<NaiveDate, &'static str> {
    const SHAPE: &str = "not a date like 2001-01-31";
    // chrono alone takes other years, and spaces in place of zeros.
    let is_shaped = |(at, byte): (usize, u8)| match at {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    };
    let shaped = text.len() == 10 && text.bytes().enumerate().all(is_shaped);
    let date = shaped.then(|| text.parse::<NaiveDate>().ok()).flatten();
    date.ok_or(SHAPE)
}

/// Reads a site's UUID.
///
/// # Errors
/// One short phrase that says what is expected.
pub fn parse_site_id(text: &str) -> Result<Uuid, &'static str> {
    Uuid::parse_str(text).map_err(|_| "not a UUID")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_one_spelling() {
        assert_eq!(parse_date("2004-02-29"), Ok("2004-02-29".parse().unwrap()));
        for text in [
            "2001- 1- 1",
            " 2001-1-1",
            "2001-1-01",
            "2001-01-1 ",
            "+2001-01-1",
            "2001-02-29",
            "2001/01/01",
            "2001-01-\u{661}",
            "",
        ] {
            assert!(parse_date(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_bound_is_a_date_or_an_instant() {
        let date = "2001-01-31".parse().unwrap();
        assert_eq!(Moment::parse("2001-01-31"), Ok(Moment::Date(date)));
        for (text, micros) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T05:45:00+05:45", 0),
            ("1970-01-01T00:00:00.000001-0000", 1),
            ("1969-12-31T23:00:01-01", 1_000_000),
            ("1970-01-01t00:00:00.000001z", 1),
        ] {
            assert_eq!(Moment::parse(text), Ok(Moment::Instant(micros)), "{text}");
        }
    }

    #[test]
    fn a_wrong_bound_says_what_would_be_right() {
        for (text, detail) in [
            ("", SHAPE),
            ("now", SHAPE),
            ("2001-02-29", SHAPE),
            ("2001-01-31 06:00:00Z", SHAPE),
            ("2001-01-31T06:00Z", SHAPE),
            ("2001-01-31T06:00:00+2", SHAPE),
            ("2001-01-31T06:00:0\u{661}Z", SHAPE),
            (
                "2001-01-31T06:00:00",
                "an instant without an offset; add Z, or one like +02:00",
            ),
            (
                "2001-01-31T06:00:00 02:00",
                "a blank in place of a plus; an address needs a plus as %2B",
            ),
            (
                "2001-01-31T24:00:00Z",
                "no hour 24; the end of a day is 00:00:00 of the next day",
            ),
            ("2001-02-29T00:00:00Z", "no such date"),
            ("1969-12-31T23:59:59Z", "outside the years 1970 to 2200"),
        ] {
            assert_eq!(Moment::parse(text).unwrap_err(), detail, "{text}");
        }
    }
}
