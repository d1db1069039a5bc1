//! `captcha report`: the numbers of `GET /v1/report` in a terminal.

mod audit;
mod dead_letters;
mod file_counts;
mod input;
mod notes;
mod page;
mod question;
mod requirements;
mod table;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use self::input::Input;
use self::notes::{completeness, sites_without_events};
use self::page::{CompletenessPlace, Format, Numbers};
use self::question::{QuestionArgs, with_metric};
use self::requirements::{Required, Requirements, Unmet};
use crate::clickhouse::{self, Cluster, Filter, Freshness, Report, ReportRow};
use crate::rules::DEDUP_WINDOW_RECORDS;
use crate::statistics::{Answer, Metric, Query, Row};
use crate::terminal;

/// Show how many serve and solve events each site has, by day, and how its challenges were solved
#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    subcommand: Option<Subcommand>,

    #[command(flatten)]
    question: QuestionArgs,

    #[command(flatten)]
    file: FileArgs,

    /// `table` is for people, `json` what GET /v1/report answers, `ndjson` a row a line,
    /// `csv` has a header
    #[arg(long, env = "CAPTCHA_FORMAT", value_enum, value_name = "FORMAT", default_value_t = Format::Table)]
    format: Format,

    #[command(flatten)]
    requirements: Requirements,

    #[command(flatten)]
    clickhouse: clickhouse::Args,
}

/// A report without servers.
#[derive(Debug, clap::Args)]
#[group(skip)]
struct FileArgs {
    /// Count the events of a file in place of ClickHouse's, one JSON object on each line; `-` is stdin. The file is one
    /// partition of a log
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,

    /// With --input: the same event again within this number of lines is counted once
    #[arg(
        long,
        value_name = "RECORDS",
        requires = "input",
        default_value_t = DEDUP_WINDOW_RECORDS,
        value_parser = clap::value_parser!(i64).range(1..=100_000_000)
    )]
    dedup_window_records: i64,

    /// With --input: up to when the file is complete [default: now]
    #[arg(long, value_name = "INSTANT", requires = "input")]
    complete_through: Option<DateTime<Utc>>,
}

/// Other reports.
#[derive(Debug, clap::Subcommand)]
enum Subcommand {
    Audit(audit::Args),
    DeadLetters(dead_letters::Args),
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
    let query = args.question.query();
    let query = match args.requirements.needs_solve_rate() {
        true => with_metric(query, Metric::SolveRate),
        false => query,
    };
    if let Some(path) = &args.file.input {
        return print_file(&args, path, &query);
    }
    let cluster = Cluster::new(args.clickhouse)?;
    let required = args.requirements.resolve(&cluster).await?;
    let numbers = match Filter::of(&query) {
        Some(filter) => Numbers::Plain(cluster.report(&filter, &|_| true).await?),
        None => Numbers::Answer(cluster.answer(&query, &|_| true).await?.into()),
    };
    let unknown = cluster
        .sites_without_events(absent_sites(query.site_ids.clone(), &numbers))
        .await;
    let notes = match unknown {
        Ok(unknown) => sites_without_events(&unknown),
        Err(error) => vec![format!("cannot tell which sites have no events: {error}")],
    };
    let is_long = args.question.is_open() && numbers.row_count() > LONG_ROWS;
    print_numbers(&numbers, args.format, &required, &notes, is_long)
}

/// Rows of a report on a terminal after which a shorter one is suggested.
const LONG_ROWS: usize = 60;

/// Counts the events of a file.
fn print_file(args: &Args, path: &Path, query: &Query) -> anyhow::Result<()> {
    let now = Utc::now();
    let through = args.file.complete_through.unwrap_or(now);
    let mut input = Input::open(path)?;
    let answer = file_counts::answer(
        &mut input,
        query,
        args.file.dedup_window_records,
        now.timestamp_micros(),
        through.timestamp_micros(),
    )?;
    let required = args.requirements.resolve_at(now)?;
    let numbers = match Filter::of(query) {
        Some(_) => Numbers::Plain(plain_report(&answer)),
        None => Numbers::Answer(answer.into()),
    };
    print_numbers(&numbers, args.format, &required, &input.notes(), false)?;
    Ok(input.check()?)
}

/// The report of a question about days and sites alone.
fn plain_report(answer: &Answer) -> Report {
    let buckets = answer.query.buckets();
    let row = |row: Row<'_>| ReportRow {
        date: buckets.date(row.bucket),
        site_id: row.site_id.unwrap_or_default(),
        served: row.counts.served,
        solved: row.counts.solved,
    };
    let complete_through = answer.complete_through_micros.and_then(DateTime::from_timestamp_micros);
    Report {
        rows: answer.rows().map(row).collect(),
        freshness: Freshness { complete_through },
    }
}

fn print_numbers(
    numbers: &Numbers,
    format: Format,
    required: &Required,
    notes: &[String],
    is_long: bool,
) -> anyhow::Result<()> {
    let met = required.check(numbers.freshness(), numbers.solve_rate());
    let stdout_is_terminal = terminal::stdout_is_terminal();
    let place = CompletenessPlace::of(format, stdout_is_terminal);
    let page = numbers.render(format, place).context("cannot write the report")?;
    terminal::print(&page);
    // The error of an unmet requirement says how far the report is complete.
    if place == CompletenessPlace::Stderr && met.is_ok() {
        terminal::print_note(&completeness(numbers.freshness()));
    }
    for line in notes {
        terminal::print_note(line);
    }
    if numbers.row_count() == 0 && notes.is_empty() && format == Format::Table {
        terminal::print_progress("no events match");
    }
    if is_long && stdout_is_terminal && format == Format::Table {
        terminal::print_progress("this is everything since the first event; `--period 30d` shows the last 30 days");
    }
    Ok(met?)
}

/// The sites that were asked for and have no row, each once.
fn absent_sites(mut site_ids: Vec<Uuid>, numbers: &Numbers) -> Vec<Uuid> {
    let mut seen = numbers.site_ids();
    site_ids.retain(|site_id| seen.insert(*site_id));
    site_ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_without_a_row_are_absent_once() {
        let row = |site_id| ReportRow {
            date: "2001-01-01".parse().unwrap(),
            site_id,
            served: 1,
            solved: 0,
        };
        let numbers = Numbers::Plain(Report {
            rows: vec![row(Uuid::nil()), row(Uuid::max())],
            freshness: Freshness::default(),
        });
        let [one, two] = [1, 2].map(Uuid::from_u128);
        let asked = vec![one, Uuid::nil(), two, one, Uuid::max()];
        assert_eq!(absent_sites(asked, &numbers), [one, two]);
        assert!(absent_sites(Vec::new(), &numbers).is_empty());
    }
}
