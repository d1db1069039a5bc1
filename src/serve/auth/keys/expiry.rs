//! The expiry of a key, and its state. Pure.

use std::fmt;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};

/// How an expiry is written; a date alone is its beginning.
const FORMAT: &str = "%Y-%m-%dT%H:%M:%SZ";
const DATE_FORMAT: &str = "%Y-%m-%d";

/// The first moment at which a key or a link is refused, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expiry(DateTime<Utc>);

impl Expiry {
    /// Reads `2027-01-31`, the beginning of that day in UTC, or `2027-01-31T18:00:00Z`.
    ///
    /// # Errors
    /// The format that is expected. The text is not repeated: it may be a secret in the wrong place.
    pub fn parse(text: &str) -> Result<Expiry, &'static str> {
        let date = NaiveDate::parse_from_str(text, DATE_FORMAT);
        let date = date.map(|date| date.and_time(NaiveTime::MIN));
        let time = NaiveDateTime::parse_from_str(text, FORMAT);
        // chrono takes signs, blanks and fewer digits too.
        let date = date.ok().filter(|date| date.format(DATE_FORMAT).to_string() == text);
        let time = time.ok().filter(|time| time.format(FORMAT).to_string() == text);
        date.or(time)
            .map(|moment| Expiry(moment.and_utc()))
            .ok_or("an expiry is a date such as 2027-01-31, or a time in UTC such as 2027-01-31T18:00:00Z")
    }

    /// Whether it has passed.
    pub fn is_past(self, now: DateTime<Utc>) -> bool {
        now >= self.0
    }
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = match self.0.time() == NaiveTime::MIN {
            true => DATE_FORMAT,
            false => FORMAT,
        };
        write!(f, "{}", self.0.format(format))
    }
}

/// How long before its expiry a key is one that expires soon: time to give its client another.
const EXPIRES_SOON: TimeDelta = TimeDelta::days(14);

/// Whether a key may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It may be used.
    Valid,
    /// It may be used for less than [`EXPIRES_SOON`].
    Expiring,
    /// It may not be used any more.
    Expired,
}

impl State {
    pub const ALL: [State; 3] = [State::Valid, State::Expiring, State::Expired];

    /// The value of the label `state`.
    pub fn name(self) -> &'static str {
        match self {
            State::Valid => "valid",
            State::Expiring => "expiring",
            State::Expired => "expired",
        }
    }

    /// The state of a key with this expiry.
    pub fn new(expires: Option<Expiry>, now: DateTime<Utc>) -> State {
        let is_past = |by| expires.is_some_and(|expiry| expiry.is_past(by));
        match (is_past(now), is_past(now + EXPIRES_SOON)) {
            (true, _) => State::Expired,
            (false, true) => State::Expiring,
            (false, false) => State::Valid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_a_day_or_a_second_in_utc() {
        for text in ["2027-01-31", "2028-02-29T23:59:59Z", "0001-01-01"] {
            assert_eq!(Expiry::parse(text).unwrap().to_string(), text);
        }
        let midnight = Expiry::parse("2027-01-31T00:00:00Z").unwrap();
        assert_eq!(midnight.to_string(), "2027-01-31");
        for text in [
            "",
            "never",
            "2027-02-29",
            "2027-1-31",
            "2027-01-31Z",
            "2027-01-31T18:00:00",
            "2027-01-31 18:00:00Z",
            "2027-01-31T18:00:00+",
            "2027-01-31T24:00:00Z",
            "+027-01-31",
            "2027- 1-31",
            "12027-01-31",
            "20270131",
        ] {
            assert!(Expiry::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_is_refused_from_its_expiry_on() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let expiry = Expiry::parse("2027-01-31").unwrap();
        assert!(!expiry.is_past(at("2027-01-30T23:59:59.999Z")));
        assert!(expiry.is_past(at("2027-01-31T00:00:00Z")));
    }

    #[test]
    fn a_key_expires_soon_for_two_weeks() {
        let expires = Some(Expiry::parse("2027-01-31").unwrap());
        let state = |now: &str| State::new(expires, now.parse().unwrap());
        assert_eq!(state("2027-01-16T23:59:59Z"), State::Valid);
        assert_eq!(state("2027-01-17T00:00:00Z"), State::Expiring);
        assert_eq!(state("2027-01-31T00:00:00Z"), State::Expired);
        assert_eq!(State::new(None, Utc::now()), State::Valid);
    }
}
