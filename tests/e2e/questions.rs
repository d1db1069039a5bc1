//! Questions of docs/reports.md: ClickHouse, a file, and a count by the definitions agree.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Datelike as _, Offset as _, TimeZone as _, Timelike as _};
use chrono_tz::Tz;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::client::{accept, get};
use crate::complete_through::{await_complete_through, now};
use crate::world::World;

/// Records of the dedup window: fewer than there are events, so that events leave it.
const WINDOW: usize = 150;

const EVENTS: usize = 3_000;

const QUESTIONS: usize = 60;

/// Zones with half and quarter hours, days without midnight, a change of half an hour, and one that had seconds.
const ZONES: [&str; 8] = [
    "UTC",
    "Asia/Kathmandu",
    "Europe/Berlin",
    "America/New_York",
    "Africa/Monrovia",
    "America/Santiago",
    "Australia/Lord_Howe",
    "Pacific/Chatham",
];

const METRICS: [&str; 15] = [
    "challenges",
    "solved_of_served",
    "late",
    "pending",
    "unsolved",
    "solve_rate",
    "solve_time_p50",
    "solve_time_p90",
    "solve_time_p99",
    "solved_before_served",
    "solved_again",
    "unmatched",
    "retries",
    "share",
    "served",
];

/// A generator of numbers (SplitMix64), the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Event {
    site: usize,
    is_solve: bool,
    challenge: u64,
    micros: i64,
}

fn site_id(number: usize) -> Uuid {
    Uuid::from_u128(0x5173_0000_0000_4000_8000_0000_0000_0000 + number as u128)
}

impl Event {
    fn json(&self) -> Value {
        let time = DateTime::from_timestamp_micros(self.micros).unwrap();
        json!({
            "site_id": site_id(self.site),
            "type": if self.is_solve { "solve" } else { "serve" },
            "correlation_id": Uuid::from_u128(u128::from(self.challenge)),
            "time": time.format("%Y-%m-%dT%H:%M:%S%.6f").to_string(),
        })
    }
}

const MINUTE: i64 = 60_000_000;
const DAY: i64 = 1_440 * MINUTE;

/// Times around midnights and changes of clocks, the year in which Liberia's offset had seconds, and now.
fn times(now: i64) -> Vec<i64> {
    let at = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros();
    vec![
        at("1971-06-15T00:30:00Z"),
        at("2024-03-10T06:30:00Z"),
        at("2024-03-31T00:50:00Z"),
        at("2024-04-06T14:50:00Z"),
        at("2024-09-08T03:50:00Z"),
        at("2024-12-31T23:40:00Z"),
        at("2100-07-01T12:00:00Z"),
        now - DAY,
        now - 90 * MINUTE,
        now - 10 * MINUTE,
    ]
}

/// Pairs in order and out of order, repeats, several serves and solves, solves that never come.
fn random_events(random: &mut Random, now: i64) -> Vec<Event> {
    let times = times(now);
    let mut events: Vec<Event> = Vec::new();
    while events.len() < EVENTS {
        let (site, challenge) = (random.below(6) as usize, random.below(900));
        let micros = random.pick(&times) + random.below(3 * 3_600_000_000) as i64 - 1_800_000_000;
        let after = match random.below(8) {
            0 => -(random.below(20_000_000) as i64),
            1 => random.pick(&[60, 120, 300, 3_600, 86_400]) * 1_000_000,
            2 => random.below(90_000_000_000) as i64,
            3 => random.below(3) as i64,
            _ => random.below(120_000_000) as i64,
        };
        let event = |is_solve: bool, micros: i64| Event {
            site,
            is_solve,
            challenge,
            micros: micros.max(0),
        };
        let mut new = vec![event(false, micros), event(true, micros + after)];
        match random.below(8) {
            0 => new.reverse(),
            1 => new.truncate(1),
            2 => drop(new.remove(0)),
            3 => new.push(event(true, micros + after + 7)),
            4 => new.push(event(false, micros + 9)),
            _ => {}
        }
        if random.below(3) == 0 && !events.is_empty() {
            let back = random.below(events.len().min(2 * WINDOW) as u64) as usize;
            new.push(events[events.len() - 1 - back].clone());
        }
        // Sometimes there is another challenge between the two.
        for event in new {
            let at = events.len() - (random.below(6) as usize).min(events.len());
            events.insert(at, event);
        }
    }
    events
}

/// What an event is by the definition, from all that were before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Repeat,
    /// With the time of the solve that answered it at once.
    First(Option<i64>),
    /// With the time of its serve.
    Answer(i64),
    Again,
    Open,
}

