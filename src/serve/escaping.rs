//! Whatever names, parameters and hosts hold, pages and pictures have the tags and attributes that they have without.

use std::sync::Arc;

use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use hyper::Request;
use proptest::prelude::*;
use uuid::Uuid;

use super::dashboard::{self, View};
use super::picture::{self, PictureQuery};
use super::problem::{ParameterError, Problem};
use super::reader_sites::ReaderSites;
use crate::site_names::SiteNames;
use crate::statistics::{Answer, CountRow, Counts, Query};

/// The tags of a document with the names of their attributes; the texts and values are left out. A quote ends a value,
/// and `<` begins a tag wherever it is in a text, as browsers read it.
fn skeleton(document: &str) -> Vec<String> {
    let (mut tags, mut rest) = (Vec::new(), document);
    while let Some(begin) = rest.find('<') {
        rest = &rest[begin + 1..];
        let (mut tag, mut is_value) = (String::new(), false);
        let mut end = rest.len();
        for (at, character) in rest.char_indices() {
            match character {
                '"' => is_value = !is_value,
                '>' if !is_value => {
                    end = at;
                    break;
                }
                _ if !is_value => tag.push(character),
                _ => {}
            }
        }
        rest = &rest[end..];
        tags.push(tag);
    }
    tags
}

/// Texts that people and attackers write, in one line.
fn texts() -> impl Strategy<Value = String> {
    let parts = prop_oneof![
        Just("<script>alert(1)</script>".to_string()),
        Just("\"><svg onload=x>".to_string()),
        Just("' onmouseover='x".to_string()),
        Just("&lt;b&gt; & <b>".to_string()),
        Just("</title></style><!--".to_string()),
        Just("]]>".to_string()),
        Just("\u{202e}\u{5d0}\u{5d1} x".to_string()),
        "\\PC{1,12}",
        "[a-z <>\"'&=/]{1,12}",
    ];
    proptest::collection::vec(parts, 1..3).prop_map(|parts| parts.concat().chars().take(80).collect())
}

fn names(name: &str) -> ReaderSites {
    let text = format!("{} x{name}\n{} Shop\n", Uuid::from_u128(1), Uuid::from_u128(2));
    // A name that the file may not have is shown nowhere.
    let names = SiteNames::parse(text.as_bytes()).unwrap_or_default();
    ReaderSites::new(Arc::new(names), &[])
}

fn answer(query: Query) -> Answer {
    const NOW: i64 = 1_764_500_000_000_000;
    let resolved = query.resolve(NOW, Some(NOW));
    let rows = [1, 2].map(|site| CountRow {
        bucket: query.buckets().start_of(NOW - 1),
        site_id: Some(Uuid::from_u128(site)),
        counts: Counts {
            served: 10,
            challenges: 10,
            pairs: 7,
            pairs_within: 7,
            ..Counts::default()
        },
    });
    query.answer(&resolved, rows.to_vec(), None, Some(NOW)).unwrap()
}

fn page(view: &View, sites: &ReaderSites, host: Option<&str>) -> String {
    let (trend, by_site) = (
        answer(view.trend_query(Vec::new())),
        answer(view.sites_query(Vec::new())),
    );
    dashboard::render_for_test(view, sites, &trend, &by_site, host)
}

fn error_page(errors: Vec<ParameterError>) -> String {
    let response = dashboard::problem_page(Problem::Query(errors).row(), &Request::new(()));
    let body = response.into_body().collect().now_or_never();
    String::from_utf8(body.unwrap().unwrap().to_bytes().to_vec()).unwrap()
}

fn encoded(name: &str, value: &str) -> String {
    form_urlencoded::Serializer::new(String::new())
        .append_pair(name, value)
        .finish()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn names_add_nothing_to_a_page(name in texts(), search in texts(), host in texts()) {
        let site_id = Uuid::from_u128(1);
        let hostile = View::parse(&format!("site_id={site_id}&{}", encoded("site", &search))).unwrap();
        let plain = View::parse(&format!("site_id={site_id}&site=x")).unwrap();
        prop_assume!(names(&name).name(site_id).is_some());
        let (drawn, expected) = (page(&hostile, &names(&name), Some(&host)), page(&plain, &names("y"), None));
        prop_assert_eq!(skeleton(&drawn), skeleton(&expected));
    }

    #[test]
    fn names_add_nothing_to_a_picture(name in texts()) {
        let site_id = Uuid::from_u128(1);
        let picture = PictureQuery::parse(&format!("site_id={site_id}")).unwrap();
        let drawn = |name: &str| {
            let answer = answer(picture.question.clone());
            picture::render_for_test(&picture, &answer, &names(name).title_of(&[site_id]))
        };
        prop_assert_eq!(skeleton(&drawn(&name)), skeleton(&drawn("y")));
    }

    #[test]
    fn parameters_add_nothing_to_the_page_of_an_error(name in texts(), value in texts()) {
        let errors = |name: &str, value: &str| View::parse(&encoded(name, value)).err();
        let hostile = errors(&name, &value);
        prop_assume!(hostile.is_some());
        let expected = error_page(errors("unknown", "x").unwrap());
        prop_assert_eq!(skeleton(&error_page(hostile.unwrap())), skeleton(&expected));
        if let Some(wrong_value) = errors("timezone", &value) {
            prop_assert_eq!(skeleton(&error_page(wrong_value)), skeleton(&expected));
        }
    }
}

#[test]
fn a_tag_that_is_not_escaped_is_found() {
    assert_ne!(skeleton("<p>a</p>"), skeleton("<p><b>a</p>"));
    assert_ne!(skeleton("<p id=\"a\">"), skeleton("<p id=\"a\" x=\"b\">"));
    assert_eq!(
        skeleton("<p id=\"a\">b</p>"),
        skeleton("<p id=\"&quot;&gt;\">&lt;b&gt;</p>")
    );
}
