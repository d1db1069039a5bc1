//! The foot of the page: how complete the numbers are, what they mean, and the same numbers in other forms. Pure.

use maud::{Markup, html};

use super::content::Page;
use super::trend::interval_word;
use crate::serve::chart;
use crate::serve::people;
use crate::statistics::{Choice as _, Metric};

pub fn render(page: &Page<'_>) -> Markup {
    let address = |path: &str, more: &[(&str, &str)]| {
        let query = page.view.report_address(interval_word(page.interval()), more);
        format!("{}{path}?{query}", page.folder)
    };
    let metrics = chart::METRICS.map(Metric::name).join(",");
    let by_time = |format: &str| address("report", &[("by", "none"), ("metrics", &metrics), ("format", format)]);
    let by_site = address("report", &[("by", "site"), ("metrics", &metrics), ("format", "csv")]);
    html! {
        footer {
            section {
                h2 { "How complete this is" }
                p { (completeness(page)) }
            }
            section {
                h2 { "What the numbers mean" }
                dl.meanings {
                    dt { "Challenges" } dd { "shown to visitors, each counted once, at the time it was first served." }
                    dt { "Solved" } dd { "of these, the ones solved within " (page.view.value("solve_within")) "." }
                    dt { "Unsolved" } dd { "not solved in time; a solve would now be late." }
                    dt { "Pending" } dd { "shown so recently that a solve may still come." }
                    dt { "Solve rate" } dd { "solved / challenges. It rises while challenges are pending." }
                    dt { "Time to solve" } dd { "from serve to solve, by the clocks of the senders." }
                }
            }
            section {
                h2 { "Other formats" }
                ul.links {
                    li { a href=(by_time("csv")) { "CSV of the chart" } }
                    li { a href=(by_site) { "CSV of the sites" } }
                    li { a href=(by_time("json")) { "JSON" } }
                    li { a href=(address("report.svg", &[])) { "this chart as a picture" } }
                    li { a href=(format!("{}docs", page.folder)) { "the API" } }
                }
            }
            p.version { "captcha " (env!("CARGO_PKG_VERSION")) }
        }
    }
}

fn completeness(page: &Page<'_>) -> Markup {
    html! {
        @match page.complete_through_micros() {
            Some(through) => {
                "Every event that was confirmed before " (people::moment(page.zone(), through)) " (" (page.zone().name())
                ") is counted, once. Later ones may be counted too. An event that arrives late is counted on its own day, so "
                "no day is ever final."
            }
            None => {
                "A partition was never read to its end, or no topic is consumed, so it is not known how many events "
                "are missing. " code { "captcha consume" } " must run."
            }
        }
    }
}
