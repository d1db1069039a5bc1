//! A time zone of the IANA database: its offsets, and the instants at which local times are reached.

use std::str::FromStr as _;
use std::sync::LazyLock;

use chrono::{DateTime, FixedOffset, NaiveDate, Offset as _, SecondsFormat, TimeZone as _};
use chrono_tz::{TZ_VARIANTS, Tz};

use super::instant::{self, DAY_MICROS, SECOND_MICROS, midnight_micros};

/// A time zone. After the last change of its offset that the database knows (2099), the last offset holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Zone(Tz);

/// The zones that people choose from, in order: UTC, and those named by an area and a city.
pub static ZONE_NAMES: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    const AREAS: [&str; 9] = [
        "Africa",
        "America",
        "Antarctica",
        "Asia",
        "Atlantic",
        "Australia",
        "Europe",
        "Indian",
        "Pacific",
    ];
    let has_city = |name: &&str| name.split_once('/').is_some_and(|(area, _)| AREAS.contains(&area));
    let cities = TZ_VARIANTS.iter().map(|zone| zone.name()).filter(has_city);
    ["UTC"].into_iter().chain(cities).collect()
});

impl Default for Zone {
    /// UTC.
    fn default() -> Zone {
        Zone(Tz::UTC)
    }
}

impl Zone {
    /// Reads the name of a zone, in the database's spelling.
    ///
    /// # Errors
    /// A short phrase that says what is expected, with the right spelling if only the case is wrong.
    pub fn parse(name: &str) -> Result<Zone, String> {
        if let Ok(zone) = Tz::from_str(name) {
            return Ok(Zone(zone));
        }
        if name.contains(' ') && Tz::from_str(&name.replace(' ', "+")).is_ok() {
            return Err("a blank in place of a plus; an address needs a plus as %2B".to_string());
        }
        let similar = TZ_VARIANTS.iter().find(|zone| zone.name().eq_ignore_ascii_case(name));
        Err(match similar {
            Some(zone) => format!("not a time zone; expected {}", zone.name()),
            None => "not a time zone of the IANA database like Europe/Berlin or UTC".to_string(),
        })
    }

    /// The name in the database.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// Microseconds by which local time is ahead of UTC.
    pub fn offset_micros(self, micros: i64) -> i64 {
        if self.0 == Tz::UTC {
            return 0;
        }
        let utc = DateTime::from_timestamp_micros(micros).unwrap_or_default();
        let offset = self.0.offset_from_utc_datetime(&utc.naive_utc()).fix();
        i64::from(offset.local_minus_utc()) * SECOND_MICROS
    }

    /// What a clock on the wall shows, as microseconds since its 1970.
    pub fn local_micros(self, micros: i64) -> i64 {
        micros + self.offset_micros(micros)
    }

    /// The local date.
    pub fn date(self, micros: i64) -> NaiveDate {
        instant::date(self.local_micros(micros))
    }

    /// The first instant of a local day; where the day was skipped, of the next one.
    pub fn day_start(self, date: NaiveDate) -> i64 {
        self.first_at(midnight_micros(date))
    }

    /// The first instant at which a clock on the wall shows this time or a later one. Times that are skipped are
    /// reached when they are skipped, and times that come twice the first time.
    pub fn first_at(self, local_micros: i64) -> i64 {
        // No offset reaches a day, and changes are a week apart: at most one lies between.
        let (early, late) = (local_micros - DAY_MICROS, local_micros + DAY_MICROS);
        let first = local_micros - self.offset_micros(early);
        match self.change_between(early, late) {
            Some(change) if first >= change => change.max(local_micros - self.offset_micros(change)),
            _ => first,
        }
    }

    /// The instant after `early`, up to and with `late`, at which the offset changes. They are at most
    /// [`CHANGES_APART_MICROS`] apart.
    pub fn change_between(self, early: i64, late: i64) -> Option<i64> {
        let offset = self.offset_micros(early);
        if offset == self.offset_micros(late) {
            return None;
        }
        // Offsets change at whole seconds.
        let (mut before, mut after) = (early.div_euclid(SECOND_MICROS), late.div_euclid(SECOND_MICROS));
        while after - before > 1 {
            let middle = before + (after - before) / 2;
            match self.offset_micros(middle * SECOND_MICROS) == offset {
                true => before = middle,
                false => after = middle,
            }
        }
        Some(after * SECOND_MICROS)
    }

    /// An instant as the bound of a range: a date where a local day begins.
    pub fn bound_text(self, micros: i64) -> String {
        let date = self.date(micros);
        match self.day_start(date) == micros {
            true => date.to_string(),
            false => self.text(micros),
        }
    }

