//! The key file: one key a line, `ID ROLE SITES sha256:HEX|cert:NAME [rate=N] [burst=N] [expires=TIME]`. Pure.

use std::collections::HashMap;
use std::fmt;

use super::api_key::{contains_key, is_id};
use super::{Credential, Expiry, Rate, Role, Sites};
use crate::tls::FILE_BYTES_MAX;

/// Keys in a file: enough for a key for each of ten thousand customers.
const KEYS_MAX: usize = 10_000;

/// A line of the key file.
#[derive(Debug)]
pub struct Entry {
    /// The public name of the key.
    pub id: String,
    pub role: Role,
    pub sites: Sites,
    pub credential: Credential,
    /// `None` is no limit.
    pub rate: Option<Rate>,
    /// `None` is never.
    pub expires: Option<Expiry>,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, role, sites) = (&self.id, self.role.name(), &self.sites);
        write!(f, "{id} {role} {sites} {}", self.credential)?;
        self.rate.iter().try_for_each(|rate| write!(f, " {rate}"))?;
        let expires = &mut self.expires.iter();
        expires.try_for_each(|expiry| write!(f, " expires={expiry}"))
    }
}

/// Reads a key file: all of it or nothing.
///
/// # Errors
/// The first wrong line and why. No word of the file is repeated: it may be a secret in the wrong place.
pub fn parse(bytes: &[u8]) -> Result<Vec<Entry>, String> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(format!("it has more than {FILE_BYTES_MAX} bytes"));
    }
    let (mut entries, mut lines_of_ids) = (Vec::new(), HashMap::new());
    let (mut lines_of_hashes, mut lines_of_names) = (HashMap::new(), HashMap::new());
    // An editor's byte order mark does not belong to the first ID.
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        let refuse = |reason: String| format!("line {number}: {reason}");
        let Some(entry) = parse_line(line).map_err(refuse)? else {
            continue;
        };
        if let Some(other) = lines_of_ids.insert(entry.id.clone(), number) {
            return Err(refuse(format!("the ID of line {other} again")));
        }
        if let Some(name) = entry.credential.certificate()
            && let Some(other) = lines_of_names.insert((name.clone(), entry.role), number)
        {
            return Err(refuse(format!(
                "the certificate of line {other} again, for the same role"
            )));
        }
        if let Some(hash) = entry.credential.hash()
            && let Some(other) = lines_of_hashes.insert(*hash.bytes(), number)
        {
            return Err(refuse(format!(
                "the hash of line {other} again; a key's ID is part of what is hashed, so one of the two is wrong"
            )));
        }
        if entries.len() == KEYS_MAX {
            return Err(refuse(format!("more than {KEYS_MAX} keys")));
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// Parses a line; `None` if it is empty or a comment.
fn parse_line(line: &[u8]) -> Result<Option<Entry>, String> {
    let line = std::str::from_utf8(line).map_err(|_| "not UTF-8")?;
    if contains_key(line) {
        return Err(
            "the line holds a key itself in place of its hash, so the key is no longer secret; make a new \
             one with `captcha serve new-key`"
                .to_string(),
        );
    }
    let content = line.split_once('#').map_or(line, |(content, _)| content);
    let mut words = content.split_whitespace();
    let Some(id) = words.next() else {
        return Ok(None);
    };
    if !is_id(id) {
        return Err("an ID has 4 to 32 characters, a to z and 0 to 9".to_string());
    }
    let role = match words.next() {
        Some("write") => Role::Write,
        Some("read") => Role::Read,
        _ => return Err("no role after the ID; expected write or read".to_string()),
    };
    let sites = words.next().ok_or("no sites after the role")?;
    let credential = Credential::parse(words.next().unwrap_or_default())?;
    let (rate, expires) = parse_terms(words)?;
    Ok(Some(Entry {
        id: id.to_string(),
        role,
        sites: Sites::parse(sites)?,
        credential,
        rate,
        expires,
    }))
}

/// Parses the rate and the expiry.
fn parse_terms<'a>(words: impl Iterator<Item = &'a str>) -> Result<(Option<Rate>, Option<Expiry>), String> {
    let (mut rate, mut burst, mut expires) = (None, None, None);
    for word in words {
        match word.split_once('=') {
            Some((name @ "rate", number)) => set(name, parse_number(name, number)?, &mut rate)?,
            Some((name @ "burst", number)) => set(name, parse_number(name, number)?, &mut burst)?,
            Some((name @ "expires", time)) => set(name, Expiry::parse(time)?, &mut expires)?,
            _ => {
                return Err("an unknown word after the hash; expected rate=N, burst=N or expires=TIME".to_string());
            }
        }
    }
    let rate = match (rate, burst) {
        (Some(rate), burst) => Some(Rate::new(rate, burst)?),
        (None, Some(_)) => return Err("a burst without a rate".to_string()),
        (None, None) => None,
    };
    Ok((rate, expires))
}

