//! The requirements of a report for `captcha report` to succeed, and the exit codes of one that fails them.

use std::str::FromStr;

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};

use super::notes::instant;
use crate::clickhouse::{Cluster, Freshness};
use crate::event::Timestamp;

/// What the report is required to be.
#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Requirements")]
pub struct Requirements {
    /// Print the report, and exit with code 4 unless it counts every event that was confirmed before INSTANT:
    /// 2001-01-31T00:00:00Z, or now-5m, five minutes ago by ClickHouse's clock
    #[arg(long, value_name = "INSTANT")]
    require_complete_through: Option<RequiredThrough>,

    /// Print the report, and exit with code 5 unless this part of its challenges was solved in time: 0.6, or 60%. Adds
    /// the metric solve_rate
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    require_solve_rate: Option<f64>,
}

/// A moment of ClickHouse's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RequiredThrough {
    At(DateTime<Utc>),
    /// This long before the report is asked for.
    BeforeNow(TimeDelta),
}

/// [`Requirements`] with their moments known.
#[derive(Debug, Default)]
pub struct Required {
    complete_through: Option<DateTime<Utc>>,
    solve_rate: Option<f64>,
}

/// The report is there and is not what was required. Each reason has an exit code of its own.
#[derive(Debug, thiserror::Error)]
pub enum Unmet {
    #[error(
        "the report is complete through {} only, and --require-complete-through asks for {}; \
         ask later, or see whether `captcha consume` is behind",
        instant(.through), instant(.required)
    )]
    Incomplete {
        through: DateTime<Utc>,
        required: DateTime<Utc>,
    },
    #[error(
        "the report is not known to be complete, and --require-complete-through asks for {}; \
         see whether `captcha consume` reads every partition of the topic",
        instant(.required)
    )]
    Unknown { required: DateTime<Utc> },
    #[error("the solve rate is {:.4}, and --require-solve-rate asks for {required}", .rate)]
    SolveRate { rate: f64, required: f64 },
    #[error("no challenge was served, so there is no solve rate, and --require-solve-rate asks for {required}")]
    NoSolveRate { required: f64 },
}

impl Unmet {
    pub fn exit_code(&self) -> u8 {
        match self {
            Unmet::Incomplete { .. } | Unmet::Unknown { .. } => 4,
            Unmet::SolveRate { .. } | Unmet::NoSolveRate { .. } => 5,
        }
    }
}

/// Bytes of an instant up to its seconds: `2001-01-31T00:00:00`.
const SECONDS_BYTES: usize = 19;

impl FromStr for RequiredThrough {
    type Err = String;

    fn from_str(text: &str) -> Result<RequiredThrough, String> {
        if let Some(ago) = text.strip_prefix("now") {
            return before_now(ago).ok_or("after now expected nothing, or a duration such as -5m or -2h".to_string());
        }
        let time = Timestamp::parse(text).map_err(|reason| format!("{reason}, nor one like now-5m"))?;
        // Without one the sender of an event means UTC; a person at a terminal may mean the local time.
        if !text
            .get(SECONDS_BYTES..)
            .is_some_and(|after| after.contains(['Z', 'z', '+', '-']))
        {
            return Err("an instant without an offset; add Z, or one like +02:00".to_string());
        }
        let at = DateTime::from_timestamp_micros(time.micros());
        Ok(RequiredThrough::At(at.ok_or("no such time")?))
    }
}

fn before_now(ago: &str) -> Option<RequiredThrough> {
    let duration = match ago {
        "" => std::time::Duration::ZERO,
        _ => humantime::parse_duration(ago.strip_prefix('-')?).ok()?,
    };
    TimeDelta::from_std(duration).ok().map(RequiredThrough::BeforeNow)
}

/// A part of a whole, 0 to 1, or in per cent.
fn parse_rate(text: &str) -> Result<f64, &'static str> {
    let (number, scale) = match text.strip_suffix('%') {
        Some(percent) => (percent, 100.0),
        None => (text, 1.0),
    };
    let rate = number.parse::<f64>().ok().map(|number| number / scale);
    rate.filter(|rate| (0.0..=1.0).contains(rate))
        .ok_or("expected a part from 0 to 1, or from 0% to 100%")
}

impl Requirements {
    /// Whether the report must have a solve rate.
    pub fn needs_solve_rate(&self) -> bool {
        self.require_solve_rate.is_some()
    }

    /// With moments before now, where now is known.
    ///
    /// # Errors
    /// A moment is before all time.
    pub fn resolve_at(&self, now: DateTime<Utc>) -> anyhow::Result<Required> {
        let complete_through = match self.require_complete_through {
            None => None,
            Some(RequiredThrough::At(at)) => Some(at),
            Some(RequiredThrough::BeforeNow(ago)) => {
                let moment = now.checked_sub_signed(ago);
                Some(moment.context("--require-complete-through is before all time")?)
            }
        };
        Ok(Required {
            complete_through,
            solve_rate: self.require_solve_rate,
        })
    }

