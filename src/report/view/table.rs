//! The page: the table, its totals and changes, and the lines below it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chrono::NaiveDate;
use uuid::Uuid;

use super::bars::{Bar, sparkline};
use super::columns::{Column, GAP, Kind, Layout, SiteWidths, Wanted, header};
use super::labels::{Labels, cut};
use super::look::Look;
use super::numbers;
use super::summary::{PARTIAL, left_out_line, lines, push_lines, time_of_day};
use crate::statistics::people::grouped;
use crate::statistics::{Answer, Buckets, By, Counts, Interval, Metric, Row, Value};
use crate::terminal::escape::{self, display_width};
use crate::terminal::{Style, StyledText};

/// Bytes that are written at once.
const PIECE_BYTES: usize = 1 << 20;

/// Buckets of a sparkline, at most as wide as a bar.
const SPARKLINE_MAX: usize = 40;

/// Fewer are seen at a glance in the rows.
const SPARKLINE_MIN: usize = 3;

/// Columns of a page on which days have their weekday.
const WEEKDAY_PAGE_WIDTH: usize = 80;

/// Writes the page of an answer, piece by piece: a report may have a million rows. Ends early once `write` returns
/// false.
pub fn write_page(answer: &Answer, look: &Look<'_>, mut write: impl FnMut(&StyledText) -> bool) {
    if answer.row_count() == 0 {
        write(&empty_page(answer, look));
        return;
    }
    let page = Page::new(answer, look);
    let (head, tail) = (page.head(), page.tail());
    let line_count = |text: &StyledText| text.as_str().lines().count();
    let rows_max = look
        .lines_max
        .map(|lines| lines.saturating_sub(line_count(&head) + line_count(&tail)));
    let mut text = head;
    page.write_rows(&mut text, rows_max, &mut write);
    text.append(&tail);
    write(&text);
}

fn empty_page(answer: &Answer, look: &Look<'_>) -> StyledText {
    let mut text = StyledText::new(look.has_styles);
    let mut all = vec![(Style::Strong, "no events match".to_string())];
    all.extend(lines(answer, look));
    all.extend(closing_lines(look));
    push_lines(&mut text, &all, look.width);
    text
}

fn closing_lines(look: &Look<'_>) -> impl Iterator<Item = (Style, String)> {
    let notes = look.notes.iter().map(|note| (Style::Warning, note.clone()));
    notes.chain(look.tip.map(|tip| (Style::Faint, tip.to_string())))
}

struct Page<'a> {
    answer: &'a Answer,
    look: &'a Look<'a>,
    layout: Layout,
    rows: RowSummary,
    /// The only site of all rows, which is above the table.
    only_site: Option<Uuid>,
    site_labels: HashMap<Option<Uuid>, String>,
    /// Starts of buckets that are marked.
    partial: HashSet<i64>,
    bucket_names: BucketNames,
}

/// Facts about all rows together, which the layout of the table needs.
#[derive(Default)]
struct RowSummary {
    site_ids: BTreeSet<Option<Uuid>>,
    /// Sites by their serves in all rows, those with most first, and the others last.
    ranks: HashMap<Option<Uuid>, usize>,
    challenges_max: u64,
    /// The widest value of each metric of the answer.
    widths: Vec<usize>,
    /// `served` of each bucket; nothing if they are too many for a sparkline.
    served: BTreeMap<i64, u64>,
    first_bucket: Option<i64>,
    last_bucket: Option<i64>,
}

/// A row below the others.
struct Sum {
    label: String,
    style: Style,
    values: Vec<(String, Style)>,
}

/// The texts of buckets.
struct BucketNames {
    buckets: Buckets,
    interval: Interval,
    has_weekday: bool,
    /// Where the offset changes, an hour may come twice.
    has_offset: bool,
}

