//! The content of a page. Pure.

use chrono::NaiveDate;
use uuid::Uuid;

use super::view::View;
use crate::serve::reader_sites::ReaderSites;
use crate::statistics::{Answer, Interval, Zone};

/// The content of a page.
pub struct Page<'a> {
    pub view: &'a View,
    pub sites: &'a ReaderSites,
    /// The numbers over time.
    pub trend: &'a Answer,
    /// The numbers of each site, or why they are missing.
    pub by_site: Result<&'a Answer, String>,
    /// Of a range without events.
    pub newest: Option<NewestDay>,
    /// Whether the interval is longer than the one that was asked for.
    pub is_coarser: bool,
    /// The sites that the search may mean.
    pub found: Option<Vec<Uuid>>,
    /// From the address of the page to the folder of the API.
    pub folder: &'static str,
    /// By the clock of this process.
    pub now_micros: i64,
    pub setting: Setting,
    /// The host that the page was asked of.
    pub host: &'a str,
    /// A site that the reader of a few sites may send events of.
    pub example_site: Option<Uuid>,
    /// Of the challenge of the example.
    pub example_id: Uuid,
}

/// How this server is reached.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    pub has_tls: bool,
    pub has_keys: bool,
}

/// The newest day with events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewestDay {
    /// No event was ever stored, of the sites that were asked for.
    None,
    Day(NaiveDate),
}

impl Page<'_> {
    pub fn zone(&self) -> Zone {
        self.trend.query.zone
    }

    pub fn interval(&self) -> Interval {
        self.trend.query.interval
    }

    /// The one site that is asked for.
    pub fn only_site(&self) -> Option<Uuid> {
        match self.view.site_ids()[..] {
            [site_id] => Some(site_id),
            _ => None,
        }
    }

    /// How far all numbers of the page are complete.
    pub fn complete_through_micros(&self) -> Option<i64> {
        let by_site = self.by_site.as_ref().ok().map(|answer| answer.complete_through_micros);
        let trend = self.trend.complete_through_micros;
        // `None` is less than any moment.
        by_site.map_or(trend, |by_site| by_site.min(trend))
    }
}
