//! Rules of HTTP/1.1 that the parser does not check: one host, and chunked as the only transfer coding.

use hyper::header::{HOST, HeaderMap, TRANSFER_ENCODING};
use hyper::{Request, Version};

use crate::serve::problem::Problem;

/// Refuses a request that two servers on its way may read differently: that is how one request is smuggled in another.
/// HTTP/2 frames its requests, and needs no such check.
///
/// # Errors
/// [`Problem::Host`] and [`Problem::TransferCoding`]; the connection must close then.
pub fn check<B>(request: &Request<B>) -> Result<(), Problem> {
    let (version, headers) = (request.version(), request.headers());
    if version > Version::HTTP_11 {
        return Ok(());
    }
    if !has_one_host(headers, version == Version::HTTP_11) {
        return Err(Problem::Host);
    }
    // The parser checks that the last coding is chunked, and decodes no other.
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let once = match codings.next() {
        None => true,
        Some(coding) => coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
    };
    if once && codings.next().is_none() {
        Ok(())
    } else {
        Err(Problem::TransferCoding)
    }
}

/// RFC 9112 section 3.2: exactly one that is valid, or 400. It may be empty; HTTP/1.0 may leave it out.
fn has_one_host(headers: &HeaderMap, required: bool) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let first = match hosts.next() {
        None => return !required,
        Some(host) => host,
    };
    hosts.next().is_none() && is_host(first.as_bytes())
}

/// A name or address, and perhaps a port. Any name is valid here.
fn is_host(value: &[u8]) -> bool {
    let of_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(byte);
    let of_address = |byte: &u8| byte.is_ascii_hexdigit() || b":.".contains(byte);
    let port = match value.strip_prefix(b"[") {
        Some(rest) => {
            let Some(end) = rest.iter().position(|byte| *byte == b']') else {
                return false;
            };
            if !rest[..end].iter().all(of_address) {
                return false;
            }
            &rest[end + 1..]
        }
        None => {
            let end = value.iter().take_while(|byte| of_name(byte)).count();
            &value[end..]
        }
    };
    match port {
        [] => true,
        [b':', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(version: Version, headers: &[(&str, &str)]) -> Result<(), Problem> {
        let mut request = Request::builder().version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(&request.body(()).unwrap())
    }

    #[test]
    fn hosts_are_names_and_addresses() {
        for host in [
            "",
            "captcha",
            "captcha:8000",
            "captcha:",
            "captcha.example.",
            "127.0.0.1:8000",
            "[::1]",
            "[::ffff:127.0.0.1]:80",
            "xn--mller-kva.example",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for odd in [
            "captcha/v1",
            "me@captcha",
            "cap tcha",
            "captcha, elsewhere",
            "captcha:x",
            "captcha:80:80",
            "[::1",
            "[::1]x",
            "[captcha]",
            "a[::1]",
            "captcha?",
            "captcha#",
            "\u{e4}",
        ] {
            assert!(!is_host(odd.as_bytes()), "{odd}");
        }
    }

    #[test]
    fn one_host_where_one_is_asked_for() {
        let host = ("host", "captcha");
        assert!(checked(Version::HTTP_11, &[host]).is_ok());
        assert!(checked(Version::HTTP_10, &[]).is_ok());
        assert!(checked(Version::HTTP_2, &[]).is_ok());
        for headers in [&[][..], &[host, host], &[("host", "a/b")]] {
            let refused = checked(Version::HTTP_11, headers);
            assert!(matches!(refused, Err(Problem::Host)), "{headers:?}");
        }
        assert!(checked(Version::HTTP_10, &[host, host]).is_err());
    }

    #[test]
    fn chunks_are_the_only_coding_and_once() {
        let coded = |codings: &[&str]| {
            let mut headers = vec![("host", "captcha")];
            headers.extend(codings.iter().map(|coding| ("transfer-encoding", *coding)));
            checked(Version::HTTP_11, &headers)
        };
        assert!(coded(&["chunked"]).is_ok() && coded(&["Chunked"]).is_ok());
        for codings in [
            &["gzip, chunked"][..],
            &["chunked, chunked"],
            &["chunked", "chunked"],
            &["x", "chunked"],
        ] {
            let refused = coded(codings);
            assert!(matches!(refused, Err(Problem::TransferCoding)), "{codings:?}");
        }
    }
}
