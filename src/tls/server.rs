//! TLS on a listener, with certificates that are read again when their files change.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::file_watch::{self, FileChange, FileStatus};
use super::pem::{certificates, private_key, read};

/// The configuration of TLS in force; a new certificate counts for the connections that come after it.
pub type TlsConfigRx = watch::Receiver<Arc<TlsConfig>>;

/// The configuration that the files make.
#[derive(Debug)]
pub struct TlsConfig {
    /// The certificate of this server, and whether it asks for a client's.
    pub config: Arc<ServerConfig>,
    /// Of client certificates.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl TlsConfig {
    /// Whether a client's certificate chain, its own first, is valid at `now`.
    pub fn verify(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> bool {
        match (&self.verifier, chain) {
            (Some(verifier), [own, rest @ ..]) => verifier.verify_client_cert(own, rest, now).is_ok(),
            _ => false,
        }
    }
}

/// A certificate chain and its private key, as PEM files, and which certificates clients need.
#[derive(Debug, Clone)]
pub struct PemFiles {
    certificate: PathBuf,
    key: PathBuf,
    client_auth: Option<ClientAuth>,
}

#[derive(Debug, Clone)]
pub struct ClientAuth {
    /// The authorities that may sign their certificates, as a PEM file.
    pub ca_file: PathBuf,
    /// Whether the handshake fails without a certificate.
    pub need_certificate: bool,
}

/// The content of the files.
#[derive(Clone, PartialEq, Eq)]
struct Pem {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl PemFiles {
    pub fn new(certificate: PathBuf, key: PathBuf, client_auth: Option<ClientAuth>) -> PemFiles {
        PemFiles {
            certificate,
            key,
            client_auth,
        }
    }

    /// Reads them, and again whenever they change, until `stop` is cancelled. Files that are wrong by then
    /// leave the old certificate in force; each reason is logged once, and `status` has it.
    ///
    /// # Errors
    /// A file cannot be read, or holds no certificate or no key, or one does not fit the other.
    pub fn watch(self, status: FileStatus, stop: CancellationToken) -> anyhow::Result<TlsConfigRx> {
        let pem = self.read()?;
        let (sender, config) = watch::channel(self.config(&pem)?);
        let files = self.clone();
        let reading = move || files.read().map_err(in_words);
        tokio::spawn(async move {
            let parse = |pem: &Pem| self.config(pem).map_err(in_words);
            let apply = |change| self.apply(change, &sender);
            file_watch::watch(pem, reading, parse, apply, status, stop).await;
        });
        Ok(config)
    }

    fn apply(&self, change: FileChange<Arc<TlsConfig>>, sender: &watch::Sender<Arc<TlsConfig>>) {
        match change {
            FileChange::Loaded(config) => {
                sender.send_replace(config);
                tracing::info!(file = %self.certificate.display(), "a new certificate is in force");
            }
            FileChange::Restored => tracing::info!("the certificate's files are as they were"),
            FileChange::Failed(reason) => tracing::warn!(
                reason,
                "the new certificate cannot be loaded, so the old certificate stays in force"
            ),
        }
    }

    fn read(&self) -> anyhow::Result<Pem> {
        Ok(Pem {
            certificate: read(&self.certificate)?,
            key: read(&self.key)?,
            client_ca: self
                .client_auth
                .as_ref()
                .map(|client_auth| read(&client_auth.ca_file))
                .transpose()?,
        })
    }

    fn config(&self, pem: &Pem) -> anyhow::Result<Arc<TlsConfig>> {
        let file = self.certificate.display();
        let chain = certificates(&pem.certificate, &self.certificate)?;
        let key = private_key(&pem.key, &self.key)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = self.verifier(pem, &provider)?;
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = match &verifier {
            Some(verifier) => config.with_client_cert_verifier(Arc::clone(verifier)),
            None => config.with_no_client_auth(),
        };
        let mut config = config.with_single_cert(chain, key).with_context(|| {
            let key = self.key.display();
            format!("{key} is not the key of {file}; give the two that were made together")
        })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        if verifier.is_some() {
            // Nothing verifies the certificate of a resumed session again.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        let config = Arc::new(config);
        Ok(Arc::new(TlsConfig { config, verifier }))
    }

    fn verifier(
        &self,
        pem: &Pem,
        provider: &Arc<CryptoProvider>,
    ) -> anyhow::Result<Option<Arc<dyn ClientCertVerifier>>> {
        let Some((client_auth, client_ca)) = self.client_auth.as_ref().zip(pem.client_ca.as_ref()) else {
            return Ok(None);
        };
        let file = client_auth.ca_file.display();
        let mut roots = RootCertStore::empty();
        for authority in certificates(client_ca, &client_auth.ca_file)? {
            let added = roots.add(authority);
            added.with_context(|| format!("{file} holds a certificate that is not one"))?;
        }
        let provider = Arc::clone(provider);
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let builder = match client_auth.need_certificate {
            true => builder,
            false => builder.allow_unauthenticated(),
        };
        let verifier = builder.build();
        Ok(Some(verifier.with_context(|| format!("cannot verify by {file}"))?))
    }
}

fn in_words(err: anyhow::Error) -> String {
    format!("{err:#}")
}
