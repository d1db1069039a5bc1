//! The client of a request that comes through proxies: trusted ones name it.

use std::net::IpAddr;

use anyhow::bail;
use clap::ValueEnum;
use hyper::header::{FORWARDED, HeaderMap, HeaderName};
use ipnet::IpNet;

use crate::resource_pool::Holder;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Where a proxy says who its client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Source {
    /// The header `X-Forwarded-For`, to which each proxy adds the address of its client.
    #[default]
    XForwardedFor,
    /// The header `Forwarded` (RFC 7239), to which each proxy adds `for=` and the address of its client.
    Forwarded,
    /// A line or block of bytes before each connection: the PROXY protocol, version 1 or 2.
    ProxyProtocol,
}

#[derive(Debug, Clone, Default)]
pub struct Proxies {
    trusted: Vec<IpNet>,
    source: Source,
}

impl Proxies {
    /// Trusts the addresses in these networks.
    pub fn new(trusted: Vec<IpNet>, source: Source) -> Proxies {
        Proxies { trusted, source }
    }

    /// Whether a connection from this address begins with the PROXY protocol.
    pub(crate) fn send_proxy_protocol(&self, peer: IpAddr) -> bool {
        self.source == Source::ProxyProtocol && self.trusts(peer)
    }

    /// Whether requests of this address are those of others.
    fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// The holder of what a request or a connection of this address uses.
    pub fn holder(&self, address: IpAddr) -> Holder {
        match self.trusts(address) {
            true => Holder::MANY,
            false => Holder::of(address),
        }
    }

    /// The client whose request came over a connection from `peer`: the last address of the header that is not a
    /// trusted proxy's own, since whatever comes before it may be invented. A text that is not an address ends the
    /// search; the proxy that has passed it on counts as the client then.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.trusts(client) {
            return client;
        }
        let hops: Vec<Option<IpAddr>> = match self.source {
            Source::ProxyProtocol => return client,
            Source::XForwardedFor => values(headers, &X_FORWARDED_FOR).map(address).collect(),
            Source::Forwarded => values(headers, &FORWARDED).map(forwarded_for).collect(),
        };
        for hop in hops.into_iter().rev() {
            match hop {
                Some(hop) => client = hop,
                None => break,
            }
            if !self.trusts(client) {
                break;
            }
        }
        client
    }
}

/// Reads a network, or one address.
///
/// # Errors
/// The format that is expected.
pub fn parse_network(text: &str) -> anyhow::Result<IpNet> {
    let network = text.parse().or_else(|_| text.parse().map(IpAddr::into));
    let Ok(network): Result<IpNet, _> = network else {
        bail!("expected an address or a network, such as 10.0.0.0/8 or fd00::/8");
    };
    if network.addr() != network.network() {
        bail!("bits are set beyond the prefix; did you mean {}?", network.trunc());
    }
    Ok(network)
}

/// The parts of a list in a header, which may come more than once. A part that is not text is empty, and no address;
/// the others may be a proxy's all the same.
fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter();
    let parts = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    parts.map(|part| std::str::from_utf8(part).unwrap_or_default())
}

/// An address, perhaps with a port, perhaps in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None if text.matches(':').count() == 1 => text.split_once(':')?.0,
        None => text,
    };
    bare.parse().ok().map(|address: IpAddr| address.to_canonical())
}

