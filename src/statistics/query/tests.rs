//! Every parameter, right and wrong.

use chrono::DateTime;

use super::*;

const SITE: &str = "7a6f0a3e-9d3c-4b0e-8a55-0a4f5b1c2d3e";

fn parse(query: &str) -> Result<Query, Vec<WrongParameter>> {
    Query::parse(form_urlencoded::parse(query.as_bytes()))
}

fn wrong(query: &str) -> Vec<String> {
    let wrong = parse(query).unwrap_err();
    wrong.iter().map(ToString::to_string).collect()
}

#[test]
fn a_question_is_read_whole() {
    let query = parse(&format!(
        "site_id={SITE}&from=2001-01-01&to=2001-02-01T00:00:00%2B05:45&interval=week&timezone=Asia/Kathmandu\
         &week_start=sunday&by=site&top=7&order=desc&metrics=solve_rate,served,late&fill=zero\
         &compare=previous_week&solve_within=5m&site_id={}",
        SITE.to_uppercase()
    ));
    let expected = Query {
        site_ids: vec![SITE.parse().unwrap(); 2],
        range: RangeChoice::Bounds {
            from: Some(Moment::Date("2001-01-01".parse().unwrap())),
            to: Some(Moment::Instant(980_964_900_000_000)),
        },
        interval: Interval::Week,
        zone: Zone::parse("Asia/Kathmandu").unwrap(),
        week_start: Weekday::Sun,
        by: By::Site,
        top: Some(7),
        order: Order::Desc,
        metrics: Some(vec![Metric::SolveRate, Metric::Served, Metric::Late]),
        fill: Fill::Zero,
        compare: Some(Compare::PreviousWeek),
        solve_within: SolveWithin::from_name("5m").unwrap(),
        is_extended: true,
    };
    assert_eq!(query, Ok(expected));
    assert_eq!(parse(""), Ok(Query::default()));
}

#[test]
fn only_sites_and_dates_are_a_plain_question() {
    for (query, is_plain) in [
        (String::new(), true),
        (format!("site_id={SITE}&from=2001-01-01&to=2001-02-01"), true),
        ("from=2001-01-01T00:00:00Z".to_string(), false),
        ("to=2001-01-01T00:00:00Z".to_string(), false),
        ("interval=day".to_string(), false),
        ("timezone=UTC".to_string(), false),
        ("period=all".to_string(), false),
        ("metrics=served".to_string(), false),
        ("order=asc".to_string(), false),
        ("fill=none".to_string(), false),
        ("solve_within=1h".to_string(), false),
        ("week_start=monday".to_string(), false),
        ("by=site".to_string(), false),
        ("top=1".to_string(), false),
    ] {
        assert_eq!(parse(&query).unwrap().is_plain(), is_plain, "{query}");
    }
}

#[test]
fn every_value_of_every_parameter_is_read() {
    for (name, values) in [
        (
            "period",
            "today,yesterday,24h,7d,28d,30d,91d,month,last_month,year,12mo,all",
        ),
        ("interval", "hour,day,week,month,all"),
        ("week_start", "monday,sunday,saturday"),
        ("by", "site,none"),
        ("top", "1,9,99,100"),
        ("order", "asc,desc"),
        ("fill", "none"),
        ("solve_within", "1m,2m,5m,10m,15m,30m,1h,2h,6h,24h"),
        ("timezone", "UTC,Europe/Berlin,Etc/GMT%2B3"),
    ] {
        for value in values.split(',') {
            assert!(parse(&format!("{name}={value}")).is_ok(), "{name}={value}");
        }
    }
    for value in ["previous_period", "previous_week", "year_over_year"] {
        assert!(parse(&format!("period=7d&compare={value}")).is_ok(), "{value}");
    }
    let all = Metric::CHOICES
        .iter()
        .map(|(name, _)| *name)
        .collect::<Vec<_>>()
        .join(",");
    assert_eq!(parse(&format!("metrics={all}")).unwrap().columns().len(), 16);
}

