//! The rate of a key, what is left of it, and the headers for both.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

/// Largest rate, a second. One process takes fewer events; up to here the bucket's nanoseconds are fine enough.
pub const RATE_MAX: u32 = 1_000_000;

/// Largest burst: a thousand of the largest requests.
pub const BURST_MAX: u32 = 10_000_000;

/// Processes that a rate is divided among at most; a typing error would leave each key one event a second.
const SHARES_MAX: u32 = 1_000;

/// Seconds of the window of a policy: rates are whole numbers per second, so after one second something is left.
const WINDOW_SECONDS: u32 = 1;

/// The rate of a key, as draft-ietf-httpapi-ratelimit-headers-11 has it.
pub const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What is left of the rate.
pub const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// The unit that a bucket counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Events, of a key that writes.
    Events,
    /// Requests, of a key that reads.
    Requests,
}

/// A number per second, and a number at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    per_second: NonZeroU32,
    burst: NonZeroU32,
}

impl Rate {
    /// A rate; without a burst, what comes in a second may come at once.
    ///
    /// # Errors
    /// The range that is expected: 1 to [`RATE_MAX`] a second, 1 to [`BURST_MAX`] at once.
    pub fn new(per_second: u32, burst: Option<u32>) -> Result<Rate, String> {
        let within = |number, max, name| {
            NonZeroU32::new(number)
                .filter(|number| number.get() <= max)
                .ok_or(format!("{name} must be 1 to {max}"))
        };
        let per_second = within(per_second, RATE_MAX, "rate")?;
        let burst = burst.map_or(Ok(per_second), |burst| within(burst, BURST_MAX, "burst"))?;
        Ok(Rate { per_second, burst })
    }

    /// The part that one of several processes grants. Together they grant at most the whole rate, or 1 each if it is
    /// smaller than their number.
    pub fn share(self, share: RateShare) -> Rate {
        let divided = |number: NonZeroU32| NonZeroU32::new(number.get() / share.0.get()).unwrap_or(NonZeroU32::MIN);
        Rate {
            per_second: divided(self.per_second),
            burst: divided(self.burst),
        }
    }

    /// The number per second.
    pub fn per_second(self) -> NonZeroU32 {
        self.per_second
    }

    /// The number at once.
    pub fn burst(self) -> NonZeroU32 {
        self.burst
    }

    /// How often one more may come, rounded up so that no more than the rate ever passes.
    pub fn interval(self) -> Duration {
        Duration::from_nanos(1_000_000_000_u64.div_ceil(self.per_second.get().into()))
    }
}

/// One of this many equal parts of each key's rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateShare(NonZeroU32);

impl RateShare {
    /// Reads `1/N`.
    ///
    /// # Errors
    /// The format that is expected.
    pub fn parse(text: &str) -> Result<RateShare, String> {
        let parts = text.strip_prefix("1/").and_then(|parts| parts.parse().ok());
        let parts = parts.filter(|parts: &NonZeroU32| parts.get() <= SHARES_MAX);
        parts
            .map(RateShare)
            .ok_or_else(|| format!("expected 1/N with N the number of serve processes, 1 to {SHARES_MAX}, such as 1/3"))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rate={} burst={}", self.per_second, self.burst)
    }
}

/// What is left of a key's rate, for the headers of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateState {
    policy: HeaderValue,
    unit: Unit,
    remaining: u32,
}

impl RateState {
    /// What is left, and the value that [`policy`] made.
    pub fn new(policy: HeaderValue, unit: Unit, remaining: u32) -> RateState {
        RateState {
            policy,
            unit,
            remaining,
        }
    }

    /// How many may still come at once.
    #[cfg(test)]
    pub fn remaining(&self) -> u32 {
        self.remaining
    }

    /// Inserts `RateLimit-Policy` and `RateLimit` into the headers of a response.
    pub fn write_to(&self, headers: &mut HeaderMap) {
        let (name, remaining) = (self.unit.name(), self.remaining);
        let limit = value(format!("\"{name}\";r={remaining};t={WINDOW_SECONDS}"));
        headers.insert(RATELIMIT_POLICY, self.policy.clone());
        headers.insert(RATELIMIT, limit);
    }
}

