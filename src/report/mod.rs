//! `captcha report`: the numbers of `GET /v1/report` in a terminal.

mod audit;
mod dead_letters;
mod file_counts;
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
use uuid::Uuid;

use self::input::Input;
use self::notes::{completeness, sites_without_events};
use self::page::{CompletenessPlace, Format, Numbers};
use self::progress::with_progress;
use self::question::{QuestionArgs, with_metric};
use self::requirements::{Requirements, Unmet};
use self::site_args::SitesArgs;
use self::view::signs::UTF8;
use self::view::{Look, write_page};
use self::view_args::ViewArgs;
use self::watch::Refresh;
use self::webhook::Webhook;
use crate::clickhouse::{self, Cluster, Filter, Freshness, Report, ReportRow};
use crate::rules::DEDUP_WINDOW_RECORDS;
use crate::site_names::SiteNames;
use crate::statistics::{Answer, By, Metric, Query, Row};
use crate::terminal::{self, Size, StyledText};

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
    let mut query = args.question.query(&names);
    args.view.check(args.format);
    let webhook = args.webhook.open()?;
    // A chat is for people, wherever the command runs.
    let is_posted_to_people = webhook.is_some() && args.format == Format::Table;
    let is_for_people = args.view.is_for_people(args.format) || is_posted_to_people;
    let has_default_metrics = is_for_people && query.metrics.is_none();
    if has_default_metrics {
        query = METRICS_FOR_PEOPLE.into_iter().fold(query, with_metric);
    }
    if args.requirements.needs_solve_rate() {
        query = with_metric(query, Metric::SolveRate);
    }
    let asked = Asked {
        query,
        is_for_people,
        has_default_metrics,
        names,
    };
    match (&args.file.input, args.view.watch()) {
        (Some(path), _) => print_file(&args, path, asked, webhook).await,
        (None, Some(pause)) => {
            let cluster = Cluster::new(args.clickhouse.clone())?;
            let ask = async || ask(&cluster, &asked).await;
            let draw = |found: &Found, refresh: &Refresh, size| {
                asked.draw(&args.question, &args.view, found, refresh, size, pause)
            };
            watch::watch(pause, ask, draw).await
        }
        (None, None) => {
            let cluster = Cluster::new(args.clickhouse.clone())?;
            let required = args.requirements.resolve(&cluster).await?;
            let found = with_progress("asking ClickHouse", ask(&cluster, &asked)).await?;
            let met = required.check(found.numbers.freshness(), found.numbers.solve_rate());
            asked.print(&args, &found, met.is_ok(), Some(Utc::now()))?;
            asked.post(webhook, &args, &found, met.map_err(Into::into)).await
        }
    }
}

/// What people see if they do not ask for metrics: more would hide these.
const METRICS_FOR_PEOPLE: [Metric; 3] = [Metric::Challenges, Metric::SolveRate, Metric::Unsolved];

/// Rows of a report on a terminal after which a shorter one is suggested.
const LONG_ROWS: usize = 60;

/// A question, and who reads its answer.
struct Asked {
    query: Query,
    /// Whether the answer is a page, and not rows for a program.
    is_for_people: bool,
    has_default_metrics: bool,
    names: SiteNames,
}

/// An answer with what is to be said about it.
struct Found {
    numbers: Numbers,
    notes: Vec<String>,
    tip: Option<String>,
}

async fn ask(cluster: &Cluster, asked: &Asked) -> anyhow::Result<Found> {
    let query = &asked.query;
    let numbers = match Filter::of(query) {
        Some(filter) => Numbers::Plain(cluster.report(&filter, &|_| true).await?),
        None => Numbers::Answer(cluster.answer(query, &|_| true).await?.into()),
    };
    let unknown = cluster
        .sites_without_events(absent_sites(query.site_ids.clone(), &numbers))
        .await;
    let notes = match unknown {
        Ok(unknown) => sites_without_events(&unknown),
        Err(error) => vec![format!("cannot tell which sites have no events: {error}")],
    };
    let tip = match asked.is_for_people && numbers.row_count() == 0 && notes.is_empty() {
        true => Some(newest_day(cluster, query).await?),
        false => None,
    };
    Ok(Found { numbers, notes, tip })
}

/// What to ask for if nothing was found.
async fn newest_day(cluster: &Cluster, query: &Query) -> anyhow::Result<String> {
    let days = Query {
        site_ids: query.site_ids.clone(),
        zone: query.zone,
        by: By::None,
        is_extended: true,
        ..Query::default()
    };
    let answer = cluster.answer(&days, &|_| true).await?;
    Ok(match answer.rows().last() {
        Some(row) => {
            let day = days.buckets().date(row.bucket);
            format!("the newest day with events is {day}: ask with `--from {day}`")
        }
        None => "no events yet: `captcha serve` accepts them at POST /v1/events".to_string(),
    })
}

