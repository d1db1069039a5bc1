//! Rows, totals and partial buckets, made of counts.

use proptest::prelude::*;

use super::rows::site_order;
use super::*;
use crate::statistics::instant::{DAY_MICROS, HOUR_MICROS};

const SITES: [Uuid; 3] = [Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3)];

fn query(text: &str) -> Query {
    Query::parse(form_urlencoded::parse(text.as_bytes())).unwrap()
}

fn count(day: i64, site: usize, served: u64, solved: u64) -> CountRow {
    CountRow {
        bucket: day * DAY_MICROS,
        site_id: Some(SITES[site]),
        counts: Counts {
            served,
            solved,
            ..Counts::ZERO
        },
    }
}

fn answer(text: &str, rows: Vec<CountRow>) -> Answer {
    let query = query(text);
    let now = 100 * DAY_MICROS;
    query
        .answer(&query.resolve(now, Some(now)), rows, None, Some(now))
        .unwrap()
}

/// Day, site (0 for none) and served of each row.
fn rows(answer: &Answer) -> Vec<(i64, u128, u64)> {
    let site = |row: &Row<'_>| row.site_id.map_or(0, |site_id| site_id.as_u128());
    answer
        .rows()
        .map(|row| (row.bucket.div_euclid(DAY_MICROS), site(&row), row.counts.served))
        .collect()
}

#[test]
fn rows_are_in_order_and_counts_of_shards_add_up() {
    let counts = || {
        vec![
            count(2, 1, 1, 0),
            count(1, 2, 5, 1),
            count(2, 0, 7, 0),
            count(1, 2, 3, 1),
            count(1, 0, 0, 0),
        ]
    };
    let asc = answer("order=asc", counts());
    assert_eq!(rows(&asc), [(1, 3, 8), (2, 1, 7), (2, 2, 1)]);
    assert_eq!((asc.totals.served, asc.totals.solved), (16, 2));
    assert_eq!(rows(&answer("order=desc", counts())), [(2, 1, 7), (2, 2, 1), (1, 3, 8)]);
    assert_eq!(rows(&answer("by=none", counts())), [(1, 0, 8), (2, 0, 8)]);
    assert_eq!(rows(&answer("by=none&order=desc", counts())), [(2, 0, 8), (1, 0, 8)]);
}

#[test]
fn the_sites_below_the_top_are_one_row() {
    let counts = || {
        vec![
            count(1, 0, 2, 0),
            count(1, 1, 5, 0),
            count(1, 2, 1, 0),
            count(2, 0, 3, 0),
            count(2, 2, 1, 0),
        ]
    };
    // Sites 1 and 2 have five serves each.
    assert_eq!(
        rows(&answer("top=1", counts())),
        [(1, 1, 2), (1, 0, 6), (2, 1, 3), (2, 0, 1)]
    );
    assert_eq!(
        rows(&answer("top=2", counts())),
        [(1, 1, 2), (1, 2, 5), (1, 0, 1), (2, 1, 3), (2, 0, 1)]
    );
    assert_eq!(rows(&answer("top=3", counts())).len(), 5);
    assert_eq!(answer("top=1", counts()).totals.served, 12);
}

#[test]
fn a_row_is_there_for_what_is_asked_for() {
    let mut retries = count(1, 0, 0, 0);
    retries.counts.retries = 1;
    assert_eq!(answer("metrics=retries", vec![retries.clone()]).row_count(), 1);
    assert_eq!(answer("metrics=late", vec![retries]).row_count(), 0);
    assert_eq!(answer("metrics=late", vec![count(1, 0, 0, 1)]).row_count(), 1);
}

