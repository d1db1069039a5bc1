//! Why a request is not authenticated: 401.

use std::fmt;

use super::Expiry;

/// Why a request is not authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    Missing,
    /// Neither a key nor a client certificate was sent, where either would do.
    MissingBoth,
    /// The text is not a key.
    Malformed,
    /// The file has no such ID.
    Unknown,
    /// The file has the ID with another key. The client gets the same response as for [`Denied::Unknown`].
    WrongSecret,
    /// The key was valid until then.
    Expired(Expiry),
    /// The client certificate is valid, but the file does not name it.
    CertificateUnknown,
    /// There is no valid client certificate.
    CertificateInvalid,
}

impl Denied {
    /// The value of `WWW-Authenticate` (RFC 6750).
    pub fn challenge(self) -> &'static str {
        match self {
            Denied::Missing | Denied::MissingBoth => "Bearer realm=\"captcha\"",
            _ => "Bearer realm=\"captcha\", error=\"invalid_token\"",
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Denied::Missing => f.write_str("no key; send the header authorization: Bearer captcha_ID_SECRET"),
            Denied::MissingBoth => f.write_str(
                "neither a key nor a client certificate; send the header authorization: Bearer captcha_ID_SECRET, or \
                 connect with a client certificate that the key file names",
            ),
            Denied::Malformed => {
                f.write_str("the authorization header holds no key; expected one, Bearer captcha_ID_SECRET")
            }
            Denied::Unknown | Denied::WrongSecret => f.write_str("there is no such key; it may have been withdrawn"),
            Denied::Expired(expiry) => {
                write!(f, "this key expired at {expiry} (UTC); ask for a new one")
            }
            Denied::CertificateUnknown => {
                f.write_str("the key file does not name this client certificate; it may have been withdrawn")
            }
            Denied::CertificateInvalid => {
                f.write_str("the client certificate of this connection is not valid any more; connect with a new one")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_says_how_to_ask() {
        let expired = Denied::Expired(Expiry::parse("2027-01-31").unwrap());
        for denied in [
            Denied::Missing,
            Denied::MissingBoth,
            Denied::Malformed,
            Denied::Unknown,
            Denied::WrongSecret,
            expired,
            Denied::CertificateUnknown,
            Denied::CertificateInvalid,
        ] {
            assert!(denied.challenge().starts_with("Bearer "));
            let is_wrong = ![Denied::Missing, Denied::MissingBoth].contains(&denied);
            assert_eq!(denied.challenge().contains("invalid_token"), is_wrong);
        }
    }

    #[test]
    fn the_sender_does_not_learn_whether_the_id_was_right() {
        assert_eq!(Denied::Unknown.to_string(), Denied::WrongSecret.to_string());
    }
}