/// Offsets and roles of events, for which `partitions` says where each is.
fn roles(events: &[Event]) -> Vec<Role> {
    let mut all: Vec<Role> = Vec::new();
    for (at, event) in events.iter().enumerate() {
        let near = at.saturating_sub(WINDOW)..at;
        if events[near.clone()].contains(event) {
            all.push(Role::Repeat);
            continue;
        }
        let earlier: Vec<_> = near
            .filter(|other| {
                let other = &events[*other];
                (other.site, other.challenge) == (event.site, event.challenge)
            })
            .filter(|other| all[*other] != Role::Repeat)
            .collect();
        let first = earlier
            .iter()
            .copied()
            .find(|other| matches!(all[*other], Role::First(_)));
        let open = earlier.iter().copied().find(|other| all[*other] == Role::Open);
        let is_answered = first.is_some_and(|first| {
            all[first] != Role::First(None)
                || earlier
                    .iter()
                    .any(|other| *other > first && matches!(all[*other], Role::Answer(_)))
        });
        let has = |is_solve| earlier.iter().any(|other| events[*other].is_solve == is_solve);
        all.push(match (event.is_solve, first) {
            (false, _) if has(false) => Role::Again,
            (false, _) => Role::First(open.map(|open| events[open].micros)),
            (true, Some(first)) if !is_answered => Role::Answer(events[first].micros),
            (true, Some(_)) => Role::Again,
            (true, None) if has(true) => Role::Again,
            (true, None) => Role::Open,
        });
    }
    all
}

#[derive(Debug, Default, Clone)]
struct Counted {
    counts: HashMap<&'static str, i64>,
    solve_times: Vec<i64>,
}

impl Counted {
    fn add(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }

    fn get(&self, name: &str) -> i64 {
        self.counts.get(name).copied().unwrap_or(0)
    }
}

/// A question, as parameters and as this test counts it.
#[derive(Debug, Clone)]
struct Question {
    parameters: Vec<(&'static str, String)>,
    sites: Vec<usize>,
    from: Option<i64>,
    to: Option<i64>,
    interval: &'static str,
    zone: Tz,
    by_site: bool,
    limit: i64,
}

/// The bucket of an instant: its date, and within hours the hour and the offset.
type Bucket = (String, u32, i32);

fn bucket(question: &Question, micros: i64) -> Bucket {
    let local = question.zone.timestamp_micros(micros).unwrap();
    let date = local.date_naive();
    match question.interval {
        "hour" => (date.to_string(), local.hour(), local.offset().fix().local_minus_utc()),
        "day" => (date.to_string(), 0, 0),
        "week" => {
            let monday = date - chrono::Days::new(date.weekday().num_days_from_monday().into());
            (monday.to_string(), 0, 0)
        }
        "month" => (date.with_day(1).unwrap().to_string(), 0, 0),
        _ => (String::new(), 0, 0),
    }
}

fn count(
    question: &Question,
    events: &[Event],
    roles: &[Role],
    pending_from: i64,
) -> BTreeMap<(Bucket, Option<Uuid>), Counted> {
    let mut all: BTreeMap<(Bucket, Option<Uuid>), Counted> = BTreeMap::new();
    for (event, role) in events.iter().zip(roles) {
        if !question.sites.is_empty() && !question.sites.contains(&event.site) {
            continue;
        }
        let mut add = |micros: i64, name: &'static str, solve_time: Option<i64>| {
            if question.from.is_some_and(|from| micros < from) || question.to.is_some_and(|to| micros >= to) {
                return;
            }
            let site = question.by_site.then(|| site_id(event.site));
            let counted = all.entry((bucket(question, micros), site)).or_default();
            counted.add(name);
            counted.solve_times.extend(solve_time);
        };
        if *role == Role::Repeat {
            add(event.micros, "retries", None);
            continue;
        }
        add(event.micros, if event.is_solve { "solved" } else { "served" }, None);
        let pair = match *role {
            Role::First(solve) => solve.map(|solve| (event.micros, solve)),
            Role::Answer(serve) => Some((serve, event.micros)),
            _ => None,
        };
        match *role {
            Role::First(_) => add(event.micros, "challenges", None),
            Role::Again if event.is_solve => add(event.micros, "solved_again", None),
            Role::Open => add(event.micros, "open", None),
            _ => {}
        }
        if matches!(role, Role::First(_)) && event.micros >= pending_from {
            add(event.micros, "recent", None);
        }
        let Some((serve, solve)) = pair else { continue };
        let after = solve - serve;
        add(serve, "pairs", Some(after.max(0)));
        if after <= question.limit {
            add(serve, "within", None);
        }
        if after < 0 {
            add(serve, "solved_before_served", None);
        }
        if serve >= pending_from {
            add(serve, "recent_pairs", None);
        }
        if matches!(role, Role::First(_)) {
            add(solve, "open_answered", None);
        }
    }
    all
}

