//! A report as a picture: its title, a few numbers, and the chart. Pure.

use maud::{Markup, html};
use unicode_width::UnicodeWidthChar as _;

use super::palette;
use super::query::PictureQuery;
use crate::serve::chart::{self, Bucket, Trend};
use crate::serve::people;
use crate::statistics::{Answer, Metric};

const WIDTH: u32 = 720;
const HEIGHT: u32 = 346;

/// The edge of what is shown.
const MARGIN: u32 = 24;

/// The chart, between its two axes.
const PLOT: (u32, u32, u32, u32) = (64, 142, 592, 140);

/// The font of the title, and about how wide its letters are in parts of its size: capitals such as W are the widest.
const TITLE_SIZE: f64 = 17.0;
const WIDE_LETTER: f64 = 0.95;
const CAPITAL: f64 = 0.72;
const LETTER: f64 = 0.58;

const LABELS_MAX: usize = 7;

pub fn render(picture: &PictureQuery, answer: &Answer, title: &str) -> Markup {
    let trend = Trend::of(answer);
    let zone = answer.query.zone;
    let range = people::range(zone, answer.resolved.range);
    let below = format!("{range} · {}", zone.name());
    let title = cut(title, f64::from(WIDTH - 2 * MARGIN));
    html! {
        svg xmlns="http://www.w3.org/2000/svg" width=(WIDTH) height=(HEIGHT) viewBox=(format!("0 0 {WIDTH} {HEIGHT}"))
            role="img" aria-labelledby="title text" {
            title id="title" { (title) ": challenges and solve rate, " (below) }
            desc id="text" { (description(picture, answer)) }
            style { (palette::style(picture.theme)) }
            rect.page x="0.5" y="0.5" width=(WIDTH - 1) height=(HEIGHT - 1) rx="10" {}
            text x=(MARGIN) y="36" font-size=(TITLE_SIZE) font-weight="600" { (title) }
            text.soft x=(MARGIN) y="56" font-size="12" { (below) }
            (numbers(picture, answer))
            @if answer.totals.served == 0 && answer.totals.challenges == 0 {
                text.soft x=(WIDTH / 2) y="216" font-size="14" text-anchor="middle" { "No events in this range" }
            } @else {
                (plot(&trend, answer))
            }
            (legend(&trend, answer))
        }
    }
}

/// The picture in words.
fn description(picture: &PictureQuery, answer: &Answer) -> String {
    let numbers = picture.metrics.iter().map(|metric| {
        let value = people::value(answer.value(*metric, &answer.totals));
        format!("{}: {value}", people::metric(*metric))
    });
    let numbers: Vec<_> = numbers.collect();
    format!("{}. {}.", numbers.join(", "), completeness(answer))
}

fn completeness(answer: &Answer) -> String {
    match answer.complete_through_micros {
        Some(through) => {
            let zone = answer.query.zone;
            format!("Complete through {} {}", people::moment(zone, through), zone.name())
        }
        None => "Not known to be complete".to_string(),
    }
}

fn numbers(picture: &PictureQuery, answer: &Answer) -> Markup {
    let place = (WIDTH - 2 * MARGIN) / picture.metrics.len().max(3) as u32;
    html! {
        @for (index, metric) in (0..).zip(&picture.metrics) {
            @let x = MARGIN + index * place;
            text x=(x) y="88" font-size="21" font-weight="600" { (people::value(answer.value(*metric, &answer.totals))) }
            text.soft x=(x) y="106" font-size="12" { (people::metric(*metric)) }
            @if let Some(change) = change(answer, *metric) {
                text.soft x=(x) y="122" font-size="12" { (change) }
            }
        }
    }
}

/// The change against the compared range.
fn change(answer: &Answer, metric: Metric) -> Option<String> {
    let [now, before] = answer.compared_values(metric)?;
    Some(people::change(metric, now.change_from(before)?))
}

fn plot(trend: &Trend, answer: &Answer) -> Markup {
    let (left, top, width, height) = PLOT;
    let (zone, interval) = (answer.query.zone, answer.query.interval);
    let y = |part: f64| format!("{:.1}", f64::from(top) + f64::from(height) * (1.0 - part) + 4.0);
    let count = trend.buckets.len().max(1) as f64;
    let x = |index: usize| {
        format!(
            "{:.1}",
            f64::from(left) + f64::from(width) * (index as f64 + 0.5) / count
        )
    };
    let mut before = None;
    html! {
        svg x=(left) y=(top) width=(width) height=(height) overflow="visible" { (chart::drawing(trend, width, height)) }
        g.soft font-size="11" {
            text.soft x=(left - 8) y=(y(0.0)) text-anchor="end" { "0" }
            @for tick in &trend.ticks {
                text.soft x=(left - 8) y=(y(trend.part(*tick))) text-anchor="end" { (people::short_count(*tick)) }
            }
            @for (part, text) in [(0.0, "0%"), (0.5, "50%"), (1.0, "100%")] {
                text.soft x=(left + width + 8) y=(y(part)) { (text) }
            }
            @for index in trend.labels(LABELS_MAX) {
                @let start = trend.buckets[index].start;
                text.soft x=(x(index)) y=(top + height + 18) text-anchor="middle" {
                    (people::tick(zone, interval, start, before.replace(start)))
                }
            }
        }
    }
}

/// The entries of a legend begin this far from each other: a swatch, and a short word.
const ENTRY_WIDTH: u32 = 76;

fn legend(trend: &Trend, answer: &Answer) -> Markup {
    let y = HEIGHT - 18;
    let has_pending = trend.buckets.iter().any(|bucket| bucket.pending > 0);
    let entries = [
        Some(("solved", "solved")),
        Some(("unsolved", "unsolved")),
        has_pending.then_some(("pending", "pending")),
        Some(("rate", "solve rate")),
        trend
            .buckets
            .iter()
            .any(Bucket::is_partial)
            .then_some(("solved partial", "not finished")),
    ];
    html! {
        g font-size="11" {
            @for (index, (class, name)) in (0..).zip(entries.into_iter().flatten()) {
                @let x = MARGIN + index * ENTRY_WIDTH;
                @match class {
                    "rate" => path.rate d=(format!("M{x} {}h10", y - 4)) {},
                    _ => rect class=(class) x=(x) y=(y - 9) width="10" height="10" {},
                }
                text.soft x=(x + 15) y=(y) { (name) }
            }
            text.soft x=(WIDTH - MARGIN) y=(y) text-anchor="end" { (completeness(answer)) }
        }
    }
}

/// A title that takes at most about this many pixels.
fn cut(text: &str, width: f64) -> String {
    let size = |letter: char| {
        let parts = match letter {
            'W' | 'M' | '@' | '%' => WIDE_LETTER,
            _ if letter.width() == Some(2) => 2.0 * LETTER,
            _ if letter.is_uppercase() => CAPITAL,
            _ => LETTER,
        };
        parts * TITLE_SIZE
    };
    if text.chars().map(size).sum::<f64>() <= width {
        return text.to_string();
    }
    let mut taken = size('…');
    let kept = text.chars().take_while(|letter| {
        taken += size(*letter);
        taken <= width
    });
    kept.collect::<String>() + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_title_is_cut_where_it_does_not_fit() {
        assert_eq!(cut("Shop", 45.0), "Shop");
        assert_eq!(cut("Shops", 45.0), "Sho…");
        assert_eq!(cut("日本語", 55.0), "日本…");
        assert!(cut(&"W".repeat(80), 672.0).chars().count() < 45);
        assert_eq!(cut(&"i".repeat(60), 672.0).chars().count(), 60);
    }
}
