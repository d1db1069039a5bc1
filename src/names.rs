//! Host names: resolved in bounded time, and with words of their own where they are not.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;

/// For one name. A resolver of the same network answers in milliseconds; one that does not answer is asked again by the
/// system after 5 s, which is longer than anybody here waits for a server.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(1);

/// The addresses of `host:port`.
///
/// # Errors
/// Why there is none, for the middle of a line.
pub async fn resolve(address: &str) -> Result<Vec<SocketAddr>, String> {
    within(RESOLVE_TIMEOUT, lookup_host(address)).await
}

async fn within(
    limit: Duration,
    lookup: impl Future<Output = io::Result<impl Iterator<Item = SocketAddr>>>,
) -> Result<Vec<SocketAddr>, String> {
    match timeout(limit, lookup).await {
        Ok(Ok(found)) => Ok(found.collect()),
        Ok(Err(err)) => Err(format!("the name does not resolve: {err}")),
        Err(_) => Err(format!("the name did not resolve within {} s", limit.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_resolved_or_called_a_name() {
        let found = resolve("[::1]:9000").await.unwrap();
        assert_eq!(found, ["[::1]:9000".parse().unwrap()]);
        let never = std::future::pending::<io::Result<std::iter::Empty<SocketAddr>>>();
        let silent = within(Duration::ZERO, never).await;
        assert_eq!(silent, Err("the name did not resolve within 0 s".to_string()));
    }
}
