//! What a report is expected to cost ClickHouse, before it is asked for. Pure.

use chrono::NaiveDate;

use crate::clickhouse::Filter;

/// What a report costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// Some milliseconds: few sites, or few days.
    Low,
    /// More than that, and more memory.
    High,
}

/// Days of sites that cost little: ClickHouse reads two rows for each hour of them, at most half a million, in some
/// 20 ms.
const LOW_SITE_DAYS_MAX: u64 = 10_000;

/// Sites and days where the question names none: more than most have.
const ALL_SITES: u64 = 1_000;
const ALL_DAYS: u64 = 3_650;

impl Cost {
    /// The cost of the report that a filter selects.
    pub fn of(filter: &Filter) -> Cost {
        let sites = match filter.site_ids.len() {
            0 => ALL_SITES,
            named => named as u64,
        };
        let days = filter.from.map_or(ALL_DAYS, |from| days(from, filter.to));
        match sites * days <= LOW_SITE_DAYS_MAX {
            true => Cost::Low,
            false => Cost::High,
        }
    }
}

fn days(from: NaiveDate, to: Option<NaiveDate>) -> u64 {
    let days = to.map(|to| (to - from).num_days());
    days.map_or(ALL_DAYS, |days| (days.max(1) as u64).min(ALL_DAYS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn few_sites_or_few_days_cost_little() {
        let date = |text: &str| text.parse().ok();
        let month = (date("2024-01-01"), date("2024-01-31"));
        let week = (date("2024-01-01"), date("2024-01-08"));
        let ever = (None, None);
        for (sites, (from, to), cost) in [
            (1, ever, Cost::Low),
            (1, (date("1970-01-01"), date("2200-12-31")), Cost::Low),
            (2, ever, Cost::Low),
            (3, ever, Cost::High),
            (10, month, Cost::Low),
            (0, week, Cost::Low),
            (0, month, Cost::High),
            (0, ever, Cost::High),
            (5_000, week, Cost::High),
        ] {
            let filter = Filter {
                site_ids: vec![Uuid::nil(); sites],
                from,
                to,
            };
            assert_eq!(Cost::of(&filter), cost, "{sites} {from:?} {to:?}");
        }
    }
}
