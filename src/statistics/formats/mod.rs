//! Answers as JSON, NDJSON and CSV, made piece by piece while they are sent.

mod row;
mod summary;

use std::io::Write as _;
use std::sync::Arc;

use serde_json::json;

use self::row::{Texts, texts, write_cells, write_object, write_text};
use self::summary::{resolved_query, write_comparison, write_totals};
use super::answer::{Answer, Position, Row};
use super::buckets::Buckets;
use super::instant::millis_text;

pub use self::row::{cells, total_cells, value_text};

/// The longest text of a row: 16 metrics with their names, a UUID, a date and an instant.
pub const ROW_TEXT_BYTES_MAX: usize = 1024;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One object: rows, totals, comparison, and how the question was read.
    Json,
    /// A row a line, as in the object.
    NdJson,
    /// A header and rows. Lines end with a line feed, as files and pipes have it.
    Csv,
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
    /// The starts of the buckets that are not whole, from this one on.
    Partial(usize),
    Written,
}

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
        while piece.len() < bytes && !self.is_written() {
            match self.stage {
                Stage::Partial(index) => self.write_partial(&mut piece, index),
                _ => match answer.next_row(&mut self.position) {
                    Some(row) => {
                        self.write_row(&mut piece, &answer, &row);
                        self.stage = Stage::Rows;
                    }
                    None => self.write_totals(&mut piece),
                },
            }
        }
        Some(piece)
    }

    fn write_head(&self, out: &mut Vec<u8>) {
        match self.format {
            Format::Json => out.extend_from_slice(b"{\"counters\":["),
            Format::NdJson => {}
            Format::Csv => {
                out.extend_from_slice(self.answer.header().join(",").as_bytes());
                out.push(b'\n');
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
            Format::Csv => {
                write_cells(out, answer, texts, row);
                out.push(b'\n');
            }
        }
    }

    fn texts(&mut self, bucket: i64) -> &Texts {
        let known = self.bucket.take().filter(|(known, _)| *known == bucket);
        let known = known.unwrap_or_else(|| (bucket, texts(&self.answer, &self.buckets, bucket)));
        &self.bucket.insert(known).1
    }

    /// Ends the rows.
    fn write_totals(&mut self, out: &mut Vec<u8>) {
        if self.format != Format::Json {
            self.stage = Stage::Written;
            return;
        }
        out.extend_from_slice(b"],\"totals\":");
        write_totals(out, &self.answer, &self.answer.totals, Answer::value);
        out.extend_from_slice(b",\"partial\":[");
        self.stage = Stage::Partial(0);
    }

    /// Writes one start of the buckets that are not whole, or what follows the last one.
    fn write_partial(&mut self, out: &mut Vec<u8>, index: usize) {
        let Some(start) = self.answer.partial.get(index) else {
            out.push(b']');
            self.write_tail(out);
            self.stage = Stage::Written;
            return;
        };
        if index > 0 {
            out.push(b',');
        }
        write_text(out, texts(&self.answer, &self.buckets, *start).1.as_deref());
        self.stage = Stage::Partial(index + 1);
    }

    fn write_tail(&self, out: &mut Vec<u8>) {
        let answer = &self.answer;
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

#[cfg(test)]
mod tests;
