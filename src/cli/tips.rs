//! Tips for what people try: a command or a flag that is called something else here.

use std::ffi::OsString;

use clap::Command;
use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue};

/// Words that a command does not know, and what to write. The program's own command is empty; `*` is any.
const TIPS: &[(&str, &[&str], &str)] = &[
    ("", &["audit", "verify", "check"], "`captcha report audit`"),
    (
        "",
        &["dead-letters", "dead-letter", "deadletters", "dlq"],
        "`captcha report dead-letters`",
    ),
    (
        "",
        &["new-key", "newkey", "key", "create-key"],
        "`captcha serve new-key`",
    ),
    ("", &["keys", "list-keys"], "`captcha serve keys`"),
    (
        "",
        &["new-link", "link", "embed", "badge", "picture"],
        "`captcha serve new-link`",
    ),
    ("", &["watch"], "`captcha report --watch`"),
    (
        "",
        &["drop-months", "drop", "retention"],
        "`captcha migrate drop-months`",
    ),
    ("", &["status"], "`captcha migrate --status`"),
    (
        "",
        &["completions", "completion", "complete"],
        "`captcha --completions bash`, or zsh, fish, elvish, powershell",
    ),
    ("", &["man", "manual"], "`captcha --man | man -l -`"),
    ("", &["version"], "`captcha --version`"),
    (
        "",
        &["dashboard", "ui", "web"],
        "`captcha serve` has it, at http://127.0.0.1:8000/v1/dashboard",
    ),
    (
        "",
        &["docs", "openapi"],
        "`captcha serve` has them, at http://127.0.0.1:8000/v1/docs",
    ),
    (
        "",
        &["metrics", "health"],
        "`captcha serve` and `captcha consume` have /metrics and /readyz at --admin-listen",
    ),
    (
        "",
        &[
            "stats",
            "statistics",
            "query",
            "show",
            "count",
            "counts",
            "reports",
            "top",
        ],
        "`captcha report`",
    ),
    (
        "",
        &["server", "api", "http", "run", "start", "listen"],
        "`captcha serve`",
    ),
    ("", &["consumer", "worker", "ingest"], "`captcha consume`"),
    (
        "",
        &["migrations", "migration", "init", "setup", "upgrade", "install"],
        "`captcha migrate`",
    ),
    (
        "",
        &["config", "env"],
        "settings are flags and environment variables; `captcha serve --help` lists those of serve",
    ),
    (
        "report",
        &["--since", "--after", "--start", "--begin"],
        "--from, or --period, such as --period 7d",
    ),
    (
        "report",
        &["--until", "--before", "--end"],
        "--to, the day after the last one",
    ),
    (
        "report",
        &["--date", "--day", "--on"],
        "--from and --to, or --period today or yesterday",
    ),
    ("report", &["--today"], "--period today"),
    ("report", &["--yesterday"], "--period yesterday"),
    ("report", &["--week"], "--period 7d, or --interval week"),
    (
        "report",
        &["--month"],
        "--period month or last_month, or --interval month",
    ),
    ("report", &["--year"], "--period year or 12mo"),
    (
        "report",
        &["--last", "--range", "--days", "--hours"],
        "--period 24h, 7d, 28d, 30d or 91d",
    ),
    ("report", &["--hourly", "--hour"], "--interval hour"),
    ("report", &["--daily"], "--interval day"),
    ("report", &["--weekly"], "--interval week"),
    ("report", &["--monthly"], "--interval month"),
    (
        "report",
        &["--granularity", "--bucket", "--step", "--resolution"],
        "--interval hour, day, week or month",
    ),
    (
        "report",
        &["--group-by", "--groupby", "--group", "-g"],
        "--by site or none",
    ),
    ("report", &["--total", "--totals", "--sum"], "--by none --interval all"),
    (
        "report",
        &["--sort", "--sort-by", "--reverse", "-r"],
        "--order asc or desc",
    ),
    (
        "report",
        &["--tz", "--zone", "--time-zone"],
        "--timezone, such as --timezone Europe/Berlin",
    ),
    (
        "report",
        &["--site", "--sites", "--site-ids", "-s"],
        "--site-id SITE, once for each site",
    ),
    (
        "report",
        &["-n", "--limit", "--head", "--count"],
        "--top, the number of sites",
    ),
    ("report", &["--json"], "--format json"),
    ("report", &["--ndjson", "--jsonl"], "--format ndjson"),
    ("report", &["--csv"], "--format csv"),
    ("report", &["--table", "--pretty"], "--format table"),
    (
        "report",
        &["-o", "--output"],
        "--format table, json, ndjson or csv, and `> FILE` for a file",
    ),
    (
        "report",
        &["--metric", "--columns", "--fields"],
        "--metrics, such as --metrics solve_rate",
    ),
    (
        "report",
        &["--file", "--stdin"],
        "--input FILE, or `--input -` for stdin",
    ),
    (
        "report",
        &["--follow", "-f", "-w", "--live", "--refresh"],
        "--watch, or --watch=SECONDS",
    ),
    ("report", &["--no-color", "--no-colour", "--colour"], "--color never"),
    (
        "report",
        &["--webhook", "--webhook-url", "--slack", "--post"],
        "--webhook-url-file FILE, which holds the address",
    ),
    ("report", &["--names", "--site-names"], "--sites-file FILE"),
    (
        "report",
        &["--previous", "--vs", "--against"],
        "--compare previous_period, previous_week or year_over_year",
    ),
    ("report audit", &["--json"], "--format json"),
    (
        "report dead-letters",
        &["--json", "--ndjson", "--jsonl"],
        "--format ndjson",
    ),
    ("report dead-letters", &["-n", "--head", "--top"], "--limit COUNT"),
    ("report audit", &["--since"], "--from"),
    ("report audit", &["--until"], "--to"),
    ("report dead-letters", &["--since"], "--from"),
    ("report dead-letters", &["--until"], "--to"),
    (
        "serve",
        &["--port", "-p", "--address", "--bind", "--addr"],
        "--listen IP:PORT",
    ),
    (
        "serve",
        &["--cert", "--tls-cert", "--certificate", "--tls"],
        "--tls-certificate-file and --tls-key-file",
    ),
    (
        "serve",
        &["--keys", "--api-keys", "--api-key"],
        "--keys-file FILE, whose lines `captcha serve new-key` makes",
    ),
    ("serve", &["--cors"], "--cors-origins"),
    (
        "consume",
        &["--port", "-p", "--listen", "--address"],
        "--admin-listen IP:PORT",
    ),
    (
        "consume",
        &["--group", "--group-id", "--consumer-group"],
        "--partition-share I/N; in place of a consumer group",
    ),
    (
        "consume",
        &["--share", "--partition", "--partitions"],
        "--partition-share I/N",
    ),
    ("migrate", &["--check", "--plan", "--diff"], "--dry-run"),
    ("migrate", &["--replicas", "--replication"], "--replication-factor"),
    (
        "*",
        &[
            "--brokers",
            "--broker",
            "--kafka",
            "--bootstrap-server",
            "--bootstrap-servers",
        ],
        "--kafka-brokers HOST:PORT",
    ),
    ("*", &["--topic"], "--kafka-topic"),
    (
        "*",
        &[
            "--clickhouse",
            "--clickhouse-url",
            "--clickhouse-host",
            "--clickhouse-address",
            "--database-url",
        ],
        "--clickhouse-addr HOST:PORT, of the native protocol",
    ),
    ("*", &["--database", "--db"], "--clickhouse-database"),
    ("*", &["--user", "--username", "-u"], "--clickhouse-user"),
    ("*", &["--password", "--password-file"], "--clickhouse-password-file"),
    (
        "*",
        &[
            "-v",
            "-vv",
            "--verbose",
            "--debug",
            "--trace",
            "-q",
            "--quiet",
            "--log-level",
            "--log",
        ],
        "the environment variable CAPTCHA_LOG: error, warn, info, debug or trace",
    ),
    (
        "*",
        &["-c", "--config", "--env-file"],
        "settings are flags and environment variables",
    ),
    ("*", &["--version", "-V"], "`captcha --version`"),
    ("*", &["--man"], "`captcha --man`, without a command"),
    (
        "*",
        &["--completions"],
        "`captcha --completions SHELL`, without a command",
    ),
    ("*", &["-?", "--usage"], "-h, or --help for everything"),
];

