//! The completions of shells, with the words of parameters that are checked only later.

use clap::Command;
use clap::builder::PossibleValuesParser;
use clap_complete::{Shell, generate};

use crate::statistics::{PARAMETERS, words};

/// The script that teaches a shell the command line.
pub fn script(shell: Shell, command: Command) -> String {
    let mut command = with_words(command);
    let mut script = Vec::new();
    generate(shell, &mut command, "captcha", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Names the words that flags of a report take. The flags themselves take any text, because a question is checked as a
/// whole.
fn with_words(command: Command) -> Command {
    command.mut_subcommand("report", |report| {
        PARAMETERS
            .into_iter()
            .fold(report, |report, parameter| match &words(parameter)[..] {
                [] => report,
                // `--metrics` takes several, which a shell completes one by one.
                words => report.mut_arg(parameter, |arg| arg.value_parser(PossibleValuesParser::new(words))),
            })
    })
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, ValueEnum as _};

    use super::*;
    use crate::cli::Cli;
    use crate::terminal::escape;

    #[test]
    fn every_shell_completes_commands_flags_and_words() {
        for shell in Shell::value_variants() {
            let script = script(*shell, Cli::command());
            for word in [
                "dead-letters",
                "drop-months",
                "new-key",
                "completions",
                "clickhouse-password-file",
            ] {
                assert!(script.contains(word), "{shell}: {word}");
            }
            // The scripts for the other two complete no values.
            let completes_values = matches!(shell, Shell::Bash | Shell::Fish | Shell::Zsh);
            for word in [
                "last_month",
                "previous_week",
                "solve_time_p90",
                "Europe/Berlin",
                "ndjson",
                "scram-sha-512",
            ] {
                assert!(!completes_values || script.contains(word), "{shell}: {word}");
            }
            // terminal::print escapes what does not show.
            assert_eq!(escape::page(&script), script, "{shell}");
        }
    }

    #[test]
    fn the_flags_themselves_take_any_text() {
        let given = ["captcha", "report", "--period", "7 days", "--timezone", "Mars"];
        assert!(Cli::command().try_get_matches_from(given).is_ok());
    }
}
