//! The runtime of a process: its threads, and the signals that end it.

use anyhow::Context as _;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::telemetry::logging;

/// As a shell reports a process that SIGINT ended.
const SECOND_SIGNAL_EXIT_CODE: i32 = 130;

/// Warns if a process serves or consumes as root. Neither needs that, and a fault in it would have the whole machine.
pub fn warn_if_root() {
    if rustix::process::geteuid().is_root() {
        tracing::warn!("this process runs as root and does not need to; run it as another user");
    }
}

/// Runs a subcommand to its end, on threads of its own.
///
/// # Errors
/// Those of the subcommand, or threads cannot be started.
pub fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = Runtime::new().context("cannot start threads")?;
    runtime.spawn(logging::log_suppressed_each_minute());
    let outcome = runtime.block_on(work);
    logging::log_suppressed();
    // Does not wait for a name that is still being resolved.
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
        let name = first_signal(&mut terminate, &mut interrupt).await;
        tracing::info!(signal = name, "stopping; a second signal stops at once");
        cancelled.cancel();
        first_signal(&mut terminate, &mut interrupt).await;
        std::process::exit(SECOND_SIGNAL_EXIT_CODE);
    });
    Ok(token)
}

/// A signal ended the work before it was done.
#[derive(Debug, thiserror::Error)]
#[error("stopped by {0} before it was done; run it again")]
pub struct Stopped(&'static str);

impl Stopped {
    /// As a shell reports a process that the signal ended.
    pub fn exit_code(&self) -> u8 {
        match self.0 {
            "SIGINT" => 130,
            _ => 143,
        }
    }
}

/// Waits for SIGTERM or SIGINT, for work that ends by itself then.
///
/// # Errors
/// The signals cannot be listened to.
pub async fn stopped() -> anyhow::Result<Stopped> {
    let (mut terminate, mut interrupt) = signals()?;
    Ok(Stopped(first_signal(&mut terminate, &mut interrupt).await))
}

/// Runs work that may end at any moment, and ends it at once on SIGTERM or SIGINT, unless it does so by itself. Without
/// that the first process of a container, which has no default action for signals, would not end.
///
/// # Errors
/// Those of the work, or [`Stopped`].
pub async fn run_unless_stopped(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = signals()?;
    tokio::select! {
        biased;
        done = work => done,
        name = first_signal(&mut terminate, &mut interrupt) => Err(Stopped(name).into()),
    }
}

fn signals() -> anyhow::Result<(Signal, Signal)> {
    let terminate = signal(SignalKind::terminate()).context("cannot listen to SIGTERM")?;
    let interrupt = signal(SignalKind::interrupt()).context("cannot listen to SIGINT")?;
    Ok((terminate, interrupt))
}

async fn first_signal(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