/// Adds a tip to an error about a word that is not known, in place of one about a similar word.
pub fn add(mut err: clap::Error, root: &Command, words: &[OsString]) -> clap::Error {
    let unknown = [ContextKind::InvalidSubcommand, ContextKind::InvalidArg];
    let word = unknown.into_iter().find_map(|kind| match err.get(kind)? {
        ContextValue::String(word) => Some(word.clone()),
        _ => None,
    });
    let is_unknown = matches!(
        err.kind(),
        clap::error::ErrorKind::InvalidSubcommand | clap::error::ErrorKind::UnknownArgument
    );
    let Some(word) = word.filter(|_| is_unknown) else {
        return err;
    };
    let word = word.split(['=', ' ']).next().unwrap_or_default();
    let command = command_of(root, words);
    let Some(tip) = known_tip(&command, word).or_else(|| flag_of_another(root, &command, word)) else {
        return err;
    };
    for kind in [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg] {
        err.remove(kind);
    }
    err.insert(
        ContextKind::Suggested,
        ContextValue::StyledStrs(vec![StyledStr::from(tip)]),
    );
    err
}

fn known_tip(command: &str, word: &str) -> Option<String> {
    let is_for = |of: &str| of == command || (of == "*" && !command.is_empty());
    let mut tips = TIPS.iter().filter(|(of, words, _)| is_for(of) && words.contains(&word));
    tips.next().map(|(_, _, tip)| tip.to_string())
}

