//! The texts of an answer.

use uuid::Uuid;

use super::row::{rounded, write_value};
use super::*;
use crate::statistics::answer::Compared;
use crate::statistics::choice::Choice as _;
use crate::statistics::counts::{CountRow, Counts};
use crate::statistics::instant::{DAY_MICROS, HOUR_MICROS};
use crate::statistics::metrics::{Metric, Value};
use crate::statistics::query::Query;
use crate::statistics::solve_times::solve_time_bucket;

const SITE: Uuid = Uuid::from_u128(7);
/// 06:00 on 3 January 1970.
const THROUGH: i64 = 2 * DAY_MICROS + 6 * HOUR_MICROS;

fn counts(served: u64, pairs: u64) -> Counts {
    let mut counts = Counts {
        served,
        solved: pairs,
        challenges: served,
        pairs,
        pairs_within: pairs,
        ..Counts::ZERO
    };
    counts.solve_times.add(solve_time_bucket(12_345_678), pairs);
    counts
}

fn rows(query: &Query) -> Vec<CountRow> {
    let row = |day: i64, counts| CountRow {
        bucket: query.buckets().start_of(day * DAY_MICROS + 12 * HOUR_MICROS),
        site_id: Some(SITE),
        counts,
    };
    vec![row(0, counts(3, 1)), row(1, counts(1, 0))]
}

fn answer(text: &str, through: Option<i64>) -> Arc<Answer> {
    let query = Query::parse(form_urlencoded::parse(text.as_bytes())).unwrap();
    let resolved = query.resolve(THROUGH, through);
    let compared = Compared {
        current: None,
        previous: vec![CountRow {
            bucket: 0,
            site_id: None,
            counts: counts(8, 4),
        }],
    };
    let answer = query.answer(&resolved, rows(&query), Some(compared), through);
    Arc::new(answer.unwrap())
}

fn text(answer: &Arc<Answer>, format: Format, bytes: usize) -> String {
    let mut writer = Writer::new(Arc::clone(answer), format);
    let mut text = Vec::new();
    while let Some(piece) = writer.next_piece(bytes) {
        text.extend(piece);
    }
    assert!(writer.is_written());
    String::from_utf8(text).unwrap()
}

#[test]
fn json_has_rows_totals_and_the_question() {
    let answer = answer(
        "timezone=Asia/Kathmandu&metrics=solve_time_p50,solve_rate&from=1970-01-01",
        Some(THROUGH),
    );
    assert_eq!(
        text(&answer, Format::Json, 1 << 20),
        concat!(
            r#"{"counters":["#,
            r#"{"date":"1970-01-01","start":"1970-01-01T00:00:00+05:30","site_id":"00000000-0000-0000-0000-000000000007","#,
            r#""served":3,"solved":1,"solve_time_p50":12.36,"solve_rate":0.333333},"#,
            r#"{"date":"1970-01-02","start":"1970-01-02T00:00:00+05:30","site_id":"00000000-0000-0000-0000-000000000007","#,
            r#""served":1,"solved":0,"solve_time_p50":null,"solve_rate":0}],"#,
            r#""totals":{"served":4,"solved":1,"solve_time_p50":12.36,"solve_rate":0.25},"#,
            r#""partial":[],"#,
            r#""query":{"by":"site","from":"1970-01-01T00:00:00+05:30","interval":"day","#,
            r#""metrics":["served","solved","solve_time_p50","solve_rate"],"order":"asc","solve_within":"1h","#,
            r#""timezone":"Asia/Kathmandu","to":null,"week_start":"monday"},"#,
            r#""complete_through":"1970-01-03T06:00:00.000Z"}"#,
            "\n"
        )
    );
}

