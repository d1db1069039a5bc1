//! `GET /v1/dashboard`: the numbers of a report as a page, without scripts.

mod content;
mod controls;
mod distribution;
mod footer;
mod page;
mod problem_page;
mod site_table;
mod tiles;
mod trend;
mod view;

use chrono::Utc;
use futures_util::future::join;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Request, StatusCode};
use uuid::Uuid;

pub use self::content::Setting;
use self::content::{NewestDay, Page};
use super::problem::Problem;
use super::reader_sites::{Found, ReaderSites};
use super::report::Asker;
use super::request::query::query;
use crate::http::{self, Response};
#[cfg(test)]
use crate::statistics::Answer;

pub use self::problem_page::problem_page;
pub use self::view::View;

/// The style sheet, which is a document of its own.
pub const STYLE: &str = include_str!("page.css");

/// No script at all, and nothing from elsewhere; the icon is a `data:` image.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; \
    frame-ancestors 'none'";

const COMMON: [(HeaderName, &str); 6] = [
    // A page of another site that opens this one in a window has no hold of that window.
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (CACHE_CONTROL, "private, no-cache"),
    (CONTENT_SECURITY_POLICY, POLICY),
    (REFERRER_POLICY, "no-referrer"),
    (VARY, "accept-encoding, authorization"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
];

/// Asks for the page again after some seconds, if the reader chose that.
const REFRESH: HeaderName = HeaderName::from_static("refresh");

/// The page for a query, and the problem of the numbers of each site, without which it is shown too. `admit` narrows
/// sites to those of the reader, and spends of its rate: not for an answer that only leads to another address.
///
/// # Errors
/// [`Problem::Query`]; the problems of a report.
pub async fn respond(
    asker: &Asker<'_>,
    sites: &ReaderSites,
    admit: impl FnOnce(Vec<Uuid>) -> Result<Vec<Uuid>, Problem>,
    (request, setting): (&Request<()>, Setting),
) -> Result<(Response, Option<Problem>), Problem> {
    let (path, headers) = (request.uri().path(), request.headers());
    let view = View::parse(query(request)).map_err(Problem::Query)?;
    let mut found = None;
    if let Some(search) = &view.search {
        match sites.find(search, std::iter::empty()) {
            Found::One(site_id) => return Ok((redirect_to_site(&view, site_id), None)),
            Found::Some(several) => found = Some(several),
        }
    } else if view.is_long {
        return Ok((redirect(&view.address(&[])), None));
    }
    let site_ids = admit(view.site_ids())?;
    let now_micros = Utc::now().timestamp_micros();
    let (trend, by_site) = join(
        asker.ask_over_time(view.trend_query(site_ids.clone()), view.interval(), now_micros),
        asker.ask(view.sites_query(site_ids)),
    )
    .await;
    let (trend, is_coarser) = trend?;
    if let (Some(several), Some(search), Ok(by_site)) = (&mut found, &view.search, &by_site) {
        match sites.find(search, by_site.rows().filter_map(|row| row.site_id)) {
            Found::One(site_id) => return Ok((redirect_to_site(&view, site_id), None)),
            Found::Some(more) => *several = more,
        }
    }
    let is_empty = trend.totals.served == 0 && trend.totals.solved == 0 && trend.totals.challenges == 0;
    let newest = match is_empty {
        false => None,
        true => {
            let days = asker.ask(trend.query.days_with_events()).await?;
            Some(days.newest_day().map_or(NewestDay::None, NewestDay::Day))
        }
    };
    let page = Page {
        view: &view,
        sites,
        trend: &trend,
        by_site: match &by_site {
            Ok(answer) => Ok(answer),
            Err(problem) => Err(problem.row().detail),
        },
        newest,
        is_coarser,
        found,
        folder: folder(path),
        now_micros,
        setting,
        host: page::shown_host(host(request)),
        example_site: sites.example(),
        example_id: Uuid::from_u128(fastrand::u128(..)),
    };
    let mut response = html_response(StatusCode::OK, page::render(&page).into_string(), headers);
    if let Some(seconds) = view.refresh_seconds {
        response
            .headers_mut()
            .insert(REFRESH, HeaderValue::from_static(seconds));
    }
    Ok((response, by_site.err()))
}

/// The host of a request, in HTTP/2 by its address.
fn host(request: &Request<()>) -> Option<&str> {
    let authority = request.uri().authority().map(|authority| authority.as_str());
    authority.or_else(|| request.headers().get(HOST)?.to_str().ok())
}

/// From the address of the page to the folder of the API: with a slash at its end, the page is a folder itself.
pub fn folder(path: &str) -> &'static str {
    if path.ends_with('/') { "../" } else { "" }
}

/// To the same page about one site.
fn redirect_to_site(view: &View, site_id: Uuid) -> Response {
    redirect(&view.address(&[("site_id", Some(&site_id.to_string()))]))
}

/// To the same page with another query.
fn redirect(query: &str) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::SEE_OTHER;
    add_common(response.headers_mut());
    // A query is encoded, so it is always fit for a header.
    response
        .headers_mut()
        .extend(HeaderValue::try_from(query).ok().map(|query| (LOCATION, query)));
    response
}

fn html_response(status: StatusCode, page: String, request: &HeaderMap) -> Response {
    let mut response = http::compressed(status, "text/html; charset=utf-8", page, request);
    add_common(response.headers_mut());
    response
}

fn add_common(headers: &mut HeaderMap) {
    for (name, value) in COMMON {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// The page of these answers, for tests.
#[cfg(test)]
pub fn render_for_test(
    view: &View,
    sites: &ReaderSites,
    trend: &Answer,
    by_site: &Answer,
    host: Option<&str>,
) -> String {
    let pages = [None, Some(NewestDay::None)].map(|newest| Page {
        view,
        sites,
        trend,
        by_site: Ok(by_site),
        newest,
        is_coarser: true,
        found: Some(vec![Uuid::from_u128(1), Uuid::from_u128(2)]),
        folder: "",
        now_micros: 0,
        setting: Setting {
            has_tls: false,
            has_keys: true,
        },
        host: page::shown_host(host),
        example_site: None,
        example_id: Uuid::nil(),
    });
    pages.iter().map(|page| page::render(page).into_string()).collect()
}
