//! `captcha report`: the numbers of `GET /v1/report` in a terminal.

mod asked;
mod audit;
mod dead_letters;
mod file_counts;
mod found;
mod input;
mod notes;
mod page;
mod progress;
mod question;
mod requirements;
mod site_args;
mod table;
mod view;
mod view_args;
mod watch;
mod webhook;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use chrono::{DateTime, Utc};

use self::asked::Asked;
use self::found::{Found, find};
use self::input::Input;
use self::page::{Format, Numbers};
use self::progress::with_progress;
use self::question::{QuestionArgs, with_metric};
use self::requirements::{Requirements, Unmet};
use self::site_args::SitesArgs;
use self::view_args::ViewArgs;
use self::watch::Refresh;
use self::webhook::Webhook;
use crate::clickhouse::{self, Cluster, Filter, Freshness, Report, ReportRow};
use crate::rules::DEDUP_WINDOW_RECORDS;
use crate::statistics::{Answer, Metric, Row};

/// Show the serves and solves of each site, by day
///
/// Also shows how many challenges were solved and how fast, by hour, week or month, in any time zone, and compared
/// with an earlier range.
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

    /// `table` is for people, and plain in a pipe; `json` is what GET /v1/report answers; `ndjson` has a row on each
    /// line; `csv` has a header
    #[arg(
        long,
        help_heading = "Output",
        env = "CAPTCHA_FORMAT",
        value_enum,
        value_name = "FORMAT",
        default_value_t = Format::Table
    )]
    format: Format,

    #[command(flatten)]
    sites: SitesArgs,

    #[command(flatten)]
    view: ViewArgs,

    #[command(flatten)]
    requirements: Requirements,

    #[command(flatten)]
    webhook: webhook::Args,

    #[command(flatten)]
    clickhouse: clickhouse::Args,
}

/// A report without servers.
#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Events of a file")]
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
    let names = args.sites.read()?;
    args.view.check(args.format);
    let (webhook, pause) = (args.webhook.open()?, args.view.watch());
    let mut asked = Asked::new(args.question, args.view, args.format, names, webhook.is_some());
    if args.requirements.needs_solve_rate() {
        asked.query = with_metric(asked.query, Metric::SolveRate);
    }
    if let Some(path) = &args.file.input {
        return print_file(&args.file, path, &args.requirements, asked, webhook).await;
    }
    let cluster = Cluster::new(args.clickhouse)?;
    let find = async || find(&cluster, &asked.query, asked.is_for_people).await;
    if let Some(pause) = pause {
        let draw = |found: &Found, refresh: &Refresh, size| asked.draw(found, refresh, size, pause);
        return watch::watch(pause, find, draw).await;
    }
    let required = args.requirements.resolve(&cluster).await?;
    let found = with_progress("asking ClickHouse", find()).await?;
    let met = required.check(found.numbers.freshness(), found.numbers.solve_rate());
    asked.print(&found, met.is_ok(), Some(Utc::now()))?;
    asked.post(webhook, &found, met.map_err(Into::into)).await
}

/// Counts the events of a file.
async fn print_file(
    args: &FileArgs,
    path: &Path,
    requirements: &Requirements,
    asked: Asked,
    webhook: Option<Webhook>,
) -> anyhow::Result<()> {
    let now = Utc::now();
    let through = args.complete_through.unwrap_or(now);
    let mut input = Input::open(path)?;
    let (query, window_records) = (asked.query.clone(), args.dedup_window_records);
    let counting = tokio::task::spawn_blocking(move || {
        let (now, through) = (now.timestamp_micros(), through.timestamp_micros());
        let answer = file_counts::answer(&mut input, &query, window_records, now, through);
        answer.map(|answer| (answer, input))
    });
    let counted = with_progress("reading events", counting).await;
    let (answer, input) = counted.context("cannot count the events of the file")??;
    let required = requirements.resolve_at(now)?;
    let numbers = match Filter::of(&asked.query) {
        Some(_) => Numbers::Plain(plain_report(&answer)),
        None => Numbers::Answer(answer.into()),
    };
    let met = required.check(numbers.freshness(), numbers.solve_rate());
    let found = Found {
        numbers,
        notes: input.notes(),
        tip: None,
    };
    asked.print(&found, met.is_ok(), None)?;
    let done = met.map_err(Into::into).and_then(|()| Ok(input.check()?));
    asked.post(webhook, &found, done).await
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
