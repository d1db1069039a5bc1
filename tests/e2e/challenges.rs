//! Challenges: the role of each event, whatever is killed, doubled or of another version meanwhile.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::client::SITE;
use crate::process::{configure_topic, eventually};
use crate::world::World;

const OTHER_SITE: &str = "6f1c1f2e-3d0b-4c5a-9b0e-2f4b8f3f7a02";

/// An event of the challenge of this number, at this second.
pub fn event(event_type: &str, challenge: usize, second: usize) -> Value {
    event_of(SITE, event_type, challenge, second)
}

fn event_of(site: &str, event_type: &str, challenge: usize, second: usize) -> Value {
    json!({
        "site_id": site,
        "type": event_type,
        "correlation_id": format!("00000000-0000-4000-8000-{challenge:012}"),
        "time": format!("2024-01-01T00:{:02}:{:02}", second / 60, second % 60),
    })
}

/// A row as the table has it: its role, the time of the solve minus the time of the serve in seconds, and whether the
/// month of the other half is there.
type Judged = (String, i64, bool);

fn judged(role: &str, solve_after_seconds: Option<i64>) -> Judged {
    let is_paired = solve_after_seconds.is_some();
    (role.to_string(), solve_after_seconds.unwrap_or(0), is_paired)
}

/// The rows of partition 0 by offset, each judged by the rules of today.
async fn stored(world: &World) -> Vec<Judged> {
    let rows = world
        .sql(
            "SELECT toString(role), toString(solve_after_micros), toString(other_month), toString(toYYYYMM(now())), \
             toString(rules) FROM events ORDER BY offset",
        )
        .await;
    rows.into_iter()
        .map(|row| {
            assert_eq!(row[4], "1", "{row:?}");
            assert!(row[2] == "0" || row[2] == row[3], "the month of its arrival: {row:?}");
            let micros: i64 = row[1].parse().unwrap();
            (row[0].clone(), micros / 1_000_000, row[2] != "0")
        })
        .collect()
}

pub async fn produce(world: &World, events: &[Value]) {
    let bytes: Vec<Vec<u8>> = events.iter().map(|event| event.to_string().into_bytes()).collect();
    let values: Vec<_> = bytes.iter().map(|value| Some(value.as_slice())).collect();
    world.produce(0, &values).await;
}

async fn await_rows(world: &World, rows: usize) {
    world.await_log(rows as i64).await;
}

/// A world of one partition whose window has this many records.
async fn one_partition(test: &str, window: usize) -> World {
    let world = World::new(test);
    world
        .migrate(&["--partitions", "1", "--dedup-window-records", &window.to_string()])
        .await;
    world
}

async fn audit_is_clean(world: &World) {
    let page = world.ok(&["report", "audit"]).await;
    assert!(page.starts_with("clean: "), "{page}");
}

fn seconds(event: &Value) -> i64 {
    let time = event["time"].as_str().unwrap().to_string() + "Z";
    time.parse::<DateTime<Utc>>().unwrap().timestamp()
}

/// The definition, read off a list: what each event is, from those at the `window` places before it.
fn by_definition(events: &[Value], window: usize) -> Vec<Judged> {
    let mut all: Vec<Judged> = Vec::new();
    for (at, event) in events.iter().enumerate() {
        let places = at.saturating_sub(window)..at;
        if events[places.clone()].contains(event) {
            all.push(judged("", None));
            continue;
        }
        let is_same = |other: &Value| {
            ["site_id", "correlation_id"]
                .iter()
                .all(|name| other[name] == event[name])
        };
        let earlier = places.filter(|place| is_same(&events[*place]) && !all[*place].0.is_empty());
        let earlier: Vec<usize> = earlier.collect();
        let of_role = |role: &str| earlier.iter().copied().find(|place| all[*place].0 == role);
        let has = |event_type: &str| earlier.iter().any(|place| events[*place]["type"] == event_type);
        let first = of_role("first");
        let is_answered = first.is_some_and(|first| {
            all[first].2 || earlier.iter().any(|place| *place > first && all[*place].0 == "answer")
        });
        let now = seconds(event);
        let judgement = match event["type"].as_str().unwrap() {
            "serve" if has("serve") => judged("again", None),
            "serve" => judged("first", of_role("open").map(|open| seconds(&events[open]) - now)),
            _ if first.is_some() && !is_answered => judged("answer", first.map(|first| now - seconds(&events[first]))),
            _ if is_answered || has("solve") => judged("again", None),
            _ => judged("open", None),
        };
        all.push(judgement);
    }
    all
}

/// A walk through few challenges of two sites, in which everything happens: pairs in both orders, events of each type
/// twice, repeats, and what is beyond a small window.
pub fn walk(events: usize) -> Vec<Value> {
    let mut state: u64 = 18;
    let mut next = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    (0..events)
        .map(|_| {
            let site = [SITE, OTHER_SITE][next(4) / 3];
            event_of(site, ["serve", "solve"][next(2)], next(4), next(5))
        })
        .collect()
}

