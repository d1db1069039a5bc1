//! A key as its client sends it, `captcha_ID_SECRET`: generating one, parsing it, and its hash.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::terminal::redact::{KEY_ID_CHARS, KEY_PREFIX};

/// Random bytes of a new ID: among 10,000 keys two are alike once in five million files, and then the file is refused.
const NEW_ID_BYTES: usize = 6;

/// Random bytes of a secret: as many as the hash has, beyond any guessing.
const SECRET_BYTES: usize = 32;

/// The prefix of hashes in the key file.
const HASH_PREFIX: &str = "sha256:";

/// A key as its client sends it. It cannot be printed.
pub struct KeyText<'a> {
    whole: &'a str,
    id: &'a str,
}

impl<'a> KeyText<'a> {
    /// Reads a key; `None` if it does not have the form of one.
    pub fn parse(whole: &'a str) -> Option<KeyText<'a>> {
        let (id, secret) = whole.strip_prefix(KEY_PREFIX)?.split_once('_')?;
        let is_key = is_id(id) && secret.len() == 2 * SECRET_BYTES && secret.bytes().all(is_hex);
        is_key.then_some(KeyText { whole, id })
    }

    /// The public part, which names the key.
    pub fn id(&self) -> &'a str {
        self.id
    }

    /// The hash that the file holds.
    pub fn hash(&self) -> Hash {
        Hash(Sha256::digest(self.whole).into())
    }
}

/// A new key from the operating system's random numbers.
///
/// # Errors
/// The system has no random numbers.
pub fn generate() -> Result<String, getrandom::Error> {
    let (mut id, mut secret) = ([0; NEW_ID_BYTES], [0; SECRET_BYTES]);
    getrandom::fill(&mut id)?;
    getrandom::fill(&mut secret)?;
    Ok(format!("{KEY_PREFIX}{}_{}", hex::encode(id), hex::encode(secret)))
}

/// Whether a text can be the ID of a key.
pub fn is_id(text: &str) -> bool {
    KEY_ID_CHARS.contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// Whether a text contains a key, and must not be kept.
pub fn contains_key(text: &str) -> bool {
    text.split(|c: char| c != '_' && !c.is_ascii_alphanumeric())
        .any(|word| KeyText::parse(word).is_some())
}

/// The SHA-256 of a key. There is no `==`: keys are compared in constant time, or not at all.
#[derive(Debug, Clone)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Replaces the hash of a missing key, so that the comparison takes as long.
    pub const NONE: Hash = Hash([0; 32]);

    /// Reads `sha256:` and 64 lower-case hexadecimal digits, as `sha256sum` prints them.
    pub fn parse(text: &str) -> Option<Hash> {
        // Upper case would be a second text for the same hash.
        let digits = text
            .strip_prefix(HASH_PREFIX)
            .filter(|digits| digits.bytes().all(is_hex))?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).ok()?;
        Some(Hash(bytes))
    }

    /// Whether two are equal, in constant time.
    pub fn is_same(&self, other: &Hash) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// Its bytes, for finding the same hash twice in a file.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{HASH_PREFIX}{}", hex::encode(self.0))
    }
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_a_key_and_never_the_same() {
        let (one, other) = (generate().unwrap(), generate().unwrap());
        let (one, other) = (KeyText::parse(&one).unwrap(), KeyText::parse(&other).unwrap());
        assert_ne!(one.id(), other.id());
        assert_eq!(one.id().len(), 12);
        assert!(!one.hash().is_same(&other.hash()));
        let secrets = [one.whole, other.whole].map(|whole| &whole[whole.len() - 64..]);
        assert_ne!(secrets[0], secrets[1]);
        assert!(secrets.iter().all(|secret| *secret != "0".repeat(64)));
    }

    #[test]
    fn only_keys_are_read_as_keys() {
        let secret = "0123456789abcdef".repeat(4);
        let key = format!("captcha_k3y1_{secret}");
        assert_eq!(KeyText::parse(&key).unwrap().id(), "k3y1");
        for text in [
            String::new(),
            "captcha_".to_string(),
            format!("Captcha_k3y1_{secret}"),
            format!("k3y1_{secret}"),
            format!("captcha_k3y_{secret}"),
            format!("captcha_{}_{secret}", "k".repeat(33)),
            format!("captcha_K3Y1_{secret}"),
            format!("captcha_k3_1_{secret}"),
            format!("captcha_kéy1_{secret}"),
            format!("captcha_k3y1_{}", &secret[1..]),
            format!("captcha_k3y1_{secret}0"),
            format!("captcha_k3y1_{}", secret.to_uppercase()),
            format!("captcha_k3y1_{secret} "),
        ] {
            assert!(KeyText::parse(&text).is_none(), "{text}");
        }
    }

    #[test]
    fn the_hash_is_what_sha256sum_prints() {
        let key = format!("captcha_k3y1_{}", "0".repeat(64));
        let hash = KeyText::parse(&key).unwrap().hash();
        let printed = "sha256:5b349bf4a8ca431db94465742700300b9127f99852350c0b867b079a2e6539fd";
        assert_eq!(hash.to_string(), printed);
        assert!(hash.is_same(&Hash::parse(printed).unwrap()));
    }

    #[test]
    fn a_hash_that_differs_anywhere_is_another() {
        let text = format!("sha256:{}", "0".repeat(64));
        assert!(Hash::parse(&text).unwrap().is_same(&Hash::NONE));
        for index in 7..text.len() {
            let mut other = text.clone();
            other.replace_range(index..=index, "1");
            assert!(!Hash::parse(&other).unwrap().is_same(&Hash::NONE), "{other}");
            other.replace_range(index..=index, "A");
            assert!(Hash::parse(&other).is_none(), "{other}");
        }
        assert!(Hash::parse(&text[..70]).is_none());
        assert!(Hash::parse(&format!("{text}0")).is_none());
        assert!(Hash::parse(&text[7..]).is_none());
    }

    #[test]
    fn a_key_is_found_anywhere_in_a_text() {
        let key = generate().unwrap();
        assert!(contains_key(&key));
        assert!(contains_key(&format!("# it was '{key}'.")));
        assert!(!contains_key(&format!("# it was {}", &key[1..])));
        assert!(!contains_key("captcha_ID_SECRET"));
    }
}
