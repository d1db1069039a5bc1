//! The address of a listener: reading it and binding it.

use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::net::TcpListener;

/// Reads the address of a listener.
///
/// # Errors
/// The format that is expected.
pub fn parse_listen(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse()
        .map_err(|_| "expected IP:PORT, such as 127.0.0.1:8000; a host name is not taken")
}

/// Listens on an address; port 0 takes a free one.
///
/// # Errors
/// The port is in use, or this process may not take it.
pub async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; choose another with {flag}"))
}