#[tokio::test]
async fn each_event_has_its_role() {
    let world = one_partition("roles", 5).await;
    let events = [
        event("serve", 1, 10),
        event("solve", 1, 13),
        // Before its serve.
        event("solve", 2, 20),
        event("serve", 2, 18),
        event("solve", 2, 21),
        // Shown twice, solved twice.
        event("serve", 3, 30),
        event("serve", 3, 31),
        event("solve", 3, 37),
        event("solve", 3, 38),
        // A repeat changes nothing.
        event("serve", 4, 40),
        event("serve", 4, 40),
        event("solve", 4, 39),
        event("solve", 4, 39),
        // The same correlation id on another site.
        event("serve", 5, 50),
        event_of(OTHER_SITE, "solve", 5, 51),
        event("solve", 5, 52),
        // Its serve is six records before it, and the window has five.
        event("serve", 6, 60),
        event("serve", 7, 61),
        event("serve", 8, 62),
        event("serve", 9, 63),
        event("serve", 10, 64),
        event("serve", 11, 65),
        event("solve", 6, 66),
        event("solve", 7, 67),
        event("solve", 10, 68),
    ];
    let expected = [
        ("first", None),
        ("answer", Some(3)),
        ("open", None),
        ("first", Some(2)),
        ("again", None),
        ("first", None),
        ("again", None),
        ("answer", Some(7)),
        ("again", None),
        ("first", None),
        ("", None),
        ("answer", Some(-1)),
        ("", None),
        ("first", None),
        ("open", None),
        ("answer", Some(2)),
        ("first", None),
        ("first", None),
        ("first", None),
        ("first", None),
        ("first", None),
        ("first", None),
        ("open", None),
        ("open", None),
        ("answer", Some(4)),
    ];
    let expected = expected.map(|(role, after)| judged(role, after));
    assert_eq!(by_definition(&events, 5), expected);
    produce(&world, &events).await;
    let _consume = world.consume(&[]).await;
    await_rows(&world, events.len()).await;
    assert_eq!(stored(&world).await, expected);
    audit_is_clean(&world).await;
}

#[tokio::test]
async fn roles_are_a_function_of_the_log_whenever_a_consumer_is_killed() {
    const WINDOW: usize = 12;
    let world = one_partition("roles_killed", WINDOW).await;
    let events = walk(300);
    let mut produced = 0;
    for part in events.chunks(37) {
        let mut consume = world.consume(&["--insert-interval-ms", "1"]).await;
        // In the middle of a part or not: the next one judges the rest by what is stored.
        for some in part.chunks(9) {
            produce(&world, some).await;
            produced += some.len();
        }
        eventually("some of the part", async || {
            let rows = world.sql("SELECT toString(count()) FROM events").await;
            let rows: usize = rows[0][0].parse().unwrap();
            (rows + 20 > produced).then_some(()).ok_or(format!("{rows} rows"))
        })
        .await;
        consume.kill();
    }
    let _consume = world.consume(&[]).await;
    await_rows(&world, events.len()).await;
    let expected = by_definition(&events, WINDOW);
    for role in ["", "first", "again", "answer", "open"] {
        let count = expected.iter().filter(|judged| judged.0 == role).count();
        assert!(count > 10, "{count} of role {role:?}");
    }
    assert!(expected.iter().any(|judged| judged.0 == "first" && judged.2));
    assert_eq!(stored(&world).await, expected);
    audit_is_clean(&world).await;
}

#[tokio::test]
async fn rivals_on_one_partition_judge_alike() {
    const WINDOW: usize = 15;
    let world = one_partition("roles_rivals", WINDOW).await;
    let rivals = [
        world.consume(&["--insert-interval-ms", "1"]).await,
        world.consume(&["--insert-interval-ms", "1"]).await,
    ];
    for rival in &rivals {
        rival.await_ready(200, "partition 0: ok").await;
    }
    let mut events = Vec::new();
    eventually("rivals that meet", async || {
        let more = walk(events.len() + 60).split_off(events.len());
        for some in more.chunks(4) {
            produce(&world, some).await;
        }
        events.extend(more);
        let mut moved = 0.0;
        for rival in &rivals {
            moved += rival.metric("captcha_heads_moved_total").await;
        }
        (moved > 3.0).then_some(()).ok_or(format!("{moved} times"))
    })
    .await;
    await_rows(&world, events.len()).await;
    assert_eq!(stored(&world).await, by_definition(&events, WINDOW));
    audit_is_clean(&world).await;
}

/// Makes the timestamps of records, which the test reads, their arrivals.
pub async fn arrive_as_dated(world: &World) {
    configure_topic(&world.kafka, &world.name, "message.timestamp.type=CreateTime").await;
}