#[test]
fn buckets_without_an_event_are_filled_for_sites_that_are_named_or_have_one() {
    let range = "fill=zero&from=1970-01-02&to=1970-01-04";
    let named = format!("{range}&site_id={}&site_id={}", SITES[2], SITES[1]);
    let counts = || vec![count(2, 1, 4, 0)];
    assert_eq!(rows(&answer(range, counts())), [(1, 2, 0), (2, 2, 4)]);
    assert_eq!(
        rows(&answer(&named, counts())),
        [(1, 2, 0), (1, 3, 0), (2, 2, 4), (2, 3, 0)]
    );
    let desc = answer(&format!("{named}&order=desc"), counts());
    assert_eq!(rows(&desc), [(2, 2, 4), (2, 3, 0), (1, 2, 0), (1, 3, 0)]);
    let top = answer(&format!("{named}&top=1"), counts());
    assert_eq!(rows(&top), [(1, 2, 0), (1, 0, 0), (2, 2, 4), (2, 0, 0)]);
    assert_eq!(
        rows(&answer(&format!("{range}&by=none"), vec![])),
        [(1, 0, 0), (2, 0, 0)]
    );
    assert_eq!(rows(&answer(range, vec![])), []);
    let all = answer(
        &format!("{named}&interval=all"),
        vec![count(1, 1, 2, 0), count(2, 1, 4, 0)],
    );
    assert_eq!(rows(&all), [(1, 2, 6), (1, 3, 0)]);
}

#[test]
fn an_answer_is_whole_or_refused() {
    let now = 20_000 * DAY_MICROS;
    let ask = |text: &str, rows| {
        let query = query(text);
        query.answer(&query.resolve(now, Some(now)), rows, None, Some(now))
    };
    let years = "fill=zero&interval=hour&from=1970-01-01&to=2030-01-01";
    assert_eq!(
        ask(&format!("{years}&by=none"), vec![]).unwrap().row_count(),
        21_915 * 24
    );
    let sites: String = SITES.iter().map(|site_id| format!("&site_id={site_id}")).collect();
    assert_eq!(ask(&format!("{years}{sites}"), vec![]), Err(AnswerError::TooManyRows));
    let many = (0..=ROWS_MAX as i64).map(|day| count(day, 0, 1, 0));
    assert_eq!(ask("by=site", many.collect()), Err(AnswerError::TooManyRows));
}

#[test]
fn buckets_that_are_cut_or_may_get_more_are_partial() {
    let (day, hour) = (DAY_MICROS, HOUR_MICROS);
    let counts = || (1..=5).map(|day| count(day, 0, 1, 0)).collect::<Vec<_>>();
    let partial = |text: &str, through: Option<i64>, rows| {
        let query = query(text);
        let answer = query
            .answer(&query.resolve(6 * day, through), rows, None, through)
            .unwrap();
        answer
            .partial
            .iter()
            .map(|start| start.div_euclid(day))
            .collect::<Vec<_>>()
    };
    let whole = "from=1970-01-02&to=1970-01-07&order=asc";
    assert_eq!(partial(whole, Some(6 * day), counts()), [0_i64; 0]);
    assert_eq!(partial(whole, Some(5 * day + hour), counts()), [5]);
    assert_eq!(partial(whole, Some(5 * day), counts()), [5]);
    assert_eq!(partial(whole, None, counts()), [1, 2, 3, 4, 5]);
    let cut = "from=1970-01-02T06:00:00Z&to=1970-01-06T18:00:00Z&order=desc";
    assert_eq!(partial(cut, Some(6 * day), counts()), [5, 1]);
    let mut pending = counts();
    pending[2].counts.pending = 1;
    assert_eq!(partial(whole, Some(6 * day), pending), [3]);
    let all = "interval=all&from=1970-01-02&to=1970-01-05";
    assert_eq!(partial(all, Some(6 * day), counts()), [0_i64; 0]);
    assert_eq!(partial("interval=all&from=1970-01-02", Some(6 * day), counts()), [1]);
}

