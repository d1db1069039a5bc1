//! Help: `-h` is one screen with what is needed often, `--help` is everything.

use std::ffi::OsString;

use clap::Command;
use clap::builder::Resettable;

use super::examples::{Example, examples};

/// Flags that a command shows in `-h`, by their ids, each with what it is in a few words. The others are in `--help`.
const OFTEN: [(&str, &[(&str, &str)]); 10] = [
    (
        "serve",
        &[
            ("listen", "API"),
            ("admin_listen", "Health and metrics"),
            ("keys_file", "API keys; without it, all have access"),
            ("sites_file", "Names of sites"),
            ("tls_certificate_file", "Certificate chain in PEM"),
            ("tls_key_file", "Its private key in PEM"),
            ("cors_origins", "Web pages that may call, by origin"),
            ("host", "Names of this server"),
            ("trusted_proxies", "Proxies that name their client"),
            ("kafka_brokers", "Kafka"),
            ("kafka_topic", "Topic of the events"),
            ("clickhouse_addr", "ClickHouse"),
            ("clickhouse_user", "User"),
            ("clickhouse_password_file", "File that holds the password"),
        ],
    ),
    (
        "serve new-key",
        &[
            ("role", "write sends events, read reads reports"),
            ("sites", "* for all, or UUIDs with commas between"),
            ("rate", "Events or requests a second"),
            ("burst", "Events or requests at once"),
            ("expires", "2027-01-31 or 2027-01-31T18:00:00Z"),
            ("note", "A comment, such as whose key it is"),
            ("key_out", "A new file for the key"),
        ],
    ),
    (
        "serve new-link",
        &[
            ("link_secret_file", "File of the secrets of links"),
            ("key", "ID of the read key that it acts for"),
            ("expires", "2027-01-31, or 90d"),
            ("base_url", "How readers reach `captcha serve`"),
            ("query", "Parameters of the picture, such as 'period=30d'"),
        ],
    ),
    ("serve keys", &[("keys_file", "File of API keys")]),
    (
        "consume",
        &[
            ("admin_listen", "Health and metrics"),
            ("partition_share", "I of N, I from 0"),
            ("kafka_brokers", "Kafka"),
            ("kafka_topic", "Topic of the events"),
            ("clickhouse_addr", "ClickHouse"),
            ("clickhouse_user", "User"),
            ("clickhouse_password_file", "File that holds the password"),
        ],
    ),
    (
        "migrate",
        &[
            ("dry_run", "Show what would be done"),
            ("status", "Show what is applied"),
            ("wait", "How long to wait for servers"),
            ("partitions", "Partitions of a new topic [4]"),
            ("retention", "How long Kafka keeps records [7d]"),
            ("kafka_brokers", "Kafka"),
            ("kafka_topic", "Topic of the events"),
            ("clickhouse_addr", "ClickHouse"),
            ("clickhouse_user", "User"),
            ("clickhouse_password_file", "File that holds the password"),
        ],
    ),
    (
        "migrate drop-months",
        &[
            ("before", "The first month that stays, UTC"),
            ("dry_run", "Show what would be dropped"),
            ("clickhouse_addr", "ClickHouse"),
            ("clickhouse_user", "User"),
            ("clickhouse_password_file", "File that holds the password"),
        ],
    ),
    (
        "report",
        &[
            ("period", "today, yesterday, 7d, 30d, month, ..."),
            ("from", "First day, such as 2026-01-31"),
            ("to", "The day after the last one"),
            ("interval", "hour, day, week, month or all [day]"),
            ("timezone", "Such as Europe/Berlin [UTC]"),
            ("by", "site or none [site]"),
            ("site_id", "Only this site; may be repeated"),
            ("top", "The largest sites, the rest as one"),
            ("metrics", "solve_rate, solve_time_p50, ..."),
            ("compare", "previous_period, previous_week, ..."),
            ("format", "table, json, ndjson or csv"),
            ("watch", "Refresh the table until Ctrl-C"),
            ("sites_file", "Names of sites"),
            ("clickhouse_addr", "ClickHouse"),
            ("clickhouse_user", "User"),
            ("clickhouse_password_file", "File that holds the password"),
        ],
    ),
    (
        "report audit",
        &[
            ("from", "First day of arrival"),
            ("to", "The day after the last one"),
            ("format", "table or json"),
            ("kafka_brokers", "Kafka"),
            ("kafka_topic", "Topic of the events"),
            ("clickhouse_addr", "ClickHouse"),
            ("clickhouse_user", "User"),
            ("clickhouse_password_file", "File that holds the password"),
        ],
    ),
    (
        "report dead-letters",
        &[
            ("from", "First day of arrival"),
            ("to", "The day after the last one"),
            ("limit", "At most this number of records"),
            ("format", "table or ndjson"),
            ("kafka_topic", "Topic of the events"),
            ("clickhouse_addr", "ClickHouse"),
            ("clickhouse_user", "User"),
            ("clickhouse_password_file", "File that holds the password"),
        ],
    ),
];

