//! One number in a line, as a README has it. Pure.

use maud::{Markup, html};
use unicode_width::UnicodeWidthStr as _;

use crate::serve::people;
use crate::statistics::{Answer, Metric};

const HEIGHT: u32 = 20;

/// Pixels of a column of text of 11 pixels, and beside the text. The viewer fits the text to this width.
const COLUMN_WIDTH: f64 = 6.4;
const PADDING: u32 = 7;

pub fn render(answer: &Answer, metric: Metric) -> Markup {
    let (name, value) = (
        people::metric(metric),
        people::value(answer.value(metric, &answer.totals)),
    );
    let text_width = |text: &str| (text.width() as f64 * COLUMN_WIDTH).ceil() as u32;
    let (name_width, value_width) = (text_width(name), text_width(&value));
    let left = name_width + 2 * PADDING;
    let width = left + value_width + 2 * PADDING;
    let range = people::range(answer.query.zone, answer.resolved.range);
    html! {
        svg xmlns="http://www.w3.org/2000/svg" width=(width) height=(HEIGHT) viewBox=(format!("0 0 {width} {HEIGHT}"))
            role="img" aria-labelledby="title" {
            title id="title" { (name) ": " (value) ", " (range) }
            clipPath id="round" { rect width=(width) height=(HEIGHT) rx="3" {} }
            g clip-path="url(#round)" {
                rect width=(left) height=(HEIGHT) fill="#4a5361" {}
                rect x=(left) width=(width - left) height=(HEIGHT) fill="#1f5fbf" {}
            }
            g fill="#ffffff" font-family="Verdana,Geneva,'DejaVu Sans',sans-serif" font-size="11" {
                text x=(PADDING) y="14" textLength=(name_width) { (name) }
                text x=(left + PADDING) y="14" textLength=(value_width) { (value) }
            }
        }
    }
}
