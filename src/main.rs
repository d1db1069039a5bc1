//! `captcha`: captcha events in over HTTP, through Kafka, into ClickHouse exactly once, and statistics out.

mod broker;
mod consume;
mod event;
mod flags;
mod http;
mod logging;
mod migrate;
mod names;
mod printed;
mod process;
mod redact;
mod report;
mod serve;
mod store;
mod tested;
#[cfg(test)]
mod threats;
mod trust;

use std::process::ExitCode;

use clap::builder::Styles;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use tikv_jemallocator::Jemalloc;

/// Gives memory back to the system within seconds after a peak, by a thread of its own; the C library's allocator keeps it.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Captcha events in over HTTP, through Kafka, into ClickHouse exactly once, and exact statistics out.
#[derive(Parser)]
#[command(
    version,
    after_help = "Settings are environment variables too, as `captcha COMMAND --help` shows; an empty one counts as absent,\nand a switch is true or false, 1 or 0, yes or no, on or off.\nCAPTCHA_LOG is error, warn, info (the default), debug or trace.\nExit codes: 0 done, 1 failed, 2 wrong usage, 3 an audit found damage, 130 and 143 stopped by SIGINT and SIGTERM."
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

fn main() -> ExitCode {
    let cli = parse();
    let done = logging::start().map(|()| start(cli.command));
    let (code, failure) = match done.map(|done| done.and_then(|()| process::check_stdout())) {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(err)) => (exit_code(&err), err),
        // A wrong setting, with the exit code that clap has for those.
        Err(err) => (2, err),
    };
    process::complain(&format!("captcha: {failure:#}"));
    ExitCode::from(code)
}

fn parse() -> Cli {
    // Without colours: nothing would distinguish them from what was given.
    let mut command = flags::prepare(Cli::command()).styles(Styles::plain());
    let matches = command.try_get_matches_from_mut(std::env::args_os());
    let parsed = matches.and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.unwrap_or_else(|err| process::exit_with(&err.format(&mut command)))
}

fn exit_code(err: &anyhow::Error) -> u8 {
    match err.downcast_ref::<process::Stopped>() {
        Some(stopped) => stopped.exit_code(),
        None => report::exit_code(err),
    }
}

fn start(command: Command) -> anyhow::Result<()> {
    warn_of_unknown_settings();
    process::block_on(async {
        match command {
            Command::Serve(args) => serve::run(args, process::shutdown_token()?).await,
            Command::Consume(args) => consume::run(args, process::shutdown_token()?).await,
            Command::Migrate(args) => process::unless_stopped(migrate::run(args)).await,
            Command::Report(args) => process::unless_stopped(report::run(args)).await,
        }
    })
}

/// A misspelt variable would otherwise leave a default in force without a word.
fn warn_of_unknown_settings() {
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
