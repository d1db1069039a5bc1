//! The sites, ordered by any column. Pure.

use std::cmp::Ordering;

use maud::{Markup, html};
use uuid::Uuid;

use super::content::Page;
use super::tiles::cell;
use super::view::SiteColumn;
use crate::serve::chart;
use crate::statistics::{Answer, Counts, Metric, Value};

pub fn render(page: &Page<'_>) -> Markup {
    html! {
        section.sites {
            h2 { "Sites" }
            @match &page.by_site {
                Err(reason) => p.missing { "These numbers are missing: " (reason) },
                Ok(answer) => (table(page, answer)),
            }
        }
    }
}

/// A row of the table.
struct Site<'a> {
    /// `None`: all others in one.
    site_id: Option<Uuid>,
    title: String,
    counts: &'a Counts,
}

fn table(page: &Page<'_>, answer: &Answer) -> Markup {
    let (mut sites, rest): (Vec<_>, Vec<_>) = answer
        .rows()
        .map(|row| Site {
            site_id: row.site_id,
            title: row.site_id.map(|site_id| page.sites.title(site_id)).unwrap_or_default(),
            counts: row.counts,
        })
        .partition(|site| site.site_id.is_some());
    sites.sort_by(|one, other| {
        let order = compare(answer, page.view.sort.column, one, other);
        let order = if page.view.sort.is_descending {
            order.reverse()
        } else {
            order
        };
        order.then_with(|| one.site_id.cmp(&other.site_id))
    });
    let most = sites
        .iter()
        .map(|site| site.counts.challenges)
        .max()
        .unwrap_or(0)
        .max(1) as f64;
    let has_rest = !rest.is_empty();
    html! {
        div.scroll tabindex="0" role="region" aria-label="Numbers of each site" {
            table {
                caption.hidden { "Numbers of each site over the whole range" }
                thead {
                    tr {
                        @for column in SiteColumn::ALL { (head(page, column)) }
                    }
                }
                tbody {
                    @for site in sites.iter().chain(&rest) { (row(page, answer, site, most)) }
                }
            }
        }
        @if has_rest {
            p.aside { "The " (sites.len()) " sites with most serves, and all others in one row." }
        }
    }
}

fn compare(answer: &Answer, column: SiteColumn, one: &Site<'_>, other: &Site<'_>) -> Ordering {
    let number = |site: &Site<'_>, metric| match answer.value(metric, site.counts) {
        Value::Count(count) => count as f64,
        Value::Rate(number) | Value::Seconds(number) => number,
        Value::Null => -1.0,
    };
    let by = |metric| number(one, metric).total_cmp(&number(other, metric));
    match column {
        SiteColumn::Name => one.title.to_lowercase().cmp(&other.title.to_lowercase()),
        SiteColumn::Challenges => by(Metric::Challenges),
        SiteColumn::SolveRate => by(Metric::SolveRate),
        SiteColumn::SolveTime => by(Metric::SolveTimeP50),
        SiteColumn::Unsolved => by(Metric::Unsolved),
    }
}

fn head(page: &Page<'_>, column: SiteColumn) -> Markup {
    let sort = page.view.sort;
    let next = sort.after_click(column).text();
    let is_number = column != SiteColumn::Name;
    let (state, arrow) = match (sort.column == column, sort.is_descending) {
        (false, _) => (None, ""),
        (true, true) => (Some("descending"), " ▼"),
        (true, false) => (Some("ascending"), " ▲"),
    };
    let name = match column {
        SiteColumn::Name => "site",
        SiteColumn::Challenges => "challenges",
        SiteColumn::SolveRate => "solve rate",
        SiteColumn::SolveTime => "median time",
        SiteColumn::Unsolved => "unsolved",
    };
    let next = Some(next.as_str()).filter(|next| *next != super::view::Sort::DEFAULT.text());
    html! {
        th scope="col" class=[is_number.then_some("number")] aria-sort=[state] {
            a href=(page.view.address(&[("sort", next)])) { (name) span aria-hidden="true" { (arrow) } }
        }
    }
}

fn row(page: &Page<'_>, answer: &Answer, site: &Site<'_>, most: f64) -> Markup {
    let value = |metric| answer.value(metric, site.counts);
    let id = site.site_id.map(|site_id| site_id.to_string());
    let has_name = site.site_id.is_some_and(|site_id| page.sites.name(site_id).is_some());
    let rate = match value(Metric::SolveRate) {
        Value::Rate(rate) => rate,
        _ => 0.0,
    };
    html! {
        tr data-site=[id.as_deref()] {
            th scope="row" {
                @match &id {
                    None => "all others",
                    Some(id) => a href=(page.view.address(&[("site_id", Some(id))])) {
                        @if has_name { bdi { (site.title) } } @else { code { (id) } }
                    },
                }
            }
            td {
                (cell(value(Metric::Challenges)))
                @if site.site_id.is_some() { (chart::bar(site.counts.challenges as f64 / most, "challenges")) }
            }
            td { (cell(value(Metric::SolveRate))) (chart::bar(rate, "solved")) }
            td { (cell(value(Metric::SolveTimeP50))) }
            td { (cell(value(Metric::Unsolved))) }
        }
    }
}
