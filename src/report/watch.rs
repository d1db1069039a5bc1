//! `--watch`: the page of a report, asked for again and again, and drawn in place.

use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::view_args::SIZE;
use crate::terminal::{Size, StyledText, make_room, show_page, stdout_size};
use crate::{runtime, terminal};

/// The outcome of the last refresh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refresh {
    /// Microseconds since 1970.
    Done { at_micros: i64 },
    /// The numbers are those of `at_micros`.
    Failing {
        at_micros: i64,
        since_micros: i64,
        reason: String,
    },
}

impl Refresh {
    fn at_micros(&self) -> i64 {
        match self {
            Refresh::Done { at_micros } | Refresh::Failing { at_micros, .. } => *at_micros,
        }
    }
}

/// Asks and draws until the process is stopped, and ends it then: what is on the screen stays there.
///
/// # Errors
/// The first question fails, or signals cannot be listened to.
pub async fn watch<T>(
    pause: Duration,
    ask: impl AsyncFn() -> anyhow::Result<T>,
    draw: impl Fn(&T, &Refresh, Size) -> StyledText,
) -> anyhow::Result<()> {
    let mut resizes = signal(SignalKind::window_change()).context("cannot listen to SIGWINCH")?;
    let mut latest = super::progress::with_progress("asking ClickHouse", ask()).await?;
    let mut refresh = Refresh::Done { at_micros: now() };
    let again = || async {
        tokio::time::sleep(pause).await;
        ask().await
    };
    let mut asking = std::pin::pin!(again());
    let mut stopped = std::pin::pin!(runtime::stopped());
    make_room(stdout_size().unwrap_or(SIZE));
    loop {
        let size = stdout_size().unwrap_or(SIZE);
        if !show_page(&draw(&latest, &refresh, size), size) {
            return terminal::check_stdout();
        }
        tokio::select! {
            stopped = &mut stopped => std::process::exit(stopped?.exit_code().into()),
            _ = resizes.recv() => {}
            answer = &mut asking => {
                refresh = match answer {
                    Ok(answer) => {
                        latest = answer;
                        Refresh::Done { at_micros: now() }
                    }
                    Err(error) => failing(&refresh, &error),
                };
                asking.set(again());
            }
        }
    }
}

fn failing(before: &Refresh, error: &anyhow::Error) -> Refresh {
    let since_micros = match before {
        Refresh::Done { .. } => now(),
        Refresh::Failing { since_micros, .. } => *since_micros,
    };
    Refresh::Failing {
        at_micros: before.at_micros(),
        since_micros,
        reason: format!("{error:#}"),
    }
}

fn now() -> i64 {
    chrono::Utc::now().timestamp_micros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_keep_the_moment_of_the_first_and_of_the_numbers() {
        let error = anyhow::anyhow!("refused").context("cannot connect");
        let first = failing(&Refresh::Done { at_micros: 7 }, &error);
        let Refresh::Failing {
            at_micros,
            since_micros,
            reason,
        } = &first
        else {
            panic!("{first:?}");
        };
        assert_eq!((*at_micros, reason.as_str()), (7, "cannot connect: refused"));
        assert!(*since_micros > 7);
        assert_eq!(failing(&first, &error), first);
    }
}
