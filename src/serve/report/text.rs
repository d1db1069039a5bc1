//! The text of a report in each of its formats, piece by piece.

use std::sync::Arc;

use super::answer::{Answer, Numbers, ROW_TEXT_BYTES};
use super::format::Format;
use crate::clickhouse::{Report, ReportRow};
use crate::statistics::{self, Writer};

/// The names of the columns. Lines end as those of `captcha report --format csv`.
const CSV_HEAD: &[u8] = b"date,site_id,served,solved\n";

/// A report that is written in a format.
pub enum ReportText {
    Plain(PlainText),
    Statistics(Writer),
}

/// A report of days and sites alone.
pub struct PlainText {
    answer: Arc<Answer>,
    format: Format,
    /// Rows that are written.
    written: usize,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    Rows,
    Written,
}

impl ReportText {
    pub fn new(answer: Arc<Answer>, format: Format) -> ReportText {
        match &answer.numbers {
            Numbers::Plain(_) => ReportText::Plain(PlainText {
                answer,
                format,
                written: 0,
                stage: Stage::Head,
            }),
            Numbers::Statistics(numbers) => {
                let format = match format {
                    Format::Json => statistics::Format::Json,
                    Format::Csv => statistics::Format::Csv,
                    Format::Ndjson => statistics::Format::NdJson,
                };
                ReportText::Statistics(Writer::new(Arc::clone(numbers), format))
            }
        }
    }

    /// The next piece, of this many bytes or little more; `None` at the end.
    pub fn next_piece(&mut self, bytes: usize) -> Option<Vec<u8>> {
        match self {
            ReportText::Plain(text) => text.next_piece(bytes),
            ReportText::Statistics(writer) => writer.next_piece(bytes),
        }
    }

    pub fn is_written(&self) -> bool {
        match self {
            ReportText::Plain(text) => text.stage == Stage::Written,
            ReportText::Statistics(writer) => writer.is_written(),
        }
    }
}

impl PlainText {
    fn next_piece(&mut self, bytes: usize) -> Option<Vec<u8>> {
        let answer = Arc::clone(&self.answer);
        let Numbers::Plain(report) = &answer.numbers else {
            return None;
        };
        if self.stage == Stage::Written {
            return None;
        }
        let text_bytes = (report.rows.len() - self.written + 2) * ROW_TEXT_BYTES;
        let mut piece = Vec::with_capacity(text_bytes.min(bytes + ROW_TEXT_BYTES));
        if self.stage == Stage::Head {
            self.write_head(&mut piece);
            self.stage = Stage::Rows;
        }
        while self.written < report.rows.len() && piece.len() < bytes {
            self.write_row(&report.rows[self.written], &mut piece);
            self.written += 1;
        }
        if self.written == report.rows.len() {
            self.write_tail(report, &mut piece);
            self.stage = Stage::Written;
        }
        Some(piece)
    }

    fn write_head(&self, text: &mut Vec<u8>) {
        text.extend_from_slice(match self.format {
            Format::Json => b"{\"counters\":[",
            Format::Csv => CSV_HEAD,
            Format::Ndjson => b"",
        });
    }

    fn write_row(&self, row: &ReportRow, text: &mut Vec<u8>) {
        // Writing numbers and text to memory cannot fail.
        match self.format {
            Format::Json => {
                text.extend_from_slice(if self.written == 0 { b"" } else { b"," });
                let _ = serde_json::to_writer(text, row);
            }
            Format::Csv => write_csv(row, text),
            Format::Ndjson => {
                let _ = serde_json::to_writer(&mut *text, row);
                text.push(b'\n');
            }
        }
    }

    fn write_tail(&self, report: &Report, text: &mut Vec<u8>) {
        if self.format == Format::Json {
            text.extend_from_slice(b"],");
            let freshness = crate::http::json_line(&report.freshness);
            text.extend_from_slice(&freshness.as_bytes()[1..]);
        }
    }
}

/// No value of a row needs quotes.
fn write_csv(row: &ReportRow, text: &mut Vec<u8>) {
    use std::io::Write as _;
    let ReportRow {
        date,
        site_id,
        served,
        solved,
    } = row;
    let _ = writeln!(text, "{date},{site_id},{served},{solved}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clickhouse::Freshness;
    use crate::resource_pool::{Holder, Pool};
    use crate::serve::report::body::ReportBody;
    use http_body_util::BodyExt as _;
    use uuid::Uuid;

    fn report(rows: u64) -> Report {
        let row = |number: u64| ReportRow {
            date: "2001-01-01".parse().unwrap(),
            site_id: Uuid::from_u128(number.into()),
            served: number,
            solved: number * 1_000_000,
        };
        Report {
            rows: (0..rows).map(row).collect(),
            freshness: Freshness::default(),
        }
    }

    async fn written(report: Report, format: Format) -> String {
        let share = Pool::new(0).share(Holder::MANY);
        let answer = Arc::new(Answer::new(Numbers::Plain(report), share));
        let body = ReportBody::new(ReportText::new(answer, format));
        let bytes = body.collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn the_pieces_are_the_whole() {
        for rows in [0, 1, 2, 5_000] {
            let whole = crate::http::json_line(&report(rows));
            assert_eq!(written(report(rows), Format::Json).await, whole, "{rows}");
            let lines = report(rows).rows.iter().map(crate::http::json_line).collect::<String>();
            assert_eq!(written(report(rows), Format::Ndjson).await, lines, "{rows}");
            let mut csv = csv::WriterBuilder::new()
                .has_headers(rows > 0)
                .from_writer(CSV_HEAD[..if rows > 0 { 0 } else { CSV_HEAD.len() }].to_vec());
            for row in report(rows).rows {
                csv.serialize(row).unwrap();
            }
            let csv = String::from_utf8(csv.into_inner().unwrap()).unwrap();
            assert_eq!(written(report(rows), Format::Csv).await, csv, "{rows}");
        }
    }

    #[test]
    fn no_row_has_a_longer_text_than_is_counted() {
        let row = ReportRow {
            date: "2200-12-31".parse().unwrap(),
            site_id: Uuid::max(),
            served: u64::MAX,
            solved: u64::MAX,
        };
        assert!(serde_json::to_string(&row).unwrap().len() < ROW_TEXT_BYTES);
    }
}
