//! The page: its head, and its parts from the top to the bottom. Pure.

use maud::{DOCTYPE, Markup, html};
use uuid::Uuid;

use super::content::{NewestDay, Page};
use super::{controls, distribution, footer, site_table, tiles, trend};
use crate::serve::chart::Trend;
use crate::serve::people;
use crate::statistics::Zone;

pub fn render(page: &Page<'_>) -> Markup {
    let title = page.sites.title_of(&page.view.site_ids());
    let trend = Trend::of(page.trend);
    let range = people::range(page.zone(), page.trend.resolved.range);
    document(
        page.folder,
        &title,
        html! {
            (controls::render(page, &title))
            main {
                (notices(page, &trend))
                @if let Some(newest) = page.newest {
                    (nothing(page, newest, &range))
                } @else {
                    (tiles::render(page, &range))
                    (trend::render(page, &trend))
                    div.columns {
                        (distribution::render(page))
                        @if page.only_site().is_none() {
                            (site_table::render(page))
                        }
                    }
                }
            }
            (footer::render(page))
        },
    )
}

/// A whole document.
pub fn document(folder: &str, title: &str, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { (title) " · captcha" }
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                link rel="icon" href=(ICON);
                link rel="stylesheet" href=(format!("{folder}dashboard.css"));
            }
            body { (body) }
        }
    }
}

/// The mark of the documentation, too.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Crect \
    width='16' height='16' rx='3' fill='%23275dad'/%3E%3Cpath d='M4 8.5l3 3 5-6.5' fill='none' stroke='%23fff' \
    stroke-width='2'/%3E%3C/svg%3E";

/// Notices for the reader, before the numbers.
fn notices(page: &Page<'_>, trend: &Trend) -> Markup {
    html! {
        @if let Some(found) = &page.found {
            div.notice role="status" {
                @if found.is_empty() {
                    p { "No site matches. Enter a name, a part of a name, or a whole UUID." }
                } @else {
                    p { "Several sites fit. Which one?" }
                    ul.found {
                        @for site_id in found {
                            @let id = site_id.to_string();
                            li {
                                a href=(page.view.address(&[("site_id", Some(&id))])) {
                                    bdi { (page.sites.title(*site_id)) }
                                }
                                @if page.sites.name(*site_id).is_some() { " " code { (id) } }
                            }
                        }
                    }
                }
            }
        }
        @if trend.has_gaps {
            div.notice role="status" {
                p {
                    "The first and the last event are too far apart for one chart, so it shows no bars for times without "
                    "events"
                    @if trend.left_out > 0 { ", and leaves out the oldest " (trend.left_out) " with events" }
                    ". The totals have everything. Choose a shorter range to see more."
                }
            }
        }
        @if page.is_coarser {
            div.notice role="status" {
                p { "The range has too many bars at the chosen interval, so the chart uses a longer one." }
            }
        }
    }
}

/// In place of the numbers where nothing was counted.
fn nothing(page: &Page<'_>, newest: NewestDay, range: &str) -> Markup {
    let of = match page.view.site_ids()[..] {
        [] => "",
        [_] => " of this site",
        _ => " of these sites",
    };
    html! {
        section.nothing {
            @match newest {
                NewestDay::Day(day) => {
                    @let next = day.succ_opt().unwrap_or(day).to_string();
                    @let day_text = day.to_string();
                    @let there = [
                        ("from", Some(day_text.as_str())), ("to", Some(next.as_str())), ("period", None), ("interval", None),
                    ];
                    h2 { "No events" (of) " in this range" }
                    p { "Nothing was served or solved: " (range) "." }
                    p {
                        "The newest day with events" (of) " is "
                        a href=(page.view.address(&there)) { (people::date(day)) }
                        ", and "
                        a href=(page.view.address(&[
                            ("period", Some("all")), ("from", None), ("to", None), ("interval", None),
                        ])) { "all time" }
                        " shows everything."
                    }
                }
                NewestDay::None => {
                    h2 { "No events" (of) " yet" }
                    p {
                        "Send the first ones: a " code { "serve" } " when a challenge is shown, and a " code { "solve" }
                        " with the same " code { "correlation_id" } " when it is solved. They appear within a second."
                    }
                    pre tabindex="0" { code { (example(page)) } }
                    p {
                        a href=(format!("{}docs", page.folder)) { "The API" }
                        " has all ways to send events"
                        @if !page.view.site_ids().is_empty() {
                            ", and " a href=(page.view.address(&[("site_id", None)])) { "all sites" }
                            " shows whether other sites have events"
                        }
                        "."
                    }
                }
            }
        }
    }
}

/// A command that sends a challenge of a minute ago, and its solve: it can be pasted into a shell as it is.
fn example(page: &Page<'_>) -> String {
    const SITE: Uuid = Uuid::from_u128(0x6f1c_1f2e_3d0b_4c5a_9b0e_2f4b_8f3f_7a01);
    const SECOND_MICROS: i64 = 1_000_000;
    let event = |kind: &str, seconds_ago: i64| {
        let time = Zone::default().text(page.now_micros / SECOND_MICROS * SECOND_MICROS - seconds_ago * SECOND_MICROS);
        let site_id = page.only_site().or(page.example_site).unwrap_or(SITE);
        let id = page.example_id;
        format!(r#"{{"site_id": "{site_id}", "type": "{kind}", "correlation_id": "{id}", "time": "{time}"}}"#)
    };
    let (serve, solve) = (event("serve", 60), event("solve", 55));
    let (host, scheme) = (page.host, if page.setting.has_tls { "https" } else { "http" });
    let key = match page.setting.has_keys {
        true => " -H 'Authorization: Bearer WRITE_KEY'",
        false => "",
    };
    format!(
        "curl -sS {scheme}://{host}/v1/events{key} -H 'Content-Type: application/json' -d '[\n  {serve},\n  {solve}\n]'"
    )
}

/// A name or an address with a port, which is safe in a shell; any other host is one that nobody has.
pub fn shown_host(host: Option<&str>) -> &str {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || ".:-[]".contains(c);
    let is_host = |host: &&str| !host.is_empty() && host.chars().all(is_safe);
    host.filter(is_host).unwrap_or("127.0.0.1:8000")
}
