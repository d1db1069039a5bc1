//! What a process shares with its surroundings: threads, stdout, log lines on stderr, and the signals that end it.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The drivers' own lines, left out unless `CAPTCHA_LOG` names them: they log each retry and, of a failed login, what
/// they sent; what matters of it stands in our own lines.
const DRIVERS_OFF: &str = "rskafka=off,klickhouse=off";

/// Exit code after a second signal: what a shell reports of a process that SIGINT ended.
const HURRIED: i32 = 130;

/// What became of stdout.
static STDOUT: Mutex<Stdout> = Mutex::new(Stdout::Open);

#[derive(Debug)]
enum Stdout {
    Open,
    /// Its reader has seen enough, as that of `captcha report | head`.
    Closed,
    /// It could not be written for another reason, such as a full disk.
    Failed(io::Error),
}

/// Writes to stdout, and says whether anybody may read what comes next. Never a reason to stop the work that the text is
/// about: what nobody reads is dropped, and anything but a closed pipe is a failure at the end, see [`check_stdout`].
pub fn print(text: &[u8]) -> bool {
    let mut state = STDOUT.lock().unwrap_or_else(PoisonError::into_inner);
    if matches!(*state, Stdout::Open) {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text).and_then(|()| stdout.flush()) {
            Ok(()) => {}
            Err(err) if err.kind() == io::ErrorKind::BrokenPipe => *state = Stdout::Closed,
            Err(err) => *state = Stdout::Failed(err),
        }
    }
    matches!(*state, Stdout::Open)
}

/// Whether all that was printed was written, or is missed by nobody.
///
/// # Errors
/// Some of it is lost.
pub fn check_stdout() -> anyhow::Result<()> {
    let state = STDOUT.lock().unwrap_or_else(PoisonError::into_inner);
    match &*state {
        Stdout::Failed(err) => {
            anyhow::bail!("cannot write to stdout: {err}; the work is done, only lines are lost")
        }
        Stdout::Open | Stdout::Closed => Ok(()),
    }
}

/// Starts logging to stderr: for people on a terminal, one JSON object a line elsewhere.
///
/// # Errors
/// `CAPTCHA_LOG` is not a filter.
pub fn start_logging() -> anyhow::Result<()> {
    let filter = log_filter(&std::env::var("CAPTCHA_LOG").unwrap_or_default())?;
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let terminal = std::io::stderr().is_terminal();
    if terminal {
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        registry
            .with(layer.with_ansi(colours).with_target(false))
            .try_init()?;
    } else {
        registry.with(layer.json().flatten_event(true)).try_init()?;
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let place = place.unwrap_or_default();
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let reason = text.unwrap_or("no reason");
        tracing::error!(place, reason, "a bug: a thread panicked");
    }));
    Ok(())
}

/// A level is meant for our own lines; anything else is a filter as tracing has them, such as `info,rskafka=debug`.
fn log_filter(text: &str) -> anyhow::Result<EnvFilter> {
    let refuse = |reason: String| {
        anyhow::anyhow!("CAPTCHA_LOG={text} is not a log filter: {reason}; try info or debug")
    };
    let directives = match text.parse::<LevelFilter>() {
        _ if text.is_empty() => format!("{},{DRIVERS_OFF}", LevelFilter::INFO),
        Ok(level) => format!("{level},{DRIVERS_OFF}"),
        // The library would take a misspelt level for the name of a module, and log nothing.
        Err(_) if !text.contains('=') => return Err(refuse("no such level".to_string())),
        Err(_) => text.to_string(),
    };
    let filter = EnvFilter::builder().parse(&directives);
    filter.map_err(|err| refuse(err.to_string()))
}

/// Runs a subcommand to its end, on threads of its own.
///
/// # Errors
/// Those of the subcommand, or threads cannot be started.
pub fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = Runtime::new().context("cannot start threads")?;
    let outcome = runtime.block_on(work);
    // Without waiting for a name that is still being looked up.
    runtime.shutdown_background();
    outcome
}

/// A token that SIGTERM or SIGINT cancels. A second signal ends the process at once.
///
/// # Errors
/// The signals cannot be listened to.
pub fn shutdown_token() -> anyhow::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = signals()?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        let name = either(&mut terminate, &mut interrupt).await;
        tracing::info!(signal = name, "stopping; a second signal stops at once");
        cancelled.cancel();
        either(&mut terminate, &mut interrupt).await;
        std::process::exit(HURRIED);
    });
    Ok(token)
}

/// A signal ended the work before it was done.
#[derive(Debug)]
pub struct Stopped(&'static str);

impl Stopped {
    /// What a shell reports of a process that the signal ended.
    pub fn exit_code(&self) -> u8 {
        match self.0 {
            "SIGINT" => 130,
            _ => 143,
        }
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stopped by {} before it was done; run it again", self.0)
    }
}

impl std::error::Error for Stopped {}

/// Does work that may end at any moment, and ends it at once with SIGTERM or SIGINT. Without that the first process of a
/// container, which has no default for signals, would not end.
///
/// # Errors
/// Those of the work, or [`Stopped`].
pub async fn unless_stopped(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = signals()?;
    tokio::select! {
        done = work => done,
        name = either(&mut terminate, &mut interrupt) => Err(Stopped(name).into()),
    }
}

fn signals() -> anyhow::Result<(Signal, Signal)> {
    let terminate = signal(SignalKind::terminate()).context("cannot listen to SIGTERM")?;
    let interrupt = signal(SignalKind::interrupt()).context("cannot listen to SIGINT")?;
    Ok((terminate, interrupt))
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_for_our_own_lines() {
        for (text, filter) in [
            ("", "klickhouse=off,rskafka=off,info"),
            ("debug", "klickhouse=off,rskafka=off,debug"),
            ("info,rskafka=debug", "rskafka=debug,info"),
        ] {
            assert_eq!(log_filter(text).unwrap().to_string(), filter);
        }
    }

    #[test]
    fn what_is_no_filter_is_refused_once() {
        for text in ["verbose", "nonsense===", "info,verbose"] {
            let line = format!("{:#}", log_filter(text).unwrap_err());
            assert!(
                line.contains(&format!("CAPTCHA_LOG={text} is not")),
                "{line}"
            );
            assert_eq!(
                line.matches("error parsing").count(),
                usize::from(text.contains('=')),
                "{line}"
            );
        }
    }
}
