//! The key that a request carries: `Authorization: Bearer KEY`, and from browsers `Basic` (RFC 7617) with the key as
//! password.

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue};

use super::{Denied, KeyText};

/// How a key may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schemes {
    /// Only as a bearer token. A browser never adds one by itself, so no page can use the key of its visitor.
    Bearer,
    /// Also as the password of Basic, which a browser asks for and then adds to every request to this server.
    BearerAndBasic,
}

/// The ID of the key that an `Authorization` claims to have, known or not, in either scheme.
pub fn claimed_id(authorization: &HeaderValue) -> Option<String> {
    let text = key_of(authorization, Schemes::BearerAndBasic)?;
    KeyText::parse(&text).map(|key| key.id().to_string())
}

/// Whether an `Authorization` is of the scheme that a browser adds by itself.
pub fn is_basic(authorization: &HeaderValue) -> bool {
    split(authorization.as_bytes()).is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case(b"basic"))
}

/// The text of the one key that a request carries; it has the form of a key.
///
/// # Errors
/// [`Denied::Missing`], [`Denied::Malformed`].
pub fn sent_key(headers: &HeaderMap, schemes: Schemes) -> Result<Cow<'_, str>, Denied> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Denied::Missing)?;
    let text = key_of(value, schemes).filter(|_| values.next().is_none());
    text.filter(|text| KeyText::parse(text).is_some())
        .ok_or(Denied::Malformed)
}

fn key_of(authorization: &HeaderValue, schemes: Schemes) -> Option<Cow<'_, str>> {
    let (scheme, credentials) = split(authorization.as_bytes())?;
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return std::str::from_utf8(credentials).ok().map(Cow::Borrowed);
    }
    let is_basic = schemes == Schemes::BearerAndBasic && scheme.eq_ignore_ascii_case(b"basic");
    let decoded = is_basic.then(|| BASE64_STANDARD.decode(credentials).ok()).flatten()?;
    // The name may be anything, in any encoding. A key as the name is not taken: servers write that into their logs.
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let password = decoded.get(colon + 1..)?.to_vec();
    String::from_utf8(password).ok().map(Cow::Owned)
}

/// The scheme and what follows it, without the blanks between and behind.
fn split(authorization: &[u8]) -> Option<(&[u8], &[u8])> {
    let blank = authorization.iter().position(|byte| *byte == b' ')?;
    let (scheme, credentials) = authorization.split_at(blank);
    Some((scheme, credentials.trim_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::auth::keys::api_key::generate;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn basic(user_and_password: impl AsRef<[u8]>) -> String {
        format!("Basic {}", BASE64_STANDARD.encode(user_and_password))
    }

    #[test]
    fn a_wrong_key_differs_from_a_missing_one() {
        let key = generate().unwrap();
        let bearing = format!("Bearer {key}");
        for schemes in [Schemes::Bearer, Schemes::BearerAndBasic] {
            assert_eq!(sent_key(&HeaderMap::new(), schemes).err(), Some(Denied::Missing));
            for values in [
                &[""][..],
                &["Bearer"],
                &["Bearer "],
                &[&key],
                &[&format!("Basic {key}")],
                &[&format!("Bearer{key}")],
                &[&format!("Bearer {}", &key[..key.len() - 1])],
                &[&format!("Bearer {key},{key}")],
                &["Bearer captcha_ID_SECRET"],
                &[&bearing, &bearing],
                &[&bearing, &basic(format!(":{key}"))],
            ] {
                let denied = sent_key(&headers(values), schemes).err();
                assert_eq!(denied, Some(Denied::Malformed), "{values:?}");
            }
        }
    }

    #[test]
    fn a_password_of_any_user_is_a_key_where_basic_is_taken() {
        let key = generate().unwrap();
        let id = KeyText::parse(&key).unwrap().id();
        for user in ["", "me", "a b", "j\u{f6}rg"] {
            let value = basic(format!("{user}:{key}"));
            for value in [value.clone(), value.replace("Basic ", "bASIC  ") + " "] {
                let headers = headers(&[&value]);
                let sent = sent_key(&headers, Schemes::BearerAndBasic).unwrap();
                assert_eq!(sent, key, "{user}");
                assert_eq!(sent_key(&headers, Schemes::Bearer).err(), Some(Denied::Malformed));
                assert_eq!(claimed_id(&headers[AUTHORIZATION]).as_deref(), Some(id));
                assert!(is_basic(&headers[AUTHORIZATION]));
            }
        }
        let latin1 = [b"j\xf6rg:", key.as_bytes()].concat();
        assert!(sent_key(&headers(&[&basic(latin1)]), Schemes::BearerAndBasic).is_ok());
        let bearing = headers(&[&format!("Bearer {key}")]);
        assert!(!is_basic(&bearing[AUTHORIZATION]));
        assert!(sent_key(&bearing, Schemes::BearerAndBasic).is_ok());
    }

    #[test]
    fn a_key_anywhere_but_in_the_password_is_not_taken() {
        let key = generate().unwrap();
        for value in [
            basic(&key),
            basic(format!("{key}:")),
            basic(format!("{key}:x")),
            basic(format!("me:{key} ")),
            basic(format!("me:x:{key}")),
            basic([b"me:\xff", key.as_bytes()].concat()),
            basic(format!("me:{key}")).trim_end_matches('=').to_string() + "!",
            "Basic".to_string(),
            "Basic ".to_string(),
        ] {
            let denied = sent_key(&headers(&[&value]), Schemes::BearerAndBasic).err();
            assert_eq!(denied, Some(Denied::Malformed), "{value}");
        }
    }
}
