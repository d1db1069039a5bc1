//! Log lines on stderr: for people on a terminal, one JSON object a line elsewhere.

use std::io;

use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

pub use super::log_limit::{log_suppressed, log_suppressed_each_minute, register};
use crate::terminal::{escape, stderr_is_terminal, write_stderr};

/// The target of our own lines. Those of libraries are left out unless `CAPTCHA_LOG` names them: drivers log each retry
/// and, of a failed login, what they sent; others log once for each connection that a client breaks, or a name that it
/// made up. Our own lines have what matters.
const OURS: &str = env!("CARGO_CRATE_NAME");

/// Sets up logging and the panic hook.
///
/// # Errors
/// `CAPTCHA_LOG` is not a filter.
pub fn init() -> anyhow::Result<()> {
    let filter = log_filter(&std::env::var("CAPTCHA_LOG").unwrap_or_default())?;
    let registry = tracing_subscriber::registry()
        .with(filter)
        .with(super::log_limit::LogLimit);
    let is_terminal = stderr_is_terminal();
    let colours = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // The library does not escape everything, nor everywhere; so it writes plain text, and the colours come after the
    // escapes.
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(LineWriter { colours })
        .with_ansi(false);
    if is_terminal {
        registry.with(layer.with_target(false)).try_init()?;
    } else {
        registry.with(layer.json().flatten_event(true)).try_init()?;
    }
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let reason = text.unwrap_or("no reason");
        tracing::error!(location, reason, "a bug: a thread panicked");
    }));
    Ok(())
}

/// A level alone is for our own lines; anything else is one of tracing's directives, such as `rskafka=debug`. Several
/// are separated by commas.
fn log_filter(text: &str) -> anyhow::Result<EnvFilter> {
    let refuse = |reason: &str| anyhow::anyhow!("CAPTCHA_LOG={text} is not a log filter: {reason}; try info or debug");
    let mut directives = format!("off,{OURS}={}", LevelFilter::INFO);
    for part in text.split(',').filter(|part| !part.is_empty()) {
        match part.parse::<LevelFilter>() {
            Ok(level) => directives += &format!(",{OURS}={level}"),
            // The library would take a misspelt level for the name of a module, and log nothing.
            Err(_) if !part.contains('=') => return Err(refuse("no such level")),
            Err(_) => directives += &format!(",{part}"),
        }
    }
    let filter = EnvFilter::builder().parse(&directives);
    filter.map_err(|err| refuse(&err.to_string()))
}

/// Makes a writer for each line.
struct LineWriter {
    colours: bool,
}

impl<'a> MakeWriter<'a> for LineWriter {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { colour: None }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line {
        let level = *metadata.level();
        Line {
            colour: self.colours.then_some(level),
        }
    }
}

/// A writer for one line, which arrives whole.
struct Line {
    /// The level, if it is to be in colour.
    colour: Option<Level>,
}

impl Line {
    fn escape(&self, bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(bytes);
        let line = escape::log_line(text.trim_end_matches('\n'));
        let line = match self.colour {
            Some(level) => line.replacen(level.as_str(), &coloured(level), 1),
            None => line,
        };
        line + "\n"
    }
}

impl io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_stderr(&self.escape(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The word for a level in red, yellow, green, blue or magenta.
fn coloured(level: Level) -> String {
    let colour = match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    };
    format!("\u{1b}[{colour}m{level}\u{1b}[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_for_our_own_lines() {
        for (text, filter) in [
            ("", "captcha=info,off"),
            ("debug", "captcha=debug,off"),
            ("off", "captcha=off,off"),
            ("warn,rskafka=debug", "rskafka=debug,captcha=warn,off"),
            ("rskafka=debug", "rskafka=debug,captcha=info,off"),
        ] {
            assert_eq!(log_filter(text).unwrap().to_string(), filter);
        }
    }

    #[test]
    fn what_is_no_filter_is_refused_once() {
        for text in ["verbose", "nonsense===", "info,verbose"] {
            let line = format!("{:#}", log_filter(text).unwrap_err());
            assert!(line.contains(&format!("CAPTCHA_LOG={text} is not")), "{line}");
            assert_eq!(
                line.matches("error parsing").count(),
                usize::from(text.contains('=')),
                "{line}"
            );
        }
    }

    #[test]
    fn a_line_is_one_line_whose_only_controls_are_its_colours() {
        let written = |colour| {
            let text = "2026-11-29T00:00:00Z  WARN it failed reason=WARN \u{1b}[31m\nx\u{202e}\n";
            Line { colour }.escape(text.as_bytes())
        };
        let plain = "2026-11-29T00:00:00Z  WARN it failed reason=WARN \\u001b[31m\\nx\\u202e\n";
        assert_eq!(written(None), plain);
        let coloured = plain.replacen("WARN", "\u{1b}[33mWARN\u{1b}[0m", 1);
        assert_eq!(written(Some(Level::WARN)), coloured);
    }
}
