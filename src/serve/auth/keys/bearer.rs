//! The key that a request carries: `Authorization: Bearer KEY`.

use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue};

use super::{Denied, KeyText};

/// The ID of the key that an `Authorization` claims to have, known or not.
pub fn claimed_id(authorization: &HeaderValue) -> Option<&str> {
    parse(authorization).map(|key| key.id())
}

/// The one key that a request carries.
///
/// # Errors
/// [`Denied::Missing`], [`Denied::Malformed`].
pub fn bearer(headers: &HeaderMap) -> Result<KeyText<'_>, Denied> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Denied::Missing)?;
    let key = parse(value).filter(|_| values.next().is_none());
    key.ok_or(Denied::Malformed)
}

fn parse(authorization: &HeaderValue) -> Option<KeyText<'_>> {
    let (scheme, key) = authorization.to_str().ok()?.split_once(' ')?;
    let is_bearer = scheme.eq_ignore_ascii_case("bearer");
    KeyText::parse(key.trim_matches(' ')).filter(|_| is_bearer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::auth::keys::api_key::generate;

    #[test]
    fn a_wrong_key_differs_from_a_missing_one() {
        let key = generate().unwrap();
        assert_eq!(bearer(&HeaderMap::new()).err(), Some(Denied::Missing));
        let bearing = format!("Bearer {key}");
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
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            }
            let denied = bearer(&headers).err();
            assert_eq!(denied, Some(Denied::Malformed), "{values:?}");
        }
    }
}
