//! Which web pages may call the API from a browser (CORS). Pure.

use std::collections::HashSet;

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderValue,
    ORIGIN, VARY,
};

/// Origins of a list: a person cannot check a longer one.
const ORIGINS_MAX: usize = 1_000;

/// The methods that a page may use.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST");

/// The headers that a page may send. `authorization` is named because `*` does not include it.
const REQUEST_HEADERS: HeaderValue =
    HeaderValue::from_static("authorization, content-type, content-encoding, if-none-match, x-request-id");

/// The headers of a response that a page may read.
const RESPONSE_HEADERS: HeaderValue =
    HeaderValue::from_static("x-request-id, retry-after, ratelimit, ratelimit-policy, etag, complete-through");

/// Seconds that a browser need not ask again: as many as Chromium takes.
const MAX_AGE_SECONDS: HeaderValue = HeaderValue::from_static("7200");

const VARY_ORIGIN: HeaderValue = HeaderValue::from_static("origin");

/// Which origins may call. Credentials are never allowed: a browser adds no key by itself, a page has to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors(Allowed);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Allowed {
    All,
    Only(HashSet<String>),
}

impl Cors {
    /// Reads `*` or origins with commas between them.
    ///
    /// # Errors
    /// The origin that is wrong, and why.
    pub fn parse(text: &str) -> Result<Cors, String> {
        if text.trim() == "*" {
            return Ok(Cors(Allowed::All));
        }
        let origins = text.split(',').map(|origin| {
            let origin = origin.trim();
            match fault(origin) {
                None => Ok(origin.to_string()),
                Some(fault) => Err(format!("{origin:?} is not an origin: {fault}")),
            }
        });
        let origins = origins.collect::<Result<HashSet<_>, _>>()?;
        if origins.len() > ORIGINS_MAX {
            return Err(format!("more than {ORIGINS_MAX} origins"));
        }
        Ok(Cors(Allowed::Only(origins)))
    }

    /// Whether pages of an origin may call. For a WebSocket this is to be asked, since browsers do not.
    pub fn allows(&self, origin: &HeaderValue) -> bool {
        match &self.0 {
            Allowed::All => true,
            Allowed::Only(origins) => origin.to_str().is_ok_and(|text| origins.contains(text)),
        }
    }

    /// The headers of the response to a preflight request, besides those that [`Cors::decorate`] adds to every
    /// response; empty if its page may not call. `None` if this is another OPTIONS request.
    pub fn preflight(&self, request: &HeaderMap) -> Option<HeaderMap> {
        let origin = request.get(ORIGIN)?;
        request.get(ACCESS_CONTROL_REQUEST_METHOD)?;
        let mut headers = HeaderMap::new();
        if self.allows(origin) {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
            headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECONDS);
        }
        Some(headers)
    }

    /// Adds to the headers of a response, errors too, what lets the page of `origin` read it.
    pub fn decorate(&self, origin: Option<&HeaderValue>, response: &mut HeaderMap) {
        let permission = match &self.0 {
            Allowed::All => Some(HeaderValue::from_static("*")),
            Allowed::Only(_) => {
                // The response depends on the origin: caches must know, also of a response without one.
                response.append(VARY, VARY_ORIGIN);
                origin.filter(|origin| self.allows(origin)).cloned()
            }
        };
        if let Some(permission) = permission {
            response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, permission);
            response.insert(ACCESS_CONTROL_EXPOSE_HEADERS, RESPONSE_HEADERS);
        }
    }
}

