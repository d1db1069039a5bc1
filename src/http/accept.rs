//! Headers that say what a client accepts: lists of names with weights (RFC 9110, section 12.4.2), and lists of tags.

use hyper::header::{HeaderMap, HeaderName, IF_NONE_MATCH};

/// A name with its weight, from 0 (not acceptable) to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weighted<'a> {
    pub name: &'a str,
    pub weight: f32,
}

/// The names of a header with their weights. A weight that cannot be read is 0, other parameters do not matter.
pub fn items<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = Weighted<'a>> {
    list(headers, name).map(|item| {
        let mut parts = item.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| {
            let (key, value) = part.split_once('=')?;
            key.trim().eq_ignore_ascii_case("q").then_some(value.trim())
        });
        let weight = weight.map_or(1.0, |weight| weight.parse::<f32>().unwrap_or(0.0));
        Weighted {
            name,
            weight: if (0.0..=1.0).contains(&weight) { weight } else { 0.0 },
        }
    })
}

/// The weight of a content coding; `None` if the client does not accept it.
pub fn coding_weight(headers: &HeaderMap, names: &[&str]) -> Option<f32> {
    let find = |wanted: &[&str]| {
        let mut items = items(headers, &hyper::header::ACCEPT_ENCODING);
        items.find(|item| wanted.iter().any(|name| item.name.eq_ignore_ascii_case(name)))
    };
    let item = find(names).or_else(|| find(&["*"]))?;
    (item.weight > 0.0).then_some(item.weight)
}

/// Whether `If-None-Match` names the tag; by weak comparison, as RFC 9110 asks for it.
pub fn is_known(tag: &str, headers: &HeaderMap) -> bool {
    let opaque = |tag: &str| tag.trim_start_matches("W/").to_string();
    list(headers, &IF_NONE_MATCH).any(|item| item == "*" || opaque(item) == opaque(tag))
}

/// The items of a header that is a list.
fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}
