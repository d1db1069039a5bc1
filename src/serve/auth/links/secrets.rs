//! The secrets that sign links, one a line of their file. Pure.

use std::collections::{HashMap, HashSet};

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::serve::auth::keys::contains_key;

/// Bytes of a secret at least, as text: 32 random bytes have 44 in base64, and 64 in hexadecimal. Everybody with a link
/// can try guesses against its signature.
const SECRET_BYTES_MIN: usize = 32;

/// Different bytes of a secret at least. Random text of that length has more; `changeme-changeme-...` has fewer.
const DIFFERENT_BYTES_MIN: usize = 10;

/// Secrets of a file: one that signs, and some that are rotated out. A link is checked against each of them.
const SECRETS_MAX: usize = 10;

/// Bytes of a signature, those of SHA-256.
pub const SIGNATURE_BYTES: usize = 32;

/// The secrets of a file. They cannot be printed.
#[derive(Clone, Default)]
pub struct Secrets(Vec<Hmac<Sha256>>);

impl Secrets {
    /// Reads a file: all of it or nothing. Empty lines and lines that begin with `#` are ignored.
    ///
    /// # Errors
    /// The first wrong line and why. No word of the file is repeated.
    pub fn parse(bytes: &[u8]) -> Result<Secrets, String> {
        let (mut secrets, mut lines_of_secrets) = (Vec::new(), HashMap::new());
        // An editor's byte order mark does not belong to the first secret.
        let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
            let secret = line.trim_ascii();
            if secret.is_empty() || secret.starts_with(b"#") {
                continue;
            }
            check(secret).map_err(|reason| format!("line {number}: {reason}"))?;
            if let Some(other) = lines_of_secrets.insert(secret, number) {
                return Err(format!("line {number}: the same secret as in line {other}"));
            }
            if secrets.len() == SECRETS_MAX {
                return Err(format!("line {number}: more than {SECRETS_MAX} secrets"));
            }
            let keyed = Hmac::new_from_slice(secret).map_err(|err| format!("line {number}: {err}"))?;
            secrets.push(keyed);
        }
        Ok(Secrets(secrets))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The signature of a text by the first secret; `None` if there is none.
    pub fn sign(&self, text: &[u8]) -> Option<[u8; SIGNATURE_BYTES]> {
        let keyed = self.0.first()?.clone();
        Some(keyed.chain_update(text).finalize().into_bytes().into())
    }

    /// Whether one of the secrets has signed a text. Each comparison takes the same time.
    pub fn verify(&self, text: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
        let mut keyed = self.0.iter().cloned();
        keyed.any(|keyed| keyed.chain_update(text).verify_slice(signature).is_ok())
    }
}

fn check(secret: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(secret).map_err(|_| "not UTF-8; a secret is text, such as base64")?;
    if contains_key(text) {
        return Err("this is an API key; a secret of links must be a text of its own".to_string());
    }
    if [" sha256:", " cert:"].iter().any(|word| text.contains(word)) {
        return Err("this is a line of a key file; a secret of links must be a text of its own".to_string());
    }
    if secret.len() < SECRET_BYTES_MIN {
        return Err(format!(
            "a secret has at least {SECRET_BYTES_MIN} bytes of text; `head -c 32 /dev/urandom | base64` makes one"
        ));
    }
    if secret.iter().collect::<HashSet<_>>().len() < DIFFERENT_BYTES_MIN {
        return Err("not a random text; `head -c 32 /dev/urandom | base64` makes one".to_string());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "ZmFrZS1zZWNyZXQtZm9yLXRlc3RzLW9ubHktMDAwMDA=";
    const OTHER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn secrets(text: &str) -> Secrets {
        Secrets::parse(text.as_bytes()).unwrap()
    }

    fn refusal(text: impl AsRef<[u8]>) -> String {
        Secrets::parse(text.as_ref()).err().unwrap()
    }

    #[test]
    fn the_first_line_signs_and_all_lines_verify() {
        let both = secrets(&format!("\u{feff}# of 2026\r\n\n {OTHER} \r\n{SECRET}\n"));
        let (old, new) = (secrets(SECRET), secrets(OTHER));
        assert_eq!(both.len(), 2);
        let by_old = old.sign(b"text").unwrap();
        let by_both = both.sign(b"text").unwrap();
        assert!(both.verify(b"text", &by_old) && both.verify(b"text", &by_both));
        assert!(new.verify(b"text", &by_both) && !old.verify(b"text", &by_both));
        assert!(!both.verify(b"texT", &by_old));
    }

    #[test]
    fn a_file_without_secrets_signs_and_verifies_nothing() {
        let none = secrets("# withdrawn\n");
        assert_eq!(none.len(), 0);
        assert_eq!(none.sign(b"text"), None);
        assert!(!none.verify(b"text", &[0; SIGNATURE_BYTES]));
    }

    #[test]
    fn a_wrong_line_is_named_and_not_repeated() {
        let key = format!("captcha_k3y1_{OTHER}");
        for (text, reason) in [
            (SECRET[..31].to_string(), "line 1: a secret has at least 32 bytes"),
            (
                format!("{SECRET}\nchangeme-changeme-changeme-changeme"),
                "line 2: not a random text",
            ),
            (format!("{SECRET}\n\n{SECRET}"), "line 3: the same secret as in line 1"),
            (format!("# new\n{key}"), "line 2: this is an API key"),
            (
                format!("k3y1 read * sha256:{}", "0".repeat(64)),
                "line 1: this is a line of a key file",
            ),
        ] {
            let refusal = refusal(&text);
            assert!(refusal.starts_with(reason), "{refusal}");
            let last = text.lines().last().unwrap();
            assert!(!refusal.contains(last), "{refusal}");
        }
        assert!(refusal(b"\xff\xfe".repeat(20)).starts_with("line 1: not UTF-8"));
        let lines = |count: usize| (0..count).map(|n| format!("{SECRET}{n}\n")).collect::<String>();
        assert_eq!(secrets(&lines(SECRETS_MAX)).len(), SECRETS_MAX);
        assert_eq!(refusal(lines(SECRETS_MAX + 1)), "line 11: more than 10 secrets");
    }
}