/// The value of a metric, or the exact quantile.
fn value(metric: &str, counted: &Counted, served_total: i64) -> Option<f64> {
    let get = |name: &str| counted.get(name) as f64;
    let pending = get("recent") - get("recent_pairs");
    let quantile = |part: usize| {
        let mut times = counted.solve_times.clone();
        times.sort_unstable();
        let rank = (times.len() * part).div_ceil(100).max(1);
        times.get(rank - 1).map(|micros| *micros as f64 / 1e6)
    };
    let ratio = |part: f64, whole: f64| (whole > 0.0).then(|| part / whole);
    match metric {
        "solved_of_served" => Some(get("within")),
        "late" => Some(get("pairs") - get("within")),
        "pending" => Some(pending),
        "unsolved" => Some(get("challenges") - get("within") - pending),
        "solve_rate" => ratio(get("within"), get("challenges")),
        "solve_time_p50" => quantile(50),
        "solve_time_p90" => quantile(90),
        "solve_time_p99" => quantile(99),
        "unmatched" => Some(get("open") - get("open_answered")),
        "share" => ratio(get("served"), served_total as f64),
        name => Some(get(name)),
    }
}

fn random_question(random: &mut Random, now: i64) -> Question {
    let zone_name = random.pick(&ZONES);
    let zone: Tz = zone_name.parse().unwrap();
    let interval = random.pick(&["hour", "day", "day", "week", "month", "all"]);
    let by_site = random.below(3) > 0;
    let (limit_name, limit) = random.pick(&[("1m", 1), ("5m", 5), ("1h", 60), ("24h", 1_440)]);
    let mut parameters = vec![
        ("timezone", zone_name.to_string()),
        ("interval", interval.to_string()),
        ("by", if by_site { "site" } else { "none" }.to_string()),
        ("solve_within", limit_name.to_string()),
    ];
    let mut metrics = METRICS.to_vec();
    while metrics.len() > 1 + random.below(15) as usize {
        metrics.remove(random.below(metrics.len() as u64) as usize);
    }
    parameters.push(("metrics", metrics.join(",")));
    let sites: Vec<usize> = match random.below(3) {
        0 => Vec::new(),
        _ => (0..6).filter(|_| random.below(3) == 0).collect(),
    };
    parameters.extend(sites.iter().map(|site| ("site_id", site_id(*site).to_string())));
    let is_bounded = [random.below(2) == 0, random.below(2) == 0];
    let mut bound = |name: &'static str, is_given: bool| {
        let near = random.pick(&times(now)) + random.below(4 * 3_600_000_000) as i64;
        if !is_given {
            return None;
        }
        let local = zone.timestamp_micros(near).unwrap();
        let (text, micros) = match random.below(4) {
            0 => {
                let micros = near - near % 1_000;
                (
                    DateTime::from_timestamp_micros(micros)
                        .unwrap()
                        .format("%Y-%m-%dT%H:%M:%S%.3fZ")
                        .to_string(),
                    micros,
                )
            }
            _ => {
                let date = local.date_naive();
                // The first instant of the local day.
                let mut first = date.and_hms_opt(0, 0, 0).unwrap();
                let start = loop {
                    match zone.from_local_datetime(&first).earliest() {
                        Some(start) => break start,
                        None => first += chrono::TimeDelta::minutes(15),
                    }
                };
                (date.to_string(), start.timestamp_micros())
            }
        };
        parameters.push((name, text));
        Some(micros)
    };
    let from = bound("from", is_bounded[0]);
    let to = bound("to", is_bounded[1]);
    let mut question = Question {
        parameters,
        sites,
        from,
        to,
        interval,
        zone,
        by_site,
        limit: limit * MINUTE,
    };
    if from.zip(to).is_some_and(|(from, to)| from >= to) {
        question.parameters.retain(|(name, _)| *name != "to");
        question.to = None;
    }
    question
}

