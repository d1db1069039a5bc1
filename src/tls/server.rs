//! TLS on a listener, with certificates that are read again when their files change.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::file_watch::{self, News, Sightings};
use super::read_file;

/// What connections are greeted with; a new certificate counts for the connections that come after it.
pub type Feed = watch::Receiver<Arc<Tls>>;

/// What the files make of a handshake.
#[derive(Debug)]
pub struct Tls {
    /// What this server shows, and what it asks for.
    pub config: Arc<ServerConfig>,
    /// Of client certificates.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl Tls {
    /// Whether a client's certificate chain, its own first, is good at this moment.
    pub fn verify(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> bool {
        match (&self.verifier, chain) {
            (Some(verifier), [own, rest @ ..]) => verifier.verify_client_cert(own, rest, now).is_ok(),
            _ => false,
        }
    }
}

/// A certificate chain and its private key, as PEM files, and what is asked of clients.
#[derive(Debug, Clone)]
pub struct Files {
    certificate: PathBuf,
    key: PathBuf,
    clients: Option<Clients>,
}

/// What is asked of clients.
#[derive(Debug, Clone)]
pub struct Clients {
    /// The authorities that may sign their certificates, as a PEM file.
    pub ca_file: PathBuf,
    /// Whether the handshake fails without a certificate.
    pub need_certificate: bool,
}

/// What the files hold.
#[derive(Clone, PartialEq, Eq)]
struct Pem {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Files {
    /// The files with these names.
    pub fn new(certificate: PathBuf, key: PathBuf, clients: Option<Clients>) -> Files {
        Files {
            certificate,
            key,
            clients,
        }
    }

    /// Reads them, and again whenever they change, until `stop` is cancelled. Files that are wrong by then
    /// leave the old certificate in force; each reason is logged once, and `sightings` has it.
    ///
    /// # Errors
    /// A file cannot be read, or holds no certificate or no key, or one does not fit the other.
    pub fn watch(self, sightings: Sightings, stop: CancellationToken) -> anyhow::Result<Feed> {
        let pem = self.read()?;
        let (sender, feed) = watch::channel(self.config(&pem)?);
        let files = self.clone();
        let reading = move || files.read().map_err(in_words);
        tokio::spawn(async move {
            let judge = |pem: &Pem| self.config(pem).map_err(in_words);
            let act = |news| self.take(news, &sender);
            file_watch::watch(pem, reading, judge, act, sightings, stop).await;
        });
        Ok(feed)
    }

    fn take(&self, news: News<Arc<Tls>>, feed: &watch::Sender<Arc<Tls>>) {
        match news {
            News::New(config) => {
                feed.send_replace(config);
                tracing::info!(file = %self.certificate.display(), "a new certificate is in force");
            }
            News::Same => tracing::info!("the certificate's files are as they were"),
            News::Bad(reason) => tracing::warn!(
                reason,
                "the new certificate cannot be taken, so the old certificate stays in force"
            ),
        }
    }

    fn read(&self) -> anyhow::Result<Pem> {
        Ok(Pem {
            certificate: read(&self.certificate)?,
            key: read(&self.key)?,
            client_ca: self
                .clients
                .as_ref()
                .map(|clients| read(&clients.ca_file))
                .transpose()?,
        })
    }

    fn config(&self, pem: &Pem) -> anyhow::Result<Arc<Tls>> {
        let file = self.certificate.display();
        let chain = certificates(&pem.certificate, &self.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&pem.key)
            .with_context(|| format!("{} holds no private key in PEM", self.key.display()))?;
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
            // A session that is resumed brings its certificate along, and nobody verifies it again.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        let config = Arc::new(config);
        Ok(Arc::new(Tls { config, verifier }))
    }

    fn verifier(
        &self,
        pem: &Pem,
        provider: &Arc<CryptoProvider>,
    ) -> anyhow::Result<Option<Arc<dyn ClientCertVerifier>>> {
        let Some((clients, client_ca)) = self.clients.as_ref().zip(pem.client_ca.as_ref()) else {
            return Ok(None);
        };
        let file = clients.ca_file.display();
        let mut roots = RootCertStore::empty();
        for authority in certificates(client_ca, &clients.ca_file)? {
            let added = roots.add(authority);
            added.with_context(|| format!("{file} holds a certificate that is none"))?;
        }
        let provider = Arc::clone(provider);
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let builder = match clients.need_certificate {
            true => builder,
            false => builder.allow_unauthenticated(),
        };
        let verifier = builder.build();
        Ok(Some(verifier.with_context(|| format!("cannot verify by {file}"))?))
    }
}

/// The certificates of a PEM file, at least one.
fn certificates(pem: &[u8], file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let file = file.display();
    let chain = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("{file} is no PEM file"))?;
    if chain.is_empty() {
        bail!("{file} holds no certificate; expected PEM");
    }
    Ok(chain)
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    read_file(file).with_context(|| format!("cannot read {}", file.display()))
}

fn in_words(err: anyhow::Error) -> String {
    format!("{err:#}")
}
