//! Lines for people on stdout and stderr, with everything escaped that does not show.

#![expect(clippy::disallowed_methods, reason = "here is where what is printed is escaped")]

pub mod escape;
pub mod redact;
mod styled;

use std::io::{self, IsTerminal as _, Write as _};

use anstream::AutoStream;
use clap::ColorChoice;
use parking_lot::Mutex;

pub use self::styled::{Style, StyledText};

/// Columns of a page that is not for a terminal, and the fewest that a page has which cannot leave out columns.
const COLUMNS_MIN: u16 = 80;

/// To the upper left corner.
const HOME: &str = "\x1b[H";

/// Removes what is right of the cursor.
const CLEAR_LINE: &str = "\x1b[K";

/// Removes what is below the cursor.
const CLEAR_BELOW: &str = "\x1b[J";

/// Columns and lines of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub columns: u16,
    pub lines: u16,
}

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
    write_stdout(&escape::page(text))
}

/// The same with text that is escaped already, and has styles.
pub fn print_styled(text: &StyledText) -> bool {
    write_stdout(text.as_str())
}

/// Scrolls what the terminal of stdout shows out of sight, before [`show_page`] writes over it.
pub fn make_room(size: Size) -> bool {
    write_stdout(&"\n".repeat(size.lines.into()))
}

/// Shows a page in place of what the terminal of stdout shows; what does not fit below is cut. No mode of the terminal
/// is changed, so that there is nothing to restore.
pub fn show_page(page: &StyledText, size: Size) -> bool {
    let mut text = HOME.to_string();
    // The cursor is on the last line.
    let lines_max = usize::from(size.lines).saturating_sub(1);
    for line in page.as_str().lines().take(lines_max) {
        text.push_str(line);
        text.push_str(CLEAR_LINE);
        text.push('\n');
    }
    text.push_str(CLEAR_BELOW);
    write_stdout(&text)
}

fn write_stdout(text: &str) -> bool {
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

/// Shows a line on the terminal of stderr that the next one replaces, until [`clear_status`]. Elsewhere nothing.
pub fn show_status(text: &str) {
    if stderr_is_terminal() && has_cursor() {
        let _ = write_stderr(&format!("\r{}{CLEAR_LINE}", escape::log_line(text)));
    }
}

/// Removes the line of [`show_status`].
pub fn clear_status() {
    if stderr_is_terminal() && has_cursor() {
        let _ = write_stderr(&format!("\r{CLEAR_LINE}"));
    }
}

/// Whether terminals of this kind move their cursor where they are asked to.
pub fn has_cursor() -> bool {
    std::env::var_os("TERM").is_some_and(|kind| !kind.is_empty() && kind != "dumb")
}

/// Whether text on stdout has styles: the choice of a flag, else as `NO_COLOR`, `CLICOLOR_FORCE` and `CLICOLOR` say,
/// else on a terminal that has them.
pub fn has_styles(choice: ColorChoice) -> bool {
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never,
    }
}

/// Whether the locale's characters are those of Unicode, as UTF-8: what else is printed for people is ASCII.
pub fn is_utf8() -> bool {
    is_utf8_locale(|name| std::env::var(name).ok())
}

fn is_utf8_locale(variable: impl Fn(&str) -> Option<String>) -> bool {
    let values = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(variable);
    let locale = { values }.find(|value| !value.is_empty()).unwrap_or_default();
    let locale = locale.to_ascii_lowercase();
    ["utf-8", "utf8"].iter().any(|charset| locale.contains(charset))
}

pub fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

pub fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Columns of a page on stdout: those of its terminal, at least 80, and 80 elsewhere.
pub fn stdout_columns() -> u16 {
    stdout_size().map_or(COLUMNS_MIN, |size| size.columns.max(COLUMNS_MIN))
}

/// The size of the terminal of stdout; `None` elsewhere, or if the terminal does not know.
pub fn stdout_size() -> Option<Size> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    let is_known = size.ws_col > 0 && size.ws_row > 0;
    is_known.then_some(Size {
        columns: size.ws_col,
        lines: size.ws_row,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_is_not_empty_is_the_locale() {
        let is_utf8 = |variables: &[(&str, &str)]| {
            is_utf8_locale(|name| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| value.to_string())
            })
        };
        for (variables, expected) in [
            (&[][..], false),
            (&[("LANG", "C")], false),
            (&[("LANG", "C.UTF-8")], true),
            (&[("LANG", "de_DE.utf8@euro")], true),
            (&[("LANG", "de_DE.UTF-8"), ("LC_ALL", "C")], false),
            (&[("LANG", "C"), ("LC_ALL", ""), ("LC_CTYPE", "en_US.UTF-8")], true),
            (&[("LANG", "ja_JP.eucJP")], false),
        ] {
            assert_eq!(is_utf8(variables), expected, "{variables:?}");
        }
    }
}