/// Stores the records from an offset on as a captcha without roles does it, with this token.
pub async fn insert_as_old(world: &World, from: usize, events: &[Value]) {
    let arrivals = world.records(0).await;
    let topic = &world.name;
    let rows = events.iter().enumerate().map(|(at, event)| {
        let offset = from + at;
        let arrival = arrivals[offset].record.timestamp.timestamp_millis();
        let text = |name: &str| event[name].as_str().unwrap().to_string();
        format!(
            "({offset}, {arrival}, '{}', '{}', '{}', '{}')",
            text("site_id"),
            text("type"),
            text("correlation_id"),
            text("time"),
        )
    });
    let rows = rows.collect::<Vec<_>>().join(", ");
    world
        .sql(&format!(
            "INSERT INTO events (topic, partition, offset, arrival, span, kind, reason, raw, repeat, site_id, type, \
             correlation_id, time) \
             SELECT '{topic}', 0, o, fromUnixTimestamp64Milli(a), 1, 'event', '', '', 0, s, k, c, t \
             FROM values('o Int64, a Int64, s UUID, k String, c UUID, t DateTime64(6, \\'UTC\\')', {rows}) \
             WHERE throwIf(ifNull((SELECT max(offset) + 1 FROM events WHERE partition = 0 GROUP BY topic, partition), 0) \
             != {from}, 'head moved') = 0 \
             SETTINGS async_insert = 0, insert_deduplicate = 1, deduplicate_insert = 'enable', \
             deduplicate_insert_select = 'force_enable', parts_to_delay_insert = 1000000, \
             insert_deduplication_token = '{topic}:0:{from}'"
        ))
        .await;
}

#[tokio::test]
async fn rows_of_an_old_captcha_are_events_and_nothing_more() {
    let world = one_partition("roles_old", 100).await;
    arrive_as_dated(&world).await;
    let old = [event("serve", 1, 1), event("serve", 2, 2), event("solve", 2, 5)];
    let new = [
        event("solve", 1, 4),
        event("serve", 1, 6),
        event("solve", 2, 7),
        event("serve", 3, 8),
        event("solve", 3, 9),
    ];
    produce(&world, &old).await;
    insert_as_old(&world, 0, &old).await;
    produce(&world, &new).await;
    let _consume = world.consume(&[]).await;
    await_rows(&world, old.len() + new.len()).await;
    let rows = world
        .sql("SELECT toString(role), toString(rules), toString(other_month != 0) FROM events ORDER BY offset")
        .await;
    let expected = [
        ["", "0", "0"],
        ["", "0", "0"],
        ["", "0", "0"],
        // In no pair with a serve of which nothing is known, and no challenge is shown twice.
        ["open", "1", "0"],
        ["again", "1", "0"],
        ["again", "1", "0"],
        ["first", "1", "0"],
        ["answer", "1", "1"],
    ];
    assert_eq!(rows, expected);
    let report = world.report(&[]).await;
    let (date, site) = ("2024-01-01".to_string(), SITE.to_string());
    assert_eq!(report, [(date, site, 4, 4)]);
    audit_is_clean(&world).await;
}

/// During a rollout, the older consumer stores a batch between the guard and the token of the newer one, whose insert
/// is then dropped and answered Ok.
#[tokio::test]
async fn a_batch_that_an_old_rival_stored_unseen_is_judged_as_it_is_stored() {
    let world = one_partition("roles_rollout", 100).await;
    arrive_as_dated(&world).await;
    let consume = world.consume(&["--insert-interval-ms", "1"]).await;
    produce(&world, &[event("serve", 1, 1)]).await;
    await_rows(&world, 1).await;
    // Whoever does not say otherwise waits for seconds after the guard, and before the token.
    world
        .sql("ALTER TABLE events MODIFY SETTING parts_to_delay_insert = 1, min_delay_to_insert_ms = 8000, max_delay_to_insert = 8")
        .await;
    let contested = [event("serve", 2, 2), event("serve", 3, 3)];
    produce(&world, &contested).await;
    eventually("an insert that has passed its guard", async || {
        let rows = world
            .sql(&format!(
                "SELECT toString(count()) FROM system.processes WHERE startsWith(query, 'INSERT') \
                 AND position(query, '{}:0:1') > 0 AND ProfileEvents['DelayedInserts'] > 0 \
                 AND query_id != queryID()",
                world.name
            ))
            .await;
        (rows[0][0] == "1").then_some(()).ok_or(rows[0][0].clone())
    })
    .await;
    insert_as_old(&world, 1, &contested).await;
    world
        .sql("ALTER TABLE events RESET SETTING parts_to_delay_insert, min_delay_to_insert_ms, max_delay_to_insert")
        .await;
    // The same consumer, which judged these serves as first ones, goes on.
    produce(
        &world,
        &[event("solve", 2, 5), event("serve", 3, 6), event("solve", 1, 7)],
    )
    .await;
    await_rows(&world, 6).await;
    let rows = world
        .sql("SELECT toString(role), toString(rules) FROM events ORDER BY offset")
        .await;
    let expected = [
        ["first", "1"],
        ["", "0"],
        ["", "0"],
        ["open", "1"],
        ["again", "1"],
        ["answer", "1"],
    ];
    assert_eq!(rows, expected);
    assert_eq!(consume.metric("captcha_heads_moved_total").await, 1.0);
    audit_is_clean(&world).await;
}
