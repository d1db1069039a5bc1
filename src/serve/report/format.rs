//! The format of a report, by its parameter or by what a client accepts (RFC 9110, section 12.5.1). Pure.

use hyper::header::{ACCEPT, HeaderMap};

use crate::http::accept::{self, Weighted};

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One object, the answer of the contract.
    Json,
    /// A row of names, and a line for each row.
    Csv,
    /// The rows alone, each an object in a line of its own.
    Ndjson,
}

impl Format {
    /// In the order of preference.
    const ALL: [Format; 3] = [Format::Json, Format::Csv, Format::Ndjson];

    /// Reads the parameter `format`.
    ///
    /// # Errors
    /// One short phrase that says what is expected.
    pub fn parse(text: &str) -> Result<Format, &'static str> {
        let format = Format::ALL.into_iter().find(|format| format.name() == text);
        format.ok_or("not one of json, csv and ndjson")
    }

    /// The format that a client likes best: JSON among equals, and JSON for one that accepts none of the three. No
    /// report is refused for its format.
    pub fn accepted(headers: &HeaderMap) -> Format {
        let ranges: Vec<Weighted<'_>> = accept::items(headers, &ACCEPT).collect();
        let mut best = (Format::Json, 0.0);
        for format in Format::ALL {
            let weight = format.weight(&ranges);
            if weight > best.1 {
                best = (format, weight);
            }
        }
        best.0
    }

    pub fn name(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Csv => "csv",
            Format::Ndjson => "ndjson",
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Csv => "text/csv; charset=utf-8",
            Format::Ndjson => "application/x-ndjson",
        }
    }

    /// The weight that the most specific range gives it.
    fn weight(self, ranges: &[Weighted<'_>]) -> f32 {
        let (exact, group): (&[&str], &str) = match self {
            Format::Json => (&["application/json"], "application/*"),
            Format::Csv => (&["text/csv"], "text/*"),
            Format::Ndjson => (
                &["application/x-ndjson", "application/ndjson", "application/jsonl"],
                "application/*",
            ),
        };
        let is = |name: &str| ranges.iter().find(|range| range.name.eq_ignore_ascii_case(name));
        let exact = exact.iter().find_map(|name| is(name));
        let range = exact.or_else(|| is(group)).or_else(|| is("*/*"));
        range.map_or(0.0, |range| range.weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn a_client_gets_what_it_likes_best_and_json_where_that_is_open() {
        for (accept, format) in [
            ("", Format::Json),
            ("*/*", Format::Json),
            ("application/json", Format::Json),
            ("text/csv", Format::Csv),
            ("Text/CSV", Format::Csv),
            ("text/csv; charset=utf-8; q=0.5, */*; q=0.1", Format::Csv),
            ("text/csv, application/json", Format::Json),
            ("text/csv, application/json;q=0.9", Format::Csv),
            ("text/csv;q=0, */*", Format::Json),
            ("application/json;q=0, text/csv;q=0, */*", Format::Ndjson),
            ("application/x-ndjson", Format::Ndjson),
            ("application/ndjson", Format::Ndjson),
            ("application/*;q=0.2, text/*;q=0.3", Format::Csv),
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
                Format::Json,
            ),
            // None of the three, or nothing that can be read.
            ("image/png", Format::Json),
            ("text/csv;q=x", Format::Json),
            (",;q=1,", Format::Json),
            ("*/*;q=0", Format::Json),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(Format::accepted(&headers), format, "{accept}");
        }
        assert_eq!(Format::accepted(&HeaderMap::new()), Format::Json);
    }

    #[test]
    fn a_parameter_names_a_format() {
        for format in Format::ALL {
            assert_eq!(Format::parse(format.name()), Ok(format));
        }
        assert!(Format::parse("JSON").is_err() && Format::parse("").is_err());
    }
}
