//! The four numbers at the top, each with its change. Pure.

use std::cmp::Ordering;

use maud::{Markup, html};

use super::content::Page;
use crate::serve::people;
use crate::statistics::people::grouped;
use crate::statistics::{Answer, Choice as _, Metric, Value, value_text};

pub fn render(page: &Page<'_>, range: &str) -> Markup {
    let by_site = page.by_site.as_ref().ok().copied();
    let pending = page.trend.value(Metric::Pending, &page.trend.totals);
    html! {
        section.tiles aria-label="Totals" {
            h2.range { (range) (compared_with(page)) }
            dl {
                (tile(Some(page.trend), "Challenges", Metric::Challenges, html! { "shown to visitors" }))
                (tile(Some(page.trend), "Solve rate", Metric::SolveRate, html! {
                    (solved(page.trend)) " solved within " (within(page))
                }))
                (tile(by_site, "Median time to solve", Metric::SolveTimeP50, html! {
                    "half of the solves took less"
                }))
                (tile(Some(page.trend), "Unsolved", Metric::Unsolved, html! {
                    @match pending {
                        Value::Count(0) => "abandoned, failed, or by bots",
                        Value::Count(count) => {
                            data value=(count) { (grouped(count)) } @if count == 1 { " more is pending: it may still be solved" }
                            @else { " more are pending: they may still be solved" }
                        }
                        _ => "known once all partitions were read",
                    }
                }))
            }
        }
    }
}

fn solved(answer: &Answer) -> Markup {
    data(answer.value(Metric::SolvedOfServed, &answer.totals))
}

/// A number for people, with that of a report for programs.
pub fn data(value: Value) -> Markup {
    let text = people::value(value);
    html! {
        @match value {
            Value::Null => (text),
            _ => data value=(value_text(value)) { (text) },
        }
    }
}

/// The same in a table, whose counts are exact as they are shown: they are much of the page.
pub fn cell(value: Value) -> Markup {
    match value {
        Value::Count(count) => html! { (grouped(count)) },
        _ => data(value),
    }
}

fn within<'a>(page: &Page<'a>) -> &'a str {
    page.view.value("solve_within")
}

/// The range that the totals are compared with.
fn compared_with(page: &Page<'_>) -> Markup {
    html! {
        @if let Some(comparison) = page.trend.resolved.comparison {
            span.compared { ", compared with " (people::comparison(page.zone(), comparison.current, comparison.previous, page.trend.resolved.range)) }
        }
    }
}

fn tile(answer: Option<&Answer>, name: &str, metric: Metric, note: Markup) -> Markup {
    let value = answer.map_or(Value::Null, |answer| answer.value(metric, &answer.totals));
    html! {
        div.tile data-metric=(metric.name()) {
            dt { (name) }
            dd.number { (data(value)) }
            dd.change { (answer.map(|answer| change(answer, metric)).unwrap_or_default()) }
            dd.note { (note) }
        }
    }
}

/// The change against the compared range, in words and with an arrow. Its colour only repeats what it says.
fn change(answer: &Answer, metric: Metric) -> Markup {
    let Some([now, before]) = answer.compared_values(metric) else {
        return html! {};
    };
    let Some(change) = now.change_from(before) else {
        return html! {
            @match before {
                Value::Null | Value::Count(0) => span { "nothing to compare with" },
                _ => span { "before: " (people::value(before)) },
            }
        };
    };
    let text = people::change(metric, change);
    let direction = change.total_cmp(&0.0);
    let class = match metric.better() {
        _ if text == "unchanged" => "same",
        None => "same",
        Some(better) if better == direction => "good",
        Some(_) => "bad",
    };
    let arrow = match direction {
        _ if text == "unchanged" => "",
        Ordering::Less => "▼ ",
        _ => "▲ ",
    };
    // The number above may have more than the side that is compared, which ends with a quarter hour.
    let is_other = people::value(now) != people::value(answer.value(metric, &answer.totals));
    html! {
        span class=(class) { span aria-hidden="true" { (arrow) } (text) }
        " from " (people::value(before))
        @if is_other { " to " (people::value(now)) }
    }
}