/// Why no browser sends this as an `Origin`.
fn fault(origin: &str) -> Option<&'static str> {
    if origin == "*" {
        return Some("* must be the only origin");
    }
    if origin == "null" {
        return Some("every sandboxed page and every local file has this one");
    }
    let Some((scheme, authority)) = origin.split_once("://") else {
        return Some("expected https://host or https://host:port");
    };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.chars().all(|c| is_lower(c) || "+-.".contains(c));
    if !is_scheme {
        return Some("the scheme is lower case, such as https");
    }
    if authority.contains(['/', '?', '#', '@']) {
        return Some("it ends with the host or the port, without a path or a slash");
    }
    // The colons of an IPv6 address are in brackets.
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    if !is_host(host) {
        return Some("the host is lower case, in ASCII (xn--...), and no pattern");
    }
    match port {
        Some(port) if !is_port(port) => Some("the port is a number from 1 to 65535"),
        Some(port) if is_default(scheme, port) => {
            Some("browsers leave the scheme's own port out, so leave it out here")
        }
        _ => None,
    }
}

fn is_lower(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

/// Whether this is a name or an address as browsers write it, in lower case.
pub fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        // Written as browsers write it, in its shortest form.
        Some(address) => address
            .parse::<std::net::Ipv6Addr>()
            .is_ok_and(|parsed| parsed.to_string() == address),
        None => {
            host.chars().all(|c| is_lower(c) || "-._".contains(c)) && host.starts_with(is_lower) && !host.contains("..")
        }
    }
}

/// Whether this is the number of a port as it is written.
pub fn is_port(port: &str) -> bool {
    port.parse::<u16>()
        .is_ok_and(|number| number > 0 && number.to_string() == port)
}

