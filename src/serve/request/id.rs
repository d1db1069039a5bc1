//! The ID of a request, which the client may choose and every response repeats.

use std::time::{SystemTime, UNIX_EPOCH};

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

/// The ID of a request, in requests and responses.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The client's own ID if it has 1 to 128 visible ASCII characters, else a new one.
pub fn request_id(headers: &HeaderMap) -> HeaderValue {
    const CHARS_MAX: usize = 128;
    let is_valid =
        |id: &&HeaderValue| (1..=CHARS_MAX).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic);
    let new = || {
        // Ids need not be unguessable, and the system's own random numbers take as long as the rest of a small answer.
        let mut random = [0; 10];
        fastrand::fill(&mut random);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let millis = now.map_or(0, |since| since.as_millis() as u64);
        let id = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
        let mut buffer = Uuid::encode_buffer();
        let text = id.hyphenated().encode_lower(&mut buffer);
        HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("none"))
    };
    headers.get(REQUEST_ID).filter(is_valid).cloned().unwrap_or_else(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_keeps_its_id_if_that_is_one() {
        let id = |given: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_bytes(given.as_bytes()).unwrap());
            request_id(&headers)
        };
        assert_eq!(id("abc-123"), "abc-123");
        assert_eq!(id(&"x".repeat(128)).len(), 128);
        for odd in ["", "two words", "\u{e4}", &"x".repeat(129)] {
            assert!(Uuid::parse_str(id(odd).to_str().unwrap()).is_ok(), "{odd:?}");
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }
}
