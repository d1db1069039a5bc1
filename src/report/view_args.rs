//! How a report is shown to people.

use std::time::Duration;

use clap::ColorChoice;

use super::page::Format;
use super::question::exit_with_wrong_flags;
use super::view::signs::{ASCII, Signs, UTF8};
use crate::terminal::{self, Size};

/// The size of a page that is not for a window.
pub const SIZE: Size = Size { columns: 80, lines: 24 };

/// Seconds between two refreshes of a watched report: consumers store each second, and a question takes a tenth of one.
const WATCH_SECONDS: &str = "5";

#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Output")]
pub struct ViewArgs {
    /// When to colour a table for people; `always` also writes that table into a pipe. NO_COLOR, CLICOLOR and
    /// CLICOLOR_FORCE decide about `auto`
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    color: ColorChoice,

    /// Show the table again every SECONDS, in place, until Ctrl-C [default: 5 if no number is given]
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = WATCH_SECONDS,
        value_parser = clap::value_parser!(u64).range(1..=86_400),
        conflicts_with_all = ["input", "require_complete_through", "require_solve_rate", "webhook_url_file"]
    )]
    watch: Option<u64>,
}

impl ViewArgs {
    /// Whether the report is a page, and not rows for a program.
    pub fn is_for_people(&self, format: Format) -> bool {
        format == Format::Table && (terminal::stdout_is_terminal() || self.color == ColorChoice::Always)
    }

    /// Ends the process if a report cannot be watched here, as clap does.
    pub fn check(&self, format: Format) {
        if self.watch.is_none() {
            return;
        }
        if format != Format::Table {
            exit_with_wrong_flags("--watch: shows a table; leave out --format, or --watch\n");
        }
        if !terminal::stdout_is_terminal() || !terminal::has_cursor() {
            exit_with_wrong_flags(
                "--watch: needs a terminal as stdout, and TERM other than dumb; without --watch, the report is \
                 printed once\n",
            );
        }
    }

    /// The time between two refreshes.
    pub fn watch(&self) -> Option<Duration> {
        self.watch.map(Duration::from_secs)
    }

    pub fn has_styles(&self) -> bool {
        terminal::has_styles(self.color)
    }

    pub fn signs(&self) -> &'static Signs {
        if terminal::is_utf8() { &UTF8 } else { &ASCII }
    }
}
