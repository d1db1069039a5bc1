//! The head of the page: which site, which range, and everything else that can be chosen. Pure.

use maud::{Markup, PreEscaped, html};

use super::content::Page;
use super::trend::interval_word;
use super::view::{REFRESH_SECONDS, Sort};
use crate::serve::people;
use crate::serve::reader_sites::Found;
use crate::statistics::ZONE_NAMES;
use crate::statistics::people::LATE_MICROS;

/// The ranges that are one click away.
const NEAR_PERIODS: [(&str, &str); 7] = [
    ("today", "Today"),
    ("yesterday", "Yesterday"),
    ("7d", "7 days"),
    ("28d", "28 days"),
    ("91d", "91 days"),
    ("12mo", "12 months"),
    ("all", "All time"),
];

/// Values of a parameter with their names.
type Choices = &'static [(&'static str, &'static str)];

const PERIODS: Choices = &[
    ("", "the days below"),
    ("today", "today"),
    ("yesterday", "yesterday"),
    ("24h", "24 hours"),
    ("7d", "7 days"),
    ("28d", "28 days"),
    ("30d", "30 days"),
    ("91d", "91 days"),
    ("month", "this month"),
    ("last_month", "last month"),
    ("year", "this year"),
    ("12mo", "12 months"),
    ("all", "all time"),
];

const INTERVALS: Choices = &[
    ("", "automatic"),
    ("hour", "hour"),
    ("day", "day"),
    ("week", "week"),
    ("month", "month"),
];

const COMPARISONS: Choices = &[
    ("previous_period", "the period before"),
    ("previous_week", "the week before"),
    ("year_over_year", "the year before"),
    ("none", "nothing"),
];

const SOLVE_WITHIN: Choices = &[
    ("1m", "1 minute"),
    ("2m", "2 minutes"),
    ("5m", "5 minutes"),
    ("10m", "10 minutes"),
    ("15m", "15 minutes"),
    ("30m", "30 minutes"),
    ("1h", "1 hour"),
    ("2h", "2 hours"),
    ("6h", "6 hours"),
    ("24h", "24 hours"),
];

const WEEK_STARTS: Choices = &[("monday", "Monday"), ("sunday", "Sunday"), ("saturday", "Saturday")];

/// Sites that the field of sites proposes.
const PROPOSED_MAX: usize = 100;

pub fn render(page: &Page<'_>, title: &str) -> Markup {
    html! {
        header {
            p.brand { a href="?" { "captcha" } }
            h1 { bdi { (title) } }
            @if let Some(id) = page.only_site().filter(|site_id| page.sites.name(*site_id).is_some()) {
                p.uuid { code { (id) } }
            }
            (freshness(page))
            nav.periods aria-label="Range" {
                ul {
                    @for (period, name) in NEAR_PERIODS {
                        @let is_current = page.view.value("period") == period;
                        @let changes = [("period", Some(period)), ("from", None), ("to", None), ("interval", None)];
                        li {
                            a href=(page.view.address(&changes)) aria-current=[is_current.then_some("page")] { (name) }
                        }
                    }
                }
            }
            (form(page))
        }
    }
}

/// How far the numbers are complete, in short; the footer has the rest.
fn freshness(page: &Page<'_>) -> Markup {
    let late = page
        .complete_through_micros()
        .map(|through| (page.now_micros - through) / 60_000_000);
    html! {
        p.freshness {
            @match page.complete_through_micros() {
                None => strong.late { "It is not known yet how far these numbers are complete." },
                Some(through) if page.now_micros - through > LATE_MICROS => strong.late {
                    "Complete only through " (people::moment(page.zone(), through)) ", "
                    (late.unwrap_or_default()) " min ago. " code { "captcha consume" } " is behind or not running."
                },
                Some(through) => {
                    "Complete through " time datetime=(page.zone().text(through)) { (people::moment(page.zone(), through)) }
                    " " (page.zone().name())
                }
            }
            @if let Some(seconds) = page.view.refresh_seconds {
                " · refreshes every " (seconds) " s · " a href=(page.view.address(&[("refresh", None)])) { "stop" }
            }
        }
    }
}

fn form(page: &Page<'_>) -> Markup {
    let view = page.view;
    html! {
        form method="get" action="" role="search" aria-label="What to show" {
            (site_field(page))
            @if view.sort != Sort::DEFAULT { input type="hidden" name="sort" value=(view.sort.text()); }
            details.more open[view.value("period").is_empty()] {
                summary { (settings(page)) }
                div.fields {
                    (select("period", "Range", PERIODS, view.value("period")))
                    (day_field(view.value("from"), "from", "From"))
                    (day_field(view.value("to"), "to", "To (not included)"))
                    (select("interval", "Interval", INTERVALS, view.value("interval")))
                    (zone_field(view.value("timezone")))
                    (select("compare", "Compare with", COMPARISONS, view.value("compare")))
                    (select("solve_within", "Solved within", SOLVE_WITHIN, view.value("solve_within")))
                    (select("week_start", "Weeks begin on", WEEK_STARTS, view.value("week_start")))
                    (refresh_field(view.refresh_seconds))
                    button type="submit" { "Show" }
                }
            }
        }
    }
}

