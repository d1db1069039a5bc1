//! `captcha report`: the numbers of `GET /v1/report` in a terminal.

mod audit;
mod dead_letters;

use std::ops::Range;

use anyhow::Context as _;
use chrono::NaiveDate;
use clap::error::ErrorKind;
use comfy_table::{CellAlignment, Table, presets};
use uuid::Uuid;

use crate::clickhouse::{self, Cluster, Filter, Freshness, Report};
use crate::terminal;
use crate::terminal::escape;

/// Show how many challenges each site served and solved on each day (UTC)
#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    other: Option<Other>,

    /// Only this site; may be given several times [default: all sites]
    #[arg(long, value_name = "UUID", value_parser = Filter::parse_site_id)]
    site_id: Vec<Uuid>,

    /// First day, such as 2001-01-31
    #[arg(long, value_name = "DATE", value_parser = Filter::parse_date)]
    from: Option<NaiveDate>,

    /// The day after the last one
    #[arg(long, value_name = "DATE", value_parser = Filter::parse_date)]
    to: Option<NaiveDate>,

    /// `table` is for people, `json` what GET /v1/report answers, `csv` has a header
    #[arg(long, env = "CAPTCHA_FORMAT", value_enum, value_name = "FORMAT", default_value_t = Format::Table)]
    format: Format,

    #[command(flatten)]
    clickhouse: clickhouse::Args,
}

/// Other things that can be reported.
#[derive(Debug, clap::Subcommand)]
enum Other {
    Audit(audit::Args),
    DeadLetters(dead_letters::Args),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Table,
    Json,
    Csv,
}

/// What a failure is worth to whoever started the process: 3 if an audit looked and found damage, else 1.
pub fn exit_code(err: &anyhow::Error) -> u8 {
    if err.is::<audit::Damage>() { 3 } else { 1 }
}

/// Asks ClickHouse and writes the report to stdout.
///
/// # Errors
/// ClickHouse is away, the schema is not there, the report is too large, or an audit found damage.
pub async fn run(args: Args) -> anyhow::Result<()> {
    match args.other {
        Some(Other::Audit(args)) => audit::run(args).await,
        Some(Other::DeadLetters(args)) => dead_letters::run(args).await,
        None => run_counters(args).await,
    }
}

async fn run_counters(args: Args) -> anyhow::Result<()> {
    let cluster = Cluster::new(args.clickhouse)?;
    let filter = Filter {
        site_ids: args.site_id,
        from: args.from,
        to: args.to,
    };
    if !filter.is_in_order() {
        let reason = format!("--from and --to: {}\n", Filter::OUT_OF_ORDER);
        terminal::exit_with(&clap::Error::raw(ErrorKind::ValueValidation, reason));
    }
    let counters = cluster.report(&filter, &|_| true).await?;
    let page = page(&counters, args.format).context("cannot write the report")?;
    terminal::print(&page);
    if counters.rows.is_empty() && args.format == Format::Table {
        terminal::progress("no events match");
    }
    Ok(())
}

fn page(counters: &Report, format: Format) -> anyhow::Result<String> {
    Ok(match format {
        Format::Json => serde_json::to_string(counters)? + "\n",
        Format::Csv => {
            let mut csv = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
            csv.write_record(COLUMNS)?;
            for counter in &counters.rows {
                csv.serialize(counter)?;
            }
            String::from_utf8(csv.into_inner()?)?
        }
        Format::Table => {
            let rows = counters.rows.iter().map(|counter| {
                vec![
                    counter.date.to_string(),
                    counter.site_id.to_string(),
                    counter.served.to_string(),
                    counter.solved.to_string(),
                ]
            });
            let (table, freshness) = (table(&COLUMNS, rows, 2..4), freshness(counters.freshness));
            format!("{table}\n{freshness}\n")
        }
    })
}

/// How far a report is complete, for people.
fn freshness(freshness: Freshness) -> String {
    match freshness.complete_through {
        Some(instant) => format!("complete through {}", instant.format("%Y-%m-%d %H:%M:%S%.3f UTC")),
        None => {
            "not known to be complete: some partition was never read to its end, or no topic is consumed".to_string()
        }
    }
}

const COLUMNS: [&str; 4] = ["date", "site_id", "served", "solved"];

/// A table for people, with these columns of numbers.
fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>, numbers: Range<usize>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    let escaped = |cell: String| escape::line(&cell).into_owned();
    table.add_rows(rows.map(|row| row.into_iter().map(escaped).collect::<Vec<_>>()));
    for index in numbers {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    table
        .lines()
        .map(|line| line.trim_end().to_string())
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clickhouse::ReportRow;

    fn page(counters: Vec<ReportRow>, format: Format) -> String {
        let counters = Report {
            rows: counters,
            freshness: Freshness {
                complete_through: chrono::DateTime::from_timestamp_millis(978_307_200_000),
            },
        };
        super::page(&counters, format).unwrap()
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
            page(two(), Format::Json),
            "{\"counters\":[\
             {\"date\":\"2001-01-01\",\"site_id\":\"00000000-0000-0000-0000-000000000000\",\"served\":1,\"solved\":0},\
             {\"date\":\"2001-01-02\",\"site_id\":\"ffffffff-ffff-ffff-ffff-ffffffffffff\",\"served\":12345,\"solved\":678}],\
             \"complete_through\":\"2001-01-01T00:00:00.000Z\"}\n"
        );
    }

    #[test]
    fn csv_always_has_its_header() {
        assert_eq!(
            page(two(), Format::Csv),
            "date,site_id,served,solved\n\
             2001-01-01,00000000-0000-0000-0000-000000000000,1,0\n\
             2001-01-02,ffffffff-ffff-ffff-ffff-ffffffffffff,12345,678\n"
        );
        assert_eq!(page(Vec::new(), Format::Csv), "date,site_id,served,solved\n");
    }

    #[test]
    fn the_table_lines_up_and_has_no_trailing_spaces() {
        let page = page(two(), Format::Table);
        let lines: Vec<_> = page.lines().collect();
        assert_eq!(lines.len(), 4, "{page}");
        assert_eq!(lines[3], "complete through 2001-01-01 00:00:00.000 UTC");
        assert!(lines[1].ends_with("   1       0"), "{page}");
        assert!(lines[2].ends_with("12345     678"), "{page}");
        assert!(lines.iter().all(|line| *line == line.trim_end()), "{page}");
    }
}
