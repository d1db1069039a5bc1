//! `captcha consume`: each record exactly once, whatever is killed, doubled or thrown in between.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::client::{SITE, accept, events, served};
use crate::process::{TOPICS, eventually, kafka_tool};
use crate::world::World;

/// Posts batches in the background, so that something else can be broken meanwhile; the number of events.
fn post_in_background(address: &str, batches: usize, size: usize) -> JoinHandle<u64> {
    let address = address.to_string();
    tokio::spawn(async move {
        for _ in 0..batches {
            accept(&address, &events(size)).await;
        }
        (batches * size) as u64
    })
}

#[tokio::test]
async fn killed_again_and_again_under_load_it_stays_exact() {
    let world = World::new("killed");
    let (serve, mut consume) = world.all().await;
    let load = post_in_background(&serve.address, 120, 50);
    let mut kills = 0;
    while !load.is_finished() || kills < 8 {
        tokio::time::sleep(Duration::from_millis(150 + 37 * (kills % 7))).await;
        consume.kill();
        kills += 1;
        consume = world.consume(&["--insert-interval-ms", "20"]).await;
    }
    let sent = load.await.unwrap();
    world.await_counted(sent).await;
    world.await_log(sent as i64).await;
}

#[tokio::test]
async fn two_consumers_on_one_partition_stay_exact() {
    let world = World::new("rivals");
    world.migrate(&["--partitions", "1"]).await;
    let serve = world.serve().await;
    let fast = ["--insert-interval-ms", "10"];
    let rivals = [
        world.consume(&fast).await,
        world.consume(&fast).await,
        world.consume(&fast).await,
    ];
    for rival in &rivals {
        rival.await_ready(200, "partition 0: ok").await;
    }
    let mut sent = post_in_background(&serve.address, 100, 30).await.unwrap();
    eventually("consumers that meet", async || {
        sent += post_in_background(&serve.address, 1, 30).await.unwrap();
        let mut moved = 0.0;
        for rival in &rivals {
            moved += rival.metric("captcha_heads_moved_total").await;
        }
        (moved > 0.0).then_some(()).ok_or("never".to_string())
    })
    .await;
    world.await_counted(sent).await;
    world.await_log(sent as i64).await;
}

#[tokio::test]
async fn shares_divide_the_partitions() {
    let world = World::new("shares");
    world.migrate(&["--partitions", "5"]).await;
    let serve = world.serve().await;
    let first = world.consume(&["--partition-share", "0/2"]).await;
    first.await_ready(200, "partition 4: ok").await;
    let ready = first.ready().await.text();
    assert!(
        ready.contains("partition 2:") && !ready.contains("partition 1:"),
        "{ready}"
    );
    let idle = world.consume(&["--partition-share", "7/9"]).await;
    idle.await_ready(200, "topic: ok").await;
    let second = world.consume(&["--partition-share", "1/2"]).await;
    let sent = post_in_background(&serve.address, 10, 50).await.unwrap();
    world.await_counted(sent).await;
    world.await_log(sent as i64).await;
    second.await_ready(200, "partition 3: ok").await;
}

#[tokio::test]
async fn a_burnt_token_does_not_stop_a_partition() {
    let world = World::new("burnt");
    world.migrate(&["--partitions", "1"]).await;
    let serve = world.serve().await;
    accept(&serve.address, &events(3)).await;
    let arrival = world.records(0).await[0].record.timestamp.timestamp_millis();
    // What a crash leaves behind when it comes between the token and the part: the token is noted, in the
    // table partition of the first record's arrival, and the rows are gone.
    // A part that is emptied here must not be removed, or its token would go with it.
    let topic = &world.name;
    world
        .sql("ALTER TABLE events MODIFY SETTING remove_empty_parts = 0")
        .await;
    for generation in ["", "#1"] {
        world
            .sql(&format!(
                "INSERT INTO events (topic, partition, offset, arrival) \
                 SELECT '{topic}', 0, 0, fromUnixTimestamp64Milli({arrival}) ORDER BY ALL \
                 SETTINGS async_insert = 0, \
                 insert_deduplication_token = '{topic}:0:0{generation}'"
            ))
            .await;
        world
            .sql("ALTER TABLE events DELETE WHERE 1 SETTINGS mutations_sync = 2")
            .await;
    }
    assert_eq!(world.sql("SELECT toString(count()) FROM events").await, [["0"]]);

    let consume = world.consume(&[]).await;
    world.await_counted(3).await;
    world.await_log(3).await;
    assert_eq!(consume.metric("captcha_burnt_tokens_total").await, 2.0);
}

