//! `captcha report`: the numbers of `GET /v1/report` in a terminal.

mod audit;
mod dead_letters;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the flag --input comes with the counts that it feeds")
)]
mod input;
mod notes;
mod requirements;
mod table;

use std::collections::HashSet;

use anyhow::Context as _;
use chrono::NaiveDate;
use clap::error::ErrorKind;
use uuid::Uuid;

use self::notes::{completeness, sites_without_events};
use self::requirements::{Requirements, Unmet};
use self::table::table;
use crate::clickhouse::{self, Cluster, Filter, Report};
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
    requirements: Requirements,

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

/// The exit code of a failure: 3 if an audit found damage, that of [`Unmet`], else 1.
pub fn exit_code(err: &anyhow::Error) -> u8 {
    match err.downcast_ref::<Unmet>() {
        Some(unmet) => unmet.exit_code(),
        None if err.is::<audit::Damage>() => 3,
        None => 1,
    }
}

/// Asks ClickHouse and writes the report to stdout.
///
/// # Errors
/// ClickHouse is away or has no schema, the report is too large or not what it is required to be, or an audit found
/// damage.
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
    let required = args.requirements.resolve(&cluster).await?;
    let report = cluster.report(&filter, &|_| true).await?;
    let unknown = cluster
        .sites_without_events(absent_sites(filter.site_ids, &report))
        .await?;
    let met = required.check(report.freshness);
    let place = CompletenessPlace::of(args.format, terminal::stdout_is_terminal());
    let page = render(&report, args.format, place).context("cannot write the report")?;
    terminal::print(&page);
    // What is required and is not met says how far the report is complete.
    if place == CompletenessPlace::Stderr && met.is_ok() {
        terminal::print_note(&completeness(report.freshness));
    }
    for line in sites_without_events(&unknown) {
        terminal::print_note(&line);
    }
    if report.rows.is_empty() && unknown.is_empty() && args.format == Format::Table {
        terminal::print_progress("no events match");
    }
    Ok(met?)
}

/// The sites that were asked for and have no row, each once.
fn absent_sites(mut site_ids: Vec<Uuid>, report: &Report) -> Vec<Uuid> {
    let mut seen: HashSet<Uuid> = report.rows.iter().map(|row| row.site_id).collect();
    site_ids.retain(|site_id| seen.insert(*site_id));
    site_ids
}

/// Where a report says how far it is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CompletenessPlace {
    /// On stdout, below the rows.
    BelowRows,
    /// In the JSON object.
    Member,
    /// Apart from the rows, which another program reads.
    Stderr,
}

impl CompletenessPlace {
    fn of(format: Format, stdout_is_terminal: bool) -> CompletenessPlace {
        match format {
            Format::Json => CompletenessPlace::Member,
            Format::Table if stdout_is_terminal => CompletenessPlace::BelowRows,
            Format::Table | Format::Csv => CompletenessPlace::Stderr,
        }
    }
}

fn render(report: &Report, format: Format, place: CompletenessPlace) -> anyhow::Result<String> {
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
            let table = table(&COLUMNS, rows, 2..4);
            match place {
                CompletenessPlace::BelowRows => format!("{table}\n{}\n", completeness(report.freshness)),
                CompletenessPlace::Member | CompletenessPlace::Stderr => table + "\n",
            }
        }
    })
}

const COLUMNS: [&str; 4] = ["date", "site_id", "served", "solved"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clickhouse::{Freshness, ReportRow};

    /// As on a terminal.
    fn render(rows: Vec<ReportRow>, format: Format) -> String {
        render_for(rows, format, true)
    }

    fn render_for(rows: Vec<ReportRow>, format: Format, stdout_is_terminal: bool) -> String {
        let report = Report {
            rows,
            freshness: Freshness {
                complete_through: chrono::DateTime::from_timestamp_millis(978_307_200_000),
            },
        };
        super::render(&report, format, CompletenessPlace::of(format, stdout_is_terminal)).unwrap()
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

    #[test]
    fn stdout_has_rows_alone_where_a_program_reads_it() {
        let page = render_for(two(), Format::Table, false);
        assert_eq!(page.lines().count(), 3, "{page}");
        assert_eq!(CompletenessPlace::of(Format::Csv, true), CompletenessPlace::Stderr);
        assert_eq!(CompletenessPlace::of(Format::Json, false), CompletenessPlace::Member);
    }

    #[test]
    fn sites_without_a_row_are_absent_once() {
        let report = Report {
            rows: two(),
            freshness: Freshness::default(),
        };
        let [one, two] = [1, 2].map(Uuid::from_u128);
        let asked = vec![one, Uuid::nil(), two, one, Uuid::max()];
        assert_eq!(absent_sites(asked, &report), [one, two]);
        assert!(absent_sites(Vec::new(), &report).is_empty());
    }
}
