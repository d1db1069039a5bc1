//! `captcha serve keys`: the keys of a key file, for people.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use comfy_table::{Table, presets};

use super::{Entry, Keyring, Sites, State};
use crate::terminal::print;

/// List the keys of a key file, with what each may do
///
/// Hashes are not shown. Neither Kafka nor ClickHouse is needed. The file is checked as `captcha serve` checks it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File of API keys
    #[arg(long, env = "CAPTCHA_KEYS_FILE", value_name = "FILE")]
    keys_file: PathBuf,
}

/// Reads the file and writes to stdout, in the order of the file.
///
/// # Errors
/// The file cannot be read, or one of its lines cannot be taken.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let (entries, _) = Keyring::read(&args.keys_file)?;
    print(&format!("{}\n", table(&entries, Utc::now())));
    Ok(())
}

fn table(entries: &[Entry], now: DateTime<Utc>) -> String {
    let mut table = Table::new();
    let header = ["id", "role", "sites", "certificate", "rate", "expires", "state"];
    table.load_style(presets::NOTHING).set_header(header);
    table.add_rows(entries.iter().map(|entry| cells(entry, now)));
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    let lines = table.lines().map(|line| line.trim_end().to_string());
    lines.collect::<Vec<_>>().join("\n")
}

fn cells(entry: &Entry, now: DateTime<Utc>) -> [String; 7] {
    let sites = match &entry.sites {
        Sites::All => "all".to_string(),
        Sites::Only(sites) => sites.len().to_string(),
    };
    let none = || "-".to_string();
    let certificate = entry.credential.certificate();
    let certificate = certificate.map_or_else(none, |name| name.to_string());
    let rate = entry.rate.map_or_else(none, |rate| rate.to_string());
    let expires = entry.expires.map_or_else(none, |time| time.to_string());
    let state = match entry.state(now) {
        State::Valid => "valid",
        State::Expiring => "valid, expires soon",
        State::Expired => "expired",
    };
    [
        entry.id.clone(),
        entry.role.name().to_string(),
        sites,
        certificate,
        rate,
        expires,
        state.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::auth::keys::parse;

    #[test]
    fn a_list_has_what_a_key_may_do_and_no_hash() {
        let hash = |digit: char| format!("sha256:{}", digit.to_string().repeat(64));
        let site = "6f1c1f2e-3d0b-4c5a-9b0e-2f4b8f3f7a01";
        let file = format!(
            "cbcf20b7c88e write {site} {} rate=100 burst=1000\n7889bbabd86e read * {} expires=2027-01-31 # old\n\
             0000 read * cert:shop.example expires=2027-02-05T18:00:00Z",
            hash('1'),
            hash('2'),
        );
        let now = "2027-01-31T00:00:00Z".parse().unwrap();
        let list = table(&parse(file.as_bytes()).unwrap(), now);
        assert_eq!(
            list,
            "id            role   sites  certificate   rate                 expires               state\n\
             cbcf20b7c88e  write  1      -             rate=100 burst=1000  -                     valid\n\
             7889bbabd86e  read   all    -             -                    2027-01-31            expired\n\
             0000          read   all    shop.example  -                    2027-02-05T18:00:00Z  valid, expires soon"
        );
        let none = table(&[], now);
        assert_eq!(none, "id  role  sites  certificate  rate  expires  state");
    }
}
