//! A report as text.

use std::collections::HashSet;
use std::sync::Arc;

use uuid::Uuid;

use super::table::table;
use crate::clickhouse::{Freshness, Report};
use crate::statistics::{Answer, By, Format as TextFormat, Interval, Writer, cells, total_cells};

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Table,
    Json,
    Ndjson,
    Csv,
}

/// Bytes of a text that is made in one piece.
const PIECE_BYTES: usize = 1 << 20;

/// The numbers of a report.
pub enum Numbers {
    /// Of days and sites alone.
    Plain(Report),
    Answer(Arc<Answer>),
}

/// Where rows for a program say how far they are complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompletenessPlace {
    /// In the JSON object.
    Member,
    /// Apart from the rows, which another program reads.
    Stderr,
}

impl CompletenessPlace {
    pub fn of(format: Format) -> CompletenessPlace {
        match format {
            Format::Json => CompletenessPlace::Member,
            Format::Table | Format::Csv | Format::Ndjson => CompletenessPlace::Stderr,
        }
    }
}

impl From<Answer> for Numbers {
    fn from(answer: Answer) -> Numbers {
        Numbers::Answer(Arc::new(answer))
    }
}

impl Numbers {
    pub fn row_count(&self) -> usize {
        match self {
            Numbers::Plain(report) => report.rows.len(),
            Numbers::Answer(answer) => answer.row_count(),
        }
    }

    pub fn freshness(&self) -> Freshness {
        match self {
            Numbers::Plain(report) => report.freshness,
            Numbers::Answer(answer) => Freshness::of_micros(answer.complete_through_micros),
        }
    }

    /// Of all rows; `None` if no challenge was served, or nobody asked for it.
    pub fn solve_rate(&self) -> Option<f64> {
        match self {
            Numbers::Plain(_) => None,
            Numbers::Answer(answer) => answer.solve_rate(),
        }
    }

    /// The sites that have rows.
    pub fn site_ids(&self) -> HashSet<Uuid> {
        match self {
            Numbers::Plain(report) => report.rows.iter().map(|row| row.site_id).collect(),
            Numbers::Answer(answer) => answer.rows().filter_map(|row| row.site_id).collect(),
        }
    }

    /// The whole text.
    ///
    /// # Errors
    /// A row cannot be written.
    pub fn render(&self, format: Format) -> anyhow::Result<String> {
        match self {
            Numbers::Plain(report) => render(report, format),
            Numbers::Answer(answer) => match format {
                Format::Table => Ok(render_table(answer)),
                Format::Json => written(answer, TextFormat::Json),
                Format::Ndjson => written(answer, TextFormat::NdJson),
                Format::Csv => written(answer, TextFormat::Csv),
            },
        }
    }
}

fn written(answer: &Arc<Answer>, format: TextFormat) -> anyhow::Result<String> {
    let (mut writer, mut text) = (Writer::new(Arc::clone(answer), format), Vec::new());
    while let Some(piece) = writer.next_piece(PIECE_BYTES) {
        text.extend(piece);
    }
    Ok(String::from_utf8(text)?)
}

/// The rows, and their totals below them. Only hours and a single row need an instant besides the date.
fn render_table(answer: &Answer) -> String {
    let has_start = matches!(answer.query.interval, Interval::Hour | Interval::All);
    let shown = |cells: Vec<String>| -> Vec<String> {
        let kept = cells
            .into_iter()
            .enumerate()
            .filter(|(index, _)| has_start || *index != 1);
        kept.map(|(_, cell)| cell).collect()
    };
    let header = shown(answer.header().into_iter().map(str::to_string).collect());
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let total = (answer.row_count() > 1).then(|| total_cells(answer));
    let rows = answer.rows().map(|row| cells(answer, &row)).chain(total).map(shown);
    let texts = 1 + usize::from(has_start) + usize::from(answer.query.by == By::Site);
    table(&header, rows, texts..header.len()) + "\n"
}

fn render(report: &Report, format: Format) -> anyhow::Result<String> {
    Ok(match format {
        Format::Json => serde_json::to_string(report)? + "\n",
        Format::Ndjson => {
            let lines = report.rows.iter().map(|row| Ok(serde_json::to_string(row)? + "\n"));
            lines.collect::<anyhow::Result<String>>()?
        }
        Format::Csv => {
            let mut csv = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
            csv.write_record(COLUMNS)?;
            for row in &report.rows {
                csv.serialize(row)?;
            }
            String::from_utf8(csv.into_inner()?)?
        }
        Format::Table => {
            let rows = report.rows.iter().map(|row| {
                vec![
                    row.date.to_string(),
                    row.site_id.to_string(),
                    row.served.to_string(),
                    row.solved.to_string(),
                ]
            });
            table(&COLUMNS, rows, 2..4) + "\n"
        }
    })
}

const COLUMNS: [&str; 4] = ["date", "site_id", "served", "solved"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clickhouse::ReportRow;

    fn render(rows: Vec<ReportRow>, format: Format) -> String {
        let report = Report {
            rows,
            freshness: Freshness {
                complete_through: chrono::DateTime::from_timestamp_millis(978_307_200_000),
            },
        };
        super::render(&report, format).unwrap()
    }

    fn two() -> Vec<ReportRow> {
        let counter = |date: &str, site_id, served, solved| ReportRow {
            date: date.parse().unwrap(),
            site_id,
            served,
            solved,
        };
        vec![
            counter("2001-01-01", Uuid::nil(), 1, 0),
            counter("2001-01-02", Uuid::max(), 12_345, 678),
        ]
    }

    #[test]
    fn json_is_what_the_api_answers() {
        assert_eq!(
            render(two(), Format::Json),
            "{\"counters\":[\
             {\"date\":\"2001-01-01\",\"site_id\":\"00000000-0000-0000-0000-000000000000\",\"served\":1,\"solved\":0},\
             {\"date\":\"2001-01-02\",\"site_id\":\"ffffffff-ffff-ffff-ffff-ffffffffffff\",\"served\":12345,\"solved\":678}],\
             \"complete_through\":\"2001-01-01T00:00:00.000Z\"}\n"
        );
    }

    #[test]
    fn csv_always_has_its_header() {
        assert_eq!(
            render(two(), Format::Csv),
            "date,site_id,served,solved\n\
             2001-01-01,00000000-0000-0000-0000-000000000000,1,0\n\
             2001-01-02,ffffffff-ffff-ffff-ffff-ffffffffffff,12345,678\n"
        );
        assert_eq!(render(Vec::new(), Format::Csv), "date,site_id,served,solved\n");
    }

    #[test]
    fn the_table_lines_up_and_has_no_trailing_spaces() {
        let page = render(two(), Format::Table);
        let lines: Vec<_> = page.lines().collect();
        assert_eq!(lines.len(), 3, "{page}");
        assert!(lines[1].ends_with("   1       0"), "{page}");
        assert!(lines[2].ends_with("12345     678"), "{page}");
        assert!(lines.iter().all(|line| *line == line.trim_end()), "{page}");
    }
}
