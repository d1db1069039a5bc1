//! `captcha migrate drop-months`: what arrived long ago goes, and nothing is counted twice or missed because of it.

use chrono::{DateTime, Datelike as _, Months, Utc};
use rskafka::client::partition::Compression;
use rskafka::record::Record;
use serde_json::Value;

use crate::client::served;
use crate::process::{CREATE_TIME, configure_topic, eventually};
use crate::world::World;

/// The first moment of the month that is this many before this one.
pub fn month(ago: u32) -> DateTime<Utc> {
    let first = Utc::now().date_naive().with_day(1).unwrap();
    let first = first.checked_sub_months(Months::new(ago)).unwrap();
    first.and_time(chrono::NaiveTime::MIN).and_utc()
}

pub fn named(ago: u32) -> String {
    month(ago).format("%Y-%m").to_string()
}

/// Makes the topic one whose records have the dates that [`arrive`] gives them.
async fn migrate(world: &World, words: &[&str]) {
    world.migrate(words).await;
    configure_topic(&world.kafka, &world.name, CREATE_TIME).await;
}

/// Writes an event for each of these months into a partition, in this order.
async fn arrive(world: &World, partition: i32, months_ago: &[u32]) {
    let events = months_ago.iter().map(|ago| (*ago, served("2024-01-01T00:00:00")));
    arrive_events(world, partition, &events.collect::<Vec<_>>()).await;
}

/// Writes events, each in the month that is this many before this one.
async fn arrive_events(world: &World, partition: i32, events: &[(u32, Value)]) {
    let record = |(ago, event): &(u32, Value)| Record {
        key: None,
        value: Some(event.to_string().into_bytes()),
        headers: Default::default(),
        timestamp: month(*ago) + chrono::TimeDelta::seconds(1),
    };
    world
        .partition(partition)
        .await
        .produce(events.iter().map(record).collect(), Compression::NoCompression)
        .await
        .unwrap();
}

pub async fn drop_months(world: &World, before: &str, more: &[&str]) -> String {
    let args = ["migrate", "drop-months", "--before", before];
    world.ok(&[&args[..], more].concat()).await
}

async fn refusal(world: &World, before: &str) -> String {
    world.refused(&["migrate", "drop-months", "--before", before]).await
}

/// Rows of the log by partition: heads, and how many there are.
async fn held(world: &World) -> Vec<Vec<String>> {
    world
        .sql("SELECT toString(partition), toString(max(offset) + 1), toString(countIf(kind = 'event')) FROM events GROUP BY partition ORDER BY partition")
        .await
}

/// Waits until every partition is complete through a moment that is later than what was written.
pub async fn await_complete(world: &World) {
    let after = Utc::now();
    eventually("a report that is complete", async || {
        let page = world.ok(&["report", "--format", "json"]).await;
        let report: Value = serde_json::from_str(&page).unwrap();
        let through = report["complete_through"].as_str().unwrap_or_default();
        let through = through.parse::<DateTime<Utc>>();
        through.is_ok_and(|through| through > after).then_some(()).ok_or(page)
    })
    .await;
}

/// What the audit says of a partition, which must find no damage.
async fn audited(world: &World, partition: usize) -> Value {
    let page = world.ok(&["report", "audit", "--format", "json"]).await;
    let report: Value = serde_json::from_str(&page).unwrap();
    report["partitions"][partition].clone()
}

#[tokio::test]
async fn old_months_go_and_heads_stay() {
    drop_old_months(&World::new("months"), &[]).await;
}

