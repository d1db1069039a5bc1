//! A signed link: the parameters of a picture with `key`, `expires` and `signature`. Pure.

use super::refusal::LinkRefusal;
use super::secrets::{SIGNATURE_BYTES, Secrets};
use crate::serve::auth::keys::{Expiry, is_id};

/// The parameters that a link has besides those of its picture. Nothing else may have these names.
pub const PARAMETERS: [&str; 3] = ["key", "expires", SIGNATURE];

const SIGNATURE: &str = "signature";

/// The beginning of each signed text: what a signature is for, and the version of the text. The same secret signs
/// nothing else that begins like this.
const PURPOSE: &[u8] = b"captcha link, version 1: GET report.svg\n";

/// The picture that a link shows, and its last moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Of the picture, decoded, in order; none of [`PARAMETERS`].
    parameters: Vec<(String, String)>,
    key: String,
    expires: Expiry,
}

impl Link {
    /// A link for a picture with these parameters, none of which is one of [`PARAMETERS`].
    pub fn new(parameters: Vec<(String, String)>, key: String, expires: Expiry) -> Link {
        Link {
            parameters,
            key,
            expires,
        }
    }

    /// Reads the query of a request; `None` if it has no signature, so that it is not a link's.
    ///
    /// # Errors
    /// [`LinkRefusal::Invalid`].
    pub fn parse(query: &str) -> Option<Result<SignedLink, LinkRefusal>> {
        let is_signed = form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == SIGNATURE);
        is_signed.then(|| SignedLink::parse(query).ok_or(LinkRefusal::Invalid))
    }

    /// The ID of the key whose rights it has.
    pub fn key(&self) -> &str {
        &self.key
    }

    pub fn expires(&self) -> Expiry {
        self.expires
    }

    /// The query of the picture alone.
    pub fn picture_query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.parameters);
        query.finish()
    }

    /// The query of the link, signed; `None` if there is no secret.
    pub fn sign(&self, secrets: &Secrets) -> Option<String> {
        let signature = secrets.sign(&self.signed_text())?;
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.parameters);
        query.append_pair("key", &self.key);
        query.append_pair("expires", &self.expires.to_string());
        query.append_pair(SIGNATURE, &hex::encode(signature));
        Some(query.finish())
    }

    /// Each part is preceded by its length, so that no two links have the same text.
    fn signed_text(&self) -> Vec<u8> {
        let mut text = PURPOSE.to_vec();
        let mut append = |part: &str| {
            text.extend((part.len() as u64).to_be_bytes());
            text.extend(part.as_bytes());
        };
        append(&self.key);
        append(&self.expires.to_string());
        for (name, value) in &self.parameters {
            append(name);
            append(value);
        }
        text
    }
}

/// A link with the signature that it was sent with, which may be false.
pub struct SignedLink {
    link: Link,
    signature: [u8; SIGNATURE_BYTES],
}

impl SignedLink {
    fn parse(query: &str) -> Option<SignedLink> {
        let (mut parameters, mut key, mut expires, mut signature) = (Vec::new(), None, None, None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let before = match name.as_ref() {
                "key" => key.replace(value),
                "expires" => expires.replace(value),
                SIGNATURE => signature.replace(value),
                _ => {
                    parameters.push((name.into_owned(), value.into_owned()));
                    None
                }
            };
            if before.is_some() {
                return None;
            }
        }
        let (key, expires) = (key.filter(|key| is_id(key))?, expires?);
        let parsed = Expiry::parse(&expires).ok()?;
        // A second text for the same moment would be a second link with the same signature.
        if parsed.to_string() != expires {
            return None;
        }
        Some(SignedLink {
            link: Link::new(parameters, key.into_owned(), parsed),
            signature: parse_signature(&signature?)?,
        })
    }

    /// The link, if one of the secrets has signed it.
    ///
    /// # Errors
    /// [`LinkRefusal::Invalid`].
    pub fn verify(self, secrets: &Secrets) -> Result<Link, LinkRefusal> {
        let is_signed = secrets.verify(&self.link.signed_text(), &self.signature);
        is_signed.then_some(self.link).ok_or(LinkRefusal::Invalid)
    }
}

/// Lower case alone: upper case would be a second text for the same signature.
fn parse_signature(text: &str) -> Option<[u8; SIGNATURE_BYTES]> {
    let mut signature = [0; SIGNATURE_BYTES];
    let is_lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
    hex::decode_to_slice(text, &mut signature).ok()?;
    is_lower.then_some(signature)
}

