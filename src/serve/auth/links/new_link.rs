//! `captcha serve new-link`: the address of a picture that opens without a key.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use chrono::{DateTime, TimeDelta, Utc};
use hyper::Uri;
use uuid::Uuid;

use super::link::{self, Link};
use super::read_secrets;
use crate::serve::auth::keys::{Entry, Expiry, Keyring, Role, State, is_id};
use crate::serve::picture::PictureQuery;
use crate::terminal::{print, print_note};

/// Days that a link is valid at most: a year. It cannot be withdrawn alone, only with its key or with its secret.
const LINK_DAYS_MAX: u16 = 365;

/// Where pictures of reports are.
const PICTURE_PATH: &str = "/v1/report.svg";

/// Make a signed link to a picture of a report
///
/// A README, a wiki or a chat can embed the picture without a key. The link is signed with the first secret of
/// --link-secret-file, which `captcha serve` reads too. It has the rights and the rate that its key has in the key file
/// when the picture is opened. Everybody who has the link sees the picture until the link expires.
/// `head -c 32 /dev/urandom | base64 > links.txt` makes a file of secrets. Neither Kafka nor ClickHouse is needed.
/// Without --keys-file `captcha serve` shows pictures to everybody, and needs no links. docs/keys.md says more.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "captcha serve new-link [OPTIONS] --link-secret-file <FILE> --key <ID>\n                               \
                      --expires <TIME> [QUERY]"
)]
pub struct Args {
    /// File of the secrets of links; its first line signs
    #[arg(long, env = "CAPTCHA_LINK_SECRET_FILE", value_name = "FILE")]
    link_secret_file: PathBuf,

    /// ID of the read key whose rights and rate the link has
    #[arg(long, value_name = "ID", value_parser = parse_id)]
    key: String,

    /// When the link expires: 2027-01-31 (the beginning of that day, UTC), 2027-01-31T18:00:00Z, or 90d (the end of the
    /// day in 90 days)
    #[arg(long, value_name = "TIME", value_parser = |text: &str| parse_expiry(text, Utc::now()))]
    expires: Expiry,

    /// Scheme, host and perhaps path by which readers reach `captcha serve`; without it only the path is printed
    #[arg(long, value_name = "URL", value_parser = parse_base_url)]
    base_url: Option<String>,

    /// Also checks that this file of API keys has the key, and that it may read the sites
    #[arg(long, env = "CAPTCHA_KEYS_FILE", value_name = "FILE")]
    keys_file: Option<PathBuf>,

    /// Parameters of the picture, those of GET /v1/report, theme and badge, such as 'period=30d&theme=dark'
    #[arg(value_name = "QUERY", default_value = "", value_parser = Picture::parse)]
    query: Picture,
}

/// The checked parameters of a picture.
#[derive(Debug, Clone)]
struct Picture {
    parameters: Vec<(String, String)>,
    site_ids: Vec<Uuid>,
}

/// Signs a link and prints its address.
///
/// # Errors
/// A file cannot be read, it has no secret, or the key of the link cannot read its picture.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let (secrets, _) = read_secrets(&args.link_secret_file)?;
    if let Some(file) = &args.keys_file {
        let (entries, _) = Keyring::read(file)?;
        let note = check_key(args, &entries).with_context(|| format!("cannot make a link of {}", file.display()))?;
        note.iter().for_each(|note| print_note(note));
    }
    let link = Link::new(args.query.parameters.clone(), args.key.clone(), args.expires);
    let query = link.sign(&secrets).with_context(|| {
        let file = args.link_secret_file.display();
        format!("{file} has no secret; `head -c 32 /dev/urandom | base64` makes one")
    })?;
    let base = args.base_url.as_deref().unwrap_or_default();
    print(&format!("{base}{PICTURE_PATH}?{query}\n"));
    Ok(())
}