/// What must be so on one server and on replicas, where `migrate` takes more words.
pub async fn drop_old_months(world: &World, words: &[&str]) {
    let few = [
        ["--partitions", "3"],
        ["--dedup-window-records", "2"],
        ["--retention", "3650d"],
    ];
    migrate(world, &[few.as_flattened(), words].concat()).await;
    // One that is quiet since, one whose arrivals are not in the order of offsets, one without anything old.
    arrive(world, 0, &[5, 4, 4, 3]).await;
    arrive(world, 1, &[4, 4, 3, 0, 3, 3, 0, 0]).await;
    arrive(world, 2, &[0]).await;
    let mut consume = world.consume(&[]).await;
    world.await_counted(13).await;
    await_complete(world).await;

    // Everything in partition 0 is old, so its repeat window would go with it.
    let line = refusal(world, &named(1)).await;
    assert!(
        line.contains(&format!(
            "{}:0 that are sent again are looked for from offset 2",
            world.name
        )),
        "{line}"
    );
    assert!(line.ends_with("name an earlier month, or --forget-repeats"), "{line}");
    assert_eq!(held(world).await, [["0", "4", "4"], ["1", "8", "8"], ["2", "1", "1"]]);

    // Up to a month that leaves the windows alone.
    let page = drop_months(world, &named(3), &["--dry-run", "--forget-repeats"]).await;
    assert!(
        page.contains(&format!(
            "would drop {}: 1 rows, 1 MB\nwould drop {}: 4 rows",
            named(5),
            named(4)
        )),
        "{page}"
    );
    assert_eq!(held(world).await[0], ["0", "4", "4"]);
    let page = drop_months(world, &named(4), &[]).await;
    assert_eq!(page, format!("dropped {}: 1 rows, 1 MB\n", named(5)));
    assert_eq!(held(world).await[0], ["0", "4", "3"]);

    // And all of it, while the consumer runs.
    drop_months(world, &named(1), &["--forget-repeats"]).await;
    assert_eq!(held(world).await, [["0", "4", "0"], ["1", "8", "3"], ["2", "1", "1"]]);
    world.await_counted(4).await;
    let page = drop_months(world, &named(1), &[]).await;
    assert_eq!(page, format!("nothing to do: no month before {} has rows\n", named(1)));

    // The one that ran, and one that knows only what is in the table, go on where it was.
    arrive(world, 0, &[0]).await;
    world.await_counted(5).await;
    consume.kill();
    let consume = world.consume(&[]).await;
    arrive(world, 0, &[0]).await;
    arrive(world, 1, &[0]).await;
    world.await_counted(7).await;
    consume.await_ready(200, "partition 0: ok").await;
    assert_eq!(held(world).await, [["0", "6", "2"], ["1", "9", "4"], ["2", "1", "1"]]);

    let line = audited(world, 1).await;
    assert_eq!(
        (&line["compared"], &line["holes"], &line["head"]),
        (&4.into(), &0.into(), &9.into())
    );
    // What is missing above the mark is damage as ever: offset 7 arrived now, and nobody dropped its month.
    world
        .sql("ALTER TABLE events DELETE WHERE partition = 1 AND offset = 7 SETTINGS mutations_sync = 2")
        .await;
    let output = world.run(&["report", "audit", "--format", "json"]).await;
    assert_eq!(output.status.code(), Some(3));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["partitions"][1]["holes"], 1);
}

#[tokio::test]
async fn an_empty_partition_with_a_mark_is_audited() {
    let world = World::new("marked");
    migrate(
        &world,
        &[
            "--partitions",
            "1",
            "--dedup-window-records",
            "1",
            "--retention",
            "3650d",
        ],
    )
    .await;
    arrive(&world, 0, &[3, 3, 3]).await;
    let mut consume = world.consume(&[]).await;
    world.await_counted(3).await;
    await_complete(&world).await;
    drop_months(&world, &named(1), &["--forget-repeats"]).await;
    consume.kill();
    let line = audited(&world, 0).await;
    assert_eq!(
        (&line["head"], &line["lag"], &line["compared"]),
        (&3.into(), &0.into(), &0.into())
    );
    // Kafka has no offset 3, and the gap is dated like the row that the mark stands for, as a consumer that still knows it would.
    arrive(&world, 0, &[0, 0]).await;
    world.partition(0).await.delete_records(4, 1_000).await.unwrap();
    let consume = world.consume(&[]).await;
    world.await_counted(1).await;
    consume.await_ready(200, "partition 0: ok").await;
    let gaps = world
        .sql("SELECT toString(offset), toString(toYYYYMM(arrival)) FROM events WHERE kind = 'gap'")
        .await;
    assert_eq!(gaps, [["3".to_string(), named(3).replace('-', "")]]);
    audited(&world, 0).await;
}

#[tokio::test]
async fn months_that_are_not_ripe_stay() {
    let world = World::new("unripe");
    migrate(
        &world,
        &[
            "--partitions",
            "2",
            "--dedup-window-records",
            "1",
            "--retention",
            "3650d",
        ],
    )
    .await;
    let tomorrow = (month(0) + chrono::TimeDelta::days(32)).format("%Y-%m").to_string();
    let line = refusal(&world, &tomorrow).await;
    assert!(line.contains("that is not over yet"), "{line}");
    for wrong in ["2001", "2001-13", "yesterday"] {
        let output = world.run(&["migrate", "drop-months", "--before", wrong]).await;
        assert_eq!(output.status.code(), Some(2), "{wrong}");
    }
    // Partition 1 is consumed by nobody, so what it has is not known.
    arrive(&world, 0, &[3, 0, 0]).await;
    let consume = world.consume(&["--partition-share", "0/2"]).await;
    world.await_counted(3).await;
    let line = refusal(&world, &named(1)).await;
    assert!(line.contains("is complete through no moment that is known"), "{line}");
    let other = world.consume(&["--partition-share", "1/2"]).await;
    await_complete(&world).await;
    drop_months(&world, &named(1), &[]).await;
    world.await_counted(2).await;
    drop((consume, other));

    let away = World::on("away", &world.kafka, "127.0.0.1:1");
    let line = refusal(&away, &named(1)).await;
    assert!(line.contains("127.0.0.1:1"), "{line}");
}

