//! The credential of a client, as a line of the key file holds it: the hash of a key, or the name of a certificate.

use std::fmt;

use super::api_key::Hash;
use crate::http::CertificateName;

/// The prefix of a certificate's name in the file.
const CERTIFICATE_PREFIX: &str = "cert:";

/// The credential of a client.
#[derive(Debug, Clone)]
pub enum Credential {
    /// The hash of a key.
    Key(Hash),
    /// The name of a client certificate.
    Certificate(CertificateName),
}

impl Credential {
    /// Reads a hash, or `cert:` and a name.
    ///
    /// # Errors
    /// The format that is expected. The text is not repeated: it may be a secret in the wrong place.
    pub fn parse(text: &str) -> Result<Credential, &'static str> {
        match text.strip_prefix(CERTIFICATE_PREFIX) {
            Some(name) => CertificateName::parse(name).map(Credential::Certificate),
            None => Hash::parse(text).map(Credential::Key).ok_or(
                "no hash after the sites; expected sha256: and 64 lower-case hexadecimal digits, or cert: and a name",
            ),
        }
    }

    /// Whether two are the same.
    pub fn is_same(&self, other: &Credential) -> bool {
        match (self, other) {
            (Credential::Key(hash), Credential::Key(other)) => hash.is_same(other),
            (Credential::Certificate(name), Credential::Certificate(other)) => name == other,
            _ => false,
        }
    }

    /// The hash of the key, if it is one.
    pub fn hash(&self) -> Option<&Hash> {
        match self {
            Credential::Key(hash) => Some(hash),
            Credential::Certificate(_) => None,
        }
    }

    /// The name of the certificate, if it is one.
    pub fn certificate(&self) -> Option<&CertificateName> {
        match self {
            Credential::Key(_) => None,
            Credential::Certificate(name) => Some(name),
        }
    }
}

impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credential::Key(hash) => hash.fmt(f),
            Credential::Certificate(name) => write!(f, "{CERTIFICATE_PREFIX}{name}"),
        }
    }
}
