//! The command line: the four commands, how flags and their environment variables are read, and exit codes.

use std::process::ExitCode;

use clap::builder::{Resettable, Styles};
use clap::{Arg, ArgAction, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::telemetry::logging;
use crate::{consume, migrate, report, runtime, serve, terminal};

/// Captcha events in over HTTP, through Kafka, into ClickHouse exactly once, and exact statistics out.
#[derive(Parser)]
#[command(
    version,
    after_help = "\
Settings are environment variables too, as `captcha COMMAND --help` shows; an empty one counts as absent, and a switch \
is true or false, 1 or 0, yes or no, on or off.\n\
CAPTCHA_LOG is error, warn, info (the default), debug or trace.\n\
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 an audit found damage, 4 a report is not as complete as required, 5 \
fewer challenges were solved than required, 130 and 143 stopped by SIGINT and SIGTERM."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Args),
    Consume(consume::Args),
    Migrate(migrate::Args),
    Report(report::Args),
}

/// Parses the command line and runs its command. A failure is one line on stderr.
pub fn run() -> ExitCode {
    let cli = parse();
    let outcome = logging::init().map(|()| run_command(cli.command));
    let (code, failure) = match outcome.map(|outcome| outcome.and_then(|()| terminal::check_stdout())) {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(err)) => (exit_code(&err), err),
        // A wrong setting, with the exit code that clap has for those.
        Err(err) => (2, err),
    };
    terminal::print_error(&format!("captcha: {failure:#}"));
    ExitCode::from(code)
}

fn parse() -> Cli {
    // Without colours: they would look like escapes in the arguments.
    let mut command = prepare(Cli::command()).styles(Styles::plain());
    let matches = command.try_get_matches_from_mut(std::env::args_os());
    let parsed = matches.and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.unwrap_or_else(|err| terminal::exit_with_clap_error(&err.format(&mut command)))
}

fn exit_code(err: &anyhow::Error) -> u8 {
    match err.downcast_ref::<runtime::Stopped>() {
        Some(stopped) => stopped.exit_code(),
        None => report::exit_code(err),
    }
}

fn run_command(command: Command) -> anyhow::Result<()> {
    warn_of_unknown_variables();
    runtime::block_on(async {
        match command {
            Command::Serve(args) => serve::run(args, runtime::shutdown_token()?).await,
            Command::Consume(args) => consume::run(args, runtime::shutdown_token()?).await,
            Command::Migrate(args) => runtime::run_unless_stopped(migrate::run(args)).await,
            Command::Report(args) => runtime::run_unless_stopped(report::run(args)).await,
        }
    })
}

/// Without this a misspelt variable would silently leave the default.
fn warn_of_unknown_variables() {
    let cli = Cli::command();
    let known: Vec<_> = cli
        .get_subcommands()
        .flat_map(clap::Command::get_arguments)
        .filter_map(clap::Arg::get_env)
        .collect();
    for (name, _) in std::env::vars_os() {
        let ours = name.to_string_lossy().starts_with("CAPTCHA_");
        if ours && name != "CAPTCHA_LOG" && !known.contains(&name.as_os_str()) {
            tracing::warn!(name = %name.to_string_lossy(), "no subcommand knows this setting");
        }
    }
}

/// Makes a command and its subcommands treat an empty variable as an absent one, because files of settings have empty
/// ones where nothing is chosen, and parse every switch with [`parse_switch`].
pub fn prepare(command: clap::Command) -> clap::Command {
    command.mut_args(prepare_arg).mut_subcommands(prepare)
}

fn prepare_arg(arg: Arg) -> Arg {
    let is_empty = |name| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let arg = match arg.get_env().is_some_and(is_empty) {
        // clap has read the variable already.
        true => arg.env(Resettable::Reset),
        false => arg,
    };
    match arg.get_action() {
        ArgAction::SetTrue => arg.value_parser(parse_switch),
        _ => arg,
    }
}

/// Parses the value of a switch in a variable.
fn parse_switch(text: &str) -> Result<bool, &'static str> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("expected true or false, 1 or 0, yes or no, on or off"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_on_or_off() {
        for (text, is_on) in [("1", true), (" Yes ", true), ("OFF", false), ("no", false)] {
            assert_eq!(parse_switch(text), Ok(is_on), "{text}");
        }
        for text in ["", "2", "enable", "y es"] {
            assert!(parse_switch(text).is_err(), "{text}");
        }
    }
}
