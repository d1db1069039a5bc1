//! The key that a request carries: `Authorization: Bearer KEY`.

use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue};

use super::{Denied, KeyText};

/// The ID of the key that an `Authorization` claims to have, known or not.
pub fn claimed_id(authorization: &HeaderValue) -> Option<&str> {
    key_of(authorization).map(|key| key.id())
}

/// The one key that a request carries.
///
/// # Errors
/// [`Denied::Missing`], [`Denied::Malformed`].
pub fn bearer(headers: &HeaderMap) -> Result<KeyText<'_>, Denied> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let value = given.next().ok_or(Denied::Missing)?;
    let key = key_of(value).filter(|_| given.next().is_none());
    key.ok_or(Denied::Malformed)
}

fn key_of(authorization: &HeaderValue) -> Option<KeyText<'_>> {
    let (scheme, key) = authorization.to_str().ok()?.split_once(' ')?;
    let is_bearer = scheme.eq_ignore_ascii_case("bearer");
    KeyText::parse(key.trim_matches(' ')).filter(|_| is_bearer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::auth::keys::api_key::make;

    #[test]
    fn what_is_no_key_is_told_from_no_key() {
        let key = make().unwrap();
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
