//! The certificate of a client: its names, and whether it is still valid.

use std::fmt;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, DnsName, UnixTime};
use webpki::EndEntityCert;

use super::server::TlsConfigRx;

/// How often the certificate of an open connection is verified: it may expire, or its authority be withdrawn. The
/// signatures take some 0.1 ms.
const RECHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Characters of a name: as many as SPIFFE allows for its URIs.
const NAME_CHARS_MAX: usize = 2_048;

/// A name among the subject alternative names of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CertificateName {
    /// In lower case. Never a wildcard, which does not name a client.
    Dns(String),
    /// As it is written.
    Uri(String),
}

impl CertificateName {
    /// Reads a DNS name or, if it has a colon, a URI.
    ///
    /// # Errors
    /// The format that is expected. The text is not repeated: it may be a secret in the wrong place.
    pub fn parse(text: &str) -> Result<CertificateName, &'static str> {
        let name = match text.contains(':') {
            true => CertificateName::uri(text),
            false => CertificateName::dns(text),
        };
        name.ok_or(
            "a certificate is named by a DNS name or a URI of it, such as cert:shop.example or \
             cert:spiffe://example/shop",
        )
    }

    fn dns(text: &str) -> Option<CertificateName> {
        DnsName::try_from(text).ok()?;
        Some(CertificateName::Dns(text.to_ascii_lowercase()))
    }

    fn uri(text: &str) -> Option<CertificateName> {
        let is_printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        let is_name = is_printable && text.len() <= NAME_CHARS_MAX;
        is_name.then(|| CertificateName::Uri(text.to_string()))
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (CertificateName::Dns(name) | CertificateName::Uri(name)) = self;
        f.write_str(name)
    }
}

/// A certificate that the handshake has verified.
#[derive(Debug)]
pub struct ClientCertificate {
    /// Its own first.
    chain: Vec<CertificateDer<'static>>,
    names: Vec<CertificateName>,
    tls: TlsConfigRx,
    verified: Mutex<Verified>,
}

/// The result of the last verification.
#[derive(Debug)]
struct Verified {
    at: Instant,
    is_valid: bool,
}

impl ClientCertificate {
    /// The certificate of a handshake that has just succeeded.
    pub fn new(chain: &[CertificateDer<'static>], tls: &TlsConfigRx) -> ClientCertificate {
        ClientCertificate {
            names: chain.first().map(names).unwrap_or_default(),
            chain: chain.to_vec(),
            tls: tls.clone(),
            verified: Mutex::new(Verified {
                at: Instant::now(),
                is_valid: true,
            }),
        }
    }

    /// Its names, in its order: DNS names, then URIs.
    pub fn names(&self) -> &[CertificateName] {
        &self.names
    }

    /// Whether it has not expired, and one of the present authorities has signed it. It is verified again when the last
    /// time was [`RECHECK_INTERVAL`] ago.
    pub fn is_valid(&self) -> bool {
        let verified = &self.verified;
        let mut verified = verified.lock();
        if verified.at.elapsed() >= RECHECK_INTERVAL {
            let is_valid = self.tls.borrow().verify(&self.chain, UnixTime::now());
            *verified = Verified {
                at: Instant::now(),
                is_valid,
            };
        }
        verified.is_valid
    }
}

/// Read by the library that has verified the certificate, so that both understand the same.
fn names(certificate: &CertificateDer<'static>) -> Vec<CertificateName> {
    let Ok(certificate) = EndEntityCert::try_from(certificate) else {
        return Vec::new();
    };
    let dns = certificate.valid_dns_names().filter_map(CertificateName::dns);
    let uris = certificate.valid_uri_names().filter_map(CertificateName::uri);
    dns.chain(uris).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    fn name(text: &str) -> CertificateName {
        CertificateName::parse(text).unwrap()
    }

    #[test]
    fn a_name_is_a_dns_name_or_a_uri() {
        let dns = CertificateName::Dns("shop.example".to_string());
        assert_eq!(name("Shop.EXAMPLE"), dns);
        let uri = "spiffe://example/ns/Shop";
        assert_eq!(name(uri), CertificateName::Uri(uri.to_string()));
        for text in [
            "",
            "*.example",
            "shop example",
            "shop..example",
            "spiffe://\u{1b}[31m",
            &format!("urn:{}", "x".repeat(NAME_CHARS_MAX)),
        ] {
            assert!(CertificateName::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_names_of_a_certificate_are_read_and_odd_ones_left_out() {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![
            SanType::URI("spiffe://example/shop".try_into().unwrap()),
            SanType::DnsName("Shop.example".try_into().unwrap()),
            SanType::DnsName("*.shop.example".try_into().unwrap()),
            SanType::DnsName("spiffe://example/other".try_into().unwrap()),
            SanType::Rfc822Name("a@shop.example".try_into().unwrap()),
            SanType::IpAddress([127, 0, 0, 1].into()),
        ];
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let expected = [name("shop.example"), name("spiffe://example/shop")];
        assert_eq!(names(certificate.der()), expected);
    }
}
