//! Pages as people see them. `INSTA_UPDATE=always cargo test --lib report::view` writes the pages in `snapshots`.

use chrono::DateTime;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::report::view::signs::{ASCII, Signs, UTF8};
use crate::site_names::SiteNames;
use crate::statistics::{Answer, By, Compared, CountRow, Counts, Metric, Query, solve_time_bucket};
use crate::terminal::escape::{display_width, is_hidden};

const SHOP: Uuid = Uuid::from_u128(0x6f1c1f2e_3d0b_4c5a_9b0e_2f4b8f3f7a01);
const BLOG: Uuid = Uuid::from_u128(0x0b9c6a52_7d0e_4a7e_8d55_1f2a3b4c5d6e);
const NAMES: &str =
    "6f1c1f2e-3d0b-4c5a-9b0e-2f4b8f3f7a01 Shop\n0b9c6a52-7d0e-4a7e-8d55-1f2a3b4c5d6e \u{65e5}\u{672c}\u{8a9e}\n";

/// 14:20 on Tuesday, 7 May 2024, in Berlin.
const THROUGH: i64 = 1_715_084_400_000_000;

fn counts(challenges: u64, pairs: u64, pending: u64) -> Counts {
    let mut counts = Counts {
        served: challenges + 1,
        solved: pairs,
        challenges,
        pairs,
        pairs_within: pairs,
        pending,
        ..Counts::ZERO
    };
    counts.solve_times.add(solve_time_bucket(8_400_000), pairs);
    counts
}

/// Three days of two sites, the last one not over.
fn answer(text: &str) -> Answer {
    let query = Query::parse(form_urlencoded::parse(text.as_bytes())).unwrap();
    let query = Query {
        is_extended: true,
        ..query
    };
    let resolved = query.resolve(THROUGH, Some(THROUGH));
    let hours_ago = |hours: i64| query.buckets().start_of(THROUGH - hours * 3_600_000_000);
    let mut rows = Vec::new();
    for (ago, shop, blog) in [
        (48, (1_234_567, 1_000_000, 0), (98_765, 65_432, 0)),
        (24, (1_111_111, 1_000_000, 0), (45_678, 45_678, 0)),
        (1, (512_345, 400_000, 50_000), (7, 0, 7)),
    ] {
        for (site_id, (challenges, pairs, pending)) in [(SHOP, shop), (BLOG, blog)] {
            rows.push(CountRow {
                bucket: hours_ago(ago),
                site_id: (query.by == By::Site).then_some(site_id),
                counts: counts(challenges, pairs, pending),
            });
        }
    }
    if let [site_id] = query.site_ids[..] {
        rows.retain(|row| row.site_id == Some(site_id));
    }
    let before = vec![CountRow {
        bucket: 0,
        site_id: None,
        counts: counts(3_000_000, 2_700_000, 0),
    }];
    // What came last is after the quarter hour up to which both sides are compared.
    let is_compared = |row: &&CountRow| row.site_id != Some(BLOG) || row.counts.pending == 0;
    let compared = Compared {
        current: Some(rows.iter().filter(is_compared).cloned().collect()),
        previous: before,
    };
    query.answer(&resolved, rows, Some(compared), Some(THROUGH)).unwrap()
}

const QUESTION: &str = "period=7d&timezone=Europe/Berlin&metrics=challenges,solve_rate,unsolved";

struct Shown<'a> {
    question: &'a str,
    width: usize,
    signs: &'static Signs,
    names: &'a str,
    lines_max: Option<usize>,
    has_styles: bool,
}

impl Default for Shown<'_> {
    fn default() -> Self {
        Shown {
            question: QUESTION,
            width: 80,
            signs: &UTF8,
            names: "",
            lines_max: None,
            has_styles: false,
        }
    }
}

impl Shown<'_> {
    fn page(&self) -> String {
        let names = SiteNames::parse(self.names.as_bytes()).unwrap();
        let period = self.question.split('&').find_map(|pair| pair.strip_prefix("period="));
        let look = Look {
            width: self.width,
            lines_max: self.lines_max,
            signs: self.signs,
            has_styles: self.has_styles,
            names: &names,
            period,
            spare: Some(Metric::Challenges),
            now: DateTime::from_timestamp_micros(THROUGH),
            notes: &[],
            tip: None,
        };
        let mut page = String::new();
        write_page(&answer(self.question), &look, |text| {
            page += text.as_str();
            true
        });
        for line in page.lines() {
            assert_eq!(line, line.trim_end());
            assert!(self.has_styles || display_width(line) <= self.width, "{line}");
        }
        page
    }
}

