//! Every bucket with every site: what is shown even if it has nothing but zeros.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::rows::{filled_sites, site_order, top_sites};
use crate::statistics::buckets::Interval;
use crate::statistics::counts::CountRow;
use crate::statistics::parameters::{By, Order};
use crate::statistics::query::{Query, Resolved};

/// Buckets and sites, in the order in which they are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid {
    buckets: Vec<i64>,
    sites: Vec<Option<Uuid>>,
}

impl Grid {
    /// How many buckets it has.
    pub fn bucket_count(&self) -> usize {
        self.buckets.len()
    }

    /// The buckets of the range, for the sites that are named or have rows; `None` if that makes more cells than
    /// `cells_max`.
    pub fn new(query: &Query, rows: &[CountRow], resolved: &Resolved, cells_max: usize) -> Option<Grid> {
        let sites = sites(query, rows);
        let mut buckets = match (resolved.range.from, resolved.range.to) {
            (Some(from), Some(_)) if query.interval == Interval::All => vec![from],
            (Some(from), Some(to)) if !sites.is_empty() => {
                query.buckets().between(from, to, cells_max / sites.len())?
            }
            _ => Vec::new(),
        };
        if query.order == Order::Desc {
            buckets.reverse();
        }
        Some(Grid { buckets, sites })
    }

    pub fn len(&self) -> usize {
        self.buckets.len() * self.sites.len()
    }

    /// Bucket and site of a cell.
    pub fn cell(&self, index: usize) -> Option<(i64, Option<Uuid>)> {
        let bucket = self.buckets.get(index.checked_div(self.sites.len())?)?;
        Some((*bucket, self.sites[index % self.sites.len()]))
    }
}

fn sites(query: &Query, rows: &[CountRow]) -> Vec<Option<Uuid>> {
    let mut sites: BTreeSet<_> = rows.iter().map(|row| site_order(row.site_id)).collect();
    let mut add = |site_id| sites.extend([site_order(site_id)]);
    match (query.by, query.top) {
        (By::None, _) => add(None),
        (By::Site, None) => filled_sites(query).iter().for_each(|site_id| add(Some(*site_id))),
        (By::Site, Some(_)) => {
            let top = top_sites(rows, query);
            if filled_sites(query).iter().any(|site_id| !top.contains(site_id)) {
                add(None);
            }
            top.into_iter().for_each(|site_id| add(Some(site_id)));
        }
    }
    sites.into_iter().map(|(_, site_id)| site_id).collect()
}