#[test]
fn every_wrong_value_says_what_would_be_right() {
    const METRICS: &str = "served, solved, challenges, solved_of_served, late, pending, unsolved, solve_rate, \
         solve_time_p50, solve_time_p90, solve_time_p99, solved_before_served, solved_again, unmatched, retries, share";
    const SHAPE: &str = "not a date like 2001-01-31 or an instant like 2001-01-31T06:00:00Z";
    const BOUNDED: &str = "needs a range with both ends: from and to, or a period other than all";
    let metric = |number: u8| format!("metrics: metric {number} of the list is not one of {METRICS}");
    let twice = |name: &str| format!("{name}: given more than once");
    for (query, expected) in [
        ("site_id=7", "site_id: not a UUID".to_string()),
        ("from=2001-1-1", format!("from: {SHAPE}")),
        ("to=", format!("to: {SHAPE}")),
        (
            "to=2001-01-01T00:00:00",
            "to: an instant without an offset; add Z, or one like +02:00".to_string(),
        ),
        (
            "to=2001-01-01T00:00:00+02:00",
            "to: a blank in place of a plus; an address needs a plus as %2B".to_string(),
        ),
        (
            "user=me",
            "user: unknown; expected site_id, from, to, period, interval, timezone, week_start, by, top, order, \
             metrics, fill, compare or solve_within"
                .to_string(),
        ),
        (
            "period=8d",
            "period: not one of today, yesterday, 24h, 7d, 28d, 30d, 91d, month, last_month, year, 12mo, all"
                .to_string(),
        ),
        (
            "interval=Day",
            "interval: not one of hour, day, week, month, all".to_string(),
        ),
        (
            "timezone=berlin",
            "timezone: not a time zone of the IANA database like Europe/Berlin or UTC".to_string(),
        ),
        (
            "week_start=friday",
            "week_start: not one of monday, sunday, saturday".to_string(),
        ),
        ("by=day", "by: not one of site, none".to_string()),
        ("top=0", "top: not a number from 1 to 100".to_string()),
        ("top=101", "top: not a number from 1 to 100".to_string()),
        ("top=%2B5", "top: not a number from 1 to 100".to_string()),
        ("top=", "top: not a number from 1 to 100".to_string()),
        ("order=", "order: not one of asc, desc".to_string()),
        ("metrics=", metric(1)),
        ("metrics=served,,late", metric(2)),
        ("metrics=late,Served", metric(2)),
        ("metrics=late,late", "metrics: late is in the list twice".to_string()),
        ("fill=null", "fill: not one of none, zero".to_string()),
        (
            "compare=yes",
            "compare: not one of previous_period, previous_week, year_over_year".to_string(),
        ),
        (
            "solve_within=3m",
            "solve_within: not one of 1m, 2m, 5m, 10m, 15m, 30m, 1h, 2h, 6h, 24h".to_string(),
        ),
        ("period=7d&period=7d", twice("period")),
        ("metrics=late&metrics=retries", twice("metrics")),
        ("from=2001-01-01&%66rom=2001-01-02", twice("from")),
        (
            "period=7d&from=2001-01-01",
            "period: given with from or to; leave out one of them".to_string(),
        ),
        (
            "to=2001-01-01&period=all",
            "period: given with from or to; leave out one of them".to_string(),
        ),
        ("from=2001-01-02&to=2001-01-01", format!("from: {OUT_OF_ORDER}")),
        ("from=2001-01-01&to=2001-01-01", format!("from: {OUT_OF_ORDER}")),
        (
            "from=2001-01-01T06:00:00Z&to=2001-01-01",
            format!("from: {OUT_OF_ORDER}"),
        ),
        (
            "from=2001-01-01&to=2000-12-31T23:00:00Z&timezone=UTC",
            format!("from: {OUT_OF_ORDER}"),
        ),
        ("by=none&top=5", "top: needs by=site".to_string()),
        ("fill=zero", format!("fill: {BOUNDED}")),
        ("fill=zero&from=2001-01-01", format!("fill: {BOUNDED}")),
        ("compare=previous_week&period=all", format!("compare: {BOUNDED}")),
        ("compare=previous_week&to=2001-01-01", format!("compare: {BOUNDED}")),
    ] {
        assert_eq!(wrong(query), [expected], "{query}");
    }
}

#[test]
fn a_wrong_value_brings_no_second_error() {
    for query in [
        "period=8d&fill=zero",
        "period=8d&from=2001-01-01",
        "from=x&to=2001-01-01&compare=previous_week",
    ] {
        assert_eq!(wrong(query).len(), 1, "{query}");
    }
    // Local days are in order whatever the zone, and instants are where they are.
    assert!(parse("from=2011-12-30&to=2011-12-31&timezone=Pacific/Apia").is_ok());
    assert!(parse("from=2001-01-01&to=2000-12-31T23:00:00Z&timezone=Asia/Tokyo").is_ok());
}