macro_rules! assert_page {
    ($name:literal, $shown:expr) => {
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!($name, $shown.page());
        })
    };
}

#[test]
fn a_week_of_two_sites_fits_60_80_and_160_columns() {
    let shown = |width, names| Shown {
        width,
        names,
        ..Shown::default()
    };
    assert_page!("week_60", shown(60, ""));
    assert_page!("week_80", shown(80, ""));
    assert_page!("week_80_named", shown(80, NAMES));
    assert_page!("week_160_named", shown(160, NAMES));
}

#[test]
fn a_comparison_has_the_change_below_the_totals() {
    let question = format!("{QUESTION},solve_time_p50&compare=previous_period");
    let question = question.as_str();
    assert_page!(
        "comparison_80",
        Shown {
            question,
            ..Shown::default()
        }
    );
    let signs = &ASCII;
    assert_page!(
        "comparison_80_ascii",
        Shown {
            question,
            signs,
            ..Shown::default()
        }
    );
}

#[test]
fn a_site_alone_is_above_the_table() {
    let question = format!("{QUESTION}&site_id={SHOP}");
    let page = Shown {
        question: &question,
        names: NAMES,
        ..Shown::default()
    }
    .page();
    assert!(
        page.starts_with("Shop  6f1c1f2e-3d0b-4c5a-9b0e-2f4b8f3f7a01\n\nday "),
        "{page}"
    );
    let page = Shown {
        question: &question,
        ..Shown::default()
    }
    .page();
    assert!(
        page.starts_with("site 6f1c1f2e-3d0b-4c5a-9b0e-2f4b8f3f7a01\n\nday "),
        "{page}"
    );
    assert!(!page.contains("Shop"), "{page}");
    let question = format!("{question}&compare=previous_period");
    let page = Shown {
        question: &question,
        ..Shown::default()
    }
    .page();
    assert!(page.contains("\nbefore ") && !page.contains("\nto 14:15"), "{page}");
}

#[test]
fn only_a_little_has_a_colour() {
    let question = format!("{QUESTION}&compare=previous_period");
    let page = Shown {
        question: &question,
        has_styles: true,
        ..Shown::default()
    }
    .page();
    // The solve rate fell from 90 %; that there are fewer challenges is neither good nor bad.
    let red = page
        .split("\u{1b}[31m")
        .skip(1)
        .map(|part| part.split('\u{1b}').next().unwrap());
    assert_eq!(red.collect::<Vec<_>>(), ["\u{2193} 6.4 pt"]);
    assert_eq!(
        page.matches("\u{1b}[32m").count() + page.matches("\u{1b}[33m").count(),
        0,
        "{page}"
    );
    assert!(page.contains("\u{1b}[1mtotal\u{1b}[0m"), "{page}");
    let plain = Shown {
        question: &question,
        ..Shown::default()
    }
    .page();
    let mut stripped = String::new();
    for part in page.split('\u{1b}') {
        stripped += part
            .strip_prefix('[')
            .map_or(part, |part| part.split_once('m').unwrap().1);
    }
    assert_eq!(stripped, plain);
}

#[test]
fn a_window_with_few_lines_has_the_newest_rows_and_the_totals() {
    let lines = |lines_max| {
        Shown {
            lines_max: Some(lines_max),
            ..Shown::default()
        }
        .page()
    };
    let whole = Shown::default().page();
    let count = whole.lines().count();
    assert_eq!(lines(count), whole);
    let cut = lines(count - 1);
    assert_eq!(cut.lines().count(), count - 1);
    assert_eq!(cut.lines().nth(1), Some("\u{2026} 2 earlier rows"));
    assert!(cut.contains("2024-05-07") && cut.contains("total"), "{cut}");
    let newest_first = format!("{QUESTION}&order=desc");
    let newest_first = Shown {
        question: &newest_first,
        lines_max: Some(count - 1),
        ..Shown::default()
    };
    let page = newest_first.page();
    let rows: Vec<_> = page.lines().skip(1).take(5).collect();
    assert!(
        rows[0].starts_with("2024-05-07") && rows[4] == "\u{2026} 2 earlier rows",
        "{page}"
    );
}

