//! What a Kafka log may hold that `captcha serve` never writes: transactions, compression, records of any size and date.

use std::io::Write as _;
use std::process::Stdio;

use chrono::{DateTime, Utc};
use rskafka::client::partition::Compression;
use rskafka::record::Record;

use crate::client::served;
use crate::process::{CREATE_TIME, PRODUCER, configure_topic, eventually, java_class, kafka_tool};
use crate::world::World;

fn good() -> Vec<u8> {
    served("2024-01-01T00:00:00").to_string().into_bytes()
}

fn record(value: Vec<u8>, timestamp: DateTime<Utc>) -> Record {
    Record {
        key: None,
        value: Some(value),
        headers: Default::default(),
        timestamp,
    }
}

/// Arguments of Kafka's producer for a transaction.
fn transaction(world: &World, records: &str) -> Vec<String> {
    let words = [
        ["--topic", &world.name],
        ["--num-records", records],
        ["--record-size", "10"],
        ["--transactional-id", &world.name],
        ["--transaction-duration-ms", "600000"],
    ];
    words.concat().into_iter().map(str::to_string).collect()
}

pub async fn commit(world: &World, records: &str) {
    let args = [
        transaction(world, records),
        ["--throughput", "-1"].map(str::to_string).to_vec(),
    ]
    .concat();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    kafka_tool(PRODUCER, &world.kafka, &args).await;
}

