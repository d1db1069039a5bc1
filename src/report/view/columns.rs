//! The columns of a table: those that fit, and how wide they are. A table leaves out columns before a line wraps.

use crate::statistics::Metric;

/// Blanks between two columns.
pub const GAP: usize = 2;

/// Columns of the terminal that a bar has at least: with fewer, most bars look the same.
const BAR_MIN: usize = 8;

/// Columns of the terminal that a bar has at most: in a wide window, numbers stay near their bar.
const BAR_MAX: usize = 40;

/// Columns of the terminal that sites keep while metrics are left out: most names fit.
const SITE_WIDTH: usize = 20;

/// Columns of the terminal that sites take before bars do.
const SITE_WIDTH_BEFORE_BARS: usize = 28;

/// Columns of the terminal that sites keep before [`LAST_LEFT_OUT`] go: short UUIDs fit.
const SITE_WIDTH_NARROW: usize = 9;

/// Columns of the terminal that sites keep in any window.
const SITE_WIDTH_MIN: usize = 4;

/// Columns of the terminal that a UUID takes.
const UUID_WIDTH: usize = 36;

/// Metrics in the order in which a narrow table leaves them out. `served` stays.
const LEFT_OUT_FIRST: [Metric; 13] = [
    // They are about clocks and connections, not about people.
    Metric::SolvedBeforeServed,
    Metric::Retries,
    Metric::Unmatched,
    Metric::SolvedAgain,
    // They follow from the others, or nearly.
    Metric::Share,
    Metric::Late,
    Metric::SolvedOfServed,
    Metric::Pending,
    Metric::Challenges,
    // The median says most.
    Metric::SolveTimeP99,
    Metric::SolveTimeP90,
    // The solve rate says the same.
    Metric::Unsolved,
    Metric::SolveTimeP50,
];

/// Metrics that go last. The solve rate says most.
const LAST_LEFT_OUT: [Metric; 2] = [Metric::Solved, Metric::SolveRate];

/// The kind of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bucket,
    Site,
    /// The whole UUID of a site that is shown by its name.
    SiteId,
    Metric(Metric),
    Bar,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub kind: Kind,
    pub width: usize,
}

/// The columns that a table has where it has room.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The width of its buckets.
    pub bucket: Option<usize>,
    pub site: Option<SiteWidths>,
    /// Metrics with their widths, in their order.
    pub metrics: Vec<(Metric, usize)>,
    /// Of `metrics`, one that is shown only if there is room to spare.
    pub spare: Option<Metric>,
    pub has_bar: bool,
}

/// The widths of sites.
#[derive(Debug, Clone, Copy)]
pub struct SiteWidths {
    /// Whole names and UUIDs.
    pub whole: usize,
    /// Whole names and short UUIDs.
    pub short: usize,
    pub has_names: bool,
}

/// The columns that fit.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    pub columns: Vec<Column>,
    /// Metrics that are asked for and do not fit.
    pub left_out: Vec<Metric>,
}

impl Layout {
    /// Finds the columns for a page of this width.
    pub fn new(wanted: &Wanted, page_width: usize) -> Layout {
        let mut metrics = wanted.metrics.clone();
        metrics.retain(|(metric, _)| Some(*metric) != wanted.spare);
        let mut site = wanted.site.map(|site| site.short.min(SITE_WIDTH));
        let used = |metrics: &[(Metric, usize)], site: Option<usize>| -> usize {
            let widths = wanted.bucket.into_iter().chain(site);
            let widths = widths.chain(metrics.iter().map(|(_, width)| *width));
            widths.map(|width| width + GAP).sum::<usize>().saturating_sub(GAP)
        };
        let mut left_out = Vec::new();
        let mut leave_out = |metrics: &mut Vec<(Metric, usize)>, site, order: &[Metric]| {
            for metric in order {
                let index = metrics.iter().position(|(known, _)| known == metric);
                if let Some(index) = index.filter(|_| used(metrics, site) > page_width) {
                    left_out.push(metrics.remove(index).0);
                }
            }
        };
        leave_out(&mut metrics, site, &LEFT_OUT_FIRST);
        let lacking = used(&metrics, site).saturating_sub(page_width);
        site = site.map(|width| width.saturating_sub(lacking).max(width.min(SITE_WIDTH_NARROW)));
        leave_out(&mut metrics, site, &LAST_LEFT_OUT);
        let mut room = Room(page_width.saturating_sub(used(&metrics, site)));
        let lacking = used(&metrics, site).saturating_sub(page_width);
        site = site.map(|width| width.saturating_sub(lacking).max(width.min(SITE_WIDTH_MIN)));
        if let (Some(width), Some(widths)) = (&mut site, wanted.site) {
            *width += room.claim_up_to(widths.short.min(SITE_WIDTH_BEFORE_BARS).saturating_sub(*width));
        }
        let bar = (wanted.has_bar && room.claim(GAP + BAR_MIN)).then_some(BAR_MIN);
        if let (Some(width), Some(widths)) = (&mut site, wanted.site) {
            *width += room.claim_up_to(widths.short.saturating_sub(*width));
            let rest = widths.whole.saturating_sub(*width);
            if !widths.has_names && room.claim(rest) {
                *width += rest;
            }
        }
        let is_spare = |(metric, _): &&(Metric, usize)| Some(*metric) == wanted.spare;
        let spare = wanted.metrics.iter().find(is_spare);
        let spare = spare.filter(|(_, width)| room.claim(width + GAP));
        let has_names = wanted.site.is_some_and(|site| site.has_names);
        let site_id = (has_names && room.claim(UUID_WIDTH + GAP)).then_some(UUID_WIDTH);
        let bar = bar.map(|width| width + room.claim_up_to(BAR_MAX - width));

        let is_shown = |(metric, _): &&(Metric, usize)| {
            let is_spare = spare.is_some_and(|(spare, _)| spare == metric);
            is_spare || metrics.iter().any(|(shown, _)| shown == metric)
        };
        let shown = wanted.metrics.iter().filter(is_shown);
        let column = |kind| move |width| Column { kind, width };
        let columns = wanted.bucket.map(column(Kind::Bucket)).into_iter();
        let columns = columns
            .chain(site.map(column(Kind::Site)))
            .chain(site_id.map(column(Kind::SiteId)))
            .chain(shown.map(|(metric, width)| column(Kind::Metric(*metric))(*width)))
            .chain(bar.map(column(Kind::Bar)));
        Layout {
            columns: columns.collect(),
            left_out,
        }
    }