#[tokio::test]
async fn an_insert_at_the_same_head_with_another_token_is_never_joined() {
    let world = World::new("contested");
    world.migrate(&["--partitions", "1"]).await;
    let serve = world.serve().await;
    accept(&serve.address, &events(3)).await;
    // A rival that found the first token burnt, and takes its time.
    let topic = &world.name;
    let rival = format!(
        "INSERT INTO events (topic, partition, offset) SELECT 'other', 0, number FROM numbers(12) \
         WHERE sleepEachRow(1) = 1 SETTINGS async_insert = 0, max_block_size = 1, \
         insert_deduplication_token = '{topic}:0:0#1'"
    );
    let watched = async {
        let consume = world.consume(&[]).await;
        consume.await_ready(503, "although its head is still 0").await;
        assert_eq!(world.sql("SELECT toString(count()) FROM events").await, [["0"]]);
        consume
    };
    let (_, consume) = tokio::join!(world.sql(&rival), watched);
    world.await_counted(3).await;
    world.await_log(3).await;
    consume.await_ready(200, "partition 0: ok").await;
}

#[tokio::test]
async fn garbage_between_good_records_goes_to_the_dead_letters_alone() {
    let world = World::new("garbage");
    world.migrate(&["--partitions", "1"]).await;
    let good = || served("2024-01-01T00:00:00").to_string().into_bytes();
    let spaced = format!(" {} ", served("2024-01-01T00:00:00Z")).into_bytes();
    let array = events(1).to_string().into_bytes();
    let unknown = served("2024-01-01T00:00:00")
        .to_string()
        .replace('}', ",\"x\":1}")
        .into_bytes();
    let values: [Option<Vec<u8>>; 9] = [
        Some(good()),
        Some(b"garbage".to_vec()),
        None,
        Some(b"\xff\xfe".to_vec()),
        Some(good()),
        Some(array.clone()),
        Some(Vec::new()),
        Some(unknown.clone()),
        Some(spaced),
    ];
    let values: Vec<_> = values.iter().map(Option::as_deref).collect();
    world.produce(0, &values).await;
    let consume = world.consume(&[]).await;
    world.await_counted(3).await;
    world.await_log(9).await;

    let letters = world
        .sql("SELECT toString(offset), reason, hex(raw) FROM dead_letters ORDER BY offset")
        .await;
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>();
    let expected = [
        ("1", "not JSON: expected value", hex(b"garbage")),
        ("2", "no value", String::new()),
        ("3", "not JSON: not UTF-8", hex(b"\xff\xfe")),
        ("5", "an array; a record holds one event", hex(&array)),
        ("6", "not JSON: EOF", String::new()),
        ("7", "/x unknown field", hex(&unknown)),
    ];
    assert_eq!(letters.len(), expected.len(), "{letters:?}");
    for (letter, (offset, reason, raw)) in letters.iter().zip(expected) {
        assert_eq!((letter[0].as_str(), &letter[2]), (offset, &raw), "{letter:?}");
        assert!(letter[1].starts_with(reason), "{letter:?}");
    }
    assert_eq!(consume.metric("captcha_consumed_rows_total{kind=\"bad\"}").await, 6.0);
}

#[tokio::test]
async fn it_waits_for_the_schema() {
    let world = World::new("waits");
    let consume = world.consume(&[]).await;
    consume.await_ready(503, "run `captcha migrate`").await;
    world.migrate(&[]).await;
    consume.await_ready(200, "schema: ok").await;
    let serve = world.serve().await;
    accept(&serve.address, &events(2)).await;
    world.await_counted(2).await;
}

/// The rule for repeats, read off the records that are really in Kafka.
fn repeats_of(values: &[Value], window: usize) -> Vec<bool> {
    (0..values.len())
        .map(|at| values[at.saturating_sub(window)..at].contains(&values[at]))
        .collect()
}