/// A producer in the middle of a transaction that has records in the log.
pub async fn open_transaction(world: &World) -> tokio::process::Child {
    let producer = java_class(PRODUCER, &world.kafka)
        .args(transaction(world, "1000"))
        .args(["--throughput", "2"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let partition = world.partition(0).await;
    eventually("records of a transaction", async || {
        let (_, end) = partition.fetch_records(0, 1..2, 0).await.unwrap();
        (end > 1).then_some(()).ok_or(format!("{end}"))
    })
    .await;
    producer
}

#[tokio::test]
async fn transactions_do_not_stop_a_partition() {
    let world = World::new("transactions");
    world.migrate(&["--partitions", "1"]).await;
    world.produce(0, &[Some(&good())]).await;
    commit(&world, "3").await;
    let consume = world.consume(&[]).await;
    // A record, a transaction of three, and the marker that ends it and the log.
    world.await_log(5).await;
    consume.await_ready(200, "partition 0: ok").await;
    commit(&world, "2").await;
    world.produce(0, &[Some(&good())]).await;
    world.await_counted(2).await;
    world.await_log(9).await;
    let gaps = world
        .sql("SELECT toString(offset), toString(span) FROM events WHERE kind = 'gap' ORDER BY offset")
        .await;
    assert_eq!(gaps, [["4", "1"], ["7", "1"]]);
}

#[tokio::test]
async fn what_was_aborted_is_not_stored() {
    let world = World::new("aborted");
    world.migrate(&["--partitions", "1"]).await;
    let mut producer = open_transaction(&world).await;
    producer.kill().await.unwrap();
    world.produce(0, &[Some(&good())]).await;
    // Whoever takes the name over aborts what was open under it.
    commit(&world, "1").await;
    let consume = world.consume(&[]).await;
    world.await_counted(1).await;
    consume.await_ready(200, "partition 0: ok").await;
    let partition = world.partition(0).await;
    let (_, end) = partition.fetch_records(0, 1..2, 0).await.unwrap();
    world.await_log(end).await;
    let kinds = world
        .sql("SELECT toString(kind), toString(count()) FROM events WHERE kind != 'gap' GROUP BY kind ORDER BY kind")
        .await;
    assert_eq!(kinds, [["bad", "1"], ["event", "1"]]);
    world.ok(&["report", "audit"]).await;
}

#[tokio::test]
async fn every_compression_is_read() {
    let world = World::new("compressed");
    world.migrate(&["--partitions", "1"]).await;
    let own = [
        Compression::NoCompression,
        Compression::Gzip,
        Compression::Lz4,
        Compression::Snappy,
        Compression::Zstd,
    ];
    let partition = world.partition(0).await;
    for compression in own {
        let records = (0..50).map(|_| record(good(), Utc::now())).collect();
        partition.produce(records, compression).await.unwrap();
    }
    let mut payload = tempfile::NamedTempFile::new().unwrap();
    payload.write_all(&good()).unwrap();
    let path = payload.path().to_str().unwrap();
    for compression in ["gzip", "snappy", "lz4", "zstd"] {
        let setting = format!("compression.type={compression}");
        let produce = [
            ["--topic", &world.name],
            ["--num-records", "40"],
            ["--payload-file", path],
            ["--throughput", "-1"],
        ];
        let produce = [&[setting.as_str()], &produce.concat()[..]].concat();
        kafka_tool(PRODUCER, &world.kafka, &produce).await;
    }
    let _consume = world.consume(&[]).await;
    world.await_log(5 * 50 + 4 * 40).await;
    // The Java producer sent the same event again and again.
    world.await_counted(5 * 50 + 1).await;
    assert_eq!(world.sql("SELECT toString(count()) FROM dead_letters").await, [["0"]]);
    world.ok(&["report", "audit"]).await;
}

#[tokio::test]
async fn records_of_any_size_and_date_are_stored() {
    let world = World::new("sizes");
    world.migrate(&["--partitions", "1"]).await;
    configure_topic(
        &world.kafka,
        &world.name,
        &format!("{CREATE_TIME},max.message.bytes=40000000,message.timestamp.after.max.ms=9223372036854775807,message.timestamp.before.max.ms=9223372036854775807"),
    )
    .await;
    let partition = world.partition(0).await;
    let produce = async |records| partition.produce(records, Compression::Gzip).await.unwrap();
    // One batch of Kafka's that is more than one of ours, and one record that is larger than what may be pending.
    produce((0..30_000).map(|_| record(b"x".to_vec(), Utc::now())).collect()).await;
    produce(vec![record(vec![b'y'; 30_000_000], Utc::now())]).await;
    for timestamp in [DateTime::<Utc>::MAX_UTC, DateTime::UNIX_EPOCH] {
        produce(vec![record(good(), timestamp)]).await;
    }
    produce(vec![record(good(), Utc::now())]).await;
    let consume = world.consume(&[]).await;
    world.await_counted(3).await;
    world.await_log(30_004).await;
    let large = world
        .sql("SELECT toString(length(raw)), reason FROM dead_letters WHERE offset = 30000")
        .await;
    assert_eq!(large[0][0], (1 << 20).to_string());
    assert!(
        large[0][1].ends_with("(the first 1048576 of 30000000 bytes are kept)"),
        "{large:?}"
    );
    let years = world
        .sql("SELECT toString(toYear(arrival)) FROM events WHERE offset IN (30001, 30002) ORDER BY offset")
        .await;
    assert_eq!(years, [["2200"], ["1970"]]);
    world.ok(&["report", "audit"]).await;
    consume.await_ready(200, "partition 0: ok").await;
}

#[tokio::test]
async fn a_flood_of_garbage_keeps_its_rows_and_little_more() {
    const MEBIBYTE: usize = 1 << 20;
    let world = World::new("flood");
    world.migrate(&["--partitions", "1"]).await;
    let partition = world.partition(0).await;
    for _ in 0..7 {
        let garbage = (0..12).map(|_| record(vec![b'y'; MEBIBYTE], Utc::now()));
        partition.produce(garbage.collect(), Compression::Gzip).await.unwrap();
    }
    world.produce(0, &[Some(&good())]).await;
    let consume = world.consume(&[]).await;
    world.await_counted(1).await;
    world.await_log(85).await;
    let kept = world
        .sql("SELECT toString(count()), toString(sum(length(raw))) FROM dead_letters")
        .await;
    assert_eq!(kept[0][0], "84");
    let kept: usize = kept[0][1].parse().unwrap();
    assert!((60 * MEBIBYTE..70 * MEBIBYTE).contains(&kept), "{kept}");
    let shortened = consume.metric("captcha_dead_letters_truncated_total").await;
    assert!((1.0..25.0).contains(&shortened), "{shortened}");
    world.ok(&["report", "audit"]).await;
}

#[tokio::test]
async fn what_was_compacted_away_becomes_a_gap() {
    let world = World::new("compacted");
    world.migrate(&["--partitions", "1"]).await;
    configure_topic(
        &world.kafka,
        &world.name,
        "cleanup.policy=compact,segment.ms=1,min.cleanable.dirty.ratio=0.001",
    )
    .await;
    let partition = world.partition(0).await;
    let produce = async || {
        let same_key = Record {
            key: Some(b"k".to_vec()),
            ..record(good(), Utc::now())
        };
        let produced = partition.produce(vec![same_key], Compression::NoCompression);
        produced.await.unwrap();
    };
    for _ in 0..5 {
        produce().await;
    }
    // Records of the newest segment stay, so each new one lets an older one go.
    let left = eventually("kafka to compact the log", async || {
        produce().await;
        let (records, _) = partition.fetch_records(0, 1..1_000_000, 0).await.unwrap();
        let first = records.first().map(|record| record.offset);
        (first > Some(0)).then_some(()).ok_or(format!("{first:?}"))
    });
    left.await;
    let _consume = world.consume(&[]).await;
    let (_, end) = partition.fetch_records(0, 1..1_000_000, 0).await.unwrap();
    world.await_log(end).await;
    let gaps = world
        .sql("SELECT toString(sum(span) > 0) FROM events WHERE kind = 'gap'")
        .await;
    assert_eq!(gaps, [["1"]]);
    world.ok(&["report", "audit"]).await;
}
