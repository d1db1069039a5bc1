//! Addresses of servers: parsed, and resolved in bounded time with errors of their own.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;

/// For one name. A resolver in the same network answers in milliseconds; the system asks a silent one again after 5 s,
/// which is longer than captcha waits for any server.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(1);

/// The addresses of `host:port`.
///
/// # Errors
/// Why there are none, for the middle of a line.
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

/// Parses the address of a server, with or without blanks around it.
///
/// # Errors
/// A phrase for the end of an error.
pub fn parse_address(text: &str) -> Result<String, &'static str> {
    let address = text.trim();
    if address.contains("://") {
        return Err("expected host:port, without http:// or another scheme");
    }
    let (host, port) = address.rsplit_once(':').unwrap_or_default();
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    if host.is_empty() || host.contains(char::is_whitespace) || !is_port {
        return Err("expected host:port");
    }
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err("expected host:port, with an IPv6 address in brackets");
    }
    Ok(address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        for good in ["kafka-0.kafka:9092", "[::1]:9092", "127.0.0.1:1"] {
            assert_eq!(parse_address(good).as_deref(), Ok(good));
            assert_eq!(parse_address(&format!(" {good}\t\n")).as_deref(), Ok(good));
        }
        for bad in [
            "",
            " ",
            "kafka",
            "kafka:",
            ":9092",
            "kafka:0",
            "kafka:99999",
            "kafka: 9092",
            "kaf ka:9092",
            "::1:9092",
            "[::1]",
            "http://kafka:9092",
        ] {
            assert!(parse_address(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_name_is_resolved_or_the_error_calls_it_a_name() {
        let found = resolve("[::1]:9000").await.unwrap();
        assert_eq!(found, ["[::1]:9000".parse().unwrap()]);
        let never = std::future::pending::<io::Result<std::iter::Empty<SocketAddr>>>();
        let silent = within(Duration::ZERO, never).await;
        assert_eq!(silent, Err("the name did not resolve within 0 s".to_string()));
    }
}