fn is_default(scheme: &str, port: &str) -> bool {
    matches!((scheme, port), ("http", "80") | ("https", "443"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "https://a.example";

    fn cors(text: &str) -> Cors {
        Cors::parse(text).unwrap()
    }

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                let name = hyper::header::HeaderName::from_static(name);
                (name, HeaderValue::from_static(value))
            })
            .collect()
    }

    fn preflight(cors: &Cors, origin: &'static str) -> HeaderMap {
        let request = [("origin", origin), ("access-control-request-method", "POST")];
        let request = map(&request);
        let mut response = cors.preflight(&request).unwrap();
        cors.decorate(request.get(ORIGIN), &mut response);
        response
    }

    fn decorated(cors: &Cors, origin: Option<&'static str>) -> HeaderMap {
        let mut response = map(&[("vary", "accept-encoding")]);
        let origin = origin.map(HeaderValue::from_static);
        cors.decorate(origin.as_ref(), &mut response);
        response
    }

    #[test]
    fn origins_are_read_as_browsers_write_them() {
        for text in [
            "*",
            PAGE,
            "https://a.example,https://b.example:8443",
            "https://a.example, https://b.example",
            "http://localhost:3000",
            "http://127.0.0.1:8000",
            "http://[::1]:8000",
            "http://[2001:db8::7]",
            "https://xn--bcher-kva.example",
            "capacitor://localhost",
            "http://a.example:443",
        ] {
            assert!(Cors::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_no_browser_sends_is_refused_with_its_reason() {
        for (text, reason) in [
            ("", "expected https://host"),
            ("a.example", "expected https://host"),
            ("https:a.example", "expected https://host"),
            ("null", "sandboxed"),
            ("https://a.example,null", "\"null\" is not an origin"),
            ("*,https://a.example", "must be the only"),
            ("https://a.example,", "\"\" is not an origin"),
            ("HTTPS://a.example", "scheme is lower case"),
            ("7s://a.example", "scheme is lower case"),
            ("://a.example", "scheme is lower case"),
            ("https://a.example/", "without a path"),
            ("https://a.example/page", "without a path"),
            ("https://a.example?x", "without a path"),
            ("https://me@a.example", "without a path"),
            ("https://", "host is lower case"),
            ("https://A.example", "host is lower case"),
            ("https://*.example", "no pattern"),
            ("https://bücher.example", "in ASCII"),
            ("https://.example", "host is lower case"),
            ("https://a..example", "host is lower case"),
            ("https://a.example b.example", "host is lower case"),
            ("http://[::1", "host is lower case"),
            ("http://[0:0:0:0:0:0:0:1]", "host is lower case"),
            ("http://::1", "host is lower case"),
            ("https://a.example:", "port is a number"),
            ("https://a.example:0", "port is a number"),
            ("https://a.example:080", "port is a number"),
            ("https://a.example:65536", "port is a number"),
            ("https://a.example:443", "leave it out"),
            ("http://a.example:80", "leave it out"),
        ] {
            let refusal = Cors::parse(text).unwrap_err();
            assert!(refusal.contains(reason), "{text}: {refusal}");
        }
        let many = |count: usize| {
            let origins: Vec<_> = (0..count).map(|n| format!("https://{n}.example")).collect();
            Cors::parse(&origins.join(","))
        };
        assert!(many(ORIGINS_MAX).is_ok());
        assert_eq!(many(ORIGINS_MAX + 1), Err("more than 1000 origins".to_string()));
    }

    #[test]
    fn a_page_that_asks_first_is_told_what_it_may() {
        let allowed = map(&[
            ("vary", "origin"),
            ("access-control-allow-origin", PAGE),
            ("access-control-allow-methods", "GET, HEAD, POST"),
            (
                "access-control-allow-headers",
                "authorization, content-type, content-encoding, if-none-match, x-request-id",
            ),
            ("access-control-max-age", "7200"),
            (
                "access-control-expose-headers",
                "x-request-id, retry-after, ratelimit, ratelimit-policy, etag, complete-through",
            ),
        ]);
        assert_eq!(preflight(&cors(PAGE), PAGE), allowed);
        let for_all = preflight(&cors("*"), PAGE);
        assert_eq!(for_all[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert!(!for_all.contains_key(VARY));
        assert_eq!(for_all.len(), allowed.len() - 1);
    }

    #[test]
    fn other_pages_get_no_permission() {
        let only = cors("https://a.example,https://b.example");
        for origin in [
            "https://c.example",
            "http://a.example",
            "https://a.example:8443",
            "https://A.example",
            "https://a.example.c.example",
            "null",
            "*",
            "",
        ] {
            let nothing = map(&[("vary", "origin")]);
            assert_eq!(preflight(&only, origin), nothing, "{origin}");
            let response = decorated(&only, Some(origin));
            assert!(!response.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN), "{origin}");
            assert!(!only.allows(&HeaderValue::from_static(origin)), "{origin}");
        }
        let not_ascii = HeaderValue::from_bytes(b"https://a.example\xff").unwrap();
        assert!(!only.allows(&not_ascii));
        assert!(only.allows(&HeaderValue::from_static("https://b.example")));
    }

    #[test]
    fn any_other_options_request_is_no_preflight() {
        let cors = cors("*");
        for request in [
            &[][..],
            &[("origin", PAGE)],
            &[("access-control-request-method", "POST")],
        ] {
            assert_eq!(cors.preflight(&map(request)), None);
        }
    }

    #[test]
    fn answers_keep_what_they_vary_by() {
        let exposed = "x-request-id, retry-after, ratelimit, ratelimit-policy, etag, complete-through";
        let response = decorated(&cors(PAGE), Some(PAGE));
        let vary: Vec<_> = response.get_all(VARY).iter().collect();
        assert_eq!(vary, ["accept-encoding", "origin"]);
        assert_eq!(response[ACCESS_CONTROL_ALLOW_ORIGIN], PAGE);
        assert_eq!(response[ACCESS_CONTROL_EXPOSE_HEADERS], exposed);

        let to_nobody = decorated(&cors(PAGE), None);
        assert_eq!(to_nobody.get_all(VARY).iter().count(), 2);
        assert!(!to_nobody.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));

        let for_all = decorated(&cors("*"), None);
        assert_eq!(for_all[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert_eq!(for_all[ACCESS_CONTROL_EXPOSE_HEADERS], exposed);
        assert_eq!(for_all.get_all(VARY).iter().count(), 1);
    }
}