fn set<T>(name: &str, value: T, slot: &mut Option<T>) -> Result<(), String> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("{name} twice")),
    }
}

fn parse_number(name: &str, number: &str) -> Result<u32, String> {
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    let read = number.parse().ok().filter(|_| is_number);
    read.ok_or_else(|| format!("{name} is not a number; expected {name}=N"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::auth::keys::api_key::generate;
    use crate::serve::auth::keys::{BURST_MAX, RATE_MAX};
    use proptest::prelude::*;
    use uuid::Uuid;

    const SITE: &str = "6f1c1f2e-3d0b-4c5a-9b0e-2f4b8f3f7a01";

    fn hash(digit: char) -> String {
        format!("sha256:{}", digit.to_string().repeat(64))
    }

    fn lines(file: &str) -> Vec<String> {
        let entries = parse(file.as_bytes()).unwrap_or_else(|reason| panic!("{reason}"));
        entries.iter().map(Entry::to_string).collect()
    }

    fn refusal(file: &str) -> String {
        match parse(file.as_bytes()) {
            Ok(_) => panic!("taken: {file}"),
            Err(reason) => reason,
        }
    }

    #[test]
    fn a_file_is_read_whole() {
        let (one, two, three) = (hash('1'), hash('2'), hash('3'));
        let file = format!(
            "\u{feff}# keys of acme\r\n\n  w3b1\twrite  {SITE} {one} burst=20 rate=10 # the shop\r\n\
             r3p0 read * {two}\n   # old: {SITE}\n0000 write * {three} rate=7 expires=2027-01-31#{one}"
        );
        assert_eq!(
            lines(&file),
            [
                format!("w3b1 write {SITE} {one} rate=10 burst=20"),
                format!("r3p0 read * {two}"),
                format!("0000 write * {three} rate=7 burst=7 expires=2027-01-31"),
            ]
        );
        assert!(lines("").is_empty());
        assert!(lines("# nobody\n\n").is_empty());
    }

    #[test]
    fn a_bad_line_is_named_with_its_reason() {
        let good = format!("k3y1 write * {}\n", hash('1'));
        let with = |line: String| refusal(&format!("{good}# one\n{line}\n{good}"));
        let other = hash('2');
        for (line, reason) in [
            (format!("k3y write * {other}"), "line 3: an ID has 4 to 32"),
            (format!("K3Y2 write * {other}"), "line 3: an ID has"),
            (format!("k3-2 write * {other}"), "line 3: an ID has"),
            (format!("{} read * {other}", "k".repeat(33)), "line 3: an ID has"),
            ("k3y2".to_string(), "line 3: no role"),
            (format!("k3y2 admin * {other}"), "line 3: no role"),
            (format!("k3y2 write,read * {other}"), "line 3: no role"),
            ("k3y2 write".to_string(), "line 3: no sites"),
            (format!("k3y2 write {other}"), "line 3: no hash"),
            ("k3y2 write *".to_string(), "line 3: no hash"),
            (format!("k3y2 write * {}", &other[7..]), "line 3: no hash"),
            (format!("k3y2 write * {}", &other[..70]), "line 3: no hash"),
            (format!("k3y2 write * {other}2"), "line 3: no hash"),
            (format!("k3y2 write * {}", other.replace('2', "A")), "line 3: no hash"),
            (format!("k3y2 write {SITE},7 {other}"), "line 3: site 2 is not a UUID"),
            (format!("k3y2 write *,{SITE} {other}"), "line 3: site 1 is not a UUID"),
            (format!("k3y2 write * {other} 100"), "line 3: an unknown word"),
            (format!("k3y2 write * {other} Rate=1"), "line 3: an unknown word"),
            (format!("k3y2 write * {other} rate=0"), "line 3: rate must be 1 to"),
            (format!("k3y2 write * {other} rate=1000001"), "line 3: rate must be"),
            (format!("k3y2 write * {other} rate=1 burst=0"), "line 3: burst must be"),
            (format!("k3y2 write * {other} rate=+1"), "line 3: rate is not a number"),
            (format!("k3y2 write * {other} rate="), "line 3: rate is not a number"),
            (format!("k3y2 write * {other} rate=1.5"), "line 3: rate is not a number"),
            (format!("k3y2 write * {other} rate=4294967296"), "line 3: rate is no"),
            (format!("k3y2 write * {other} rate=1 rate=1"), "line 3: rate twice"),
            (format!("k3y2 write * {other} burst=1"), "line 3: a burst without"),
            (
                format!("k3y2 write * {other} expires=2027-02-29"),
                "line 3: an expiry is a date",
            ),
            (
                format!("k3y2 write * {other} expires=2027-01-31 expires=2027-01-31"),
                "line 3: expires twice",
            ),
            (format!("k3y1 write * {other}"), "line 3: the ID of line 1 again"),
            (format!("k3y2 write * {}", hash('1')), "line 3: the hash of line 1"),
            (
                "k3y2 write * cert:*.example".to_string(),
                "line 3: a certificate is named by",
            ),
            ("k3y2 write * cert:".to_string(), "line 3: a certificate is named by"),
        ] {
            let said = with(line.clone());
            assert!(said.starts_with(reason), "{line}: {said}");
        }
        let bytes = [good.as_bytes(), b"k3y2 write * \xff"].concat();
        assert_eq!(parse(&bytes).err().unwrap(), "line 2: not UTF-8");
    }

    #[test]
    fn a_certificate_has_a_line_for_each_role() {
        let file = "k3y1 write * cert:Shop.example rate=7\nk3y2 read * cert:shop.example\n\
                    k3y3 read * cert:spiffe://example/shop";
        assert_eq!(
            lines(file),
            [
                "k3y1 write * cert:shop.example rate=7 burst=7",
                "k3y2 read * cert:shop.example",
                "k3y3 read * cert:spiffe://example/shop",
            ]
        );
        let again = refusal(&format!("{file}\nk3y4 read * cert:SHOP.example"));
        assert_eq!(again, "line 4: the certificate of line 2 again, for the same role");
    }

    #[test]
    fn a_key_in_the_file_is_refused_and_not_repeated() {
        let key = generate().unwrap();
        let secret = key.rsplit('_').next().unwrap();
        for line in [key.clone(), format!("k3y1 write * {key}"), format!("# {key}")] {
            let said = refusal(&line);
            assert!(said.contains("holds a key itself"), "{said}");
            assert!(!said.contains(secret), "{said}");
        }
    }

    #[test]
    fn keys_and_bytes_have_bounds() {
        let line = |n: usize| format!("{n:05} read * sha256:{n:064}\n");
        let most: String = (0..KEYS_MAX).map(line).collect();
        assert_eq!(lines(&most).len(), KEYS_MAX);
        let more = refusal(&format!("{most}{}", line(KEYS_MAX)));
        assert_eq!(more, "line 10001: more than 10000 keys");
        let comment = "#".repeat(FILE_BYTES_MAX);
        assert!(lines(&comment).is_empty());
        let large = refusal(&format!("{comment}#"));
        assert_eq!(large, "it has more than 1048576 bytes");
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let sites = prop_oneof![
            Just(Sites::All),
            prop::collection::hash_set(any::<u128>().prop_map(Uuid::from_u128), 1..5).prop_map(Sites::Only),
        ];
        let rate = prop::option::of((1..=RATE_MAX, prop::option::of(1..=BURST_MAX)));
        let role = prop_oneof![Just(Role::Write), Just(Role::Read)];
        let expires = prop::option::of("20[0-9]{2}-[01][1-2]-[0-2][1-8](T[01][0-9]:30:00Z)?");
        let credential = "sha256:[0-9a-f]{64}|cert:[a-z]{6,9}[.][a-z]{6,9}|cert:spiffe://[A-Za-z/]{8,30}";
        let words = ("[a-z0-9]{4,32}", role, sites, credential, rate, expires);
        words.prop_map(|(id, role, sites, credential, rate, expires)| Entry {
            id,
            role,
            sites,
            credential: Credential::parse(&credential).unwrap(),
            rate: rate.map(|(rate, burst)| Rate::new(rate, burst).unwrap()),
            expires: expires.map(|text| Expiry::parse(&text).unwrap()),
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(entries in prop::collection::vec(entry(), 0..8)) {
            let written: Vec<_> = entries.iter().map(Entry::to_string).collect();
            let read = parse(written.join("\n").as_bytes()).unwrap();
            prop_assert_eq!(read.len(), entries.len());
            for (read, entry) in read.iter().zip(&entries) {
                prop_assert_eq!(read.to_string(), entry.to_string());
                prop_assert_eq!(&read.sites, &entry.sites);
                prop_assert_eq!((read.role, read.rate, read.expires), (entry.role, entry.rate, entry.expires));
            }
        }

        #[test]
        fn no_refusal_repeats_a_word_of_the_file(
            entry in entry(), place in 0_usize..6, secret in "[0-9a-zA-Z_=,-]{20,70}",
        ) {
            let line = format!("{entry} rate");
            let mut words: Vec<_> = line.split(' ').collect();
            let place = place % words.len();
            words[place] = &secret;
            if let Err(reason) = parse(words.join(" ").as_bytes()) {
                prop_assert!(!reason.contains(&secret), "{}", reason);
            }
        }

        #[test]
        fn nothing_makes_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }
    }
}