pub const SETTINGS: &str = "\
Every flag with [env: ...] in `captcha COMMAND --help` is an environment variable too. An empty one counts as absent, \
and a switch is true or false, 1 or 0, yes or no, on or off. CAPTCHA_LOG is error, warn, info (the default), debug or \
trace.";

pub const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 an audit found damage, 4 a report is not as complete as required, 5 \
fewer challenges were solved than required, 130 and 143 stopped by SIGINT and SIGTERM.";

/// Whether the words ask for the help of one screen.
pub fn is_short_asked(words: &[OsString]) -> bool {
    words.iter().any(|word| word == "-h") && !words.iter().any(|word| word == "--help")
}

/// Adds the list of all commands to the help of the program, and examples to that of each command.
pub fn with_examples(command: Command) -> Command {
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\nCommands:\n{}\nOptions:\n{{options}}{{after-help}}",
        list(&command)
    );
    with_examples_below(command, "")
        .help_template(template)
        .after_help("`captcha COMMAND -h` is short, `captcha COMMAND --help` is everything.")
        .after_long_help(format!("{SETTINGS}\n\n{EXIT_CODES}"))
}

/// `above` is the words of the command.
fn with_examples_below(command: Command, above: &str) -> Command {
    let command = match examples(above) {
        [] => command,
        [first, ..] => with_example_text(command, above, std::slice::from_ref(first)),
    };
    let nested: Vec<_> = command
        .get_subcommands()
        .map(|nested| nested.get_name().to_string())
        .collect();
    nested.into_iter().fold(command, |command, name| {
        let words = format!("{above} {name}").trim_start().to_string();
        command.mut_subcommand(&name, |nested| with_examples_below(nested, &words))
    })
}

fn with_example_text(command: Command, words: &str, short: &[Example]) -> Command {
    let short = format!(
        "{}\n`captcha {words} --help` has every flag, with its environment variable.",
        text(short)
    );
    command.after_help(short).after_long_help(text(examples(words)))
}

fn text(examples: &[Example]) -> String {
    let title = match examples {
        [_] => "Example:\n",
        _ => "Examples:\n",
    };
    let example = |example: &Example| {
        let lines = example.lines.iter().map(|line| format!("  {line}\n"));
        format!("  # {}\n{}", example.purpose, lines.collect::<String>())
    };
    let examples: Vec<_> = examples.iter().map(example).collect();
    format!("{title}{}", examples.join("\n"))
}

/// All commands, those of commands too, a line for each.
fn list(command: &Command) -> String {
    let rows = rows(command, "");
    let width = rows.iter().map(|(words, _)| words.len()).max().unwrap_or_default();
    let line = |(words, about): &(String, String)| format!("  {words:width$}  {about}\n");
    rows.iter().map(line).collect()
}

fn rows(command: &Command, above: &str) -> Vec<(String, String)> {
    let rows = command.get_subcommands().flat_map(|nested| {
        let words = format!("{above} {}", nested.get_name()).trim_start().to_string();
        let about = nested.get_about().map(ToString::to_string).unwrap_or_default();
        let below = rows(nested, &words);
        std::iter::once((words, about)).chain(below)
    });
    rows.collect()
}

/// Leaves in the help of every command what fits on one screen.
pub fn shorten(command: Command) -> Command {
    OFTEN.iter().fold(command, |command, (words, often)| {
        let names: Vec<_> = words.split(' ').collect();
        shorten_one(command, &names, often)
    })
}

