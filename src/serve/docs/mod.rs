//! Documents about the API, served from memory: OpenAPI, the event's JSON Schema, and a page to read and try it.

pub mod openapi;

use std::borrow::Cow;
use std::io::{Read as _, Write as _};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use hyper::StatusCode;
use hyper::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue,
    REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use sha2::{Digest as _, Sha256};

use self::{Source::Page, Source::SwaggerUi, Source::Text};
use crate::http::{Body, Response, accept};
use crate::serve::dashboard;

/// Nothing from elsewhere, nothing inline, no frames. Swagger UI's style sheet has its icons as `data:` images.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Headers of every document. Browsers ask again each time, and mostly get 304, because the parts of the page must be
/// of one version.
const COMMON: [(HeaderName, &str); 4] = [
    (CACHE_CONTROL, "no-cache"),
    (VARY, "accept-encoding"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
];

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// All documents: the path below the version, the type, and where the content comes from.
static ENTRIES: [(&str, &str, Source); 10] = [
    ("/openapi.yaml", "application/yaml", Text(openapi::YAML)),
    ("/openapi.json", "application/json", Text(openapi::JSON)),
    ("/schema", "application/schema+json", Text(openapi::EVENT_SCHEMA)),
    ("/docs", HTML, Page("docs/", "")),
    ("/docs/", HTML, Page("", "../")),
    ("/dashboard.css", CSS, Text(dashboard::STYLE)),
    ("/docs/page.js", SCRIPT, Text(include_str!("page.js"))),
    ("/docs/page.css", CSS, Text(include_str!("page.css"))),
    ("/docs/swagger-ui-bundle.js", SCRIPT, SwaggerUi("swagger-ui-bundle.js")),
    ("/docs/swagger-ui.css", CSS, SwaggerUi("swagger-ui.css")),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name(usize);

impl Name {
    /// The document at a path below the version, such as `/openapi.json`. A slash at the end makes no difference.
    pub fn from_path(path: &str) -> Option<Name> {
        let at = |path: &str| ENTRIES.iter().position(|(entry, ..)| *entry == path);
        at(path).or_else(|| at(path.trim_end_matches('/'))).map(Name)
    }
}

/// All documents, ready to be sent.
pub struct Documents(Vec<Document>);

impl Documents {
    /// Compresses what is not compressed yet; takes some milliseconds.
    pub fn new() -> Documents {
        Documents(ENTRIES.iter().map(Document::new).collect())
    }

    /// The response to GET and HEAD: 200, or 304 if the client has this content already.
    pub fn respond(&self, name: Name, request: &HeaderMap) -> Response {
        let document = &self.0[name.0];
        let compress = accepts_gzip(request);
        let tag = format!("\"{}{}\"", document.tag, if compress { "-gzip" } else { "" });
        let known = accept::is_known(&tag, request);
        let body = match (known, compress) {
            (true, _) => Bytes::new(),
            (false, true) => document.gzip.clone(),
            (false, false) => document.plain(),
        };
        let mut response = Response::new(Body::whole(body));
        let headers = response.headers_mut();
        for (name, value) in COMMON {
            headers.insert(name, HeaderValue::from_static(value));
        }
        // Hexadecimal digits are always fit for a header.
        headers.extend(HeaderValue::try_from(tag).ok().map(|tag| (ETAG, tag)));
        if known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(document.content_type));
        if compress {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        if document.content_type == HTML {
            let policy = HeaderValue::from_static(PAGE_POLICY);
            headers.insert(CONTENT_SECURITY_POLICY, policy);
        }
        response
    }
}

/// One document, plain and compressed.
struct Document {
    content_type: &'static str,
    /// The ETag of the content, without quotes and without the suffix of the encoding.
    tag: String,
    gzip: Bytes,
    /// Decompressed at the first request for it, which browsers never send.
    plain: OnceLock<Bytes>,
}

impl Document {
    fn new((_, content_type, source): &(&str, &'static str, Source)) -> Document {
        let (gzip, plain) = source.read();
        let digest = Sha256::digest(&gzip);
        Document {
            content_type,
            tag: hex::encode(&digest[..8]),
            gzip,
            plain,
        }
    }

    fn plain(&self) -> Bytes {
        let inflate = || {
            let mut plain = Vec::new();
            // It was compressed when captcha was built, so it can be read.
            let _ = GzDecoder::new(&self.gzip[..]).read_to_end(&mut plain);
            Bytes::from(plain)
        };
        self.plain.get_or_init(inflate).clone()
    }
}

enum Source {
    Text(&'static str),
    /// The page, and its ways to its parts and to the other documents: relative, so that it works behind any prefix.
    Page(&'static str, &'static str),
    /// A file that comes with Swagger UI, mostly compressed.
    SwaggerUi(&'static str),
}

impl Source {
    /// The content compressed, and plain where it is at hand.
    fn read(&self) -> (Bytes, OnceLock<Bytes>) {
        match self {
            Text(text) => both(Bytes::from_static(text.as_bytes())),
            Page(parts, api) => {
                let page = include_str!("page.html");
                both(page.replace("{parts}", parts).replace("{api}", api).into())
            }
            SwaggerUi(file) => {
                // The configuration is for a page of its own, which we do not serve.
                let found = utoipa_swagger_ui::serve(file, Arc::default());
                match found.ok().flatten() {
                    Some(found) if found.gzpipped => (whole(found.bytes), OnceLock::new()),
                    Some(found) => both(whole(found.bytes)),
                    None => both(Bytes::new()),
                }
            }
        }
    }
}

fn whole(bytes: Cow<'static, [u8]>) -> Bytes {
    match bytes {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => Bytes::from(bytes),
    }
}

fn both(plain: Bytes) -> (Bytes, OnceLock<Bytes>) {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    // Writing to memory cannot fail.
    let _ = gzip.write_all(&plain);
    (gzip.finish().unwrap_or_default().into(), OnceLock::from(plain))
}

/// Whether gzip may be sent. A client that names no encoding gets the plain content.
fn accepts_gzip(request: &HeaderMap) -> bool {
    accept::coding_weight(request, &["gzip", "x-gzip"]).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use hyper::header::{ACCEPT_ENCODING, IF_NONE_MATCH};

    const BUNDLE: &str = "/docs/swagger-ui-bundle.js";

    fn asked(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    fn answer(path: &str, headers: &[(HeaderName, &'static str)]) -> (HeaderMap, StatusCode, Bytes) {
        let answer = Documents::new().respond(Name::from_path(path).unwrap(), &asked(headers));
        let (parts, body) = answer.into_parts();
        let body = futures_util::FutureExt::now_or_never(body.collect());
        (parts.headers, parts.status, body.unwrap().unwrap().to_bytes())
    }

    #[test]
    fn every_document_is_the_same_in_both_forms() {
        for (path, ..) in &ENTRIES {
            let (headers, status, plain) = answer(path, &[]);
            assert!(status == 200 && plain.len() > 100, "{path}");
            assert!(!headers.contains_key(CONTENT_ENCODING), "{path}");
            let (gzip_headers, _, gzip) = answer(path, &[(ACCEPT_ENCODING, "gzip")]);
            assert_eq!(gzip_headers[CONTENT_ENCODING], "gzip", "{path}");
            let mut inflated = Vec::new();
            GzDecoder::new(&gzip[..]).read_to_end(&mut inflated).unwrap();
            assert!(inflated == plain, "{path}");
            assert_ne!(headers[ETAG], gzip_headers[ETAG], "{path}");
        }
        assert!(answer(BUNDLE, &[]).2.windows(15).any(|at| at == b"SwaggerUIBundle"));
    }

    #[test]
    fn only_what_is_new_is_sent() {
        let tags: Vec<_> = ["", "gzip"]
            .map(|coding| answer("/schema", &[(ACCEPT_ENCODING, coding)]).0)
            .iter()
            .map(|headers| headers[ETAG].to_str().unwrap().to_string().leak() as &'static str)
            .collect();
        let weak: &'static str = format!("\"x\", W/{}", tags[0]).leak();
        for (known, coding, status) in [
            (tags[0], "", 304),
            (weak, "", 304),
            ("*", "", 304),
            (tags[1], "gzip", 304),
            (tags[0], "gzip", 200),
            (tags[1], "", 200),
            ("\"x\"", "", 200),
            (tags[0].trim_matches('"'), "", 200),
        ] {
            let (headers, got, body) = answer("/schema", &[(IF_NONE_MATCH, known), (ACCEPT_ENCODING, coding)]);
            assert_eq!(
                (got.as_u16(), body.is_empty()),
                (status, status == 304),
                "{known} {coding}"
            );
            assert!(headers.contains_key(ETAG) && headers.contains_key(VARY));
            assert_eq!(headers.contains_key(CONTENT_TYPE), status == 200);
        }
    }

    #[test]
    fn gzip_goes_to_those_who_take_it() {
        for (accepted, gzip) in [
            ("gzip", true),
            ("GZIP", true),
            ("x-gzip", true),
            ("br, gzip;q=0.5", true),
            ("gzip ; Q=1", true),
            ("*", true),
            ("*;q=0, gzip", true),
            ("", false),
            ("identity", false),
            ("br, zstd", false),
            ("gzip;q=0", false),
            ("*, gzip;q=0.0", false),
            ("*;q=0", false),
            ("gzipped", false),
        ] {
            assert_eq!(accepts_gzip(&asked(&[(ACCEPT_ENCODING, accepted)])), gzip, "{accepted}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
        assert!(accepts_gzip(&asked(&[
            (ACCEPT_ENCODING, "br"),
            (ACCEPT_ENCODING, "gzip")
        ])));
    }

    #[test]
    fn the_page_finds_its_parts_and_takes_nothing_else() {
        for (path, folder) in [("/docs", ""), ("/docs/", "/docs")] {
            let (headers, _, page) = answer(path, &[]);
            assert_eq!(headers[CONTENT_SECURITY_POLICY], PAGE_POLICY);
            let page = std::str::from_utf8(&page).unwrap();
            let addresses = ["src=\"", "href=\"", "data-openapi=\""].map(|start| page.split(start).skip(1));
            let addresses: Vec<_> = addresses
                .into_iter()
                .flatten()
                .map(|rest| rest.split('"').next().unwrap())
                .filter(|address| !address.starts_with("data:"))
                .collect();
            assert_eq!(addresses.len(), 8, "{addresses:?}");
            for address in addresses {
                let below = match address.strip_prefix("../") {
                    Some(rest) => format!("/{rest}"),
                    None => format!("{folder}/{address}"),
                };
                assert!(Name::from_path(&below).is_some(), "{path}: {address}");
            }
        }
    }

    #[test]
    fn a_slash_at_the_end_makes_no_difference() {
        assert_eq!(Name::from_path("/schema/"), Name::from_path("/schema"));
        assert_ne!(Name::from_path("/docs/"), Name::from_path("/docs"));
        for path in ["", "/", "/docs/index.html", "/docs/../schema", "/Schema", "schema"] {
            assert_eq!(Name::from_path(path), None, "{path}");
        }
    }

    #[test]
    fn headers_guard_every_document() {
        for (path, ..) in &ENTRIES {
            let (headers, ..) = answer(path, &[]);
            assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
            assert_eq!(headers[REFERRER_POLICY], "no-referrer", "{path}");
            assert_eq!(headers[CACHE_CONTROL], "no-cache", "{path}");
        }
    }
}
