//! Notes about a report, apart from its rows.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::clickhouse::Freshness;

/// Sites that are named one by one; more fill a screen.
const SITES_NAMED_MAX: usize = 5;

/// A moment as people read it.
pub fn instant(moment: &DateTime<Utc>) -> String {
    moment.format("%Y-%m-%d %H:%M:%S%.3f UTC").to_string()
}

/// How far a report is complete.
pub fn completeness(freshness: Freshness) -> String {
    match freshness.complete_through {
        Some(moment) => format!("complete through {}", instant(&moment)),
        None => {
            "not known to be complete: some partition was never read to its end, or no topic is consumed".to_string()
        }
    }
}

/// A line for each of a few sites that were asked for and have no events, and the number of the others.
pub fn sites_without_events(site_ids: &[Uuid]) -> Vec<String> {
    let (named, others) = site_ids.split_at(site_ids.len().min(SITES_NAMED_MAX));
    let mut lines: Vec<_> = named
        .iter()
        .map(|site_id| format!("site {site_id} has no events"))
        .collect();
    match others.len() {
        0 => {}
        1 => lines.push("1 more site has no events".to_string()),
        count => lines.push(format!("{count} more sites have no events")),
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_sites_are_named_and_the_others_counted() {
        let lines = |count: u128| sites_without_events(&(0..count).map(Uuid::from_u128).collect::<Vec<_>>());
        assert!(lines(0).is_empty());
        assert_eq!(lines(1), ["site 00000000-0000-0000-0000-000000000000 has no events"]);
        assert_eq!(lines(5).len(), 5);
        assert_eq!(lines(6)[5], "1 more site has no events");
        assert_eq!(lines(20_000)[5..], ["19995 more sites have no events"]);
    }
}
