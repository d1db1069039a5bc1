//! The address of a webhook. It is a secret: everybody who has it may post. Pure.

use std::fmt;

use hyper::Uri;

/// The port of https.
const HTTPS_PORT: u16 = 443;

/// Characters of a part of a path that can be a secret; shorter ones, such as `v1`, are in many addresses.
const SECRET_CHARS_MIN: usize = 4;

/// An https address. Only its host is ever shown.
pub struct Address {
    host: String,
    port: u16,
    path_and_query: String,
}

impl Address {
    /// Reads the content of a file.
    ///
    /// # Errors
    /// The form that is expected. The text is not repeated.
    pub fn parse(text: &str) -> Result<Address, &'static str> {
        let text = text.trim();
        if text.is_empty() {
            return Err("it is empty; expected one https address");
        }
        if text.contains(char::is_whitespace) || !text.is_ascii() {
            return Err("expected one https address and nothing else, in ASCII");
        }
        // Uri drops what follows a #.
        let uri = text.parse::<Uri>().ok().filter(|_| !text.contains('#'));
        let uri = uri.ok_or("not an address; expected https://HOST/PATH")?;
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") => return Err("http would send the address and the report unencrypted; expected https"),
            _ => return Err("not an address; expected https://HOST/PATH"),
        }
        if uri
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'))
        {
            return Err("a user or a password in the address is not supported");
        }
        let host = uri.host().filter(|host| !host.is_empty());
        Ok(Address {
            host: host.ok_or("no host in the address")?.to_string(),
            port: uri.port_u16().unwrap_or(HTTPS_PORT),
            path_and_query: uri.path_and_query().map_or("/", |path| path.as_str()).to_string(),
        })
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The value of `Host`.
    pub fn authority(&self) -> String {
        match self.port {
            HTTPS_PORT => self.host.clone(),
            port => format!("{}:{port}", self.host),
        }
    }

    /// The target of a request.
    pub fn path_and_query(&self) -> &str {
        &self.path_and_query
    }

    /// Whether a text repeats a part of the address other than its host.
    pub fn is_in(&self, text: &str) -> bool {
        let text = text.to_ascii_lowercase();
        let parts = self.path_and_query.split(|c: char| !c.is_ascii_alphanumeric());
        let mut secrets = parts.filter(|part| part.len() >= SECRET_CHARS_MIN);
        secrets.any(|part| text.contains(&part.to_ascii_lowercase()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_https_and_shows_its_host_alone() {
        let whole = Address::parse(" https://Hooks.example/services/T00/B00/XXXX?a=b\n")
            .ok()
            .unwrap();
        assert_eq!(whole.to_string(), "Hooks.example");
        assert_eq!((whole.port(), whole.authority().as_str()), (443, "Hooks.example"));
        assert_eq!(whole.path_and_query(), "/services/T00/B00/XXXX?a=b");
        let bare = Address::parse("https://[::1]:8443").ok().unwrap();
        assert_eq!((bare.host(), bare.authority().as_str()), ("[::1]", "[::1]:8443"));
        assert_eq!(bare.path_and_query(), "/");
    }

    #[test]
    fn what_is_no_address_is_refused_and_not_repeated() {
        for (text, reason) in [
            ("", "it is empty"),
            ("\n", "it is empty"),
            ("http://hooks.example/s3cret", "expected https"),
            ("hooks.example/s3cret", "not an address"),
            ("/s3cret", "not an address"),
            ("https:///s3cret", "not an address"),
            ("https://me:s3cret@hooks.example/", "a user or a password"),
            ("https://hooks.example/s3cret#x", "not an address"),
            (
                "https://hooks.example/a https://hooks.example/s3cret",
                "one https address",
            ),
            ("# s3cret\nhttps://hooks.example/", "one https address"),
            ("https://h\u{f6}oks.example/s3cret", "in ASCII"),
        ] {
            let refusal = Address::parse(text).err().unwrap();
            assert!(
                refusal.contains(reason) && !refusal.contains("s3cret"),
                "{text}: {refusal}"
            );
        }
    }

    #[test]
    fn a_text_that_repeats_a_part_of_the_path_is_found() {
        let address = Address::parse("https://hooks.example/services/T00/B0012345?key=Zm9v")
            .ok()
            .unwrap();
        for text in ["Cannot POST /services", "b0012345 is disabled", "ZM9V"] {
            assert!(address.is_in(text), "{text}");
        }
        for text in ["invalid_payload", "no team T00", "hooks.example"] {
            assert!(!address.is_in(text), "{text}");
        }
    }
}
