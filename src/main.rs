//! `captcha`: captcha events in over HTTP, through Kafka, into ClickHouse exactly once, and statistics out.

mod broker;
mod consume;
mod event;
mod http;
mod migrate;
mod process;
mod report;
mod serve;
mod store;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Captcha events in over HTTP, through Kafka, into ClickHouse exactly once, and exact statistics out.
#[derive(Parser)]
#[command(
    version,
    after_help = "Every flag has an environment variable. CAPTCHA_LOG sets what is logged (info, debug).\nExit codes: 0 done, 1 failed, 2 wrong usage."
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
    let cli = Cli::parse();
    match start(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            // stderr may be closed; there is nobody else to tell.
            let _ = writeln!(std::io::stderr(), "captcha: {err:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn start(command: Command) -> anyhow::Result<()> {
    process::start_logging()?;
    match command {
        Command::Serve(args) => serve::run(args, process::shutdown_token()?).await,
        Command::Consume(args) => consume::run(args, process::shutdown_token()?).await,
        Command::Migrate(args) => migrate::run(args).await,
        Command::Report(args) => report::run(args).await,
    }
}