/// The ID of the key that a query claims to be a link of.
pub fn claimed_id(query: &str) -> Option<String> {
    let parameter = |wanted| {
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        pairs.find_map(|(name, value)| (name == wanted).then_some(value))
    };
    parameter(SIGNATURE)?;
    parameter("key").filter(|id| is_id(id)).map(|id| id.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secrets() -> Secrets {
        Secrets::parse(b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef").unwrap()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = pairs.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        owned.collect()
    }

    fn link() -> Link {
        let parameters = pairs(&[("period", "30d"), ("timezone", "Europe/Berlin"), ("metrics", "a,b")]);
        Link::new(parameters, "k3y1".to_string(), Expiry::parse("2027-01-31").unwrap())
    }

    fn verified(query: &str) -> Option<Link> {
        let parsed = Link::parse(query).expect("a signature");
        parsed.and_then(|link| link.verify(&secrets())).ok()
    }

    #[test]
    fn a_signed_link_is_read_back() {
        let query = link().sign(&secrets()).unwrap();
        // Computed by Python's hmac and struct: links that people have embedded go on working in later versions.
        let signature = "5ddb90360c043b0105f273f6041bbf6eaf9a344d811d6fdaaecb41109cf2cece";
        let parameters = "period=30d&timezone=Europe%2FBerlin&metrics=a%2Cb&key=k3y1&expires=2027-01-31";
        assert_eq!(query, format!("{parameters}&signature={signature}"));
        let read = verified(&query).unwrap();
        assert_eq!(read, link());
        assert_eq!(
            read.picture_query(),
            "period=30d&timezone=Europe%2FBerlin&metrics=a%2Cb"
        );
        assert_eq!(claimed_id(&query).as_deref(), Some("k3y1"));
        // As programs that pass a link on may spell it.
        for same in [
            query.replace("%2F", "/").replace("%2C", ","),
            query.replace("%2F", "%2f"),
            query.replace("period", "p%65riod"),
            query.replace("&key", "&&key"),
        ] {
            assert_eq!(verified(&same), Some(link()), "{same}");
        }
        assert!(Link::parse(&link().picture_query()).is_none());
        assert_eq!(claimed_id("key=k3y1"), None);
    }

    #[test]
    fn every_changed_added_dropped_or_doubled_parameter_breaks_the_signature() {
        let query = link().sign(&secrets()).unwrap();
        let parts: Vec<_> = query.split('&').collect();
        for (index, part) in parts.iter().enumerate() {
            let with = |part: &[&str]| [&parts[..index], part, &parts[index + 1..]].concat().join("&");
            let (name, value) = part.split_once('=').unwrap();
            let changed = [
                with(&[]),
                with(&[part, part]),
                with(&[&format!("{name}={value}0")]),
                with(&[&format!("{name}={}", &value[1..])]),
                with(&[&format!("{name}=")]),
                with(&[&format!("{name}0={value}")]),
                with(&[&format!("{}={value}", name.to_uppercase())]),
                with(&["theme=dark", part]),
                with(&["", part, "site_id=7"]),
            ];
            for changed in changed.iter().filter(|changed| changed.contains("signature=")) {
                assert_eq!(verified(changed), None, "{changed}");
            }
        }
        let upper = query.replace(parts[5], &parts[5].to_uppercase().replace("SIGNATURE", "signature"));
        let swapped = [parts[1], parts[0], parts[2], parts[3], parts[4], parts[5]].join("&");
        let midnight = query.replace("2027-01-31", "2027-01-31T00:00:00Z");
        let moved = query.replace("period=30d&timezone=Europe", "period=30d%26timezone%3DEurope");
        for changed in [upper, swapped, midnight, moved] {
            assert_eq!(verified(&changed), None, "{changed}");
        }
    }

    proptest! {
        #[test]
        fn no_two_links_have_the_same_text(
            one in prop::collection::vec((".{0,3}", ".{0,3}"), 0..4),
            other in prop::collection::vec((".{0,3}", ".{0,3}"), 0..4),
        ) {
            let text = |parameters: &[(String, String)]| Link { parameters: parameters.to_vec(), ..link() }.signed_text();
            prop_assert_eq!(text(&one) == text(&other), one == other);
        }

        #[test]
        fn what_is_signed_is_verified(
            parameters in prop::collection::vec(("[^kes].{0,8}", ".{0,8}"), 0..6), key in "[a-z0-9]{4,32}",
        ) {
            let link = Link::new(parameters, key, Expiry::parse("2027-01-31T18:00:01Z").unwrap());
            let query = link.sign(&secrets()).unwrap();
            prop_assert_eq!(verified(&query), Some(link));
        }

        #[test]
        fn nothing_makes_the_parser_panic(query in ".{0,60}") {
            let _ = Link::parse(&format!("signature=0&{query}"));
            let _ = claimed_id(&format!("signature=0&{query}"));
        }
    }
}