/// Rows of an answer, by bucket and site.
fn rows_of(question: &Question, answer: &Value) -> BTreeMap<(Bucket, Option<Uuid>), Value> {
    let mut all = BTreeMap::new();
    for row in answer["counters"].as_array().unwrap() {
        let site = row["site_id"].as_str().map(|site| site.parse().unwrap());
        let bucket = match question.interval {
            "all" => (String::new(), 0, 0),
            "hour" => {
                let start = DateTime::parse_from_rfc3339(row["start"].as_str().unwrap()).unwrap();
                bucket(question, start.timestamp_micros())
            }
            _ => (row["date"].as_str().unwrap().to_string(), 0, 0),
        };
        assert!(all.insert((bucket, site), row.clone()).is_none(), "a row twice: {row}");
    }
    all
}

fn compare(question: &Question, answer: &Value, wanted: &BTreeMap<(Bucket, Option<Uuid>), Counted>, what: &str) {
    let rows = rows_of(question, answer);
    let names: Vec<&str> = METRICS.iter().copied().chain(["solved"]).collect();
    let served_total: i64 = wanted.values().map(|counted| counted.get("served")).sum();
    let asked: Vec<&str> = names
        .into_iter()
        .filter(|name| rows.values().any(|row| row.get(name).is_some()))
        .collect();
    for (key, counted) in wanted {
        let is_shown = asked
            .iter()
            .any(|metric| value(metric, counted, served_total).is_some_and(|value| value != 0.0));
        let Some(row) = rows.get(key) else {
            assert!(
                !is_shown || asked.is_empty(),
                "{what}: no row {key:?} of {counted:?}; {question:?}"
            );
            continue;
        };
        for metric in &asked {
            let (found, wanted) = (row[metric].as_f64(), value(metric, counted, served_total));
            let is_near = match found.zip(wanted) {
                None => found.is_none() && wanted.is_none(),
                Some((found, wanted)) if metric.starts_with("solve_time") => {
                    (found - wanted).abs() <= 0.01 * wanted + 0.000_001
                }
                Some((found, wanted)) => (found - wanted).abs() < 0.000_001,
            };
            assert!(
                is_near,
                "{what}: {metric} of {key:?} is {found:?} and must be {wanted:?}; {question:?} {answer}"
            );
        }
    }
    for key in rows.keys() {
        assert!(
            wanted.contains_key(key),
            "{what}: an additional row {key:?}; {question:?}"
        );
    }
}

/// Flags of the command.
fn flags(question: &Question) -> Vec<String> {
    let flag = |(name, value): &(&str, String)| format!("--{}={value}", name.replace('_', "-"));
    question.parameters.iter().map(flag).collect()
}

/// The parameters in an address.
fn address(question: &Question) -> String {
    let mut address = form_urlencoded::Serializer::new(String::new());
    address.extend_pairs(&question.parameters);
    address.finish()
}

async fn answer(world: &World, question: &Question, more: &[&str]) -> Value {
    let flags = flags(question);
    let mut args = vec!["report", "--format", "json"];
    args.extend(flags.iter().map(String::as_str));
    args.extend(more);
    serde_json::from_str(&world.ok(&args).await).unwrap()
}

#[tokio::test]
async fn clickhouse_a_file_and_a_count_by_the_definitions_agree() {
    let world = World::new("questions");
    let window = WINDOW.to_string();
    world
        .migrate(&["--partitions", "1", "--dedup-window-records", &window])
        .await;
    let (serve, _consume) = world.all().await;
    let mut random = Random(18);
    let began = now(&world).await.timestamp_micros();
    let events = random_events(&mut random, began);
    let lines: Vec<Value> = events.iter().map(Event::json).collect();
    for batch in lines.chunks(500) {
        accept(&serve.address, &batch.iter().cloned().collect::<Value>()).await;
    }
    let roles = roles(&events);
    let counted = roles.iter().filter(|role| **role != Role::Repeat).count();
    world.await_counted(counted as u64).await;
    await_complete_through(&world, now(&world).await).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(file.path(), text).unwrap();

    for number in 0..QUESTIONS {
        let question = random_question(&mut random, began);
        let path = format!("/v1/report?{}", address(&question));
        let reply = get(&serve.address, &path).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        let found = reply.json();
        let through = found["complete_through"].as_str().unwrap().to_string();
        let through_micros = DateTime::parse_from_rfc3339(&through).unwrap().timestamp_micros();
        let quarter_hour = 15 * MINUTE;
        let pending_from = (through_micros - question.limit).div_euclid(quarter_hour) * quarter_hour;
        let wanted = count(&question, &events, &roles, pending_from);
        compare(&question, &found, &wanted, "clickhouse");
        let input = file.path().to_str().unwrap();
        let of_file = answer(
            &world,
            &question,
            &[
                "--input",
                input,
                "--dedup-window-records",
                &window,
                "--complete-through",
                &through,
            ],
        )
        .await;
        assert_eq!(of_file["counters"], found["counters"], "{question:?}");
        assert_eq!(of_file["totals"], found["totals"], "{question:?}");
        if number % 10 == 0 {
            let of_command = answer(&world, &question, &[]).await;
            assert_eq!(of_command["counters"], found["counters"], "{question:?}");
        }
    }
}

