//! A problem as a page, for people who look at one in a browser.

use hyper::Request;
use hyper::header::{HeaderValue, RETRY_AFTER};
use maud::html;

use super::page::document;
use super::view::View;
use super::{REFRESH, folder, html_response};
use crate::http::Response;
use crate::serve::problem::{Errors, Row};
use crate::serve::request::query::query;

/// The page of a problem.
pub fn problem_page(mut row: Row, request: &Request<()>) -> Response {
    let folder = folder(request.uri().path());
    let title = capitalize(row.title);
    let page = document(
        folder,
        &title,
        html! {
            header { p.brand { a href="?" { "captcha" } } h1 { (title) } }
            main {
                section.nothing {
                    @match &row.errors {
                        Some(Errors::Parameters(errors)) => ul {
                            @for error in errors {
                                li { code { (error.parameter) } ": " (error.detail) }
                            }
                        },
                        _ => p { (capitalize(&row.detail)) "." },
                    }
                    @if row.retry_after.is_some() {
                        p { a href=(format!("?{}", query(request))) { "Try again" } }
                    } @else {
                        p { a href="?" { "The dashboard without parameters" } }
                    }
                }
            }
        },
    );
    let mut response = html_response(row.status, page.into_string(), request.headers());
    let headers = response.headers_mut();
    headers.extend(std::mem::take(&mut row.headers));
    if let Some(seconds) = row.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        // A page that refreshes itself goes on once the problem is over.
        let refresh = View::parse(query(request)).ok().and_then(|view| view.refresh_seconds);
        let refresh = refresh.and_then(|text| text.parse::<u64>().ok());
        headers.extend(refresh.map(|refresh| (REFRESH, HeaderValue::from(refresh.max(seconds)))));
    }
    response
}

fn capitalize(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + characters.as_str()
}