impl Asked {
    fn look<'a>(&'a self, question: &'a QuestionArgs, view: &ViewArgs, found: &'a Found, size: Size) -> Look<'a> {
        let is_long = found.numbers.row_count() > LONG_ROWS;
        let shorter = match (question.is_open(), self.query.by, self.query.top) {
            (true, ..) => Some("this is everything since the first event; `--period 30d` shows the last 30 days"),
            (false, By::Site, None) => Some("`--by none` shows all sites together, `--top 5` those with most serves"),
            (false, ..) => None,
        };
        Look {
            width: size.columns.into(),
            lines_max: None,
            signs: view.signs(),
            has_styles: view.has_styles(),
            names: &self.names,
            period: question.period(),
            spare: self.has_default_metrics.then_some(Metric::Challenges),
            now: None,
            notes: &found.notes,
            tip: found.tip.as_deref().or(shorter.filter(|_| is_long)),
        }
    }

    /// Prints an answer: a page for people, or rows for a program.
    fn print(&self, args: &Args, found: &Found, is_met: bool, now: Option<DateTime<Utc>>) -> anyhow::Result<()> {
        match &found.numbers {
            Numbers::Answer(answer) if self.is_for_people => {
                let size = terminal::stdout_size().unwrap_or(view_args::SIZE);
                let look = self.look(&args.question, &args.view, found, size);
                write_page(answer, &Look { now, ..look }, terminal::print_styled);
                Ok(())
            }
            numbers => print_numbers(numbers, args.format, is_met, &found.notes),
        }
    }

    /// Posts what was printed, if there is a receiver.
    ///
    /// # Errors
    /// The receiver did not accept it; or `done`.
    async fn post(
        &self,
        webhook: Option<Webhook>,
        args: &Args,
        found: &Found,
        done: anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let Some(webhook) = webhook else {
            return done;
        };
        let report = match &found.numbers {
            Numbers::Answer(answer) if self.is_for_people => {
                let look = self.look(&args.question, &args.view, found, webhook::SIZE);
                let look = Look {
                    lines_max: Some(webhook::SIZE.lines.into()),
                    signs: &UTF8,
                    has_styles: false,
                    ..look
                };
                let mut page = StyledText::new(false);
                write_page(answer, &look, |text| {
                    page.append(text);
                    true
                });
                page.as_str().to_string()
            }
            numbers => numbers.render(args.format).context("cannot write the report")?,
        };
        webhook.post(args.format, report, done).await
    }

    /// The page of a watched report, which fits the window.
    fn draw(
        &self,
        question: &QuestionArgs,
        view: &ViewArgs,
        found: &Found,
        refresh: &Refresh,
        size: Size,
        pause: std::time::Duration,
    ) -> StyledText {
        let Numbers::Answer(answer) = &found.numbers else {
            return StyledText::default();
        };
        let clock = |micros| {
            let text = view::wall_clock(micros, self.query.zone);
            text.split_once(' ')
                .map(|(_, time)| time.to_string())
                .unwrap_or_default()
        };
        let mut notes = found.notes.clone();
        let state = match refresh {
            Refresh::Done { at_micros } => {
                format!(
                    "refreshed at {}, every {} s; Ctrl-C stops",
                    clock(*at_micros),
                    pause.as_secs()
                )
            }
            Refresh::Failing {
                at_micros,
                since_micros,
                reason,
            } => {
                let (at, since) = (clock(*at_micros), clock(*since_micros));
                notes.push(format!("refreshing has failed since {since}: {reason}"));
                format!(
                    "these numbers are from {at}; tried every {} s; Ctrl-C stops",
                    pause.as_secs()
                )
            }
        };
        let mut page = StyledText::new(view.has_styles());
        let look = Look {
            lines_max: Some(usize::from(size.lines).saturating_sub(1)),
            now: Some(Utc::now()),
            notes: &notes,
            tip: Some(found.tip.as_deref().unwrap_or(&state)),
            ..self.look(question, view, found, size)
        };
        write_page(answer, &look, |text| {
            page.append(text);
            true
        });
        page
    }
}

/// Counts the events of a file.
async fn print_file(args: &Args, path: &Path, asked: Asked, webhook: Option<Webhook>) -> anyhow::Result<()> {
    let now = Utc::now();
    let through = args.file.complete_through.unwrap_or(now);
    let mut input = Input::open(path)?;
    let (query, window_records) = (asked.query.clone(), args.file.dedup_window_records);
    let counting = tokio::task::spawn_blocking(move || {
        let (now, through) = (now.timestamp_micros(), through.timestamp_micros());
        let answer = file_counts::answer(&mut input, &query, window_records, now, through);
        answer.map(|answer| (answer, input))
    });
    let counted = with_progress("reading events", counting).await;
    let (answer, input) = counted.context("cannot count the events of the file")??;
    let required = args.requirements.resolve_at(now)?;
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
    asked.print(args, &found, met.is_ok(), None)?;
    let done = met.map_err(Into::into).and_then(|()| Ok(input.check()?));
    asked.post(webhook, args, &found, done).await
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

/// Prints rows for a program on stdout, and what there is to say about them on stderr.
fn print_numbers(numbers: &Numbers, format: Format, is_met: bool, notes: &[String]) -> anyhow::Result<()> {
    let place = CompletenessPlace::of(format);
    let page = numbers.render(format).context("cannot write the report")?;
    terminal::print(&page);
    // The error of an unmet requirement says how far the report is complete.
    if place == CompletenessPlace::Stderr && is_met {
        terminal::print_note(&completeness(numbers.freshness()));
    }
    for line in notes {
        terminal::print_note(line);
    }
    if numbers.row_count() == 0 && notes.is_empty() && format == Format::Table {
        terminal::print_progress("no events match");
    }
    Ok(())
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
