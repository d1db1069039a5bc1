//! TLS to a server: the authorities that are trusted, the client certificate, and failures in words.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::pem::{certificates, private_key, read};

/// A connection to a server, in the clear or under TLS.
pub type Wire = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// How connections to a server are secured. The files are read again for each connection, so that a rotated certificate
/// is in force with the next one.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// PEM file of the authorities that may sign a server's certificate; `None` asks the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM files of our own certificate chain and its key, for servers that ask for one.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// The two sides do not fit, and another try will not help: a file is wrong, or a certificate is not the expected one.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Mismatch(String);

impl Tls {
    /// Reads all files once, so that a wrong one is found before anything is connected.
    ///
    /// # Errors
    /// A file cannot be read, or is not what it should be.
    pub fn check(&self) -> anyhow::Result<()> {
        self.config().map(drop)
    }

    /// Starts TLS on a connection to a server. Has no timeout of its own: the caller limits it.
    ///
    /// # Errors
    /// A [`Mismatch`] if the files are wrong or the server has another certificate than expected; or the connection
    /// fails. One line without address or advice.
    pub async fn connect(&self, host: &str, stream: TcpStream) -> anyhow::Result<Wire> {
        let files = self.clone();
        // On a thread for blocking work: a disk may take its time.
        let config = tokio::task::spawn_blocking(move || files.config()).await?;
        let config = config.map_err(|err| Mismatch(format!("{err:#}")))?;
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(literal.to_string())
            .with_context(|| format!("{host} is not a name that a certificate can have"))?;
        let connected = TlsConnector::from(config).connect(name, stream).await;
        let stream = connected.map_err(|err| match self.in_words(&err) {
            Some(reason) => Mismatch(reason).into(),
            None if err.kind() == io::ErrorKind::UnexpectedEof => {
                anyhow::anyhow!("it hung up in the tls handshake; is it a port without?")
            }
            None => anyhow::Error::from(err).context("tls handshake failed"),
        })?;
        Ok(Either::Right(Box::new(stream)))
    }

    /// A failure in words, if it is one of TLS: in the handshake, or later, because with TLS 1.3 a
    /// server refuses a client's certificate only after it.
    pub fn in_words(&self, err: &io::Error) -> Option<String> {
        let err = err.get_ref()?.downcast_ref::<rustls::Error>()?;
        Some(match err {
            rustls::Error::InvalidCertificate(certificate) => self.wrong_certificate(certificate),
            rustls::Error::InvalidMessage(_) => "it does not speak tls; is it a port without?".to_string(),
            rustls::Error::AlertReceived(alert) => match alert {
                AlertDescription::CertificateRequired
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateRevoked
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::UnknownCA => match self.client {
                    None => "it asks for a client certificate".to_string(),
                    Some(_) => format!("it refuses the client certificate: {alert:?}"),
                },
                other => format!("it refused the tls handshake: {other:?}"),
            },
            other => format!("tls: {other}"),
        })
    }

    fn wrong_certificate(&self, wrong: &CertificateError) -> String {
        let words = match wrong {
            // The second one if the authority has the same name and another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                let authorities = match &self.ca_file {
                    Some(file) => format!("in {}", file.display()),
                    None => "of this system".to_string(),
                };
                return format!("its certificate is signed by none of the authorities {authorities}");
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired",
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet; look at both clocks"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for other names"
            }
            other => return format!("its certificate is wrong: {other}"),
        };
        words.to_string()
    }

    fn config(&self) -> anyhow::Result<Arc<ClientConfig>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.roots()?);
        let Some((certificate, key)) = &self.client else {
            return Ok(Arc::new(config.with_no_client_auth()));
        };
        let chain = certificates(&read(certificate)?, certificate)?;
        let key_name = key.display();
        let key = private_key(&read(key)?, key)?;
        let config = config.with_client_auth_cert(chain, key).with_context(|| {
            let file = certificate.display();
            format!("{key_name} is not the key of {file}; give the two that were made together")
        })?;
        Ok(Arc::new(config))
    }

    fn roots(&self) -> anyhow::Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        if let Some(file) = &self.ca_file {
            for certificate in certificates(&read(file)?, file)? {
                let refused = || format!("{} holds a certificate that is not one", file.display());
                roots.add(certificate).with_context(refused)?;
            }
            return Ok(roots);
        }
        if let Some(file) = std::env::var_os("SSL_CERT_FILE") {
            // It replaces the system's certificates. Read here first: the library would wait for a pipe.
            read(Path::new(&file))?;
        }
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            bail!("this system has no certificates of authorities; give them in a PEM file");
        }
        Ok(roots)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file(content: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file
    }

    fn refusal(tls: &Tls) -> String {
        format!("{:#}", tls.check().unwrap_err())
    }

    #[test]
    fn wrong_files_are_found_before_connecting() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_string()]).unwrap();
        let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let other = rcgen::generate_simple_self_signed(["localhost".to_string()]).unwrap();
        let (certificate, key) = (file(&pem), file(&key));
        let other = file(&other.signing_key.serialize_pem());
        let empty = file("");
        let path = |file: &tempfile::NamedTempFile| file.path().to_path_buf();
        let trusting = |ca| Tls {
            ca_file: Some(ca),
            client: None,
        };
        let shown = |key| Tls {
            ca_file: Some(path(&certificate)),
            client: Some((path(&certificate), key)),
        };

        trusting(path(&certificate)).check().unwrap();
        shown(path(&key)).check().unwrap();
        assert!(refusal(&trusting("/nowhere".into())).starts_with("cannot read /nowhere: "));
        assert!(refusal(&trusting(path(&empty))).ends_with("holds no certificate; expected PEM"));
        assert!(refusal(&shown(path(&empty))).contains("holds no private key in PEM"));
        assert!(refusal(&shown(path(&other))).contains("is not the key of "));
    }
}