/// All that is chosen, in one line.
fn settings(page: &Page<'_>) -> String {
    let view = page.view;
    let name = |choices: Choices, value: &str| {
        let found = choices.iter().find(|(choice, _)| *choice == value);
        found.map_or_else(|| value.to_string(), |(_, name)| name.to_string())
    };
    let range = match view.value("period") {
        "" => people::range(page.zone(), page.trend.resolved.range),
        period => name(PERIODS, period),
    };
    let compared = match page.trend.query.compare {
        Some(_) => format!(", compared with {}", name(COMPARISONS, view.value("compare"))),
        None => String::new(),
    };
    let by = interval_word(page.interval());
    let within = name(SOLVE_WITHIN, view.value("solve_within"));
    format!(
        "{range} by {by}, {}, solved within {within}{compared}",
        page.zone().name()
    )
}

fn site_field(page: &Page<'_>) -> Markup {
    let chosen = page.view.site_ids();
    let value = match (&page.view.search, &chosen[..]) {
        (Some(search), _) => search.clone(),
        // A name that several sites have would find all of them.
        (None, [site_id]) => match page.sites.find(&page.sites.title(*site_id), std::iter::empty()) {
            Found::One(found) if found == *site_id => page.sites.title(*site_id),
            _ => site_id.to_string(),
        },
        (None, _) => String::new(),
    };
    let mut proposed = page.sites.named();
    proposed.truncate(PROPOSED_MAX);
    let with_rows = page.by_site.as_ref().ok().into_iter().flat_map(|answer| answer.rows());
    let unnamed = with_rows
        .filter_map(|row| row.site_id)
        .filter(|site_id| page.sites.name(*site_id).is_none());
    let room = PROPOSED_MAX - proposed.len();
    html! {
        div.site-field {
            label for="site" { "Site" }
            input #site type="search" name="site" value=(value) list="sites" autocomplete="off"
                placeholder=(if chosen.len() > 1 { "several sites" } else { "all sites" });
            datalist #sites {
                @for (name, id) in &proposed { option value=(name) { (id) } }
                @for id in unnamed.take(room) { option value=(id) {} }
            }
            @if chosen.len() > 1 {
                @for id in &chosen { input type="hidden" name="site_id" value=(id); }
            }
            button type="submit" { "Find" }
            @if !chosen.is_empty() {
                a.all href=(page.view.address(&[("site_id", None)])) { "all sites" }
            }
        }
    }
}

fn select(name: &str, label: &str, choices: Choices, chosen: &str) -> Markup {
    html! {
        label {
            span { (label) }
            select name=(name) {
                @for (value, text) in choices {
                    option value=(value) selected[*value == chosen] { (text) }
                }
            }
        }
    }
}

fn day_field(value: &str, name: &str, label: &str) -> Markup {
    // An instant is no day, and stays as it was written.
    let kind = if value.len() > 10 { "text" } else { "date" };
    html! {
        label { span { (label) } input type=(kind) name=(name) value=(value); }
    }
}

fn zone_field(chosen: &str) -> Markup {
    html! {
        label {
            span { "Time zone" }
            select name="timezone" {
                @if !ZONE_NAMES.contains(&chosen) { option selected { (chosen) } }
                @for name in ZONE_NAMES.iter() {
                    // HTML needs no end of an option. With it, 500 of them are 4 kB more.
                    @if *name == chosen { option selected { (name) } } @else { (PreEscaped("<option>")) (name) }
                }
            }
        }
    }
}

fn refresh_field(chosen: Option<&str>) -> Markup {
    html! {
        label {
            span { "Refresh" }
            select name="refresh" {
                option value="" selected[chosen.is_none()] { "by hand" }
                @for seconds in REFRESH_SECONDS {
                    option value=(seconds) selected[chosen == Some(seconds)] { "every " (seconds) " s" }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::view::View;
    use super::*;

    #[test]
    fn every_choice_is_an_answer() {
        let near = NEAR_PERIODS.map(|(period, _)| ("period", period));
        let named = |name, choices: Choices| choices.iter().map(move |(value, _)| (name, *value));
        let all = named("period", PERIODS)
            .chain(named("interval", INTERVALS))
            .chain(named("compare", COMPARISONS))
            .chain(named("solve_within", SOLVE_WITHIN))
            .chain(named("week_start", WEEK_STARTS));
        for (name, value) in all.chain(near) {
            assert!(View::parse(&format!("{name}={value}")).is_ok(), "{name}={value}");
        }
        for zone in ZONE_NAMES.iter() {
            assert!(View::parse(&format!("timezone={zone}")).is_ok(), "{zone}");
        }
    }
}