/// Rows of the test's own making, dated within a month: more than a projection is passed over for. Of 101 pairs, one
/// has its solve first.
async fn fill(world: &World, rows: u64) {
    let sql = format!(
        "INSERT INTO events (topic, partition, offset, arrival, span, kind, repeat, site_id, type, correlation_id, \
         time, role, solve_after_micros, other_month, rules) \
         WITH intDiv(number, 2) AS pair, number % 2 = 1 AS is_later, pair % 101 = 0 AS is_solved_first \
         SELECT 'questions', 0, number, time, 1, 'event', 0, \
         toUUID(concat('00000000-0000-4000-8000-', leftPad(toString(pair % 40), 12, '0'))), \
         if(is_later = is_solved_first, 'serve', 'solve'), generateUUIDv4(), \
         fromUnixTimestamp64Micro(toInt64(1704067200000000 + pair * 10000000 + is_later * 7000000), 'UTC') AS time, \
         multiIf(is_later AND is_solved_first, 'first', is_later, 'answer', is_solved_first, 'open', 'first'), \
         multiIf(NOT is_later, 0, is_solved_first, -7000000, 7000000), if(is_later, 202401, 0), 1 \
         FROM numbers({rows}) SETTINGS max_insert_block_size = 1000000, max_partitions_per_insert_block = 1000"
    );
    world.sql(&sql).await;
}

#[tokio::test]
async fn every_kind_of_question_is_answered_from_a_projection() {
    let world = World::new("projections");
    world.migrate(&["--partitions", "1"]).await;
    fill(&world, 400_000).await;
    let mut command = world.command(&["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    command.env("CAPTCHA_LOG", "debug");
    let mut serve = world.start_command("serve", command);
    serve.await_addresses("serving").await;
    let site = "site_id=00000000-0000-4000-8000-000000000007";
    let mut asked = 0;
    for (question, projections) in [
        ("from=2024-01-01&to=2024-01-31".to_string(), &["days"][..]),
        (format!("{site}&from=2024-01-01&to=2024-01-31"), &["days"]),
        (format!("{site}&metrics=challenges,retries"), &["days"]),
        (
            "metrics=solve_rate,unmatched&from=2024-01-01&to=2024-01-31".to_string(),
            &["days", "days", "days"],
        ),
        (
            "by=none&interval=week&metrics=solved_of_served".to_string(),
            &["days", "days"],
        ),
        (
            "timezone=Asia/Kathmandu&from=2024-01-01&to=2024-01-31".to_string(),
            &["quarter_hours"],
        ),
        (
            "interval=hour&from=2024-01-02&to=2024-01-03".to_string(),
            &["quarter_hours"],
        ),
        (
            format!("{site}&timezone=Asia/Kathmandu&metrics=late,unmatched&from=2024-01-01&to=2024-01-31"),
            &["quarter_hours", "solve_times", "solve_times"],
        ),
        (
            format!("{site}&metrics=solve_time_p90&period=all"),
            &["days", "solve_times"],
        ),
        // The rows are of the quarter hours that the range cuts alone, and found by the key of the table.
        (
            "from=2024-01-02T00:07:00Z&to=2024-01-30T00:00:00Z".to_string(),
            &["quarter_hours", "events"],
        ),
    ] {
        let path = format!("/v1/report?{question}");
        let reply = get(&serve.address, &path).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        let asked_before = asked;
        let queries = serve.logged("counting", "sql");
        asked = queries.len();
        let queries: Vec<_> = queries[asked_before..]
            .iter()
            .filter(|sql| sql.contains("served"))
            .collect();
        assert_eq!(queries.len(), 1, "{path}: {queries:?}");
        let plan = world.sql(&format!("EXPLAIN {}", queries[0])).await;
        let read = plan.concat().into_iter().filter_map(|line| {
            let (_, read) = line.split_once("ReadFromMergeTree (")?;
            let name = read.trim_end_matches(')');
            Some(name.rsplit('.').next().unwrap_or(name).to_string())
        });
        assert_eq!(read.collect::<Vec<_>>(), projections, "{path}: {plan:#?}");
    }
}
