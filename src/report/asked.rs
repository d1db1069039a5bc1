//! A question, and how its answer is shown: in a window, in a pipe, in a chat.

use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, Utc};

use super::found::Found;
use super::notes::completeness;
use super::page::{CompletenessPlace, Format, Numbers};
use super::question::{QuestionArgs, with_metric};
use super::view::signs::UTF8;
use super::view::{self, Look, write_page};
use super::view_args::{self, ViewArgs};
use super::watch::Refresh;
use super::webhook::{self, Webhook};
use crate::site_names::SiteNames;
use crate::statistics::{By, Metric, Query};
use crate::terminal::{self, Size, StyledText};

/// The metrics for people who ask for none: more would hide these.
const METRICS_FOR_PEOPLE: [Metric; 3] = [Metric::Challenges, Metric::SolveRate, Metric::Unsolved];

/// Rows of a report on a terminal after which a shorter one is suggested.
const LONG_ROWS: usize = 60;

/// A question, and who reads its answer.
pub struct Asked {
    pub query: Query,
    /// Whether the answer is a page, and not rows for a program.
    pub is_for_people: bool,
    has_default_metrics: bool,
    question: QuestionArgs,
    view: ViewArgs,
    format: Format,
    names: SiteNames,
}

impl Asked {
    pub fn new(question: QuestionArgs, view: ViewArgs, format: Format, names: SiteNames, is_posted: bool) -> Asked {
        let query = question.query(&names);
        // A chat is for people, wherever the command runs.
        let is_for_people = view.is_for_people(format) || (is_posted && format == Format::Table);
        let has_default_metrics = is_for_people && query.metrics.is_none();
        let metrics = METRICS_FOR_PEOPLE.into_iter().filter(|_| has_default_metrics);
        Asked {
            query: metrics.fold(query, with_metric),
            is_for_people,
            has_default_metrics,
            question,
            view,
            format,
            names,
        }
    }

    fn look<'a>(&'a self, found: &'a Found, size: Size) -> Look<'a> {
        let is_long = found.numbers.row_count() > LONG_ROWS;
        let shorter = match (self.question.is_open(), self.query.by, self.query.top) {
            (true, ..) => Some("this is everything since the first event; `--period 30d` shows the last 30 days"),
            (false, By::Site, None) => Some("`--by none` shows all sites together, `--top 5` those with most serves"),
            (false, ..) => None,
        };
        Look {
            width: size.columns.into(),
            lines_max: None,
            signs: self.view.signs(),
            has_styles: self.view.has_styles(),
            names: &self.names,
            period: self.question.period(),
            spare: self.has_default_metrics.then_some(Metric::Challenges),
            now: None,
            notes: &found.notes,
            tip: found.tip.as_deref().or(shorter.filter(|_| is_long)),
        }
    }

    /// Prints an answer: a page for people, or rows for a program.
    pub fn print(&self, found: &Found, is_met: bool, now: Option<DateTime<Utc>>) -> anyhow::Result<()> {
        match &found.numbers {
            Numbers::Answer(answer) if self.is_for_people => {
                let size = terminal::stdout_size().unwrap_or(view_args::SIZE);
                let look = self.look(found, size);
                write_page(answer, &Look { now, ..look }, terminal::print_styled);
                Ok(())
            }
            numbers => print_numbers(numbers, self.format, is_met, &found.notes),
        }
    }

    /// Posts what was printed, if there is a receiver.
    ///
    /// # Errors
    /// The receiver did not accept it; or `done`.
    pub async fn post(&self, webhook: Option<Webhook>, found: &Found, done: anyhow::Result<()>) -> anyhow::Result<()> {
        let Some(webhook) = webhook else {
            return done;
        };
        let report = match &found.numbers {
            Numbers::Answer(answer) if self.is_for_people => {
                let look = self.look(found, webhook::SIZE);
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
            numbers => numbers.render(self.format).context("cannot write the report")?,
        };
        webhook.post(self.format, report, done).await
    }

    /// The page of a watched report, which fits the window.
    pub fn draw(&self, found: &Found, refresh: &Refresh, size: Size, pause: Duration) -> StyledText {
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
        let mut page = StyledText::new(self.view.has_styles());
        let look = Look {
            lines_max: Some(usize::from(size.lines).saturating_sub(1)),
            now: Some(Utc::now()),
            notes: &notes,
            tip: Some(found.tip.as_deref().unwrap_or(&state)),
            ..self.look(found, size)
        };
        write_page(answer, &look, |text| {
            page.append(text);
            true
        });
        page
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