impl<'a> Page<'a> {
    fn new(answer: &'a Answer, look: &'a Look<'a>) -> Page<'a> {
        let rows = RowSummary::new(answer, look);
        let by_site = answer.query.by == By::Site;
        let only_site = match (rows.site_ids.first(), rows.site_ids.len(), by_site) {
            (Some(Some(site_id)), 1, true) => Some(*site_id),
            _ => match answer.query.site_ids[..] {
                [site_id] => Some(site_id),
                _ => None,
            },
        };
        let labels = Labels::new(&rows.site_ids, look.names, look.signs);
        let bucket_names = BucketNames::new(answer, look, &rows);
        let mut page = Page {
            answer,
            look,
            layout: Layout {
                columns: Vec::new(),
                left_out: Vec::new(),
            },
            rows,
            only_site,
            site_labels: HashMap::new(),
            partial: HashSet::new(),
            bucket_names,
        };
        if answer.complete_through_micros.is_some() && answer.query.interval != Interval::All {
            page.partial = answer.partial.iter().copied().collect();
        }
        page.layout = Layout::new(&page.wanted(&labels, by_site), look.width);
        page.site_labels = labels.cut_to(page.width(Kind::Site).unwrap_or(0));
        page
    }

    fn wanted(&self, labels: &Labels, by_site: bool) -> Wanted {
        let sums = self.sums();
        let has_site = by_site && self.only_site.is_none();
        let label_width = sums.iter().map(|sum| sum.label.len()).max();
        let bucket = match self.answer.query.interval {
            // Without sites either, the labels of totals and changes need a column.
            Interval::All if has_site || self.answer.query.compare.is_none() => None,
            Interval::All => Some(label_width.unwrap_or(0).max(NOW.len())),
            _ => Some(self.bucket_names.width().max(label_width.unwrap_or(0))),
        };
        let widths_of_sums = |index: usize| sums.iter().map(move |sum| display_width(&sum.values[index].0)).max();
        let metrics = self.answer.columns.iter().enumerate().map(|(index, metric)| {
            let width = self.rows.widths[index].max(header(*metric).len());
            (*metric, width.max(widths_of_sums(index).unwrap_or(0)))
        });
        let needs = self.answer.query.needs();
        Wanted {
            bucket,
            site: has_site.then(|| SiteWidths {
                whole: labels.width().max(label_width.unwrap_or(0)),
                short: labels.short_width().max(label_width.unwrap_or(0)).max(SITE.len()),
                has_names: labels.has_names(),
            }),
            metrics: metrics.collect(),
            spare: self.look.spare,
            has_bar: self.answer.row_count() > 1 && needs.challenges && needs.pairs,
        }
    }

    fn width(&self, kind: Kind) -> Option<usize> {
        let column = self.layout.columns.iter().find(|column| column.kind == kind);
        column.map(|column| column.width)
    }

    /// The site above the table, and the names of the columns.
    fn head(&self) -> StyledText {
        let mut text = StyledText::new(self.look.has_styles);
        if let Some(site_id) = self.only_site {
            match self.look.names.get(site_id) {
                Some(name) => {
                    let name = &*escape::line(name);
                    text.push(Style::Strong, &cut(name, self.look.width, self.look.signs));
                    if display_width(name) + GAP + site_id.to_string().len() <= self.look.width {
                        text.pad(GAP);
                        text.push(Style::Faint, &site_id.to_string());
                    }
                }
                None => text.push(Style::Strong, &format!("site {site_id}")),
            }
            text.end_line();
            text.end_line();
        }
        let heads = self.layout.columns.iter().map(|column| {
            let head = match column.kind {
                Kind::Bucket => self.bucket_names.head(),
                Kind::Site => SITE,
                Kind::SiteId => "site_id",
                Kind::Metric(metric) => header(metric),
                Kind::Bar => "",
            };
            (head.to_string(), Style::Strong)
        });
        push_cells(&mut text, &self.layout.columns, heads);
        text.end_line();
        text
    }

    /// Writes the rows, sites with most serves first. If not all may be written, those are hidden that are the furthest
    /// from now, or have fewest serves.
    fn write_rows(&self, text: &mut StyledText, rows_max: Option<usize>, write: &mut impl FnMut(&StyledText) -> bool) {
        let count = self.answer.row_count();
        let rows_max = match rows_max {
            // One line says how many are not shown.
            Some(max) if count > max => max.saturating_sub(1),
            _ => count,
        };
        let hidden = count - rows_max;
        let hides_first = self.rows.first_bucket < self.rows.last_bucket;
        let hidden_line = |text: &mut StyledText| {
            if hidden > 0 {
                let which = if self.rows.first_bucket == self.rows.last_bucket {
                    "more"
                } else {
                    "earlier"
                };
                let count = grouped(hidden as u64);
                let line = format!("{} {count} {which} rows", self.look.signs.cut);
                text.push(Style::Faint, &cut(&line, self.look.width, self.look.signs));
                text.end_line();
            }
        };
        let skipped = if hides_first { hidden } else { 0 };
        if hides_first {
            hidden_line(text);
        }
        let mut rows: Vec<Row<'_>> = self.answer.rows().collect();
        if self.rows.ranks.len() > 1 {
            for bucket in rows.chunk_by_mut(|one, other| one.bucket == other.bucket) {
                bucket.sort_unstable_by_key(|row| self.rows.ranks.get(&row.site_id));
            }
        }
        let mut last = None;
        for row in rows.iter().skip(skipped).take(rows_max) {
            self.push_row(text, row, &mut last);
            if text.as_str().len() >= PIECE_BYTES && !write(&text.take()) {
                return;
            }
        }
        if !hides_first {
            hidden_line(text);
        }
    }

    /// `last` is the bucket of the row before, and its text.
    fn push_row(&self, text: &mut StyledText, row: &Row<'_>, last: &mut Option<(i64, String)>) {
        let is_again = last.as_ref().is_some_and(|(bucket, _)| *bucket == row.bucket);
        let bucket = match last.take() {
            Some((bucket, text)) if bucket == row.bucket => text,
            _ => {
                let mark = if self.partial.contains(&row.bucket) {
                    PARTIAL
                } else {
                    ""
                };
                format!("{}{mark}", self.bucket_names.text(row.bucket))
            }
        };
        let bucket = &*last.insert((row.bucket, bucket)).1;
        let (columns, bar) = self.split_bar();
        let cells = columns.iter().map(|column| match column.kind {
            Kind::Bucket if is_again => (bucket.to_string(), Style::Faint),
            Kind::Bucket => (bucket.to_string(), Style::Plain),
            Kind::Site => {
                let label = self.site_labels.get(&row.site_id).cloned().unwrap_or_default();
                (
                    label,
                    if row.site_id.is_none() {
                        Style::Faint
                    } else {
                        Style::Plain
                    },
                )
            }
            Kind::SiteId => {
                let site_id = row.site_id.map(|site_id| site_id.to_string());
                (site_id.unwrap_or_default(), Style::Faint)
            }
            Kind::Metric(metric) => self.number(self.answer.value(metric, row.counts)),
            Kind::Bar => Default::default(),
        });
        push_cells(text, columns, cells);
        if let Some(width) = bar {
            let bar = Bar::new(row.counts, self.rows.challenges_max, width);
            if row.counts.challenges > 0 {
                text.pad(GAP);
                bar.push(text, self.look.signs);
            }
        }
        text.end_line();
    }

    fn number(&self, value: Value) -> (String, Style) {
        let style = if value == Value::Null {
            Style::Faint
        } else {
            Style::Plain
        };
        (numbers::text(value, self.look.signs), style)
    }

    /// The columns before that of bars, and its width.
    fn split_bar(&self) -> (&[Column], Option<usize>) {
        match self.layout.columns.split_last() {
            Some((last, before)) if last.kind == Kind::Bar => (before, Some(last.width)),
            _ => (&self.layout.columns, None),
        }
    }

    /// Totals, comparison, and the lines below.
    fn tail(&self) -> StyledText {
        let mut text = StyledText::new(self.look.has_styles);
        let sums = self.sums();
        if !sums.is_empty() {
            text.push(Style::Faint, &self.look.signs.rule.repeat(self.layout.width()));
            text.end_line();
        }
        for sum in &sums {
            self.push_sum(&mut text, sum);
        }
        text.end_line();
        let mut all = lines(self.answer, self.look);
        if self.width(Kind::Bar).is_some() {
            all.push((Style::Faint, self.legend()));
        }
        all.extend(left_out_line(&self.layout.left_out));
        all.extend(closing_lines(self.look));
        push_lines(&mut text, &all, self.look.width);
        text
    }

    fn legend(&self) -> String {
        let signs = self.look.signs;
        let legend = format!("{0}{0} solved in time  {1}{1} not solved", signs.solved, signs.unsolved);
        match self.answer.totals.pending {
            0 => legend,
            _ => format!("{legend}  {0}{0} may still be solved", signs.pending),
        }
    }

    /// Totals of several rows, and both sides of a comparison with the change.
    fn sums(&self) -> Vec<Sum> {
        let answer = self.answer;
        let plain = |label: &str, style, counts: &Counts, value: fn(&Answer, Metric, &Counts) -> Value| Sum {
            label: label.to_string(),
            style,
            values: answer
                .columns
                .iter()
                .map(|metric| (numbers::text(value(answer, *metric, counts), self.look.signs), style))
                .collect(),
        };
        let mut sums = Vec::new();
        if answer.row_count() > 1 {
            sums.push(plain("total", Style::Strong, &answer.totals, Answer::value));
        }
        let Some((current, previous)) = &answer.compared else {
            return sums;
        };
        let sides = answer
            .resolved
            .comparison
            .filter(|sides| sides.current != answer.resolved.range);
        if let Some(to) = sides.and_then(|sides| sides.current.to) {
            let label = format!("to {}", time_of_day(to, answer.query.zone));
            let until = plain(&label, Style::Plain, current, Answer::compared_value);
            // Nothing came after it, most of the time.
            let is_said = |total: &Sum| {
                total
                    .values
                    .iter()
                    .zip(&until.values)
                    .all(|(one, other)| one.0 == other.0)
            };
            if !sums.iter().any(is_said) {
                sums.push(until);
            }
        }
        sums.push(plain("before", Style::Plain, previous, Answer::compared_value));
        let change = |metric: &Metric| {
            let [now, before] = [current, previous].map(|counts| answer.compared_value(*metric, counts));
            (
                numbers::change(now, before, self.look.signs),
                change_style(*metric, now, before),
            )
        };
        sums.push(Sum {
            label: "change".to_string(),
            style: Style::Strong,
            values: answer.columns.iter().map(change).collect(),
        });
        sums
    }

    fn push_sum(&self, text: &mut StyledText, sum: &Sum) {
        let (columns, bar) = self.split_bar();
        let mut is_labelled = false;
        let cells = columns.iter().map(|column| match column.kind {
            Kind::Metric(metric) => {
                let index = self.answer.columns.iter().position(|known| *known == metric);
                index.map(|index| sum.values[index].clone()).unwrap_or_default()
            }
            Kind::Bucket | Kind::Site if !is_labelled => {
                is_labelled = true;
                (sum.label.to_string(), sum.style)
            }
            _ => Default::default(),
        });
        let cells: Vec<_> = cells.collect();
        push_cells(text, columns, cells.into_iter());
        let sparkline = bar
            .filter(|_| sum.label == "total")
            .and_then(|width| self.sparkline(width));
        if let Some(sparkline) = sparkline {
            text.pad(GAP);
            text.push(Style::Plain, &sparkline);
        }
        text.end_line();
    }

    /// Serves over time, where rows of several sites hide them.
    fn sparkline(&self, width: usize) -> Option<String> {
        let served: Vec<u64> = self.rows.served.values().copied().collect();
        let fits = served.len() >= SPARKLINE_MIN && served.len() <= width;
        let is_hidden = self.answer.row_count() > served.len();
        (fits && is_hidden).then(|| sparkline(&served, self.look.signs))
    }
}

/// The label of the only row of all time, beside those of changes.
const NOW: &str = "now";

const SITE: &str = "site";

/// The colour of a change that is better or worse.
fn change_style(metric: Metric, now: Value, before: Value) -> Style {
    match (metric.better(), now.change_from(before)) {
        (Some(better), Some(change)) if change != 0.0 => match change.total_cmp(&0.0) == better {
            true => Style::Good,
            false => Style::Bad,
        },
        _ => Style::Plain,
    }
}

/// Adds cells under their columns, without blanks after the last one.
fn push_cells(text: &mut StyledText, columns: &[Column], cells: impl Iterator<Item = (String, Style)>) {
    let mut blanks = 0;
    for (column, (cell, style)) in columns.iter().zip(cells) {
        let rest = column.width.saturating_sub(display_width(&cell));
        let (before, after) = match column.kind {
            Kind::Metric(_) => (rest, 0),
            Kind::Bucket | Kind::Site | Kind::SiteId | Kind::Bar => (0, rest),
        };
        if !cell.is_empty() {
            text.pad(blanks + before);
            text.push(style, &cell);
            blanks = after + GAP;
        } else {
            blanks += column.width + GAP;
        }
    }
}

impl RowSummary {
    fn new(answer: &Answer, look: &Look<'_>) -> RowSummary {
        let mut served: HashMap<Option<Uuid>, u64> = HashMap::new();
        let mut summary = RowSummary {
            widths: vec![0; answer.columns.len()],
            ..RowSummary::default()
        };
        let mut is_short = true;
        for row in answer.rows() {
            if summary.last_bucket != Some(row.bucket) {
                summary.first_bucket.get_or_insert(row.bucket);
                summary.last_bucket = Some(row.bucket);
            }
            *served.entry(row.site_id).or_default() += row.counts.served;
            summary.challenges_max = summary.challenges_max.max(row.counts.challenges);
            for (width, metric) in summary.widths.iter_mut().zip(&answer.columns) {
                *width = (*width).max(numbers::width(answer.value(*metric, row.counts), look.signs));
            }
            if is_short {
                *summary.served.entry(row.bucket).or_default() += row.counts.served;
                is_short = summary.served.len() <= SPARKLINE_MAX;
            }
        }
        if !is_short {
            summary.served.clear();
        }
        summary.site_ids = served.keys().copied().collect();
        let mut sites: Vec<_> = served.into_iter().collect();
        sites.sort_unstable_by_key(|(site_id, served)| (site_id.is_none(), std::cmp::Reverse(*served), *site_id));
        let ranked = sites.into_iter().enumerate();
        summary.ranks = ranked.map(|(rank, (site_id, _))| (site_id, rank)).collect();
        summary
    }
}

impl BucketNames {
    fn new(answer: &Answer, look: &Look<'_>, rows: &RowSummary) -> BucketNames {
        let zone = answer.query.zone;
        let offset = |bucket: Option<i64>| bucket.map(|bucket| zone.offset_micros(bucket));
        let interval = answer.query.interval;
        BucketNames {
            buckets: answer.query.buckets(),
            interval,
            has_weekday: interval == Interval::Day && look.width >= WEEKDAY_PAGE_WIDTH,
            has_offset: interval == Interval::Hour && offset(rows.first_bucket) != offset(rows.last_bucket),
        }
    }

    fn head(&self) -> &'static str {
        match self.interval {
            Interval::Hour => "hour",
            Interval::Day => "day",
            Interval::Week => "week of",
            Interval::Month => "month",
            Interval::All => "",
        }
    }

    /// With the mark, the widest.
    fn width(&self) -> usize {
        display_width(&self.text(0)) + PARTIAL.len()
    }

    fn text(&self, bucket: i64) -> String {
        let date: NaiveDate = self.buckets.date(bucket);
        match self.interval {
            Interval::Day if self.has_weekday => date.format("%Y-%m-%d %a").to_string(),
            Interval::Day | Interval::Week => date.to_string(),
            Interval::Month => date.format("%Y-%m").to_string(),
            Interval::Hour => {
                let start = self.buckets.start_text(bucket);
                let offset = start.get(19..).filter(|_| self.has_offset);
                let time = start.get(11..16).unwrap_or_default();
                [&date.to_string(), time].join(" ") + &offset.map(|offset| format!(" {offset}")).unwrap_or_default()
            }
            Interval::All => NOW.to_string(),
        }
    }
}
