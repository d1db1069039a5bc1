//! `captcha serve new-key`: a new API key for a client, and its line for the key file.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use chrono::Utc;

use super::{BURST_MAX, Credential, Entry, Expiry, KeyText, RATE_MAX, Rate, Role, Sites, api_key, key_file};
use crate::terminal::{escape, stderr_is_terminal, write_stderr};

/// Characters of a note: the line stays short enough to read.
const NOTE_CHARS_MAX: usize = 200;

/// Make a new API key and its line for the key file
///
/// The line is written to stdout. It holds the key's SHA-256 and no secret. The key itself is shown once, on stderr if
/// that is a terminal, and kept nowhere; with --key-out it goes into a new file instead. It is never written to stdout,
/// so nothing but the line is appended to the key file, and never to a log. Neither Kafka nor ClickHouse is needed;
/// docs/keys.md says more.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What the key is for; a key has one role
    #[arg(long, value_enum, value_name = "ROLE")]
    role: Role,

    /// The sites that it may write or read: * for all, or UUIDs with commas between them
    #[arg(long, value_name = "SITES", value_parser = Sites::parse)]
    sites: Sites,

    /// Events a second that it may send, or requests that it may read [default: no limit]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=i64::from(RATE_MAX)))]
    rate: Option<u32>,

    /// Events that it may send at once, so also the most in one request, or requests [default: as --rate]
    #[arg(
        long,
        value_name = "COUNT", requires = "rate",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(BURST_MAX))
    )]
    burst: Option<u32>,

    /// From when on it is refused: 2027-01-31, the beginning of that day in UTC, or 2027-01-31T18:00:00Z [default:
    /// never]
    #[arg(long, value_name = "TIME", value_parser = parse_expiry)]
    expires: Option<Expiry>,

    /// A comment at the end of the line, such as whose key it is
    #[arg(long, value_name = "TEXT", value_parser = parse_note)]
    note: Option<String>,

    /// A new file for the key, readable for its owner alone, instead of the terminal
    #[arg(long, value_name = "FILE")]
    key_out: Option<PathBuf>,
}

/// Makes a key, shows it, and writes its line.
///
/// # Errors
/// Stderr is not a terminal, the system has no random numbers, or something cannot be written.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let key = api_key::generate().context("the system has no random numbers for a key")?;
    let line = line(&key, args)?;
    match &args.key_out {
        Some(path) => save(path, &key)?,
        None if stderr_is_terminal() => {
            write_stderr(&shown(&key)).context("cannot write the key to the terminal")?;
        }
        None => bail!(
            "stderr is not a terminal, and a key does not belong in a log; name a new file for it with --key-out FILE"
        ),
    }
    write_line(&line).context("cannot write the key's line to stdout; without it the key is of no use, make another")
}

#[expect(
    clippy::disallowed_methods,
    reason = "a closed stdout is a failure here, and a line for the key file has nothing to escape"
)]
fn write_line(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush())
}

/// The line for the key file, checked as the file will be.
fn line(key: &str, args: &Args) -> anyhow::Result<String> {
    let text = KeyText::parse(key).context("the new key is not valid")?;
    let rate = args.rate.map(|rate| Rate::new(rate, args.burst));
    let entry = Entry {
        id: text.id().to_string(),
        role: args.role,
        sites: args.sites.clone(),
        credential: Credential::Key(text.hash()),
        rate: rate.transpose().map_err(anyhow::Error::msg)?,
        expires: args.expires,
    };
    let note = args.note.iter().map(|note| format!("  # {note}"));
    let line = entry.to_string() + &note.collect::<String>();
    key_file::parse(line.as_bytes())
        .map_err(anyhow::Error::msg)
        .context("cannot make a line for the key file")?;
    Ok(line)
}

fn shown(key: &str) -> String {
    format!("the key, for its client alone, shown only now:\n{key}\nits line for the key file, on stdout:\n")
}

