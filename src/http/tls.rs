//! TLS on a listener, with certificates that are read again when their files change.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::sight::{self, News};

/// What connections are greeted with; a new certificate counts for the connections that come after it.
pub type Feed = watch::Receiver<Arc<ServerConfig>>;

/// A certificate chain and its private key, as PEM files.
#[derive(Debug, Clone)]
pub struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// What the files hold.
#[derive(Clone, PartialEq, Eq)]
struct Pem {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Files {
    /// The files with these names.
    pub fn new(certificate: PathBuf, key: PathBuf) -> Files {
        Files { certificate, key }
    }

    /// Reads them, and again whenever they change, until `stop` is cancelled. Files that are wrong by then
    /// leave the old certificate in force; each reason is logged once.
    ///
    /// # Errors
    /// A file cannot be read, or holds no certificate or no key, or one does not fit the other.
    pub fn watch(self, stop: CancellationToken) -> anyhow::Result<Feed> {
        let pem = self.read()?;
        let (sender, feed) = watch::channel(self.config(&pem)?);
        let files = self.clone();
        let reading = move || files.read().map_err(in_words);
        tokio::spawn(async move {
            let judge = |pem: &Pem| self.config(pem).map_err(in_words);
            sight::watch(pem, reading, judge, |news| self.take(news, &sender), stop).await;
        });
        Ok(feed)
    }

    fn take(&self, news: News<Arc<ServerConfig>>, feed: &watch::Sender<Arc<ServerConfig>>) {
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
        })
    }

    fn config(&self, pem: &Pem) -> anyhow::Result<Arc<ServerConfig>> {
        let file = self.certificate.display();
        let chain = CertificateDer::pem_slice_iter(&pem.certificate)
            .collect::<Result<Vec<_>, _>>()
            .with_context(|| format!("{file} is no PEM file"))?;
        if chain.is_empty() {
            bail!("{file} holds no certificate; expected PEM, the server's own first");
        }
        let key = PrivateKeyDer::from_pem_slice(&pem.key)
            .with_context(|| format!("{} holds no private key in PEM", self.key.display()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .with_context(|| {
                let key = self.key.display();
                format!("{key} is not the key of {file}; give the two that were made together")
            })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

fn in_words(err: anyhow::Error) -> String {
    format!("{err:#}")
}
