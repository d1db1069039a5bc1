//! Redacts API keys in text for a log; their IDs, which are public, stay.

use std::borrow::Cow;
use std::ops::RangeInclusive;

/// The prefix of every key, by which scanners for leaked secrets find it.
pub const KEY_PREFIX: &str = "captcha_";

/// Characters of a key's ID. Long enough that random ones differ, short enough for a log line.
pub const KEY_ID_CHARS: RangeInclusive<usize> = 4..=32;

/// Hexadecimal digits after an ID that count as a secret, even a truncated one. The rest of a secret that shows fewer
/// cannot be guessed.
const SECRET_DIGITS_MIN: usize = 16;

/// Written in the place of a secret.
const REDACTED: &str = "***";

/// A text without the secrets of keys: `captcha_ID_***`. Keys are found in any case, and percent-encoded too.
pub fn redact(text: &str) -> Cow<'_, str> {
    let mut kept = String::new();
    let mut rest = text;
    while let Some((secret, after)) = find_secret(rest) {
        kept.push_str(&rest[..secret]);
        kept.push_str(REDACTED);
        rest = &rest[after..];
    }
    match kept.is_empty() {
        true => Cow::Borrowed(text),
        false => Cow::Owned(kept + rest),
    }
}

/// The first and the last position of the first secret.
fn find_secret(text: &str) -> Option<(usize, usize)> {
    let begins = |(at, byte): (usize, u8)| matches!(byte, b'c' | b'C' | b'%').then_some(at);
    let mut starts = text.bytes().enumerate().filter_map(begins);
    starts.find_map(|start| secret_of_key(text.as_bytes(), start))
}

fn secret_of_key(text: &[u8], start: usize) -> Option<(usize, usize)> {
    let mut at = start;
    for expected in KEY_PREFIX.bytes() {
        let (byte, next) = character(text, at)?;
        if !byte.eq_ignore_ascii_case(&expected) {
            return None;
        }
        at = next;
    }
    let id = run(text, at, |byte| byte.is_ascii_alphanumeric());
    let (separator, secret) = character(text, id.end)?;
    if separator != b'_' || !KEY_ID_CHARS.contains(&id.count) {
        return None;
    }
    let digits = run(text, secret, |byte| byte.is_ascii_hexdigit());
    let whole = run(text, digits.end, |byte| byte.is_ascii_alphanumeric());
    (digits.count >= SECRET_DIGITS_MIN).then_some((secret, whole.end))
}

/// Characters in a row.
struct Run {
    count: usize,
    end: usize,
}

fn run(text: &[u8], start: usize, belongs: impl Fn(u8) -> bool) -> Run {
    let (mut count, mut end) = (0, start);
    while let Some((byte, next)) = character(text, end)
        && belongs(byte)
    {
        (count, end) = (count + 1, next);
    }
    Run { count, end }
}

/// The character at a place, as itself or as `%XX`, and the position of the next one.
fn character(text: &[u8], at: usize) -> Option<(u8, usize)> {
    let hex = |byte: u8| (byte as char).to_digit(16);
    match text.get(at..)? {
        [b'%', high, low, ..] => match (hex(*high), hex(*low)) {
            (Some(high), Some(low)) => Some(((high << 4 | low) as u8, at + 3)),
            _ => Some((b'%', at + 1)),
        },
        [byte, ..] => Some((*byte, at + 1)),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn a_key_is_redacted_anywhere() {
        for (around, left) in [
            ("captcha_k3y1_SECRET", "captcha_k3y1_***"),
            ("/v1/captcha_k3y1_SECRET/x", "/v1/captcha_k3y1_***/x"),
            ("%2Fcaptcha%5Fk3y1%5fSECRET%20x", "%2Fcaptcha%5Fk3y1%5f***%20x"),
            ("%63aptcha_k3y1_%30SECRET", "%63aptcha_k3y1_***"),
            ("CAPTCHA_K3Y1_SECRET", "CAPTCHA_K3Y1_***"),
            ("\"captcha_k3y1_SECRET\"", "\"captcha_k3y1_***\""),
            ("captcha_captcha_k3y1_SECRET", "captcha_captcha_k3y1_***"),
            ("captcha_k3y1_SECRETzz.", "captcha_k3y1_***."),
            (
                "captcha_k3y1_SECRET, captcha_k3y2_SECRET;",
                "captcha_k3y1_***, captcha_k3y2_***;",
            ),
            ("\u{e4}%captcha_k3y1_SECRET\u{e4}", "\u{e4}%captcha_k3y1_***\u{e4}"),
        ] {
            assert_eq!(redact(&around.replace("SECRET", SECRET)), left);
            let upper = around.replace("SECRET", &SECRET.to_uppercase());
            assert_eq!(redact(&upper), left);
        }
    }

    #[test]
    fn a_part_of_a_secret_is_redacted_too() {
        let part = |digits| redact(&format!("captcha_k3y1_{}", &SECRET[..digits])).into_owned();
        assert_eq!(part(SECRET_DIGITS_MIN), "captcha_k3y1_***");
        assert_eq!(part(SECRET_DIGITS_MIN - 1), "captcha_k3y1_0123456789abcde");
    }

    #[test]
    fn what_is_no_key_stays() {
        for text in [
            "",
            "captcha",
            "captcha_",
            "captcha_ID_SECRET",
            "captcha_keys_file_taken",
            "captcha_events_2026",
            "captcha%",
            "captcha%5",
            SECRET,
        ] {
            assert!(matches!(redact(text), Cow::Borrowed(same) if same == text));
        }
    }

    proptest! {
        #[test]
        fn no_text_around_it_keeps_a_secret(before in ".{0,40}", after in ".{0,40}") {
            let text = format!("{before}captcha_k3y1_{SECRET}{after}");
            let redacted = redact(&text);
            prop_assert!(!redacted.contains(SECRET), "{}", redacted);
        }
    }
}