#[test]
fn a_comparison_has_both_sides() {
    let query = query("period=today&compare=previous_period");
    let through = 5 * DAY_MICROS + 6 * HOUR_MICROS;
    let resolved = query.resolve(through, Some(through));
    let rows = vec![count(5, 0, 8, 4)];
    let compared = Compared {
        current: Some(vec![count(5, 0, 6, 3)]),
        previous: vec![count(4, 0, 1, 1), count(4, 1, 2, 1)],
    };
    let answer = query
        .answer(&resolved, rows.clone(), Some(compared.clone()), Some(through))
        .unwrap();
    let (current, previous) = answer.compared.unwrap();
    assert_eq!((current.served, previous.served, answer.totals.served), (6, 3, 8));

    let uncut = query
        .answer(&resolved, rows.clone(), Some(compared.previous.into()), Some(through))
        .unwrap();
    assert_eq!(uncut.compared.unwrap().0.served, 8);
    let unknown = query.resolve(through, None);
    let answer = query.answer(&unknown, rows, Some(Compared::default()), None).unwrap();
    assert_eq!(answer.compared, None);
}

fn any_counts() -> impl Strategy<Value = Vec<CountRow>> {
    let row = (
        0..6_i64,
        0..3_usize,
        proptest::array::uniform9(0..3_u64),
        proptest::option::of(1..4000_u16),
    );
    let row = row.prop_map(|(day, site, numbers, bucket)| {
        let mut row = count(day, site, numbers[0], numbers[1]);
        row.counts.retries = numbers[2];
        row.counts.challenges = numbers[3] + numbers[5];
        row.counts.solved_again = numbers[4];
        row.counts.pairs = numbers[5];
        row.counts.pairs_within = numbers[5].min(numbers[6]);
        row.counts.pending = numbers[7].min(numbers[3]);
        row.counts.open_solves = numbers[8];
        row.counts.solve_times.add(bucket.unwrap_or(0), numbers[5]);
        row
    });
    proptest::collection::vec(row, 0..20)
}

proptest! {
    #[test]
    fn totals_are_the_sum_of_the_rows(
        counts in any_counts(),
        (by, top) in prop_oneof![Just(("by=none", "")), Just(("by=site", "")), Just(("by=site", "&top=1")), Just(("by=site", "&top=2"))],
        fill in prop_oneof![Just(""), Just("&fill=zero")],
        order in prop_oneof![Just("asc"), Just("desc")],
        interval in prop_oneof![Just("day"), Just("all")],
    ) {
        let metrics = Metric::names().replace(' ', "");
        let text = format!(
            "{by}{top}{fill}&order={order}&interval={interval}&metrics={metrics}&from=1970-01-01&to=1970-01-07"
        );
        let answer = answer(&text, counts.clone());
        let mut sum = Counts::ZERO;
        let mut shares = 0.0;
        for row in answer.rows() {
            sum.merge(row.counts);
            if let Value::Rate(share) = answer.value(Metric::Share, row.counts) {
                shares += share;
            }
        }
        prop_assert_eq!(&sum, &answer.totals);
        prop_assert_eq!(&sum, &Counts::sum(&counts));
        prop_assert!(sum.served == 0 || (shares - 1.0_f64).abs() < 1e-9);
        let keys: Vec<_> = answer.rows().map(|row| (row.bucket, site_order(row.site_id))).collect();
        let mut sorted = keys.clone();
        sorted.sort_by_key(|(bucket, site)| (if order == "desc" { -bucket } else { *bucket }, *site));
        sorted.dedup();
        prop_assert_eq!(&keys, &sorted);
        prop_assert_eq!(keys.len(), answer.row_count());
        // Every count of a cohort is in one of its three parts.
        let part = |metric| match answer.value(metric, &answer.totals) {
            Value::Count(count) => count,
            _ => 0,
        };
        let parts = [Metric::SolvedOfServed, Metric::Pending, Metric::Unsolved].map(part);
        prop_assert_eq!(parts.iter().sum::<u64>(), sum.challenges);
    }
}