#[tokio::test]
async fn repeats_are_a_function_of_the_log_even_with_restarts() {
    const WINDOW: usize = 7;
    let world = World::new("window");
    world
        .migrate(&["--partitions", "1", "--dedup-window-records", "7"])
        .await;
    let known: Vec<Value> = (0..10).map(|_| served("2024-01-01T00:00:00")).collect();
    // A fixed walk through ten events that repeats them at all distances from 1 to more than the window.
    let walk: Vec<Value> = (0..200_usize)
        .map(|at| known[(at * at / 3 + at / 5) % known.len()].clone())
        .collect();
    for part in walk.chunks(23) {
        let bytes: Vec<Vec<u8>> = part.iter().map(|event| event.to_string().into_bytes()).collect();
        let values: Vec<_> = bytes.iter().map(|value| Some(value.as_slice())).collect();
        world.produce(0, &values).await;
        let mut consume = world.consume(&["--insert-interval-ms", "1"]).await;
        let wanted = world.records(0).await.len();
        eventually("the part to be stored", async || {
            let rows = world.sql("SELECT toString(count()) FROM events").await;
            (rows[0][0] == wanted.to_string())
                .then_some(())
                .ok_or(rows[0][0].clone())
        })
        .await;
        consume.kill();
    }
    let stored = world.sql("SELECT toString(repeat) FROM events ORDER BY offset").await;
    let stored: Vec<bool> = stored.iter().map(|row| row[0] == "1").collect();
    let expected = repeats_of(&walk, WINDOW);
    assert!(expected.contains(&true) && expected.iter().filter(|repeat| !**repeat).count() > known.len());
    assert_eq!(stored, expected);
}

#[tokio::test]
async fn records_that_retention_took_become_a_gap() {
    let world = World::new("gap");
    world.migrate(&["--partitions", "1"]).await;
    let serve = world.serve().await;
    accept(&serve.address, &events(10)).await;
    let mut consume = world.consume(&[]).await;
    world.await_counted(10).await;
    consume.kill();
    accept(&serve.address, &events(20)).await;
    world.partition(0).await.delete_records(25, 10_000).await.unwrap();
    let _consume = world.consume(&[]).await;
    world.await_counted(15).await;
    let gap = world
        .sql("SELECT toString(offset), toString(span) FROM events WHERE kind = 'gap'")
        .await;
    assert_eq!(gap, [["24", "15"]]);
    let whole = world
        .sql("SELECT toString(max(offset) + 1 - sum(span)) FROM events")
        .await;
    assert_eq!(whole, [["0"]]);
}

#[tokio::test]
async fn a_recreated_topic_stops_until_that_is_confirmed() {
    let world = World::new("another");
    world.migrate(&["--partitions", "2"]).await;
    let good = || served("2024-01-01T00:00:00").to_string().into_bytes();
    // Nothing in the other partition, so nothing there betrays another log.
    for _ in 0..3 {
        world.produce(0, &[Some(&good())]).await;
    }
    let consume = world.consume(&[]).await;
    world.await_log(3).await;
    let line = world.refused(&["migrate", "--topic-recreated"]).await;
    assert!(line.contains("is the one that was recorded"), "{line}");
    let delete = ["--delete", "--topic", &world.name];
    kafka_tool(TOPICS, &world.kafka, &delete).await;
    let line = world.refused(&["migrate"]).await;
    assert!(line.contains("captcha migrate --topic-recreated"), "{line}");
    let would = world.migrate(&["--topic-recreated", "--dry-run"]).await;
    assert!(
        would.contains("with 2 partitions\n") && would.contains("2 partitions, stored as another_"),
        "as many as before, unless it is said: {would}"
    );
    let create = ["--create", "--topic", &world.name, "--partitions", "3"];
    kafka_tool(TOPICS, &world.kafka, &create).await;
    let serve = world.serve().await;
    // Longer than the old one, so that its length does not betray it, and in every partition.
    for partition in [0, 0, 0, 0, 1, 2] {
        world.produce(partition, &[Some(&good())]).await;
    }
    for partition in ["partition 0: ", "partition 1: ", "partition 2: "] {
        let reason = format!("{partition}topic {} was deleted and made again", world.name);
        consume.await_ready(503, &reason).await;
    }
    world.await_log(3).await;

    let would = world.migrate(&["--topic-recreated", "--dry-run"]).await;
    assert!(would.contains("3 partitions, stored as another_"), "{would}");
    let said = world.migrate(&["--topic-recreated"]).await;
    assert!(said.contains("as recreated"), "{said}");
    consume.await_ready(200, "partition 2: ok").await;
    accept(&serve.address, &events(5)).await;
    world.await_counted(3 + 6 + 5).await;
    let logs = world
        .sql("SELECT toString(topic), toString(count()), toString(uniqExact(partition, offset)) FROM events GROUP BY topic ORDER BY topic")
        .await;
    let log = format!("{}@2", world.name);
    assert_eq!(logs, [[&world.name, "3", "3"], [&log, "11", "11"]]);
    let line = world.refused(&["migrate", "--topic-recreated"]).await;
    assert!(line.contains("is the one that was recorded"), "{line}");
    let audit = world.ok(&["report", "audit"]).await;
    let lines = audit.lines().filter(|line| line.starts_with(&world.name)).count();
    assert_eq!(lines, 2 * (3 + 1), "two tables: {audit}");
    eventually("the new log to be claimed", async || {
        let report = world.ok(&["report", "--format", "json"]).await;
        (!report.contains("\"complete_through\":null"))
            .then_some(())
            .ok_or(report)
    })
    .await;
}