#[test]
fn sites_are_in_the_order_of_their_serves_and_the_others_are_last() {
    for (question, first) in [
        ("&interval=all", ["6f1c1f2e", "0b9c6a52"]),
        ("&interval=all&top=1", ["6f1c1f2e", "others"]),
    ] {
        let question = format!("{QUESTION}{question}");
        let page = Shown {
            question: &question,
            ..Shown::default()
        }
        .page();
        let rows: Vec<_> = page.lines().skip(1).take(2).collect();
        assert!(rows[0].starts_with(first[0]) && rows[1].starts_with(first[1]), "{page}");
    }
}

#[test]
fn a_page_without_rows_says_what_was_asked() {
    let question = "period=yesterday&timezone=Europe/Berlin&site_id=00000000-0000-0000-0000-000000000001";
    let page = Shown {
        question,
        ..Shown::default()
    }
    .page();
    assert_eq!(
        page,
        "no events match\nyesterday, 2024-05-06, Europe/Berlin\n\
         every event confirmed before 2024-05-07 14:20 is counted\n"
    );
}

#[test]
fn hours_that_come_twice_differ_in_their_offset() {
    let names = |question: &str| {
        let query = Query::parse(form_urlencoded::parse(question.as_bytes())).unwrap();
        let at = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros();
        let row = |bucket| CountRow {
            bucket,
            site_id: Some(SHOP),
            counts: counts(5, 4, 0),
        };
        let rows = vec![row(at("2024-10-27T00:00:00Z")), row(at("2024-10-27T01:00:00Z"))];
        let through = Some(at("2024-11-01T00:00:00Z"));
        let resolved = query.resolve(at("2024-11-01T00:00:00Z"), through);
        let answer = query.answer(&resolved, rows, None, through).unwrap();
        let names = SiteNames::default();
        let look = Look {
            width: 80,
            lines_max: None,
            signs: &UTF8,
            has_styles: false,
            names: &names,
            period: None,
            spare: None,
            now: None,
            notes: &[],
            tip: None,
        };
        let mut page = String::new();
        write_page(&answer, &look, |text| {
            page += text.as_str();
            true
        });
        let rows = page.lines().skip(3).take(2);
        rows.map(|line| line.split("  ").next().unwrap().to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names("from=2024-10-27&to=2024-10-28&interval=hour&timezone=Europe/Berlin"),
        ["2024-10-27 02:00 +02:00", "2024-10-27 02:00 +01:00"]
    );
    assert_eq!(
        names("from=2024-10-27&to=2024-10-28&interval=hour"),
        ["2024-10-27 00:00", "2024-10-27 01:00"]
    );
}

#[test]
fn the_page_for_people_shows_a_page() {
    let (_, section) = include_str!("../../../docs/reports.md")
        .split_once("## In a terminal")
        .unwrap();
    let (_, shown) = section
        .split("```")
        .nth(1)
        .unwrap()
        .split_once("sites-file sites\n")
        .unwrap();
    let names = NAMES.replace("\u{65e5}\u{672c}\u{8a9e}", "Blog");
    let page = Shown {
        question: &QUESTION.replace("&timezone=Europe/Berlin", ""),
        names: &names,
        ..Shown::default()
    };
    assert_eq!(page.page(), shown);
}

proptest! {
    /// Whatever the names of sites are.
    #[test]
    fn a_page_fits_and_hides_nothing(
        shop in "[^%\\p{Cc}]{1,60}",
        blog in prop::collection::vec(any::<char>(), 1..40),
        width in 40_usize..200,
        is_utf8: bool,
    ) {
        let blog: String = blog.into_iter().filter(|c| !c.is_control() && *c != '%').collect();
        let names = format!("{SHOP} a{shop}\n{BLOG} b{blog}\n");
        let signs = if is_utf8 { &UTF8 } else { &ASCII };
        let page = Shown { width, signs, names: &names, ..Shown::default() }.page();
        prop_assert!(!page.contains(|c| is_hidden(c) && c != '\n' && c != '\u{200e}'), "{page:?}");
        // The only column of per cent ends where it ends in every row.
        let table = page.lines().take_while(|line| !line.is_empty());
        let ends = table.filter_map(|line| line.split_once('%'));
        let ends: Vec<_> = ends.map(|(before, _)| display_width(before)).collect();
        prop_assert!(ends.windows(2).all(|ends| ends[0] == ends[1]), "{page}");
    }
}
