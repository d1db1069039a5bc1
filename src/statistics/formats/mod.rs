//! Answers as JSON, NDJSON and CSV, made piece by piece while they are sent.

use std::io::Write as _;
use std::sync::Arc;

use serde_json::json;

use super::answer::{Answer, Position, Row};
use super::buckets::{Buckets, Interval};
use super::choice::Choice as _;
use super::counts::Counts;
use super::instant::millis_text;
use super::metrics::{Metric, Value};
use super::parameters::{By, Fill};
use super::period::{Range, RangeChoice};

/// The longest text of a row: 16 metrics with their names, a UUID, a date and an instant.
pub const ROW_TEXT_BYTES_MAX: usize = 1024;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One object: rows, totals, comparison, and how the question was read.
    Json,
    /// A row a line, as in the object.
    NdJson,
    /// A header and rows.
    Csv(LineBreak),
}

/// The end of a line of CSV.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineBreak {
    /// As RFC 4180 has it.
    CrLf,
    /// As files and pipes have it.
    Lf,
}

/// Writes an answer in pieces.
pub struct Writer {
    answer: Arc<Answer>,
    format: Format,
    buckets: Buckets,
    position: Position,
    stage: Stage,
    /// The texts of the bucket that was written last: `date` and `start`.
    bucket: Option<(i64, Texts)>,
    shows_complete_through: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    FirstRow,
    Rows,
    Written,
}

/// The date and the start of a bucket; `None` where it has none.
type Texts = (Option<String>, Option<String>);

impl Writer {
    /// Writes an answer from its beginning.
    pub fn new(answer: Arc<Answer>, format: Format) -> Writer {
        Writer {
            buckets: answer.query.buckets(),
            answer,
            format,
            position: Position::default(),
            stage: Stage::Head,
            bucket: None,
            shows_complete_through: true,
        }
    }

    /// Leaves out `complete_through`, which differs when nothing else does.
    #[must_use]
    pub fn without_complete_through(mut self) -> Writer {
        self.shows_complete_through = false;
        self
    }

    /// Whether all of it is written.
    pub fn is_written(&self) -> bool {
        self.stage == Stage::Written
    }

    /// Writes the next piece, which ends with the row that makes it this long or with the answer; `None` at the end.
    pub fn next_piece(&mut self, bytes: usize) -> Option<Vec<u8>> {
        if self.is_written() {
            return None;
        }
        let mut piece = Vec::with_capacity(bytes.min(self.answer.row_count() * 128) + ROW_TEXT_BYTES_MAX);
        if self.stage == Stage::Head {
            self.write_head(&mut piece);
            self.stage = Stage::FirstRow;
        }
        let answer = Arc::clone(&self.answer);
        while piece.len() < bytes {
            let Some(row) = answer.next_row(&mut self.position) else {
                self.write_tail(&mut piece);
                self.stage = Stage::Written;
                break;
            };
            self.write_row(&mut piece, &answer, &row);
            self.stage = Stage::Rows;
        }
        Some(piece)
    }

    fn write_head(&self, out: &mut Vec<u8>) {
        match self.format {
            Format::Json => out.extend_from_slice(b"{\"counters\":["),
            Format::NdJson => {}
            Format::Csv(line_break) => {
                out.extend_from_slice(self.answer.header().join(",").as_bytes());
                out.extend_from_slice(line_break.bytes());
            }
        }
    }

    fn write_row(&mut self, out: &mut Vec<u8>, answer: &Answer, row: &Row<'_>) {
        if self.format == Format::Json && self.stage == Stage::Rows {
            out.push(b',');
        }
        let format = self.format;
        let texts = self.texts(row.bucket);
        match format {
            Format::Json => write_object(out, answer, texts, row),
            Format::NdJson => {
                write_object(out, answer, texts, row);
                out.push(b'\n');
            }
            Format::Csv(line_break) => {
                write_cells(out, answer, texts, row);
                out.extend_from_slice(line_break.bytes());
            }
        }
    }

    fn texts(&mut self, bucket: i64) -> &Texts {
        let known = self.bucket.take().filter(|(known, _)| *known == bucket);
        let known = known.unwrap_or_else(|| (bucket, texts(&self.answer, &self.buckets, bucket)));
        &self.bucket.insert(known).1
    }

    fn write_tail(&self, out: &mut Vec<u8>) {
        if self.format != Format::Json {
            return;
        }
        let answer = &self.answer;
        out.extend_from_slice(b"],\"totals\":");
        write_totals(out, answer, &answer.totals, Answer::value);
        let partial = answer
            .partial
            .iter()
            .map(|start| texts(answer, &self.buckets, *start).1);
        let _ = write!(out, ",\"partial\":{}", json!(partial.collect::<Vec<_>>()));
        if answer.query.compare.is_some() {
            out.extend_from_slice(b",\"comparison\":");
            write_comparison(out, answer);
        }
        let _ = write!(out, ",\"query\":{}", resolved_query(answer));
        if self.shows_complete_through {
            let through = answer.complete_through_micros.map(millis_text);
            let _ = write!(out, ",\"complete_through\":{}", json!(through));
        }
        out.extend_from_slice(b"}\n");
    }
}

impl LineBreak {
    fn bytes(self) -> &'static [u8] {
        match self {
            LineBreak::CrLf => b"\r\n",
            LineBreak::Lf => b"\n",
        }
    }
}