/// Checks that the key of a link can read its picture now; a note if it expires before the link does.
fn check_key(args: &Args, entries: &[Entry]) -> anyhow::Result<Option<String>> {
    let id = &args.key;
    let Some(entry) = entries.iter().find(|entry| entry.id == *id) else {
        bail!("the file has no key {id}; `captcha serve keys` lists those that it has");
    };
    if entry.role != Role::Read {
        bail!("the key {id} sends events; name one that reads reports");
    }
    if let Some(expiry) = entry.expires
        && entry.state(Utc::now()) == State::Expired
    {
        bail!("the key {id} expired at {expiry} (UTC); name another one");
    }
    let site_ids = &args.query.site_ids;
    if let Some(site_id) = site_ids.iter().find(|site_id| !entry.sites.contains(site_id)) {
        bail!("{site_id} is not a site of the key {id}; name another site or another key");
    }
    let earlier = entry.expires.filter(|expiry| *expiry < args.expires);
    Ok(earlier.map(|expiry| format!("the key {id} expires at {expiry} (UTC), and the link with it")))
}

impl Picture {
    fn parse(query: &str) -> Result<Picture, String> {
        let query = query.strip_prefix('?').unwrap_or(query);
        let parameters: Vec<_> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        if let Some((name, _)) = parameters
            .iter()
            .find(|(name, _)| link::PARAMETERS.contains(&name.as_str()))
        {
            return Err(format!("{name}: the link adds it; leave it out"));
        }
        let picture = PictureQuery::parse(query).map_err(|wrong| {
            let wrong: Vec<_> = wrong
                .iter()
                .map(|wrong| format!("{}: {}", wrong.parameter, wrong.detail))
                .collect();
            wrong.join("; ")
        })?;
        Ok(Picture {
            parameters,
            site_ids: picture.question.site_ids,
        })
    }
}

fn parse_id(text: &str) -> Result<String, &'static str> {
    let is_valid = is_id(text);
    // Not repeated: it may be the key itself.
    let id = is_valid.then(|| text.to_string());
    id.ok_or("an ID has 4 to 32 characters, a to z and 0 to 9; it is the second part of captcha_ID_SECRET")
}

/// A time after now, at most [`LINK_DAYS_MAX`] later and to the end of that day.
fn parse_expiry(text: &str, now: DateTime<Utc>) -> Result<Expiry, String> {
    let end_of_day = |days: u16| {
        (now + TimeDelta::days(i64::from(days) + 1))
            .format("%Y-%m-%d")
            .to_string()
    };
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u16>().ok());
    let expiry = match days {
        Some(days) if (1..=LINK_DAYS_MAX).contains(&days) => Expiry::parse(&end_of_day(days))?,
        Some(_) => {
            return Err(format!(
                "a link is valid for 1d to {LINK_DAYS_MAX}d; make a new one then"
            ));
        }
        None => Expiry::parse(text).map_err(|expected| format!("{expected}, or a number of days such as 90d"))?,
    };
    if expiry.is_past(now) {
        return Err("this time has passed".to_string());
    }
    if expiry > Expiry::parse(&end_of_day(LINK_DAYS_MAX))? {
        return Err(format!(
            "a link is valid for {LINK_DAYS_MAX} days at most; make a new one then"
        ));
    }
    Ok(expiry)
}

