//! The chart of challenges over time, and its table. Pure.

use maud::{Markup, html};

use super::content::Page;
use super::tiles::cell;
use crate::serve::chart::{self, Bucket, Trend};
use crate::serve::people;
use crate::statistics::people::{grouped, percent};
use crate::statistics::{Interval, Value};

/// Columns that say what they have when they are pointed at; more are too narrow for that, and too many bytes.
const TIPS_MAX: usize = 100;

/// Names below the axis on a wide screen; a narrow one shows every second.
const LABELS_MAX: usize = 8;

/// Rows of the table. The rest is in the CSV.
const ROWS_MAX: usize = 100;

/// Pixels of the chart, and of its labels.
const PLOT_HEIGHT: u32 = 240;

/// Coordinates of the drawing, which is stretched: fine enough for 750 bars.
const DRAWING_WIDTH: u32 = 3000;
const LABELS_HEIGHT: u32 = 24;

pub fn render(page: &Page<'_>, trend: &Trend) -> Markup {
    let by = interval_word(page.interval());
    html! {
        section.trend {
            h2 { "Challenges and solve rate by " (by) }
            figure {
                (legend(trend))
                (plot(page, trend, by))
            }
            details {
                summary { "These numbers as a table" }
                (table(page, trend, by))
            }
        }
    }
}

pub fn interval_word(interval: Interval) -> &'static str {
    match interval {
        Interval::Hour => "hour",
        Interval::Day => "day",
        Interval::Week => "week",
        Interval::Month => "month",
        Interval::All => "range",
    }
}

fn legend(trend: &Trend) -> Markup {
    let swatch = |class: &str, name: &str| {
        html! {
            li {
                svg.swatch width="14" height="12" viewBox="0 0 14 12" aria-hidden="true" {
                    @match class {
                        "rate" => path.rate d="M0 6h14" {},
                        "rate open" => path class=(class) d="M0 6h14" {},
                        _ => path class=(class) d="M1 0h12v12h-12z" {},
                    }
                }
                (name)
            }
        }
    };
    html! {
        ul.legend {
            (swatch("solved", "solved"))
            (swatch("unsolved", "unsolved"))
            @if trend.buckets.iter().any(|bucket| bucket.pending > 0) {
                (swatch("pending", "pending"))
            }
            (swatch("rate", "solve rate"))
            @if trend.may_change() {
                li.aside {
                    "Pale bars and dotted lines: not finished"
                    @if trend.buckets.iter().any(|bucket| bucket.is_cut) { ", or partly outside the range" }
                    "."
                }
            }
        }
    }
}

fn plot(page: &Page<'_>, trend: &Trend, by: &str) -> Markup {
    let view_box = format!("0 0 {DRAWING_WIDTH} {PLOT_HEIGHT}");
    let y = |number: u64| format!("{:.1}", (1.0 - trend.part(number)) * f64::from(PLOT_HEIGHT));
    html! {
        div.plot {
            svg.axis width="44" height=(PLOT_HEIGHT) aria-hidden="true" {
                @for tick in &trend.ticks {
                    text x="36" y=(y(*tick)) dy="4" text-anchor="end" { (people::short_count(*tick)) }
                }
                text x="36" y=(PLOT_HEIGHT) dy="0" text-anchor="end" { "0" }
            }
            svg.drawing role="img" aria-labelledby="trend-title trend-text" width="100%" height=(PLOT_HEIGHT)
                viewBox=(view_box) preserveAspectRatio="none" {
                title id="trend-title" { "Challenges and solve rate by " (by) }
                desc id="trend-text" { (summary(page, trend)) }
                (chart::drawing(trend, DRAWING_WIDTH, PLOT_HEIGHT))
            }
            @if trend.buckets.len() <= TIPS_MAX {
                div.tips aria-hidden="true" {
                    @for (index, bucket) in trend.buckets.iter().enumerate() {
                        (tip(page, bucket, index == trend.buckets.len() / 2))
                    }
                }
            }
            svg.axis width="44" height=(PLOT_HEIGHT) aria-hidden="true" {
                @for (percent, y) in [("100%", 4), ("50%", PLOT_HEIGHT / 2 + 4), ("0%", PLOT_HEIGHT)] {
                    text x="6" y=(y) { (percent) }
                }
            }
            svg.labels width="100%" height=(LABELS_HEIGHT) aria-hidden="true" {
                (labels(page, trend))
            }
        }
    }
}

fn labels(page: &Page<'_>, trend: &Trend) -> Markup {
    let count = trend.buckets.len().max(1) as f64;
    let mut before = None;
    html! {
        @for (number, index) in trend.labels(LABELS_MAX).enumerate() {
            @let start = trend.buckets[index].start;
            @let x = format!("{:.2}%", (index as f64 + 0.5) / count * 100.0);
            text x=(x) y="17" text-anchor="middle" class=[(number % 2 == 1).then_some("second")] {
                (people::tick(page.zone(), page.interval(), start, before.replace(start)))
            }
        }
    }
}

