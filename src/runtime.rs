//! The runtime of a process: its threads, and the signals that end it.

use std::fmt;

use anyhow::Context as _;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::telemetry::logging;

/// Exit code after a second signal: what a shell reports of a process that SIGINT ended.
const HURRIED: i32 = 130;

/// Warns of a process that serves or consumes as root, which neither needs: a fault in it would have the whole machine.
pub fn warn_of_root() {
    if rustix::process::geteuid().is_root() {
        tracing::warn!("this process runs as root and needs no right of it; run it as another user");
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

/// Does work that may end at any moment, and ends it at once with SIGTERM or SIGINT. Without that the first process of
/// a container, which has no default for signals, would not end.
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