fn shorten_one(command: Command, names: &[&str], often: &[(&str, &'static str)]) -> Command {
    if let [name, below @ ..] = names {
        return command.mut_subcommand(name, |nested| shorten_one(nested, below, often));
    }
    let command = command.mut_args(|arg| match often.iter().find(|(id, _)| *id == arg.get_id().as_str()) {
        Some((_, help)) => {
            let default = arg
                .get_default_values()
                .iter()
                .filter(|value| !value.is_empty())
                .map(|value| format!(" [{}]", value.display()));
            let help = format!("{help}{}", default.collect::<String>());
            let takes_value = arg.get_action().takes_values();
            let arg = arg
                .help(help)
                .long_help(Resettable::Reset)
                .help_heading(Resettable::Reset);
            let arg = arg
                .hide_env(true)
                .hide_possible_values(takes_value)
                .hide_default_value(takes_value);
            match arg.get_id().as_str() {
                "kafka_brokers" | "clickhouse_addr" => arg.value_name("HOST:PORT"),
                _ => arg,
            }
        }
        None => arg.hide(true),
    });
    command.long_about(Resettable::Reset)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::super::examples::COLUMNS_MAX;
    use super::super::{Cli, prepare};
    use super::*;

    /// A screen of 80 columns.
    const COLUMNS: usize = 80;

    /// Lines of a short help.
    const LINES_MAX: usize = 40;

    fn command() -> Command {
        with_examples(prepare(Cli::command())).term_width(COLUMNS)
    }

    /// All commands by their words, the program first.
    fn all(command: &Command, above: &str) -> Vec<(String, Command)> {
        let mut all = vec![(above.to_string(), command.clone())];
        for nested in command.get_subcommands() {
            let words = format!("{above} {}", nested.get_name()).trim_start().to_string();
            all.extend(self::all(nested, &words));
        }
        all
    }

    fn built(mut command: Command) -> Command {
        command.build();
        command
    }

    fn commands() -> Vec<(String, Command)> {
        let all = all(&built(command()), "");
        all.into_iter()
            .filter(|(words, _)| !words.ends_with("help") && !words.contains("help "))
            .collect()
    }

    #[test]
    fn every_short_help_is_one_screen() {
        for (words, mut command) in all(&built(shorten(command())), "") {
            let help = command.render_help().to_string();
            let lines = help.trim_end().lines().count();
            assert!(lines <= LINES_MAX, "{words}: {lines} lines\n{help}");
            let long: Vec<_> = help.lines().filter(|line| line.chars().count() > COLUMNS).collect();
            assert!(long.is_empty(), "{words}: {long:#?}");
        }
    }

    #[test]
    fn every_flag_of_a_short_help_is_on_one_line() {
        let commands = all(&built(shorten(command())), "");
        for (words, often) in OFTEN {
            let (_, command) = commands.iter().find(|(other, _)| other == words).expect(words);
            let help = command.clone().render_help().to_string();
            for (id, short) in often {
                let arg = command.get_arguments().find(|arg| arg.get_id() == id).expect(id);
                let flag = match arg.is_positional() {
                    true => format!("[{}]", id.to_uppercase()),
                    false => format!("--{}", id.replace('_', "-")),
                };
                // The value may follow after `[=`.
                let line_has = |word: &str| word == flag || word.starts_with(&format!("{flag}["));
                let is_line = |line: &str| line.split(' ').any(line_has) && line.contains(short);
                assert!(help.lines().any(is_line), "{words} {flag}:\n{help}");
            }
        }
    }

    #[test]
    fn every_command_has_a_short_help_and_an_example() {
        for (words, _) in commands().iter().filter(|(words, _)| !words.is_empty()) {
            assert!(OFTEN.iter().any(|(often, _)| often == words), "{words}");
            assert!(!examples(words).is_empty(), "{words}");
        }
    }

    #[test]
    fn no_line_of_an_example_is_broken() {
        for (words, mut command) in commands() {
            let (short, long) = (
                command.render_help().to_string(),
                command.render_long_help().to_string(),
            );
            for (number, example) in examples(&words).iter().enumerate() {
                for line in example.lines {
                    assert!(line.len() <= COLUMNS_MAX, "{words}: {line}");
                    let line = format!("  {line}");
                    assert!(long.lines().any(|other| other == line), "{words}: {line}\n{long}");
                    assert!(
                        number > 0 || short.lines().any(|other| other == line),
                        "{words}: {line}\n{short}"
                    );
                }
            }
        }
    }

    #[test]
    fn every_example_is_a_line_that_the_program_reads() {
        for (words, _) in commands() {
            for example in examples(&words) {
                let line: String = example.lines.iter().map(|line| line.trim_end_matches('\\')).collect();
                let line = line.split(" >").next().unwrap_or_default().replace('\'', "");
                assert!(line.starts_with(&format!("captcha {words}")), "{line}");
                let read = command().try_get_matches_from(line.replace("the shop", "shop").split_whitespace());
                assert!(read.is_ok(), "{line}: {}", read.unwrap_err());
            }
        }
    }

    #[test]
    fn the_help_of_the_program_lists_every_command() {
        let commands = commands();
        for help in [command().render_help(), command().render_long_help()] {
            let help = help.to_string();
            for (words, nested) in commands.iter().filter(|(words, _)| !words.is_empty()) {
                let about = nested.get_about().unwrap().to_string();
                let is_line = |line: &str| line.starts_with(&format!("  {words} ")) && line.ends_with(&about);
                let line = help.lines().find(|line| is_line(line));
                assert!(
                    line.is_some_and(|line| line.len() <= COLUMNS),
                    "{words}: {about}\n{help}"
                );
            }
        }
    }

    #[test]
    fn the_commands_are_four() {
        let names: Vec<_> = Cli::command()
            .get_subcommands()
            .map(|nested| nested.get_name().to_string())
            .collect();
        assert_eq!(names, ["serve", "consume", "migrate", "report"]);
    }

    #[test]
    fn only_minus_h_asks_for_one_screen() {
        let asks = |line: &str| is_short_asked(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert!(asks("captcha report -h"));
        for line in [
            "captcha report --help",
            "captcha -h report --help",
            "captcha report",
            "captcha help report",
        ] {
            assert!(!asks(line), "{line}");
        }
    }
}