/// The chart in words, for people who do not see it.
fn summary(page: &Page<'_>, trend: &Trend) -> String {
    let name = |bucket: &Bucket| people::bucket(page.zone(), page.interval(), bucket.start, bucket.end);
    let most = trend.buckets.iter().max_by_key(|bucket| bucket.challenges);
    let Some(most) = most.filter(|most| most.challenges > 0) else {
        return "No challenges.".to_string();
    };
    let total: u64 = trend.buckets.iter().map(|bucket| bucket.challenges).sum();
    format!(
        "{} challenges in {}; the busiest, {}, had {}. The table below has every number.",
        grouped(total),
        counted(trend.buckets.len(), interval_word(page.interval())),
        name(most),
        grouped(most.challenges)
    )
}

/// `1 day`, `7 days`.
fn counted(number: usize, unit: &str) -> String {
    match number {
        1 => format!("1 {unit}"),
        _ => format!("{number} {unit}s"),
    }
}

/// A column of the chart: pointing at it shows its numbers, a click shows it alone. The table has the same for others.
fn tip(page: &Page<'_>, bucket: &Bucket, is_middle: bool) -> Markup {
    let text = html! {
        span {
            b { (people::bucket(page.zone(), page.interval(), bucket.start, bucket.end)) }
            (grouped(bucket.challenges)) " challenges"
            br;
            (bucket.rate().map_or_else(|| people::NOTHING.to_string(), percent)) " solved"
            @if bucket.pending > 0 { br; (grouped(bucket.pending)) " pending" }
            @else if let Some(partial) = partial(bucket) { br; (partial) }
        }
    };
    let class = is_middle.then_some("middle");
    html! {
        @match inside(page, bucket) {
            Some(address) => a class=[class] href=(address) tabindex="-1" { (text) },
            None => i class=[class] { (text) },
        }
    }
}

/// Why the numbers of a bucket are not all there will be.
fn partial(bucket: &Bucket) -> Option<&'static str> {
    match (bucket.is_unfinished, bucket.is_cut) {
        (true, _) => Some("not finished"),
        (false, true) => Some("partly outside the range"),
        (false, false) => None,
    }
}

/// The address that shows a bucket alone, in shorter ones.
fn inside(page: &Page<'_>, bucket: &Bucket) -> Option<String> {
    let interval = match page.interval() {
        Interval::Hour | Interval::All => return None,
        Interval::Day => "hour",
        Interval::Week | Interval::Month => "day",
    };
    // What the range cuts off is not in the bar.
    let range = page.trend.resolved.range;
    let (from, to) = (range.from.unwrap_or(i64::MIN), range.to.unwrap_or(i64::MAX));
    let (start, end) = (bucket.start.max(from), bucket.end.min(to));
    let (start, end) = (page.zone().bound_text(start), page.zone().bound_text(end));
    let changes = [
        ("period", None),
        ("from", Some(start.as_str())),
        ("to", Some(end.as_str())),
        ("interval", Some(interval)),
    ];
    Some(page.view.address(&changes))
}

fn table(page: &Page<'_>, trend: &Trend, by: &str) -> Markup {
    let shown = trend.buckets.iter().rev().take(ROWS_MAX);
    html! {
        div.scroll tabindex="0" role="region" aria-label=(format!("Numbers by {by}")) {
            table {
                caption.hidden { "Challenges and solve rate by " (by) ", the newest first" }
                thead {
                    tr {
                        th scope="col" { (by) }
                        @for name in ["challenges", "solved", "unsolved", "pending", "solve rate"] {
                            th.number scope="col" { (name) }
                        }
                    }
                }
                tbody {
                    @for bucket in shown {
                        (row(page, bucket))
                    }
                }
            }
        }
        @if trend.buckets.len() > ROWS_MAX {
            p.aside { "The newest " (ROWS_MAX) " of " (trend.buckets.len()) " rows. The CSV below has all." }
        }
    }
}

fn row(page: &Page<'_>, bucket: &Bucket) -> Markup {
    let name = people::bucket(page.zone(), page.interval(), bucket.start, bucket.end);
    let is_known = bucket.unsolved.is_some();
    let number = |number: u64| html! { td { (cell(Value::Count(number))) } };
    html! {
        tr data-start=(page.zone().text(bucket.start)) {
            th scope="row" {
                @match inside(page, bucket) {
                    Some(address) => a href=(address) { (name) },
                    None => (name),
                }
                @if let Some(partial) = partial(bucket) { span.badge { (partial) } }
            }
            (number(bucket.challenges))
            (number(bucket.solved))
            td { (bucket.unsolved.map(|count| cell(Value::Count(count))).unwrap_or_else(|| cell(Value::Null))) }
            td { (cell(if is_known { Value::Count(bucket.pending) } else { Value::Null })) }
            td { (bucket.rate().map_or_else(|| cell(Value::Null), |rate| cell(Value::Rate(rate)))) }
        }
    }
}
