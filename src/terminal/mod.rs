//! What people read on a terminal: stdout and stderr, with everything escaped that does not show.

#![expect(clippy::disallowed_methods, reason = "here is where what is printed is escaped")]

pub mod escape;
pub mod redact;

use std::io::{self, IsTerminal as _, Write as _};

use parking_lot::Mutex;

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

/// Writes lines to stdout, and says whether anybody may read what comes next. Never a reason to stop the work that the
/// text is about: what nobody reads is dropped, and anything but a closed pipe is a failure at the end, see
/// [`check_stdout`].
pub fn print(text: &str) -> bool {
    let text = escape::page(text);
    let mut state = STDOUT.lock();
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
    let state = STDOUT.lock();
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
    let _ = write_stderr(&format!("{}\n", escape::log_line(text)));
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

/// Ends the process with what the command line's parser says: help, or wrong usage with what was given.
pub fn exit_with(said: &clap::Error) -> ! {
    let text = said.render().ansi().to_string();
    match said.use_stderr() {
        true => drop(write_stderr(&escape::log_page(&text))),
        false => drop(print(&text)),
    }
    std::process::exit(said.exit_code());
}