    /// The columns of the terminal that a line takes.
    pub fn width(&self) -> usize {
        let widths = self.columns.iter().map(|column| column.width + GAP);
        widths.sum::<usize>().saturating_sub(GAP)
    }
}

/// The head of a column of numbers.
pub fn header(metric: Metric) -> &'static str {
    match metric {
        Metric::Served => "served",
        Metric::Solved => "solved",
        Metric::Challenges => "challenges",
        Metric::SolvedOfServed => "in time",
        Metric::Late => "late",
        Metric::Pending => "pending",
        Metric::Unsolved => "unsolved",
        Metric::SolveRate => "solve rate",
        Metric::SolveTimeP50 => "p50",
        Metric::SolveTimeP90 => "p90",
        Metric::SolveTimeP99 => "p99",
        Metric::SolvedBeforeServed => "before serve",
        Metric::SolvedAgain => "again",
        Metric::Unmatched => "unmatched",
        Metric::Retries => "retries",
        Metric::Share => "share",
    }
}

/// Columns of the terminal that nothing has yet.
struct Room(usize);

impl Room {
    fn claim(&mut self, columns: usize) -> bool {
        let has_room = columns <= self.0;
        if has_room {
            self.0 -= columns;
        }
        has_room
    }

    fn claim_up_to(&mut self, columns: usize) -> usize {
        let claimed = columns.min(self.0);
        self.0 -= claimed;
        claimed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wanted(has_names: bool) -> Wanted {
        Wanted {
            bucket: Some(14),
            site: Some(SiteWidths {
                whole: 36,
                short: if has_names { 30 } else { 9 },
                has_names,
            }),
            metrics: vec![
                (Metric::Served, 9),
                (Metric::Solved, 9),
                (Metric::Challenges, 10),
                (Metric::SolveRate, 10),
                (Metric::Unsolved, 8),
            ],
            spare: Some(Metric::Challenges),
            has_bar: true,
        }
    }

    fn widths(layout: &Layout, kind: Kind) -> Option<usize> {
        layout
            .columns
            .iter()
            .find(|column| column.kind == kind)
            .map(|column| column.width)
    }

    #[test]
    fn what_matters_least_goes_first() {
        for (width, has_names, site, left_out, bar, site_id) in [
            (200, true, Some(30), 0, Some(40), Some(36)),
            (160, true, Some(30), 0, Some(18), Some(36)),
            (160, false, Some(36), 0, Some(40), None),
            (120, true, Some(30), 0, Some(16), None),
            (80, true, Some(20), 0, None, None),
            (80, false, Some(9), 0, Some(9), None),
            (60, true, Some(10), 1, None, None),
            (60, false, Some(9), 1, None, None),
            (40, false, Some(9), 3, None, None),
            (30, false, Some(4), 3, None, None),
        ] {
            let layout = Layout::new(&wanted(has_names), width);
            let context = format!("{width} {has_names} {layout:?}");
            assert_eq!(widths(&layout, Kind::Site), site, "{context}");
            assert_eq!(layout.left_out.len(), left_out, "{context}");
            assert_eq!(widths(&layout, Kind::Bar), bar, "{context}");
            assert_eq!(widths(&layout, Kind::SiteId), site_id, "{context}");
        }
    }

    #[test]
    fn every_metric_but_served_may_be_left_out() {
        let all = [&LEFT_OUT_FIRST[..], &LAST_LEFT_OUT, &[Metric::Served]].concat();
        let mut metrics: Vec<_> = all.into_iter().map(|metric| metric as u8).collect();
        metrics.sort_unstable();
        assert_eq!(metrics, (0..16).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_page(
            page in 40_usize..250,
            bucket in prop::option::of(4_usize..18),
            site in prop::option::of((1_usize..80, any::<bool>())),
            widths in prop::collection::vec(4_usize..10, 15),
            has_bar: bool,
        ) {
            let metrics = LEFT_OUT_FIRST.into_iter().chain(LAST_LEFT_OUT).zip(widths);
            let metrics = metrics.chain([(Metric::Served, 9)]).collect();
            let wanted = Wanted {
                bucket,
                site: site.map(|(short, has_names)| SiteWidths { whole: short.max(36), short, has_names }),
                metrics,
                spare: Some(Metric::Challenges),
                has_bar,
            };
            let layout = Layout::new(&wanted, page);
            prop_assert!(layout.width() <= page, "{} {layout:?}", layout.width());
        }
    }
}