/// The address in `for=` of one hop.
fn forwarded_for(hop: &str) -> Option<IpAddr> {
    let mut pairs = hop.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    address(value.trim().trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    const PROXY: &str = "10.1.2.3";

    fn client(source: Source, peer: &str, name: HeaderName, lines: &[&str]) -> String {
        let networks = ["10.0.0.0/8", "fd00::/8"].map(|text| parse_network(text).unwrap());
        let proxies = Proxies::new(networks.to_vec(), source);
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name.clone(), HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        proxies.client(peer.parse().unwrap(), &headers).to_string()
    }

    fn x_forwarded_for(peer: &str, lines: &[&str]) -> String {
        client(Source::XForwardedFor, peer, X_FORWARDED_FOR, lines)
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        assert_eq!(x_forwarded_for("192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(x_forwarded_for(PROXY, &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(x_forwarded_for("::ffff:10.1.2.3", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(x_forwarded_for(PROXY, &[]), PROXY);
        let other = client(Source::Forwarded, PROXY, X_FORWARDED_FOR, &["198.51.100.7"]);
        assert_eq!(other, PROXY, "the other header may be the client's own");
    }

    #[test]
    fn the_last_address_that_is_not_a_proxys_is_the_client() {
        for lines in [
            &["1.1.1.1, 198.51.100.7, 10.9.9.9"][..],
            &["1.1.1.1", "198.51.100.7", "10.9.9.9"],
            &["unknown, 198.51.100.7:4711"],
            &["198.51.100.7,fd00::1"],
            &["\u{ff}, 198.51.100.7"],
        ] {
            assert_eq!(x_forwarded_for(PROXY, lines), "198.51.100.7", "{lines:?}");
        }
        assert_eq!(x_forwarded_for(PROXY, &["10.0.0.1, 10.0.0.2"]), "10.0.0.1");
        assert_eq!(x_forwarded_for(PROXY, &["[2001:db8::1]:80"]), "2001:db8::1");
        assert_eq!(x_forwarded_for(PROXY, &["2001:db8::1"]), "2001:db8::1");
    }

    #[test]
    fn bytes_that_are_not_text_spoil_their_own_part_alone() {
        let proxies = Proxies::new(vec![parse_network(PROXY).unwrap()], Source::XForwardedFor);
        let mut headers = HeaderMap::new();
        let line = HeaderValue::from_bytes(b"\xff, 198.51.100.7").unwrap();
        headers.append(X_FORWARDED_FOR, line);
        let client = proxies.client(PROXY.parse().unwrap(), &headers);
        assert_eq!(client.to_string(), "198.51.100.7");
    }

    #[test]
    fn what_is_not_an_address_is_not_passed_over() {
        for line in ["198.51.100.7, nonsense", "198.51.100.7,", "198.51.100.7, _hidden", ""] {
            assert_eq!(x_forwarded_for(PROXY, &[line]), PROXY, "{line}");
        }
        assert_eq!(
            x_forwarded_for(PROXY, &["198.51.100.7, nonsense, 10.0.0.2"]),
            "10.0.0.2"
        );
    }

    #[test]
    fn forwarded_is_read_as_the_rfc_has_it() {
        for lines in [
            &["for=198.51.100.7"][..],
            &["For=\"198.51.100.7:4711\";proto=https, for=10.0.0.2;by=10.1.2.3"],
            &["for=_hidden, proto=http; for=198.51.100.7"],
        ] {
            let found = client(Source::Forwarded, PROXY, FORWARDED, lines);
            assert_eq!(found, "198.51.100.7", "{lines:?}");
        }
        let of = |line| client(Source::Forwarded, PROXY, FORWARDED, &[line]);
        assert_eq!(of("for=\"[2001:db8::1]:4711\""), "2001:db8::1");
        assert_eq!(of("for=198.51.100.7, for=unknown"), PROXY);
        assert_eq!(of("for=198.51.100.7, proto=https"), PROXY);
    }

    #[test]
    fn a_network_is_written_without_bits_of_its_hosts() {
        assert!(parse_network("10.0.0.1").is_ok() && parse_network("::1").is_ok());
        let refused = |text| parse_network(text).unwrap_err().to_string();
        assert!(refused("10.0.0.1/8").contains("did you mean 10.0.0.0/8?"));
        assert!(refused("10.0.0.0/33").contains("such as 10.0.0.0/8"));
        assert!(refused("proxy.example").contains("such as 10.0.0.0/8"));
    }
}
