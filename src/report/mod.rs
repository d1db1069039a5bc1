//! `captcha report`: the numbers of `GET /v1/report` in a terminal.

mod audit;
mod dead_letters;
mod table;

use anyhow::Context as _;
use chrono::NaiveDate;
use clap::error::ErrorKind;
use uuid::Uuid;

use self::table::table;
use crate::clickhouse::{self, Cluster, Filter, Freshness, Report};
use crate::terminal;

/// Show how many challenges each site served and solved on each day (UTC)
#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    subcommand: Option<Subcommand>,

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

/// Other reports.
#[derive(Debug, clap::Subcommand)]
enum Subcommand {
    Audit(audit::Args),
    DeadLetters(dead_letters::Args),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Table,
    Json,
    Csv,
}

/// The exit code of a failure: 3 if an audit found damage, else 1.
pub fn exit_code(err: &anyhow::Error) -> u8 {
    if err.is::<audit::Damage>() { 3 } else { 1 }
}

/// Asks ClickHouse and writes the report to stdout.
///
/// # Errors
/// ClickHouse is away or has no schema, the report is too large, or an audit found damage.
pub async fn run(args: Args) -> anyhow::Result<()> {
    match args.subcommand {
        Some(Subcommand::Audit(args)) => audit::run(args).await,
        Some(Subcommand::DeadLetters(args)) => dead_letters::run(args).await,
        None => print_report(args).await,
    }
}

async fn print_report(args: Args) -> anyhow::Result<()> {
    let cluster = Cluster::new(args.clickhouse)?;
    let filter = Filter {
        site_ids: args.site_id,
        from: args.from,
        to: args.to,
    };
    if !filter.is_in_order() {
        let reason = format!("--from and --to: {}\n", Filter::OUT_OF_ORDER);
        terminal::exit_with_clap_error(&clap::Error::raw(ErrorKind::ValueValidation, reason));
    }
    let report = cluster.report(&filter, &|_| true).await?;
    let page = render(&report, args.format).context("cannot write the report")?;
    terminal::print(&page);
    if report.rows.is_empty() && args.format == Format::Table {
        terminal::print_progress("no events match");
    }
    Ok(())
}

fn render(report: &Report, format: Format) -> anyhow::Result<String> {
    Ok(match format {
        Format::Json => serde_json::to_string(report)? + "\n",
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
            let (table, freshness) = (table(&COLUMNS, rows, 2..4), freshness(report.freshness));
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
        assert_eq!(lines.len(), 4, "{page}");
        assert_eq!(lines[3], "complete through 2001-01-01 00:00:00.000 UTC");
        assert!(lines[1].ends_with("   1       0"), "{page}");
        assert!(lines[2].ends_with("12345     678"), "{page}");
        assert!(lines.iter().all(|line| *line == line.trim_end()), "{page}");
    }
}
