//! The names of this server. To a browser, a page of another name that points here (DNS rebinding) has the same origin
//! as this server, and may call it. Pure.

use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use hyper::Request;
use hyper::header::HOST;

use super::cors::{is_host, is_port};

/// Names of a list: a person cannot check a longer one.
const HOSTS_MAX: usize = 1_000;

/// Names and addresses, some with a port, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts(HashSet<String>);

impl Hosts {
    /// Reads names and addresses with commas between them.
    ///
    /// # Errors
    /// Which of them is wrong, and what is expected.
    pub fn parse(text: &str) -> Result<Hosts, String> {
        let hosts = text.split(',').map(|given| {
            let lower = given.trim().to_ascii_lowercase();
            let (host, port) = split(&lower);
            match is_host(host) && port.is_none_or(is_port) {
                true => Ok(joined(host, port)),
                false => Err(format!(
                    "{given:?} is not a host; expected a name or an IP address (IPv6 in brackets), and perhaps a port, \
                     such as captcha.example or captcha.example:8443"
                )),
            }
        });
        let hosts = hosts.collect::<Result<HashSet<_>, _>>()?;
        match hosts.len() <= HOSTS_MAX {
            true => Ok(Hosts(hosts)),
            false => Err(format!("more than {HOSTS_MAX} hosts")),
        }
    }

    /// Checks that the hosts of a request, in its target and in its header, are among them.
    ///
    /// # Errors
    /// The host that is not one of them; empty if the request names none.
    pub fn check<B>(&self, request: &Request<B>) -> Result<(), String> {
        let target = request.uri().authority();
        let target = target.map(|target| target.as_str().as_bytes());
        let headers = request.headers().get_all(HOST).iter();
        let headers = headers.map(|host| host.as_bytes());
        let named = target.into_iter().chain(headers);
        let mut named = named.map(String::from_utf8_lossy).peekable();
        if named.peek().is_none() {
            return Err(String::new());
        }
        match named.find(|host| !self.contains(host)) {
            None => Ok(()),
            Some(host) => Err(host.into_owned()),
        }
    }

    fn contains(&self, authority: &str) -> bool {
        let lower = authority.to_ascii_lowercase();
        let (host, port) = split(&lower);
        self.0.contains(host) || self.0.contains(&joined(host, port))
    }
}

/// Whether no page of another machine can have such a host: an address, or this machine's own name.
pub fn is_beyond_dns(authority: &str) -> bool {
    let lower = authority.to_ascii_lowercase();
    let (host, _) = split(&lower);
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<Ipv4Addr>().is_ok()
        || address.parse::<Ipv6Addr>().is_ok()
}

/// A name without its final dot, and a port unless it is empty.
fn split(authority: &str) -> (&str, Option<&str>) {
    // The colons of an IPv6 address are in brackets.
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let port = port.filter(|port| !port.is_empty());
    (host.strip_suffix('.').unwrap_or(host), port)
}

fn joined(host: &str, port: Option<&str>) -> String {
    match port {
        Some(port) => format!("{host}:{port}"),
        None => host.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_read() {
        let hosts = Hosts::parse("Captcha.Example., a:8443 ,[::1],10.0.0.1:80").unwrap();
        for (host, is_one) in [
            ("captcha.example", true),
            ("captcha.example:1", true),
            ("captcha.example:", true),
            ("captcha.example..", false),
            ("www.captcha.example", false),
            ("a", false),
            ("a:8443", true),
            ("a.:8443", true),
            ("me@a:8443", false),
            ("[::1]:9", true),
            ("::1", false),
            ("10.0.0.1:80", true),
            ("10.0.0.1", false),
            ("", false),
        ] {
            assert_eq!(hosts.contains(host), is_one, "{host}");
        }
        for bad in [
            "",
            "a,",
            "*",
            "*.example",
            "https://a",
            "a/b",
            "a:0",
            "a:x",
            "::1",
            "m\u{fc}ller.example",
        ] {
            assert!(Hosts::parse(bad).is_err(), "{bad}");
        }
        let many = |count: usize| {
            let hosts: Vec<_> = (0..count).map(|number| format!("h{number}")).collect();
            Hosts::parse(&hosts.join(","))
        };
        assert!(many(HOSTS_MAX).is_ok() && many(HOSTS_MAX + 1).is_err());
    }

    #[test]
    fn addresses_and_localhost_are_nobody_elses() {
        for host in [
            "127.0.0.1:80",
            "10.0.0.1",
            "[::1]",
            "[2001:db8::7]:1",
            "LOCALHOST:3",
            "a.localhost",
        ] {
            assert!(is_beyond_dns(host), "{host}");
        }
        for host in [
            "",
            "a",
            "localhost.a",
            "xlocalhost",
            "127.0.0.1.a",
            "1.2.3",
            "0x7f000001",
        ] {
            assert!(!is_beyond_dns(host), "{host}");
        }
    }

    #[test]
    fn the_target_and_the_header_have_to_fit() {
        let hosts = Hosts::parse("a").unwrap();
        let check = |target: &str, header: Option<&str>| {
            let mut request = Request::get(target);
            if let Some(host) = header {
                request = request.header(HOST, host);
            }
            hosts.check(&request.body(()).unwrap())
        };
        assert_eq!(check("/", Some("a")), Ok(()));
        assert_eq!(check("http://a/", None), Ok(()));
        assert_eq!(check("http://a/", Some("b")), Err("b".to_string()));
        assert_eq!(check("http://b/", Some("a")), Err("b".to_string()));
        assert_eq!(check("/", None), Err(String::new()));
    }
}
