//! The smaller parameters of a question.

use super::choice::Choice;
use super::instant::{HOUR_MICROS, MINUTE_MICROS};
use super::metrics::Metric;

/// Sites that `top` may name: more are a list to search, not to look at.
const TOP_MAX: u8 = 100;

/// What a row is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum By {
    /// One site.
    #[default]
    Site,
    /// All sites that are asked for, in one.
    None,
}

impl Choice for By {
    const CHOICES: &'static [(&'static str, By)] = &[("site", By::Site), ("none", By::None)];
}

/// The order of rows by their start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Order {
    #[default]
    Asc,
    Desc,
}

impl Choice for Order {
    const CHOICES: &'static [(&'static str, Order)] = &[("asc", Order::Asc), ("desc", Order::Desc)];
}

/// What becomes of buckets without an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Fill {
    /// They have no row.
    #[default]
    None,
    /// They have a row of zeros.
    Zero,
}

impl Choice for Fill {
    const CHOICES: &'static [(&'static str, Fill)] = &[("none", Fill::None), ("zero", Fill::Zero)];
}

/// The time after a serve within which a solve counts as its solution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SolveWithin {
    micros: i64,
}

impl SolveWithin {
    /// Microseconds.
    pub fn micros(self) -> i64 {
        self.micros
    }

    const fn minutes(minutes: i64) -> SolveWithin {
        SolveWithin {
            micros: minutes * MINUTE_MICROS,
        }
    }
}

impl Default for SolveWithin {
    /// One hour.
    fn default() -> SolveWithin {
        SolveWithin { micros: HOUR_MICROS }
    }
}

impl Choice for SolveWithin {
    const CHOICES: &'static [(&'static str, SolveWithin)] = &[
        ("1m", SolveWithin::minutes(1)),
        ("2m", SolveWithin::minutes(2)),
        ("5m", SolveWithin::minutes(5)),
        ("10m", SolveWithin::minutes(10)),
        ("15m", SolveWithin::minutes(15)),
        ("30m", SolveWithin::minutes(30)),
        ("1h", SolveWithin::minutes(60)),
        ("2h", SolveWithin::minutes(2 * 60)),
        ("6h", SolveWithin::minutes(6 * 60)),
        ("24h", SolveWithin::minutes(24 * 60)),
    ];
}

/// Reads the number of sites with most serves.
pub fn parse_top(text: &str) -> Result<u8, String> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|top| is_number && (1..=TOP_MAX).contains(top));
    number.ok_or_else(|| format!("not a number from 1 to {TOP_MAX}"))
}

/// Reads a list of metrics, `served,solve_rate`.
pub fn parse_metrics(text: &str) -> Result<Vec<Metric>, String> {
    let mut metrics = Vec::new();
    for (index, name) in text.split(',').enumerate() {
        let number = index + 1;
        let metric = Metric::from_name(name);
        let metric = metric.ok_or_else(|| format!("metric {number} of the list is not one of {}", Metric::names()))?;
        if metrics.contains(&metric) {
            return Err(format!("{name} is in the list twice"));
        }
        metrics.push(metric);
    }
    Ok(metrics)
}