fn texts(answer: &Answer, buckets: &Buckets, bucket: i64) -> Texts {
    let date = (answer.query.interval != Interval::All).then(|| buckets.date(bucket).to_string());
    let start = (bucket != i64::MIN).then(|| buckets.start_text(bucket));
    (date, start)
}

// Writing to memory cannot fail.

/// A row as an object. Neither names nor texts have anything to escape.
fn write_object(out: &mut Vec<u8>, answer: &Answer, (date, start): &Texts, row: &Row<'_>) {
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

fn write_text(out: &mut Vec<u8>, text: Option<&str>) {
    let _ = match text {
        Some(text) => write!(out, "\"{text}\""),
        None => write!(out, "null"),
    };
}

/// A row of CSV. None of its texts has a comma or a quote.
fn write_cells(out: &mut Vec<u8>, answer: &Answer, (date, start): &Texts, row: &Row<'_>) {
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
    let values = answer.columns.iter().map(|metric| {
        let mut text = Vec::new();
        write_value(&mut text, answer.value(*metric, &answer.totals), "");
        String::from_utf8_lossy(&text).into_owned()
    });
    ["total".to_string(), String::new()].into_iter().chain(site_id).chain(values).collect()
}

fn write_value(out: &mut Vec<u8>, value: Value, null: &str) {
    let _ = match value {
        Value::Count(count) => write!(out, "{count}"),
        Value::Rate(rate) => write!(out, "{}", rounded(rate, 6)),
        Value::Seconds(seconds) => write!(out, "{}", four_digits(seconds)),
        Value::Null => write!(out, "{null}"),
    };
}

/// With at most this number of decimals.
fn rounded(number: f64, decimals: i32) -> f64 {
    let scale = 10.0_f64.powi(decimals);
    let rounded = (number * scale).round() / scale;
    // Not -0.
    rounded + 0.0
}

/// With four significant digits: three would add half a per cent to the error of a quantile.
fn four_digits(number: f64) -> f64 {
    format!("{number:.3e}").parse().unwrap_or(number)
}

fn write_totals(
    out: &mut Vec<u8>,
    answer: &Answer,
    counts: &Counts,
    value: impl Fn(&Answer, Metric, &Counts) -> Value,
) {
    for (index, metric) in answer.columns.iter().enumerate() {
        let separator = if index == 0 { '{' } else { ',' };
        let _ = write!(out, "{separator}\"{}\":", metric.name());
        write_value(out, value(answer, *metric, counts), "null");
    }
    out.push(b'}');
}

/// Both sides and the change from the range before to the current one; `null` if nothing can be compared.
fn write_comparison(out: &mut Vec<u8>, answer: &Answer) {
    let (Some(ranges), Some((current, previous))) = (&answer.resolved.comparison, &answer.compared) else {
        out.extend_from_slice(b"null");
        return;
    };
    for (name, range, counts) in [
        ("{\"current\"", ranges.current, current),
        (",\"previous\"", ranges.previous, previous),
    ] {
        let (from, to) = range_texts(answer, range);
        let _ = write!(
            out,
            "{name}:{{\"from\":{},\"to\":{},\"totals\":",
            json!(from),
            json!(to)
        );
        write_totals(out, answer, counts, Answer::compared_value);
        out.push(b'}');
    }
    out.extend_from_slice(b",\"change\":");
    for (index, metric) in answer.columns.iter().enumerate() {
        let [now, before] = [current, previous].map(|counts| answer.compared_value(*metric, counts));
        let change = now.change_from(before).map(|change| rounded(change, 4));
        let separator = if index == 0 { '{' } else { ',' };
        let _ = write!(out, "{separator}\"{}\":", metric.name());
        let _ = match change {
            Some(change) => write!(out, "{change}"),
            None => write!(out, "null"),
        };
    }
    out.extend_from_slice(b"}}");
}

fn range_texts(answer: &Answer, range: Range) -> (Option<String>, Option<String>) {
    let text = |micros| answer.query.zone.text(micros);
    (range.from.map(text), range.to.map(text))
}

/// The question as it was read, with its range as instants.
fn resolved_query(answer: &Answer) -> serde_json::Value {
    let query = &answer.query;
    let (from, to) = range_texts(answer, answer.resolved.range);
    let mut resolved = json!({
        "from": from,
        "to": to,
        "timezone": query.zone.name(),
        "interval": query.interval.name(),
        "week_start": query.week_start.name(),
        "by": query.by.name(),
        "order": query.order.name(),
        "metrics": answer.columns.iter().map(|metric| metric.name()).collect::<Vec<_>>(),
        "solve_within": query.solve_within.name(),
    });
    if let Some(members) = resolved.as_object_mut() {
        if let RangeChoice::Period(period) = query.range {
            members.insert("period".to_string(), json!(period.name()));
        }
        members.extend(query.top.map(|top| ("top".to_string(), json!(top))));
        let fill = (query.fill != Fill::None).then(|| query.fill.name());
        members.extend(fill.map(|fill| ("fill".to_string(), json!(fill))));
        let compare = query.compare.map(|compare| compare.name());
        members.extend(compare.map(|compare| ("compare".to_string(), json!(compare))));
    }
    resolved
}

#[cfg(test)]
mod tests;