#[tokio::test]
async fn killed_at_any_moment_the_next_one_goes_on() {
    let world = World::new("killed_months");
    migrate(
        &world,
        &[
            "--partitions",
            "4",
            "--dedup-window-records",
            "1",
            "--retention",
            "3650d",
        ],
    )
    .await;
    let ages: Vec<u32> = (2..=31).rev().collect();
    for partition in 0..4 {
        arrive(&world, partition, &ages).await;
    }
    // The last partition is quiet since, so that its head will rest on the mark.
    for partition in 0..3 {
        arrive(&world, partition, &[0, 0]).await;
    }
    let consume = world.consume(&[]).await;
    world.await_counted(4 * 30 + 3 * 2).await;
    await_complete(&world).await;
    let heads = ["32", "32", "32", "30"];

    let begun = async || {
        let sql = "SELECT toString(count()) FROM migration_log WHERE step = 'begin' AND startsWith(name, 'to drop')";
        world.sql(sql).await[0][0].parse::<u64>().unwrap()
    };
    let before = named(1);
    let args = ["migrate", "drop-months", "--before", &before, "--forget-repeats"];
    let mut killed = 0;
    while killed < 6 {
        let seen = begun().await;
        let mut process = world.start("drop-months", &args);
        eventually("a month to be begun", async || {
            let is_over = process.try_ended().is_some() || begun().await > seen + killed % 3;
            is_over.then_some(()).ok_or(String::new())
        })
        .await;
        if process.try_ended().is_some() {
            break;
        }
        process.kill();
        killed += 1;
        let rows = held(&world).await;
        assert!(rows.iter().map(|row| &row[1]).eq(heads), "{rows:?}");
        audited(&world, 0).await;
        // The lock of a dead one is free once it was silent for long; this is not what is tried here.
        world
            .sql("INSERT INTO migration_log (term, owner, step) SELECT max(term), 'test', 'unlock' FROM migration_log")
            .await;
    }
    assert!(killed > 0, "it was never seen at work");
    world.ok(&args).await;
    world.await_counted(3 * 2).await;
    assert!(held(&world).await.iter().map(|row| &row[1]).eq(heads));
    for partition in 0..4 {
        arrive(&world, partition, &[0]).await;
    }
    world.await_counted(3 * 3 + 1).await;
    drop(consume);
    let line = audited(&world, 3).await;
    assert_eq!((&line["head"], &line["events"]), (&31.into(), &1.into()));
}

/// What reports need to leave out such a pair: its later row is there and its earlier one is not.
#[tokio::test]
async fn a_pair_whose_serve_is_dropped_names_a_month_that_is_gone() {
    let world = World::new("months_pairs");
    migrate(&world, &["--partitions", "1", "--retention", "3650d"]).await;
    let pair = || {
        let serve = served("2024-01-01T00:00:00");
        let mut solve = serve.clone();
        (solve["type"], solve["time"]) = ("solve".into(), "2024-01-01T00:00:07".into());
        [serve, solve]
    };
    let [[first, answer], [kept, kept_answer], [serve, open]] = [pair(), pair(), pair()];
    let events = [
        (4, first),
        (4, open),
        (0, kept),
        (0, answer),
        (0, kept_answer),
        (0, serve),
    ];
    arrive_events(&world, 0, &events).await;
    let consume = world.consume(&[]).await;
    world.await_counted(6).await;
    await_complete(&world).await;
    drop_months(&world, &named(1), &["--forget-repeats"]).await;
    let rows = world
        .sql("SELECT toString(role), toString(solve_after_micros), toString(other_month) FROM events WHERE kind = 'event' ORDER BY offset")
        .await;
    let gone = named(4).replace('-', "");
    let now = named(0).replace('-', "");
    let expected = [
        ["first", "0", "0"],
        ["answer", "7000000", &gone],
        ["answer", "7000000", &now],
        ["first", "7000000", &gone],
    ];
    assert_eq!(rows, expected);
    let months = world
        .sql("SELECT DISTINCT toString(toYYYYMM(arrival)) FROM events WHERE kind = 'event'")
        .await;
    assert_eq!(months, [[now]]);
    // What goes on from the rows that are left, and what looks at them.
    consume.await_ready(200, "partition 0: ok").await;
    audited(&world, 0).await;
}
