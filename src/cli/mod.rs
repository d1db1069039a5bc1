//! The command line: the four commands, how flags and their environment variables are read, help, and exit codes.

mod completions;
mod examples;
mod help;
mod man;
mod tips;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::builder::{Resettable, Styles};
use clap::{Arg, ArgAction, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::telemetry::logging;
use crate::{consume, migrate, report, runtime, serve, terminal};

/// Captcha events in over HTTP, through Kafka, into ClickHouse exactly once, and exact statistics out.
#[derive(Parser)]
#[command(
    name = "captcha",
    version,
    arg_required_else_help = true,
    args_conflicts_with_subcommands = true,
    override_usage = "captcha <COMMAND>\n       captcha --completions <SHELL>\n       captcha --man"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    /// Print completions: bash, elvish, fish, powershell or zsh
    #[arg(long, value_name = "SHELL", hide_possible_values = true, conflicts_with = "man")]
    completions: Option<Shell>,

    /// Print the manual page, for `man -l -`
    #[arg(long)]
    man: bool,
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
    let words: Vec<OsString> = std::env::args_os().collect();
    let cli = parse(&words).unwrap_or_else(|err| terminal::exit_with_clap_error(&err));
    let outcome = match (cli.command, cli.completions) {
        (Some(command), _) => logging::init().map(|()| run_command(command)),
        (None, Some(shell)) => Ok(print_page(&completions::script(shell, Cli::command()))),
        // clap has refused a line without any of them.
        (None, None) => Ok(man::pages(Cli::command()).and_then(|pages| print_page(&pages))),
    };
    let (code, failure) = match outcome.map(|outcome| outcome.and_then(|()| terminal::check_stdout())) {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(err)) => (exit_code(&err), err),
        // A wrong setting, with the exit code that clap has for those.
        Err(err) => (2, err),
    };
    terminal::print_error(&format!("captcha: {failure:#}"));
    ExitCode::from(code)
}

/// Parses the words of a command line, of which the first is the program.
fn parse(words: &[OsString]) -> Result<Cli, clap::Error> {
    let command = help::with_examples(prepare(Cli::command()));
    let command = match help::is_short_asked(words) {
        true => help::shorten(command),
        false => command,
    };
    // Without colours: they would look like escapes in the arguments.
    let mut command = command.styles(Styles::plain());
    let matches = command.try_get_matches_from_mut(words);
    let parsed = matches.and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|err| tips::add(err, &command, words).format(&mut command))
}

/// Prints what has nothing to escape.
fn print_page(page: &str) -> anyhow::Result<()> {
    terminal::print(page);
    Ok(())
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
