//! The look of a page: all that it depends on besides its answer.

use chrono::{DateTime, Utc};

use super::signs::Signs;
use crate::site_names::SiteNames;
use crate::statistics::Metric;

/// All that a page depends on besides its answer.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// Columns of the terminal.
    pub width: usize,
    /// Lines that the page may have; `None` for all.
    pub lines_max: Option<usize>,
    pub signs: &'static Signs,
    pub has_styles: bool,
    pub names: &'a SiteNames,
    /// The period as it was asked for.
    pub period: Option<&'a str>,
    /// A metric that is shown only if there is room.
    pub spare: Option<Metric>,
    /// The time by which the age of the report is counted; `None` of a file.
    pub now: Option<DateTime<Utc>>,
    /// Warnings below the table.
    pub notes: &'a [String],
    /// A command to try next.
    pub tip: Option<&'a str>,
}