fn parse_base_url(text: &str) -> Result<String, &'static str> {
    let base = text.trim_end_matches('/');
    let url = base
        .parse::<Uri>()
        .ok()
        .filter(|_| base.is_ascii() && !base.contains(['?', '#', '@']));
    let is_web = url.is_some_and(|url| matches!(url.scheme_str(), Some("https" | "http")) && url.host().is_some());
    let base = is_web.then(|| base.to_string());
    base.ok_or("expected a scheme and a host, such as https://captcha.example")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::auth::keys::parse;
    use clap::Parser;

    const SITE: &str = "6f1c1f2e-3d0b-4c5a-9b0e-2f4b8f3f7a01";

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn args(words: &[&str]) -> Result<Args, String> {
        let always = ["new-link", "--link-secret-file", "links.txt", "--key", "r3ad"];
        let cli = Cli::try_parse_from([&always[..], words].concat());
        cli.map(|cli| cli.args).map_err(|err| err.to_string())
    }

    #[test]
    fn a_link_is_valid_for_a_year_at_most() {
        let now = "2026-11-30T13:00:00Z".parse().unwrap();
        let expiry = |text: &str| parse_expiry(text, now).map(|expiry| expiry.to_string());
        for (text, until) in [
            ("90d", "2027-03-01"),
            ("1d", "2026-12-02"),
            ("365d", "2027-12-01"),
            ("2027-12-01", "2027-12-01"),
            ("2026-11-30T13:00:01Z", "2026-11-30T13:00:01Z"),
        ] {
            assert_eq!(expiry(text), Ok(until.to_string()));
        }
        for (text, reason) in [
            ("366d", "1d to 365d"),
            ("0d", "1d to 365d"),
            ("2027-12-02", "365 days at most"),
            ("2026-11-30", "has passed"),
            ("never", "or a number of days such as 90d"),
            ("-1d", "or a number of days"),
            ("99999d", "or a number of days"),
        ] {
            let refusal = expiry(text).unwrap_err();
            assert!(refusal.contains(reason), "{text}: {refusal}");
        }
    }

    #[test]
    fn what_makes_no_picture_is_wrong_usage() {
        let soon = ["--expires", "1d"];
        for query in ["", "?period=30d", "period=30d&theme=dark&badge=solve_rate"] {
            assert!(args(&[&soon[..], &[query]].concat()).is_ok(), "{query}");
        }
        for (more, reason) in [
            (&["period=30days"][..], "period: "),
            (&["user=me"], "user: "),
            (&["period=7d&key=r3ad"], "key: the link adds it"),
            (&["signature=0"], "signature: the link adds it"),
            (&["--base-url", "captcha.example"], "expected a scheme and a host"),
            (&["--base-url", "ftp://captcha.example"], "expected a scheme"),
            (&["--base-url", "https://captcha.example/?a=b"], "expected a scheme"),
            (
                &["--base-url", "https://me:secret@captcha.example"],
                "expected a scheme",
            ),
        ] {
            let refusal = args(&[&soon[..], more].concat()).unwrap_err();
            assert!(refusal.contains(reason), "{more:?}: {refusal}");
        }
        assert!(args(&[]).is_err());
        let with_path = args(&[&soon[..], &["--base-url", "https://a.example:8443/captcha/"]].concat()).unwrap();
        assert_eq!(with_path.base_url.as_deref(), Some("https://a.example:8443/captcha"));
    }

    #[test]
    fn a_key_that_cannot_read_the_picture_makes_no_link() {
        let hash = |digit: char| format!("sha256:{}", digit.to_string().repeat(64));
        let file = |terms: &str, role: &str| format!("r3ad {role} {SITE} {}{terms}", hash('1'));
        let check = |file: String, query: &str| {
            let args = args(&["--expires", "30d", query]).unwrap();
            check_key(&args, &parse(file.as_bytes()).unwrap()).map_err(|err| err.to_string())
        };
        assert_eq!(check(file("", "read"), &format!("site_id={SITE}")), Ok(None));
        let other = "site_id=00000000-0000-4000-8000-000000000001";
        for (file, query, reason) in [
            (file("", "write"), "", "sends events"),
            (file(" expires=2020-01-01", "read"), "", "expired at 2020-01-01"),
            (file("", "read"), other, "is not a site of the key r3ad"),
            (String::new(), "", "the file has no key r3ad"),
        ] {
            let refusal = check(file, query).unwrap_err();
            assert!(refusal.contains(reason), "{refusal}");
        }
        let soon = (Utc::now() + TimeDelta::days(7)).format("%Y-%m-%d");
        let note = check(file(&format!(" expires={soon}"), "read"), "").unwrap().unwrap();
        assert!(note.contains("and the link with it"), "{note}");
    }
}
