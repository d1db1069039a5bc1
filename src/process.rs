//! What a process shares with its surroundings: threads, stdout and stderr, and the signals that end it.

#![expect(clippy::disallowed_methods, reason = "here is where what is printed is escaped")]

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{logging, printed};

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

/// Writes lines to stdout, and says whether anybody may read what comes next. Never a reason to stop the work that the text is
/// about: what nobody reads is dropped, and anything but a closed pipe is a failure at the end, see [`check_stdout`].
pub fn print(text: &str) -> bool {
    let text = printed::page(text);
    let mut state = STDOUT.lock().unwrap_or_else(PoisonError::into_inner);
    if matches!(*state, Stdout::Open) {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
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

/// Writes to stderr as it is.
///
/// # Errors
/// stderr is closed, or full.
pub fn write_stderr(text: &str) -> io::Result<()> {
    io::stderr().write_all(text.as_bytes())
}

/// Says something for people on stderr: a line, without its end.
pub fn complain(text: &str) {
    // A closed stderr has no reader.
    let _ = write_stderr(&format!("{}\n", printed::log_line(text)));
}

/// Says what is going on, if somebody watches.
pub fn progress(text: &str) {
    if stderr_is_terminal() {
        complain(text);
    }
}

/// Whether somebody watches what is said on stderr.
pub fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Warns of a process that serves or consumes as root, which neither needs: a fault in it would have the whole machine.
pub fn warn_of_root() {
    if rustix::process::geteuid().is_root() {
        tracing::warn!("this process runs as root and needs no right of it; run it as another user");
    }
}

/// Ends the process with what the command line's parser says: help, or wrong usage with what was given.
pub fn exit_with(said: &clap::Error) -> ! {
    let text = said.render().ansi().to_string();
    match said.use_stderr() {
        true => drop(write_stderr(&printed::log_page(&text))),
        false => drop(print(&text)),
    }
    std::process::exit(said.exit_code());
}

/// Runs a subcommand to its end, on threads of its own.
///
/// # Errors
/// Those of the subcommand, or threads cannot be started.
pub fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = Runtime::new().context("cannot start threads")?;
    runtime.spawn(logging::log_each_minute());
    let outcome = runtime.block_on(work);
    logging::log_left_out();
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
