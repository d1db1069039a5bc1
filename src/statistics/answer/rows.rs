//! Rows as they are shown: placed, added up, in order.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::statistics::buckets::Interval;
use crate::statistics::counts::CountRow;
use crate::statistics::parameters::{By, Fill, Order};
use crate::statistics::query::{Query, Resolved};

/// Gives rows the bucket and site under which they are shown.
pub fn place(rows: &mut [CountRow], query: &Query, resolved: &Resolved) {
    for row in rows {
        if query.interval == Interval::All {
            row.bucket = resolved.range.from.unwrap_or(i64::MIN);
        }
        if query.by == By::None {
            row.site_id = None;
        }
    }
}

/// Orders rows and adds those of the same bucket and site.
pub fn merge(rows: &mut Vec<CountRow>, order: Order) {
    rows.sort_unstable_by(|one, other| {
        let by_bucket = one.bucket.cmp(&other.bucket);
        let by_bucket = match order {
            Order::Asc => by_bucket,
            Order::Desc => by_bucket.reverse(),
        };
        by_bucket.then(site_order(one.site_id).cmp(&site_order(other.site_id)))
    });
    rows.dedup_by(|next, kept| {
        let is_same = (next.bucket, next.site_id) == (kept.bucket, kept.site_id);
        if is_same {
            kept.counts.merge(&next.counts);
        }
        is_same
    });
}

/// Adds up the sites below `top` in one row for each bucket.
pub fn fold_below_top(rows: &mut Vec<CountRow>, query: &Query) {
    let top = top_sites(rows, query);
    for row in rows.iter_mut() {
        row.site_id = row.site_id.filter(|site_id| top.contains(site_id));
    }
    merge(rows, query.order);
}

/// The sites with most serves, of equal ones those with the lower UUID.
pub fn top_sites(rows: &[CountRow], query: &Query) -> BTreeSet<Uuid> {
    let mut served: BTreeMap<Uuid, u64> = filled_sites(query).iter().map(|site_id| (*site_id, 0)).collect();
    for row in rows {
        if let Some(site_id) = row.site_id {
            *served.entry(site_id).or_default() += row.counts.served;
        }
    }
    let mut sites: Vec<_> = served
        .into_iter()
        .map(|(site_id, served)| (Reverse(served), site_id))
        .collect();
    sites.sort_unstable();
    let top = query.top.map_or(usize::MAX, usize::from);
    sites.into_iter().take(top).map(|(_, site_id)| site_id).collect()
}

/// The sites that have rows even without an event.
pub fn filled_sites(query: &Query) -> &[Uuid] {
    match query.fill {
        Fill::None => &[],
        Fill::Zero => &query.site_ids,
    }
}

/// Sites by their text, and then what is of no site.
pub fn site_order(site_id: Option<Uuid>) -> (bool, Option<Uuid>) {
    (site_id.is_none(), site_id)
}