    /// An instant by the clock on the wall with its offset (RFC 3339). An offset has whole minutes there, so that of
    /// Monrovia before 1972 (-00:44:30) is rounded up; the instant is exact.
    pub fn text(self, micros: i64) -> String {
        let offset_seconds = self.offset_micros(micros) / SECOND_MICROS;
        let minutes = -(-offset_seconds).div_euclid(60);
        let offset = i32::try_from(minutes * 60).ok().and_then(FixedOffset::east_opt);
        let instant = DateTime::from_timestamp_micros(micros).unwrap_or_default();
        let local = instant.with_timezone(&offset.unwrap_or_else(|| chrono::Utc.fix()));
        local.to_rfc3339_opts(SecondsFormat::AutoSi, false)
    }
}

/// No zone of the database (2025b) changes its offset twice within this time: the nearest are 6.96 days apart.
pub const CHANGES_APART_MICROS: i64 = 6 * DAY_MICROS;

// `first_at` looks at two days.
const _: () = assert!(2 * DAY_MICROS <= CHANGES_APART_MICROS);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::instant::HOUR_MICROS;

    fn zone(name: &str) -> Zone {
        Zone::parse(name).unwrap()
    }

    fn date(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn a_zone_has_the_spelling_of_the_database() {
        for name in ["UTC", "Europe/Berlin", "Etc/GMT+3", "Asia/Calcutta", "EST5EDT"] {
            assert_eq!(zone(name).name(), name);
        }
        let unknown = "not a time zone of the IANA database like Europe/Berlin or UTC";
        for (name, detail) in [
            ("", unknown),
            ("+02:00", unknown),
            ("Mars/Olympus", unknown),
            ("europe/berlin", "not a time zone; expected Europe/Berlin"),
            ("utc", "not a time zone; expected UTC"),
            (
                "Etc/GMT 3",
                "a blank in place of a plus; an address needs a plus as %2B",
            ),
        ] {
            assert_eq!(Zone::parse(name).unwrap_err(), detail, "{name}");
        }
    }

    #[test]
    fn a_day_begins_at_its_first_instant() {
        for (name, day, start) in [
            ("UTC", "2001-01-01", "2001-01-01T00:00:00+00:00"),
            ("Asia/Kathmandu", "2001-01-01", "2001-01-01T00:00:00+05:45"),
            // No midnight: the clock goes from 00:00 to 01:00.
            ("America/Havana", "2024-03-10", "2024-03-10T01:00:00-04:00"),
            ("Asia/Beirut", "2022-03-27", "2022-03-27T01:00:00+03:00"),
            // Midnight twice: the clock goes from 01:00 back to 00:00.
            ("America/Havana", "2024-11-03", "2024-11-03T00:00:00-04:00"),
            // The first minute comes twice: the clock goes from 00:01 back to 23:01.
            ("America/St_Johns", "2010-11-07", "2010-11-07T00:00:00-02:30"),
            // The day was skipped.
            ("Pacific/Apia", "2011-12-30", "2011-12-31T00:00:00+14:00"),
            ("Pacific/Apia", "2011-12-31", "2011-12-31T00:00:00+14:00"),
            ("Africa/Monrovia", "1971-06-01", "1971-06-01T00:00:30-00:44"),
            // After the last change the last offset holds.
            ("Europe/Berlin", "2150-07-01", "2150-07-01T00:00:00+01:00"),
            ("Europe/Amsterdam", "1890-01-01", "1890-01-01T00:00:30+00:18"),
        ] {
            let zone = zone(name);
            assert_eq!(zone.text(zone.day_start(date(day))), start, "{name}");
        }
    }

    #[test]
    fn the_text_of_an_instant_is_exact() {
        for name in [
            "UTC",
            "Africa/Monrovia",
            "Asia/Kathmandu",
            "America/St_Johns",
            "Europe/Amsterdam",
        ] {
            for micros in [
                -2_000_000_000_000_000,
                -1,
                0,
                1,
                34_567_890_123_456,
                4_102_444_800_123_000,
            ] {
                let text = zone(name).text(micros);
                let read = DateTime::parse_from_rfc3339(&text).unwrap();
                assert_eq!(read.timestamp_micros(), micros, "{name} {text}");
            }
        }
    }

    /// A sample of what the constant says of all zones: two changes that are seen from a week's distance only would hide.
    #[test]
    fn changes_of_an_offset_are_days_apart() {
        for zone in TZ_VARIANTS.iter().step_by(7).copied().map(Zone) {
            let (mut last, step) = (i64::MIN, 12 * HOUR_MICROS);
            for at in (0..130 * 366 * 2).map(|halfday| halfday * step) {
                let Some(change) = zone.change_between(at, at + step) else {
                    continue;
                };
                assert!(
                    last == i64::MIN || change - last > CHANGES_APART_MICROS,
                    "{} {last} {change}",
                    zone.name()
                );
                last = change;
            }
        }
    }
}