/// Why a request may not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RateLimited {
    /// Not now.
    Wait {
        /// Seconds until it would pass if nothing else came, rounded up, at least 1: `Retry-After`.
        seconds: u32,
        /// What is left of the rate, for the headers.
        state: RateState,
    },
    /// Not ever: it alone is more than may come at once.
    Never {
        /// How many came.
        count: usize,
        /// How many may come at once.
        burst: u32,
    },
}

impl fmt::Display for RateLimited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RateLimited::Wait { seconds, state } => write!(
                f,
                "this key has used up its rate of {}; send the same again in {seconds} s",
                state.unit.name()
            ),
            RateLimited::Never { count, burst } => write!(
                f,
                "{count} events at once are more than this key may ever send; send at most {burst} at once"
            ),
        }
    }
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::Events => "events",
            Unit::Requests => "requests",
        }
    }
}

/// The value of `RateLimit-Policy`. The draft counts requests unless a unit is given, and has no field for a burst.
pub fn policy(rate: Rate, unit: Unit) -> HeaderValue {
    let (name, Rate { per_second, burst }) = (unit.name(), rate);
    let counts = match unit {
        Unit::Events => ";qu=\"events\"",
        Unit::Requests => "",
    };
    value(format!(
        "\"{name}\";q={per_second}{counts};w={WINDOW_SECONDS};captcha-burst={burst}"
    ))
}

/// Our own values are quoted words and numbers, which a header can hold.
fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(state: &RateState) -> [String; 2] {
        let mut headers = HeaderMap::new();
        state.write_to(&mut headers);
        assert_eq!(headers.len(), 2);
        [RATELIMIT_POLICY, RATELIMIT].map(|name| headers[name].to_str().unwrap().to_string())
    }

    #[test]
    fn headers_are_those_of_the_draft() {
        let state = |per_second, burst, unit, remaining| {
            let rate = Rate::new(per_second, Some(burst)).unwrap();
            RateState::new(policy(rate, unit), unit, remaining)
        };
        assert_eq!(
            rendered(&state(100, 1_000, Unit::Events, 950)),
            [
                r#""events";q=100;qu="events";w=1;captcha-burst=1000"#,
                r#""events";r=950;t=1"#
            ]
        );
        assert_eq!(
            rendered(&state(5, 5, Unit::Requests, 0)),
            [r#""requests";q=5;w=1;captcha-burst=5"#, r#""requests";r=0;t=1"#]
        );
    }

    #[test]
    fn rates_have_bounds_and_the_burst_is_the_rate_unless_said() {
        assert_eq!(Rate::new(7, None).unwrap().to_string(), "rate=7 burst=7".to_string());
        assert_eq!(Rate::new(0, None).unwrap_err(), "rate must be 1 to 1000000");
        assert!(Rate::new(RATE_MAX, Some(BURST_MAX)).is_ok());
        assert!(Rate::new(RATE_MAX + 1, None).is_err());
        let burst = Rate::new(7, Some(0)).unwrap_err();
        assert_eq!(burst, "burst must be 1 to 10000000");
        assert!(Rate::new(7, Some(BURST_MAX + 1)).is_err());
    }

    #[test]
    fn shares_of_a_rate_are_never_more_than_all_of_it() {
        let share = |text: &str| {
            let rate = Rate::new(100, Some(1_000)).unwrap();
            rate.share(RateShare::parse(text).unwrap()).to_string()
        };
        assert_eq!(share("1/1"), "rate=100 burst=1000");
        assert_eq!(share("1/3"), "rate=33 burst=333");
        assert_eq!(share("1/101"), "rate=1 burst=9");
        for text in ["", "3", "1/0", "2/3", "1/1001", "1/-1", "1/3 ", "1/ 3"] {
            assert!(RateShare::parse(text).is_err(), "{text}");
        }
    }
}
