//! The text of a row.

use std::io::Write as _;

use crate::statistics::answer::{Answer, Row};
use crate::statistics::buckets::{Buckets, Interval};
use crate::statistics::choice::Choice as _;
use crate::statistics::metrics::Value;
use crate::statistics::parameters::By;

/// The date and the start of a bucket; `None` where it has none.
pub type Texts = (Option<String>, Option<String>);

pub fn texts(answer: &Answer, buckets: &Buckets, bucket: i64) -> Texts {
    let date = (answer.query.interval != Interval::All).then(|| buckets.date(bucket).to_string());
    let start = (bucket != i64::MIN).then(|| buckets.start_text(bucket));
    (date, start)
}

// Writing to memory cannot fail.

/// A row as an object. Neither names nor texts have anything to escape.
pub fn write_object(out: &mut Vec<u8>, answer: &Answer, (date, start): &Texts, row: &Row<'_>) {
    out.extend_from_slice(b"{\"date\":");
    write_text(out, date.as_deref());
    out.extend_from_slice(b",\"start\":");
    write_text(out, start.as_deref());
    if answer.query.by == By::Site {
        let _ = match row.site_id {
            Some(site_id) => write!(out, ",\"site_id\":\"{site_id}\""),
            None => write!(out, ",\"site_id\":null"),
        };
    }
    for metric in &answer.columns {
        let _ = write!(out, ",\"{}\":", metric.name());
        write_value(out, answer.value(*metric, row.counts), "null");
    }
    out.push(b'}');
}

pub(super) fn write_text(out: &mut Vec<u8>, text: Option<&str>) {
    let _ = match text {
        Some(text) => write!(out, "\"{text}\""),
        None => write!(out, "null"),
    };
}

/// A row of CSV. None of its texts has a comma or a quote.
pub fn write_cells(out: &mut Vec<u8>, answer: &Answer, (date, start): &Texts, row: &Row<'_>) {
    let texts = (
        date.as_deref().unwrap_or_default(),
        start.as_deref().unwrap_or_default(),
    );
    let _ = write!(out, "{},{}", texts.0, texts.1);
    if answer.query.by == By::Site {
        out.push(b',');
        let _ = row.site_id.map(|site_id| write!(out, "{site_id}"));
    }
    for metric in &answer.columns {
        out.push(b',');
        write_value(out, answer.value(*metric, row.counts), "");
    }
}

/// The texts of a row under the header of the answer, for a table.
pub fn cells(answer: &Answer, row: &Row<'_>) -> Vec<String> {
    let mut line = Vec::new();
    write_cells(
        &mut line,
        answer,
        &texts(answer, &answer.query.buckets(), row.bucket),
        row,
    );
    let line = String::from_utf8_lossy(&line);
    line.split(',').map(str::to_string).collect()
}

/// The texts of the totals under the header of the answer, for a table.
pub fn total_cells(answer: &Answer) -> Vec<String> {
    let site_id = (answer.query.by == By::Site).then(String::new);
    let totals = answer
        .columns
        .iter()
        .map(|metric| answer.value(*metric, &answer.totals));
    let values = totals.map(value_text);
    ["total".to_string(), String::new()]
        .into_iter()
        .chain(site_id)
        .chain(values)
        .collect()
}

/// A value as all formats write it; nothing for null.
pub fn value_text(value: Value) -> String {
    let mut text = Vec::new();
    write_value(&mut text, value, "");
    String::from_utf8_lossy(&text).into_owned()
}

pub fn write_value(out: &mut Vec<u8>, value: Value, null: &str) {
    let _ = match value {
        Value::Count(count) => write!(out, "{count}"),
        Value::Rate(rate) => write!(out, "{}", rounded(rate, 6)),
        Value::Seconds(seconds) => write!(out, "{}", four_digits(seconds)),
        Value::Null => write!(out, "{null}"),
    };
}

/// With at most this number of decimals.
pub fn rounded(number: f64, decimals: i32) -> f64 {
    let scale = 10.0_f64.powi(decimals);
    let rounded = (number * scale).round() / scale;
    // Not -0.
    rounded + 0.0
}

/// With four significant digits: three would add half a per cent to the error of a quantile.
fn four_digits(number: f64) -> f64 {
    format!("{number:.3e}").parse().unwrap_or(number)
}
