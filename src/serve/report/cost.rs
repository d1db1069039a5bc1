//! What a report is expected to cost ClickHouse, before it is asked for. Pure.

use chrono::{DateTime, Utc};

use crate::statistics::{Interval, Query, Zone};

/// What a report costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// Some milliseconds: few sites, or few days.
    Low,
    /// More than that, and more memory.
    High,
}

/// Days of sites that cost little: ClickHouse reads some rows for each of them, half a million at most, in some 20 ms.
const LOW_SITE_DAYS_MAX: u64 = 100_000;

/// What a day of a site costs more where it is counted by quarter hours, from rows, or with solve times.
const QUARTER_HOURS: u64 = 10;

/// Sites and days where the question names none: more than most have.
const ALL_SITES: u64 = 1_000;
const ALL_DAYS: u64 = 3_650;

const DAY_MICROS: u64 = 86_400_000_000;

impl Cost {
    /// The cost of the answer to a question.
    pub fn of(query: &Query, now: DateTime<Utc>) -> Cost {
        let sites = match query.site_ids.len() {
            0 => ALL_SITES,
            named => named as u64,
        };
        let range = query.resolve(now.timestamp_micros(), None).range;
        let days = range.from.zip(range.to).map_or(ALL_DAYS, |(from, to)| {
            (to.abs_diff(from) / DAY_MICROS + 1).min(ALL_DAYS)
        });
        let is_whole = |edge: Option<i64>| edge.is_none_or(|edge| edge.unsigned_abs() % DAY_MICROS == 0);
        let is_by_days = query.zone == Zone::default()
            && query.interval != Interval::Hour
            && is_whole(range.from)
            && is_whole(range.to)
            && !query.needs().solve_times;
        let weight = if is_by_days { 1 } else { QUARTER_HOURS };
        match sites * days * weight <= LOW_SITE_DAYS_MAX {
            true => Cost::Low,
            false => Cost::High,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(query: &str) -> Cost {
        let query = Query::parse(form_urlencoded::parse(query.as_bytes())).unwrap();
        Cost::of(&query, DateTime::UNIX_EPOCH)
    }

    #[test]
    fn few_sites_or_few_days_cost_little() {
        let site = "site_id=00000000-0000-0000-0000-000000000000";
        for (query, expected) in [
            (site, Cost::Low),
            ("from=2024-01-01&to=2024-03-31", Cost::Low),
            ("period=28d", Cost::Low),
            ("period=7d&timezone=Asia/Kathmandu", Cost::Low),
            ("period=28d&timezone=Asia/Kathmandu", Cost::High),
            ("period=28d&metrics=solve_time_p50", Cost::High),
            ("", Cost::High),
            ("from=2020-01-01&to=2024-01-01", Cost::High),
            ("from=2024-01-01&to=2024-01-31&interval=hour", Cost::High),
            ("from=2024-01-01T00:00:01Z&to=2024-01-31", Cost::High),
        ] {
            assert_eq!(cost(query), expected, "{query}");
        }
        assert_eq!(cost(&format!("{site}&metrics=solve_time_p50&period=year")), Cost::Low);
    }
}