#[test]
fn json_has_both_sides_of_a_comparison() {
    let text_of = |through| {
        let answer = answer(
            "by=none&period=7d&interval=all&compare=previous_period&fill=zero&metrics=solve_rate,late",
            through,
        );
        text(&answer, Format::Json, 1 << 20)
    };
    assert_eq!(
        text_of(Some(THROUGH)),
        concat!(
            r#"{"counters":[{"date":null,"start":"1969-12-28T00:00:00+00:00","served":4,"solved":1,"solve_rate":0.25,"late":0}],"#,
            r#""totals":{"served":4,"solved":1,"solve_rate":0.25,"late":0},"#,
            r#""partial":["1969-12-28T00:00:00+00:00"],"comparison":{"#,
            r#""current":{"from":"1969-12-28T00:00:00+00:00","to":"1970-01-03T06:00:00+00:00","#,
            r#""totals":{"served":4,"solved":1,"solve_rate":0.25,"late":0}},"#,
            r#""previous":{"from":"1969-12-21T00:00:00+00:00","to":"1969-12-27T06:00:00+00:00","#,
            r#""totals":{"served":8,"solved":4,"solve_rate":0.5,"late":0}},"#,
            r#""change":{"served":-50,"solved":-75,"solve_rate":-25,"late":null}},"#,
            r#""query":{"by":"none","compare":"previous_period","fill":"zero","from":"1969-12-28T00:00:00+00:00","#,
            r#""interval":"all","metrics":["served","solved","solve_rate","late"],"order":"asc","period":"7d","solve_within":"1h","#,
            r#""timezone":"UTC","to":"1970-01-04T00:00:00+00:00","week_start":"monday"},"#,
            r#""complete_through":"1970-01-03T06:00:00.000Z"}"#,
            "\n"
        )
    );
    let unknown = text_of(None);
    assert!(unknown.contains(r#""comparison":null,"query""#), "{unknown}");
    assert!(unknown.ends_with("\"complete_through\":null}\n"), "{unknown}");
}

#[test]
fn everything_in_one_bucket_has_no_date() {
    let answer = answer("interval=all", Some(THROUGH));
    let text = text(&answer, Format::Json, 1 << 20);
    assert!(
        text.starts_with(r#"{"counters":[{"date":null,"start":null,"site_id""#),
        "{text}"
    );
    assert!(text.contains(r#""partial":[null]"#), "{text}");
}

#[test]
fn csv_has_the_columns_that_are_asked_for() {
    let answer = answer("metrics=pending,solved,solve_time_p99", None);
    let csv = "date,start,site_id,served,solved,pending,solve_time_p99\n\
         1970-01-01,1970-01-01T00:00:00+00:00,00000000-0000-0000-0000-000000000007,3,1,,12.36\n\
         1970-01-02,1970-01-02T00:00:00+00:00,00000000-0000-0000-0000-000000000007,1,0,,\n";
    assert_eq!(text(&answer, Format::Csv, 1), csv);
    assert_eq!(text(&answer, Format::Csv, 1 << 20), csv);
    let nobody = super::tests::answer("by=none&interval=all", None);
    assert_eq!(text(&nobody, Format::Csv, 1), "date,start,served,solved\n,,4,1\n");
}

#[test]
fn ndjson_has_a_row_a_line() {
    let answer = answer("by=none", Some(THROUGH));
    assert_eq!(
        text(&answer, Format::NdJson, 1),
        concat!(
            r#"{"date":"1970-01-01","start":"1970-01-01T00:00:00+00:00","served":3,"solved":1}"#,
            "\n",
            r#"{"date":"1970-01-02","start":"1970-01-02T00:00:00+00:00","served":1,"solved":0}"#,
            "\n"
        )
    );
}

#[test]
fn the_pieces_are_the_whole() {
    for question in [
        "by=site",
        "interval=all",
        "fill=zero&from=1970-01-01&to=1970-03-01",
        "from=1999-01-01",
    ] {
        let answer = answer(question, Some(THROUGH));
        for format in [Format::Json, Format::NdJson, Format::Csv] {
            let whole = text(&answer, format, 1 << 20);
            for bytes in [1, 100, 1000] {
                assert_eq!(text(&answer, format, bytes), whole, "{question} {format:?} {bytes}");
            }
        }
        serde_json::from_str::<serde_json::Value>(&text(&answer, Format::Json, 7)).unwrap();
    }
}

#[test]
fn a_moment_that_passes_changes_nothing_else() {
    let text = |through| {
        let mut writer = Writer::new(answer("by=site", Some(through)), Format::Json).without_complete_through();
        String::from_utf8(writer.next_piece(1 << 20).unwrap()).unwrap()
    };
    assert_eq!(text(THROUGH), text(THROUGH + 1));
    assert!(text(THROUGH).ends_with("}}\n"), "{}", text(THROUGH));
}

#[test]
fn numbers_are_short_and_near() {
    let written = |value| {
        let mut out = Vec::new();
        write_value(&mut out, value, "null");
        String::from_utf8(out).unwrap()
    };
    for (value, text) in [
        (Value::Count(u64::MAX), "18446744073709551615"),
        (Value::Rate(0.0), "0"),
        (Value::Rate(1.0), "1"),
        (Value::Rate(2.0 / 3.0), "0.666667"),
        (Value::Rate(1e-9), "0"),
        (Value::Seconds(0.0), "0"),
        (Value::Seconds(0.000_001_007_8), "0.000001008"),
        (Value::Seconds(12.345_678), "12.35"),
        (Value::Seconds(86_432.1), "86430"),
        (Value::Null, "null"),
    ] {
        assert_eq!(written(value), text);
    }
    assert_eq!(rounded(-0.000_01, 4).to_string(), "0");
}

#[test]
fn no_row_is_longer_than_is_counted() {
    let query = format!("metrics={}", Metric::names().replace(' ', ""));
    let mut longest = answer(&query, Some(THROUGH));
    Arc::get_mut(&mut longest).unwrap().totals.served = u64::MAX;
    let counts = Counts {
        served: u64::MAX,
        solved: u64::MAX,
        retries: u64::MAX,
        challenges: u64::MAX,
        solved_again: u64::MAX,
        open_solves: u64::MAX,
        pairs: u64::MAX,
        pairs_before_serve: u64::MAX,
        ..counts(1, 1)
    };
    let row = Row {
        bucket: 7_289_654_399_999_999,
        site_id: Some(Uuid::max()),
        counts: &counts,
    };
    let mut out = Vec::new();
    write_object(
        &mut out,
        &longest,
        &texts(&longest, &longest.query.buckets(), row.bucket),
        &row,
    );
    assert!(out.len() + 100 < ROW_TEXT_BYTES_MAX, "{}", out.len());
}

#[test]
fn the_page_for_people_shows_an_answer() {
    let (_, page) = include_str!("../../../docs/reports.md")
        .split_once("## The answer")
        .unwrap();
    let shown = page.split("```").nth(1).unwrap().trim_start_matches("json");
    let query = "period=today&timezone=Europe/Berlin&metrics=solve_rate";
    let query = Query::parse(form_urlencoded::parse(query.as_bytes())).unwrap();
    // 13:04:22.518 on 6 May 2024.
    let through = 1_715_000_662_518_000;
    let resolved = query.resolve(through, Some(through));
    let row = CountRow {
        bucket: query.buckets().start_of(through),
        site_id: Some(Uuid::from_u128(0x6f1c1f2e_3d0b_4c5a_9b0e_2f4b8f3f7a01)),
        counts: counts(3, 1),
    };
    let answer = Arc::new(query.answer(&resolved, vec![row], None, Some(through)).unwrap());
    let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(read(&text(&answer, Format::Json, 1000)), read(shown));
}
