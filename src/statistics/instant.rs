//! Microseconds since 1970, and the dates they fall on.

use chrono::{DateTime, NaiveDate, SecondsFormat};

pub const SECOND_MICROS: i64 = 1_000_000;
pub const MINUTE_MICROS: i64 = 60 * SECOND_MICROS;
pub const HOUR_MICROS: i64 = 60 * MINUTE_MICROS;
pub const DAY_MICROS: i64 = 24 * HOUR_MICROS;

const QUARTER_HOUR_MICROS: i64 = 15 * MINUTE_MICROS;

/// The beginning of the quarter hour (UTC) with an instant.
pub fn whole_quarter_hour(micros: i64) -> i64 {
    micros.div_euclid(QUARTER_HOUR_MICROS) * QUARTER_HOUR_MICROS
}

/// The microseconds of 00:00 on a date, where every day has 24 hours.
pub fn midnight_micros(date: NaiveDate) -> i64 {
    (date - NaiveDate::default()).num_days() * DAY_MICROS
}

/// The date of these microseconds, where every day has 24 hours.
pub fn date(micros: i64) -> NaiveDate {
    DateTime::from_timestamp_micros(micros).unwrap_or_default().date_naive()
}

/// An instant in UTC with milliseconds, as `complete_through` is written.
pub fn millis_text(micros: i64) -> String {
    let instant = DateTime::from_timestamp_micros(micros).unwrap_or_default();
    instant.to_rfc3339_opts(SecondsFormat::Millis, true)
}
