//! PEM files: certificates and private keys.

use std::path::Path;

use anyhow::{Context as _, bail};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::file::read_file;

/// Reads a file whole.
///
/// # Errors
/// It cannot be read.
pub fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    read_file(file).with_context(|| format!("cannot read {}", file.display()))
}

/// The certificates in the content of a file, at least one.
///
/// # Errors
/// The content is not PEM, or holds no certificate.
pub fn certificates(pem: &[u8], file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let file = file.display();
    let chain = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("{file} is not a PEM file"))?;
    if chain.is_empty() {
        bail!("{file} holds no certificate; expected PEM");
    }
    Ok(chain)
}

/// The private key in the content of a file.
///
/// # Errors
/// The content holds no private key.
pub fn private_key(pem: &[u8], file: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    let file = file.display();
    PrivateKeyDer::from_pem_slice(pem).with_context(|| format!("{file} holds no private key in PEM"))
}
