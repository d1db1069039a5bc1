//! Fetch metadata: the page that a browser makes a request for (<https://www.w3.org/TR/fetch-metadata/>). No page can
//! set these headers. Browsers send them to https and to localhost, and other clients do not. Pure.

use hyper::header::HeaderMap;

/// Whether a browser fetches this for a page of another origin, which is not opened itself: as an image, a script, a
/// frame, or by `fetch`.
pub fn is_part_of_foreign_page(headers: &HeaderMap) -> bool {
    let value = |name| headers.get(name).map(|value| value.as_bytes());
    match value("sec-fetch-site") {
        // Not from a browser, or from an old one; a page of this server; or typed into the address bar.
        None | Some(b"same-origin" | b"none") => false,
        Some(_) => {
            let is_navigation = value("sec-fetch-mode") == Some(b"navigate");
            let is_opened = matches!(value("sec-fetch-dest"), None | Some(b"document"));
            !(is_navigation && is_opened)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderName, HeaderValue};

    fn is_foreign(values: [&'static str; 3]) -> bool {
        let names = ["sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest"];
        let pairs = names.into_iter().zip(values).filter(|(_, value)| !value.is_empty());
        let pairs = pairs.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        is_part_of_foreign_page(&pairs.collect())
    }

    #[test]
    fn what_a_foreign_page_contains_differs_from_what_it_links_to() {
        for opened in [
            ["", "", ""],
            ["none", "navigate", "document"],
            ["same-origin", "no-cors", "image"],
            ["same-origin", "cors", "empty"],
            ["cross-site", "navigate", "document"],
            ["same-site", "navigate", "document"],
            ["cross-site", "navigate", ""],
        ] {
            assert!(!is_foreign(opened), "{opened:?}");
        }
        for part in [
            ["cross-site", "no-cors", "image"],
            ["cross-site", "no-cors", "script"],
            ["same-site", "no-cors", "image"],
            ["cross-site", "cors", "empty"],
            ["cross-site", "navigate", "iframe"],
            ["cross-site", "navigate", "object"],
            ["cross-site", "", ""],
            ["other", "no-cors", "image"],
        ] {
            assert!(is_foreign(part), "{part:?}");
        }
    }
}
