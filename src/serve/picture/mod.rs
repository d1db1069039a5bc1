//! `GET /v1/report.svg`: a report as one picture without scripts, to be embedded elsewhere.

mod badge;
mod card;
mod palette;
mod query;

use chrono::Utc;
use hyper::StatusCode;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETAG, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

pub use self::query::PictureQuery;
use super::problem::Problem;
use super::reader_sites::ReaderSites;
use super::report::Asker;
use crate::http::{self, Response, accept};
use crate::statistics::{Interval, Query};

const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// A picture that is opened by itself runs nothing and loads nothing. Its style is within it.
const COMMON: [(HeaderName, &str); 4] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    ),
    (REFERRER_POLICY, "no-referrer"),
    (VARY, "accept-encoding, authorization"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
];

/// A picture that everybody may see is kept for a minute by everybody, so that a README that many read costs little.
const PUBLIC: [(HeaderName, &str); 2] = [
    (CACHE_CONTROL, "public, max-age=60"),
    (CROSS_ORIGIN_RESOURCE_POLICY, "cross-origin"),
];

/// Other sites' pages do not embed what only the holder of a key may see.
const PRIVATE: [(HeaderName, &str); 2] = [
    (CACHE_CONTROL, "private, no-cache"),
    (CROSS_ORIGIN_RESOURCE_POLICY, "same-origin"),
];

/// The picture of a query about these sites.
///
/// # Errors
/// The problems of a report.
pub async fn respond(
    asker: &Asker<'_>,
    sites: &ReaderSites,
    picture: PictureQuery,
    site_ids: Vec<Uuid>,
    headers: &HeaderMap,
    is_public: bool,
) -> Result<Response, Problem> {
    let asked_for = picture.question.site_ids.clone();
    let question = Query {
        site_ids,
        ..picture.question.clone()
    };
    let asked = match picture.badge {
        Some(_) => Some(Interval::All),
        None => picture.interval,
    };
    let now_micros = Utc::now().timestamp_micros();
    let (answer, _) = asker.ask_over_time(question, asked, now_micros).await?;
    let drawn = match picture.badge {
        Some(metric) => badge::render(&answer, metric),
        None => card::render(&picture, &answer, &sites.title_of(&asked_for)),
    };
    let drawn = drawn.into_string();
    let tag = format!("\"{}\"", hex::encode(&Sha256::digest(&drawn)[..16]));
    let mut response = match accept::is_known(&tag, headers) {
        true => {
            let mut response = Response::default();
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        }
        false => http::compressed(StatusCode::OK, "image/svg+xml", drawn, headers),
    };
    let kept = if is_public { PUBLIC } else { PRIVATE };
    for (name, value) in COMMON.into_iter().chain(kept) {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    // Hexadecimal digits are always fit for a header. The same picture is another one when it is compressed.
    let tag = HeaderValue::try_from(format!("W/{tag}")).ok();
    response.headers_mut().extend(tag.map(|tag| (ETAG, tag)));
    Ok(response)
}

/// The picture of an answer, for tests.
#[cfg(test)]
pub fn render_for_test(picture: &PictureQuery, answer: &crate::statistics::Answer, title: &str) -> String {
    card::render(picture, answer, title).into_string()
}