    /// Reads ClickHouse's clock if a moment depends on it.
    ///
    /// # Errors
    /// No shard answers.
    pub async fn resolve(&self, cluster: &Cluster) -> anyhow::Result<Required> {
        let ahead = match self.require_complete_through {
            Some(RequiredThrough::BeforeNow(_)) => cluster.clock_ahead_millis().await?,
            Some(RequiredThrough::At(_)) | None => 0,
        };
        self.resolve_at(Utc::now() - TimeDelta::milliseconds(ahead))
    }
}

impl Required {
    /// Checks a report that is this fresh and has this solve rate.
    ///
    /// # Errors
    /// [`Unmet`]; a report that is not complete first.
    pub fn check(&self, freshness: Freshness, solve_rate: Option<f64>) -> Result<(), Unmet> {
        match (self.complete_through, freshness.complete_through) {
            (Some(required), Some(through)) if through < required => {
                return Err(Unmet::Incomplete { through, required });
            }
            (Some(required), None) => return Err(Unmet::Unknown { required }),
            (Some(_) | None, _) => {}
        }
        match (self.solve_rate, solve_rate) {
            (Some(required), Some(rate)) if rate < required => Err(Unmet::SolveRate { rate, required }),
            (Some(required), None) => Err(Unmet::NoSolveRate { required }),
            (Some(_) | None, _) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_moment_is_an_instant_or_before_now() {
        for (text, moment) in [
            ("2001-01-31T00:00:00Z", RequiredThrough::At(at("2001-01-31T00:00:00Z"))),
            (
                "2001-01-31T01:00:00.5+01:00",
                RequiredThrough::At(at("2001-01-31T00:00:00.5Z")),
            ),
            ("now", RequiredThrough::BeforeNow(TimeDelta::zero())),
            ("now-5m", RequiredThrough::BeforeNow(TimeDelta::minutes(5))),
            ("now-1h30m", RequiredThrough::BeforeNow(TimeDelta::minutes(90))),
        ] {
            assert_eq!(text.parse(), Ok(moment), "{text}");
        }
        for (text, reason) in [
            ("yesterday", ", nor one like now-5m"),
            ("2001-01-31", ", nor one like now-5m"),
            ("2001-02-31T00:00:00Z", "no such date"),
            ("2001-01-31T00:00:00", "add Z"),
            ("2001-01-31T00:00:00.5", "add Z"),
            ("now+5m", "such as -5m"),
            ("now-", "such as -5m"),
            ("now-5", "such as -5m"),
            ("now-18446744073709551615s", "such as -5m"),
        ] {
            let refused = text.parse::<RequiredThrough>().unwrap_err();
            assert!(refused.contains(reason), "{text}: {refused}");
        }
    }

    #[test]
    fn a_report_must_be_complete_through_the_moment_or_later() {
        let required = Required {
            complete_through: Some(at("2001-01-31T12:00:00Z")),
            solve_rate: None,
        };
        let check = |text: &str| {
            let complete_through = Some(at(text));
            required.check(Freshness { complete_through }, None)
        };
        assert!(check("2001-01-31T12:00:00Z").is_ok());
        let behind = check("2001-01-31T11:59:59.999Z").unwrap_err();
        assert_eq!(behind.exit_code(), 4);
        let wanted = "the report is complete through 2001-01-31 11:59:59.999 UTC only, and \
                      --require-complete-through asks for 2001-01-31 12:00:00.000 UTC; ";
        assert!(behind.to_string().starts_with(wanted), "{behind}");
        let unknown = required.check(Freshness::default(), None).unwrap_err();
        assert_eq!(unknown.exit_code(), 4);
        assert!(Required::default().check(Freshness::default(), None).is_ok());
    }

    #[test]
    fn a_solve_rate_must_be_reached() {
        assert_eq!((parse_rate("0.6"), parse_rate("60%")), (Ok(0.6), Ok(0.6)));
        for text in ["60", "-0.1", "101%", "", "%", "NaN"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
        let required = Required {
            complete_through: None,
            solve_rate: Some(0.6),
        };
        let check = |rate| required.check(Freshness::default(), rate);
        assert!(check(Some(0.6)).is_ok());
        let below = check(Some(0.5)).unwrap_err();
        assert_eq!((below.exit_code(), check(None).unwrap_err().exit_code()), (5, 5));
        assert_eq!(
            below.to_string(),
            "the solve rate is 0.5000, and --require-solve-rate asks for 0.6"
        );
    }
}