#[test]
fn every_wrong_parameter_is_named() {
    let named = wrong("site_id=7&from=2001-1-1&user=me&top=x&fill=zero&by=none");
    let names: Vec<_> = named.iter().map(|text| text.split(':').next().unwrap()).collect();
    assert_eq!(names, ["site_id", "from", "user", "top", "fill"]);
    assert_eq!(parse(&"a=&".repeat(1000)).unwrap_err().len(), ERRORS_MAX);
    let long = parse(&format!("{}=", "ä".repeat(1000))).unwrap_err();
    assert_eq!(long[0].name, "ä".repeat(NAME_CHARS_MAX));
}

#[test]
fn only_what_is_shown_is_needed() {
    let needs = |query: &str| parse(query).unwrap().needs();
    assert_eq!(needs("period=7d"), Needs::default());
    assert_eq!(needs("metrics=share,served"), Needs::default());
    assert!(needs("metrics=retries").retries && !needs("metrics=retries").pairs);
    let rate = needs("metrics=solve_rate");
    assert!(rate.pairs && rate.pending && rate.challenges && !rate.solve_times);
    assert!(needs("metrics=solve_time_p90").solve_times);
    assert!(needs("metrics=unmatched").open_solves && needs("metrics=solved_again").solved_again);
}

#[test]
fn the_range_becomes_instants() {
    let micros = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros();
    let query = parse("period=today&timezone=Asia/Kathmandu&compare=previous_period&solve_within=30m").unwrap();
    let (now, through) = (micros("2024-05-05T06:00:00Z"), micros("2024-05-05T05:59:59Z"));
    let resolved = query.resolve(now, Some(through));
    assert_eq!(resolved.range.from, Some(micros("2024-05-05T00:00:00+05:45")));
    assert_eq!(resolved.range.to, Some(micros("2024-05-06T00:00:00+05:45")));
    assert_eq!(resolved.pending_from, Some(micros("2024-05-05T05:15:00Z")));
    let comparison = resolved.comparison.unwrap();
    assert_eq!(comparison.current.to, Some(micros("2024-05-05T05:45:00Z")));
    assert_eq!(comparison.previous.to, Some(micros("2024-05-04T05:45:00Z")));

    let unknown = query.resolve(now, None);
    assert_eq!((unknown.comparison, unknown.pending_from), (None, None));
    let open = Query::default().resolve(now, Some(through));
    assert_eq!(open.range, Range::default());
}

/// The lines of the first table under a heading of the page for people, without its header.
fn table(heading: &str) -> Vec<&'static str> {
    let page = include_str!("../../../docs/reports.md");
    let (_, section) = page.split_once(heading).unwrap();
    let rows = section.lines().skip_while(|line| !line.starts_with('|')).skip(2);
    rows.take_while(|line| line.starts_with('|')).collect()
}

/// What is in backticks in one column of a table.
fn quoted(line: &str, column: usize) -> Vec<&str> {
    let cell = line.split('|').nth(column + 1).unwrap();
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn the_page_for_people_has_every_metric_and_parameter() {
    let metrics: Vec<_> = table("## Metrics").iter().flat_map(|line| quoted(line, 0)).collect();
    assert_eq!(
        metrics,
        Metric::CHOICES.iter().map(|(name, _)| *name).collect::<Vec<_>>()
    );
    let parameters = table("## Parameters");
    let names: Vec<_> = parameters.iter().flat_map(|line| quoted(line, 0)).collect();
    assert_eq!(names, PARAMETERS);
    for (line, name) in parameters.iter().zip(names) {
        // Bounds go with fill and compare, and a period does with what is not one.
        let bounds = match name {
            "from" | "to" | "period" => "",
            _ => "&period=7d",
        };
        for example in quoted(line, 3) {
            assert!(
                example.starts_with(name) && parse(&format!("{example}{bounds}")).is_ok(),
                "{example}"
            );
        }
        let values = quoted(line, 1);
        for value in &values {
            assert!(parse(&format!("{name}={value}{bounds}")).is_ok(), "{name}={value}");
        }
        let expected = parse(&format!("{name}=-")).unwrap_err()[0].detail.clone();
        if let Some(all) = expected.strip_prefix("not one of ") {
            assert_eq!(values.join(", "), all, "{name}");
        }
        for default in quoted(line, 2) {
            assert!(parse(&format!("{name}={default}")).is_ok(), "{name}={default}");
        }
    }
    let periods: Vec<_> = table("### The range").iter().flat_map(|line| quoted(line, 0)).collect();
    assert_eq!(periods.join(", "), Period::names());
    let compares: Vec<_> = table("### Comparisons")
        .iter()
        .flat_map(|line| quoted(line, 0))
        .collect();
    assert_eq!(compares.join(", "), Compare::names());
}