/// The words of the command that a line names.
fn command_of(root: &Command, words: &[OsString]) -> String {
    let mut command = root;
    let mut names = Vec::new();
    // `captcha help report audit` names the same command.
    for word in words.iter().skip(1).filter(|word| *word != "help") {
        if let Some(nested) = word.to_str().and_then(|word| command.find_subcommand(word)) {
            command = nested;
            names.push(nested.get_name());
        }
    }
    names.join(" ")
}

/// A flag that other commands have.
fn flag_of_another(root: &Command, command: &str, word: &str) -> Option<String> {
    let long = word.strip_prefix("--")?;
    let has = |command: &Command| command.get_arguments().any(|arg| arg.get_long() == Some(long));
    let mut owners = Vec::new();
    for one in root.get_subcommands() {
        let name = one.get_name();
        let below = one.get_subcommands().filter(|nested| has(nested));
        owners.extend(below.map(|nested| format!("{name} {}", nested.get_name())));
        if has(one) {
            owners.push(name.to_string());
        }
    }
    owners.retain(|owner| owner != command);
    // Shortest first: the command itself before those below it.
    owners.sort_by_key(String::len);
    owners.first().map(|owner| format!("`captcha {owner}` has {word}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::super::{Cli, parse};
    use super::*;

    fn refused(line: &str) -> clap::Error {
        let words: Vec<_> = line.split(' ').map(OsString::from).collect();
        match parse(&words) {
            Ok(_) => panic!("{line} is read"),
            Err(err) => err,
        }
    }

    #[test]
    fn what_people_try_has_a_tip() {
        for (line, tip) in [
            ("captcha audit", "tip: `captcha report audit`"),
            ("captcha dead-letters", "tip: `captcha report dead-letters`"),
            ("captcha new-key", "tip: `captcha serve new-key`"),
            ("captcha drop-months", "tip: `captcha migrate drop-months`"),
            ("captcha completions bash", "tip: `captcha --completions bash`"),
            ("captcha man", "tip: `captcha --man | man -l -`"),
            ("captcha version", "tip: `captcha --version`"),
            ("captcha help audit", "tip: `captcha report audit`"),
            ("captcha dashboard", "http://127.0.0.1:8000/v1/dashboard"),
            ("captcha report --since 7d", "tip: --from, or --period"),
            ("captcha report --until 2026-01-31", "tip: --to"),
            ("captcha report --month", "tip: --period month"),
            ("captcha report --json", "tip: --format json"),
            ("captcha report --csv", "tip: --format csv"),
            ("captcha report --tz Europe/Berlin", "tip: --timezone"),
            ("captcha report --last 7d", "tip: --period 24h, 7d"),
            ("captcha report --last=7d", "tip: --period 24h, 7d"),
            ("captcha report --days 7", "tip: --period 24h, 7d"),
            ("captcha report -n 5", "tip: --top"),
            ("captcha report --site x", "tip: --site-id SITE"),
            ("captcha report --follow", "tip: --watch"),
            ("captcha new-link", "tip: `captcha serve new-link`"),
            ("captcha report --by none --json", "tip: --format json"),
            ("captcha report audit --json", "tip: --format json"),
            ("captcha report dead-letters -n 5", "tip: --limit COUNT"),
            ("captcha serve --port 8000", "tip: --listen IP:PORT"),
            ("captcha serve --version", "tip: `captcha --version`"),
            ("captcha consume -v", "tip: the environment variable CAPTCHA_LOG"),
            ("captcha migrate --topic x", "tip: --kafka-topic"),
            (
                "captcha serve --partition-share 0/1",
                "tip: `captcha consume` has --partition-share",
            ),
            ("captcha --period 7d", "tip: `captcha report` has --period"),
        ] {
            let err = refused(line);
            let text = err.render().to_string();
            assert!(text.contains(tip), "{line}: {text}");
            assert_eq!(
                (text.matches("tip:").count(), err.exit_code()),
                (1, 2),
                "{line}: {text}"
            );
        }
    }

    #[test]
    fn other_words_have_the_tips_of_clap_or_none() {
        let text = refused("captcha reprot").render().to_string();
        assert!(text.contains("tip: a similar subcommand exists: 'report'"), "{text}");
        for line in [
            "captcha xyzzy",
            "captcha report --xyzzy",
            "captcha serve --limit 7 --listen x",
        ] {
            assert_eq!(refused(line).exit_code(), 2);
        }
    }

    #[test]
    fn a_tip_is_never_about_a_word_that_is_known() {
        let root = Cli::command();
        let find = |words: &str| {
            words
                .split(' ')
                .try_fold(&root, |command, word| command.find_subcommand(word))
        };
        for (of, words, _) in TIPS.iter().filter(|(of, ..)| *of != "*") {
            let command = match *of {
                "" => &root,
                words => find(words).expect(words),
            };
            for word in *words {
                let long = word.strip_prefix("--");
                let is_flag = long.is_some() && command.get_arguments().any(|arg| arg.get_long() == long);
                assert!(!is_flag && command.find_subcommand(word).is_none(), "{of} {word}");
            }
        }
    }

    /// Every command and flag that a tip names exists.
    #[test]
    fn tips_name_what_there_is() {
        let root = Cli::command();
        for (of, _, tip) in TIPS {
            for word in tip
                .split([' ', '`', ',', ';', '='])
                .filter(|word| word.starts_with("--"))
            {
                let long = word.trim_start_matches("--");
                let has = |command: &Command| command.get_arguments().any(|arg| arg.get_long() == Some(long));
                let below = root.get_subcommands().flat_map(Command::get_subcommands);
                let is_known =
                    ["help", "version"].contains(&long) || has(&root) || root.get_subcommands().chain(below).any(has);
                assert!(is_known, "{of}: {tip}");
            }
        }
    }
}