/// Without a line break: the file is the key.
fn save(path: &Path, key: &str) -> anyhow::Result<()> {
    const OWNER_READS_AND_WRITES: u32 = 0o600;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(OWNER_READS_AND_WRITES);
    let name = path.display();
    let mut file = options
        .open(path)
        .with_context(|| format!("cannot make {name} for the key; --key-out takes a new file"))?;
    file.write_all(key.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write the key to {name}"))
}

/// An expiry in the past would be a mistake.
fn parse_expiry(text: &str) -> Result<Expiry, &'static str> {
    let expiry = Expiry::parse(text)?;
    match expiry.is_past(Utc::now()) {
        true => Err("this time has passed"),
        false => Ok(expiry),
    }
}

fn parse_note(text: &str) -> Result<String, String> {
    let chars = text.chars().count();
    if chars == 0 || chars > NOTE_CHARS_MAX || text.chars().any(escape::is_hidden) {
        return Err(format!("expected one line of 1 to {NOTE_CHARS_MAX} characters"));
    }
    Ok(text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::os::unix::fs::PermissionsExt as _;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn args(words: &[&str]) -> Result<Args, clap::Error> {
        Cli::try_parse_from([&["new-key"], words].concat()).map(|cli| cli.args)
    }

    fn line_of(words: &[&str]) -> String {
        let key = api_key::generate().unwrap();
        let line = line(&key, &args(words).unwrap()).unwrap();
        let text = KeyText::parse(&key).unwrap();
        line.replace(text.id(), "ID").replace(&text.hash().to_string(), "HASH")
    }

    #[test]
    fn a_line_says_what_was_asked_for() {
        let site = "6f1c1f2e-3d0b-4c5a-9b0e-2f4b8f3f7a01";
        assert_eq!(line_of(&["--role", "write", "--sites", "*"]), "ID write * HASH");
        let words = ["--role", "read", "--sites", site, "--rate", "5"];
        assert_eq!(line_of(&words), format!("ID read {site} HASH rate=5 burst=5"));
        let until = ["--expires", "2200-01-31"];
        assert_eq!(
            line_of(&[&words[..], &until].concat()),
            format!("ID read {site} HASH rate=5 burst=5 expires=2200-01-31")
        );
        let more = ["--burst", "50", "--note", "the shop, since 2026"];
        assert_eq!(
            line_of(&[&words[..], &more].concat()),
            format!("ID read {site} HASH rate=5 burst=50  # the shop, since 2026")
        );
    }

    #[test]
    fn what_makes_no_line_is_wrong_usage() {
        let role = ["--role", "write"];
        let good = ["--role", "write", "--sites", "*"];
        assert!(args(&good).is_ok());
        assert!(args(&role).is_err());
        assert!(args(&good[2..]).is_err());
        for more in [
            &["--rate", "0"][..],
            &["--rate", "1000001"],
            &["--burst", "7"],
            &["--rate", "7", "--burst", "0"],
            &["--expires", "never"],
            &["--expires", "2020-01-31"],
            &["--note", ""],
            &["--note", "a\nb"],
            &["--note", "a\u{202e}b"],
            &["--note", &"a".repeat(201)],
            &["--role", "admin"],
        ] {
            assert!(args(&[&good[..], more].concat()).is_err(), "{more:?}");
        }
        assert!(args(&[&role[..], &["--sites", "all"]].concat()).is_err());
    }

    #[test]
    fn a_key_is_no_note() {
        let key = api_key::generate().unwrap();
        let words = ["--role", "write", "--sites", "*", "--note", &key];
        let refusal = format!("{:#}", line(&key, &args(&words).unwrap()).unwrap_err());
        assert!(refusal.contains("cannot make a line"), "{refusal}");
        assert!(!refusal.contains(&key), "{refusal}");
    }

    #[test]
    fn a_key_goes_into_a_new_file_of_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        save(&path, "captcha_one").unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = format!("{:#}", save(&path, "captcha_two").unwrap_err());
        assert!(again.contains("--key-out takes a new file"), "{again}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "captcha_one");
    }

    #[test]
    fn the_terminal_shows_the_key_on_a_line_of_its_own() {
        let shown = shown("captcha_one");
        assert!(shown.lines().any(|line| line == "captcha_one"), "{shown}");
    }
}
