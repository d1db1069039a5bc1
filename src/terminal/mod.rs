//! Lines for people on stdout and stderr, with everything escaped that does not show.

#![expect(clippy::disallowed_methods, reason = "here is where what is printed is escaped")]

pub mod escape;
pub mod redact;

use std::io::{self, IsTerminal as _, Write as _};

use parking_lot::Mutex;

/// Columns of a page that is not for a terminal, and the fewest that any page has.
const COLUMNS_MIN: u16 = 80;

/// Whether stdout can still be written.
static STDOUT: Mutex<Stdout> = Mutex::new(Stdout::Open);

#[derive(Debug)]
enum Stdout {
    Open,
    /// Its reader closed it, as in `captcha report | head`.
    Closed,
    /// A write failed for another reason, such as a full disk.
    Failed(io::Error),
}

/// Writes lines to stdout. Returns whether stdout is still open for more. A failed write never stops the work that the
/// lines are about: after a closed pipe they are dropped, and any other failure is an error at the end, see
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

/// Checks that all that was printed was written, or that its reader closed stdout.
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

/// Writes to stderr without escapes.
///
/// # Errors
/// stderr is closed, or full.
pub fn write_stderr(text: &str) -> io::Result<()> {
    io::stderr().write_all(text.as_bytes())
}

/// Prints a line on stderr; `text` has no line break.
pub fn print_error(text: &str) {
    // Nobody reads a closed stderr.
    let _ = write_stderr(&format!("{}\n", escape::log_line(text)));
}

/// Prints a line on stderr about what stdout has; `text` has no line break.
pub fn print_note(text: &str) {
    print_error(&format!("captcha: {text}"));
}

/// Prints progress, if stderr is a terminal.
pub fn print_progress(text: &str) {
    if stderr_is_terminal() {
        print_error(text);
    }
}

pub fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

pub fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Columns of a page on stdout: those of its terminal, at least 80, and 80 elsewhere.
pub fn stdout_columns() -> u16 {
    let size = rustix::termios::tcgetwinsize(io::stdout());
    size.map_or(COLUMNS_MIN, |size| size.ws_col.max(COLUMNS_MIN))
}

/// Ends the process with the text of clap: help, or wrong usage with the arguments that were given.
pub fn exit_with_clap_error(error: &clap::Error) -> ! {
    let text = error.render().ansi().to_string();
    match error.use_stderr() {
        true => drop(write_stderr(&escape::log_page(&text))),
        false => drop(print(&text)),
    }
    std::process::exit(error.exit_code());
}