#[tokio::test]
async fn partitions_that_are_added_are_read() {
    let world = World::new("grown");
    world.migrate(&["--partitions", "1"]).await;
    let (serve, consume) = (world.serve().await, world.consume(&[]).await);
    accept(&serve.address, &events(10)).await;
    let grow = ["--alter", "--topic", &world.name, "--partitions", "3"];
    kafka_tool(TOPICS, &world.kafka, &grow).await;
    consume.await_ready(200, "partition 2: ok").await;
    let sent = eventually("serve to use all partitions", async || {
        let receipts = accept(&serve.address, &events(40)).await;
        let partitions: HashSet<_> = receipts
            .iter()
            .map(|receipt| receipt.split(':').next().unwrap().to_string())
            .collect();
        (partitions.len() == 3).then_some(()).ok_or(format!("{partitions:?}"))
    });
    sent.await;
    let stored: usize = futures_util::future::join_all((0..3).map(async |number| world.records(number).await.len()))
        .await
        .iter()
        .sum();
    world.await_counted(stored as u64).await;
    world.await_log(stored as i64).await;
}

#[tokio::test]
async fn what_was_accepted_twice_or_in_parallel_is_counted_once() {
    let world = World::new("parallel");
    let (serve, _consume) = world.all().await;
    let all: Vec<Value> = (0..400).map(|_| served("2024-06-01T00:00:00")).collect();
    let mut clients = Vec::new();
    for client in 0..6_usize {
        let (address, all) = (serve.address.clone(), all.clone());
        clients.push(tokio::spawn(async move {
            for at in 0..40 {
                let from = (at * 10 + client * 70) % 390;
                accept(&address, &json!(all[from..from + 10])).await;
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    // The starts are the multiples of 10 below 390.
    world.await_counted(390).await;
    world.await_log(6 * 40 * 10).await;
    assert_eq!(world.report(&["--site-id", SITE]).await[0].2, 390);
}

#[tokio::test]
async fn a_table_that_lost_its_newest_rows_gets_them_again() {
    let world = World::new("lost_rows");
    world.migrate(&["--partitions", "1"]).await;
    let serve = world.serve().await;
    let _consume = world.consume(&[]).await;
    world.sql("SYSTEM STOP MERGES events").await;
    let event = served("2024-01-01T00:00:00");
    accept(&serve.address, &event).await;
    world.await_log(1).await;
    accept(&serve.address, &event).await;
    world.await_log(2).await;
    let part = world.sql("SELECT toString(_part) FROM events WHERE offset = 1").await;
    world
        .sql(&format!("ALTER TABLE events DETACH PART '{}'", part[0][0]))
        .await;
    world.await_log(2).await;
    world.await_counted(1).await;
    assert_eq!(
        world.sql("SELECT toString(repeat) FROM events ORDER BY offset").await,
        [["0"], ["1"]]
    );
}
