//! Whose clock dates a record: Kafka's, unless the topic says otherwise; and what a clock that is wrong costs.

use chrono::TimeDelta;
use rskafka::client::partition::{Compression, OffsetAt};
use rskafka::record::Record;

use crate::audit::{audit, damage};
use crate::client::{accept, events, post, served};
use crate::drop_months::{await_complete, drop_months, month, named};
use crate::kafka_logs::commit;
use crate::process::{CREATE_TIME, Server, configure_topic, eventually, kafka_tool, shared};
use crate::world::World;

const HOUR_SECONDS: i64 = 3_600;
const DAY_SECONDS: i64 = 24 * HOUR_SECONDS;

const LOG_APPEND_TIME: &str = "message.timestamp.type=LogAppendTime";

/// Kafka's tool that reads records.
const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";

const AHEAD: &str = "captcha_clock_ahead_seconds";
const REFUSED: &str = "captcha_timestamps_rejected_total";
const DATED_AHEAD: &str = "captcha_events_dated_ahead_total";

/// Whether a clock is ahead by about this much, as a process says.
fn is_about(seconds: f64, wanted: i64) -> bool {
    (seconds - wanted as f64).abs() < 600.0
}

#[tokio::test]
async fn retention_goes_by_kafkas_clock_whatever_that_of_serve_says() {
    let mut kafka = Server::new("kafka");
    let often = ["log.retention.check.interval.ms=500", "log.initial.task.delay.ms=500"];
    let often = often.iter().flat_map(|setting| ["--set", setting]);
    kafka.set_args(often.map(str::to_string).collect());
    kafka.start_and_listen().await;
    let clickhouse = shared("CAPTCHA_TEST_CLICKHOUSE");
    let world = World::on("kept", &kafka.address(), &clickhouse);
    world.migrate(&["--partitions", "1"]).await;
    let behind = world.with_clock(-8 * DAY_SECONDS);
    let serve = behind.serve().await;
    accept(&serve.address, &events(20)).await;

    // Its senders date what comes after, and retention takes it.
    let other = World::on("dropped", &kafka.address(), &clickhouse);
    other.migrate(&["--partitions", "1"]).await;
    kafka.configure_topic(&other.name, CREATE_TIME).await;
    let its_serve = other.with_clock(-8 * DAY_SECONDS).serve().await;
    its_serve.await_ready(200, "clock: ok; warning: ").await;
    accept(&its_serve.address, &events(20)).await;
    let partition = other.partition(0).await;
    eventually("kafka's retention to take records", async || {
        let first = partition.get_offset(OffsetAt::Earliest).await.unwrap();
        (first == 20).then_some(()).ok_or(first.to_string())
    })
    .await;

    let first = world.partition(0).await.get_offset(OffsetAt::Earliest).await;
    assert_eq!(first.unwrap(), 0);
    let consume = world.consume(&[]).await;
    world.await_counted(20).await;
    let rows = world
        .sql("SELECT toString(countIf(abs(dateDiff('hour', arrival, now())) < 24)), toString(count()) FROM events")
        .await;
    assert_eq!(rows, [["20", "20"]]);
    let waited = "captcha_end_to_end_duration_seconds_sum";
    let seconds = eventually("the wait of all records", async || {
        let seconds = consume.metric(waited).await;
        (seconds > 0.0).then_some(seconds).ok_or(String::new())
    })
    .await;
    assert!(seconds < 20.0 * DAY_SECONDS as f64, "{seconds}");
    assert!(is_about(serve.metric(AHEAD).await, -8 * DAY_SECONDS));
    serve.await_ready(200, "clock: ok\n").await;
}

#[tokio::test]
async fn a_clock_that_is_ahead_refuses_nothing_where_kafka_dates() {
    let world = World::new("ahead");
    world.migrate(&["--partitions", "2"]).await;
    // Kafka's own defaults, and less than any clock keeps.
    for limit in ["3600000", "0"] {
        let limits = format!("message.timestamp.after.max.ms={limit},message.timestamp.before.max.ms={limit}");
        configure_topic(&world.kafka, &world.name, &limits).await;
        let serve = world.with_clock(2 * HOUR_SECONDS).serve().await;
        for _ in 0..20 {
            accept(&serve.address, &events(3)).await;
        }
        serve.await_ready(200, "clock: ok\n").await;
        assert_eq!(serve.metric(REFUSED).await, 0.0);
        assert!(is_about(serve.metric(AHEAD).await, 2 * HOUR_SECONDS));
    }
    let _consume = world.consume(&[]).await;
    world.await_counted(120).await;
    world.ok(&["report", "audit"]).await;
}

#[tokio::test]
async fn events_of_senders_whose_clocks_are_ahead_are_counted() {
    let world = World::new("senders_ahead");
    world.migrate(&["--partitions", "1"]).await;
    let (serve, consume) = (world.serve().await, world.consume(&[]).await);
    assert_eq!(consume.metric(DATED_AHEAD).await, 0.0);
    let dated = |ahead_seconds| {
        let time = chrono::Utc::now() + TimeDelta::seconds(ahead_seconds);
        served(&time.to_rfc3339())
    };
    let ahead = dated(DAY_SECONDS + HOUR_SECONDS);
    let all = [
        ahead.clone(),
        dated(DAY_SECONDS - HOUR_SECONDS),
        dated(-40 * DAY_SECONDS),
        served("2200-12-31T00:00:00"),
        ahead,
    ];
    accept(&serve.address, &serde_json::json!(all)).await;
    world.await_log(5).await;
    eventually("two different events to be dated ahead", async || {
        let count = consume.metric(DATED_AHEAD).await;
        (count == 2.0).then_some(()).ok_or(count.to_string())
    })
    .await;
    world.await_counted(4).await;
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_said_before_kafka_refuses_and_while_it_does() {
    let world = World::new("refused_times");
    world.migrate(&["--partitions", "2"]).await;
    let limits = format!("{CREATE_TIME},message.timestamp.after.max.ms=3600000");
    configure_topic(&world.kafka, &world.name, &limits).await;

    // Half an hour between this clock and ClickHouse's costs nothing yet, whichever of them is wrong.
    let serve = world.with_clock(HOUR_SECONDS / 2 + 30).serve().await;
    serve.await_ready(200, "clock: ok; warning: this clock is 30m ").await;
    serve.await_ready(200, "ahead of clickhouse's").await;
    accept(&serve.address, &events(20)).await;
    assert_eq!(serve.metric(REFUSED).await, 0.0);
    drop(serve);

    let serve = world.with_clock(2 * HOUR_SECONDS + 30).serve().await;
    serve.await_ready(200, "clock: ok; warning: this clock is 2h ").await;
    let reply = post(&serve.address, &events(7)).await;
    assert_eq!(reply.status, 503, "{}", reply.text());
    serve.await_ready(503, "error 32 (InvalidTimestamp)").await;
    serve.await_ready(503, "kafka: ok\n").await;
    assert!(serve.metric(REFUSED).await >= 1.0);
    assert_eq!(serve.metric("captcha_ready{check=\"clock\"}").await, 0.0);
    let reasons = serve.logged("kafka does not confirm", "reason");
    assert!(
        reasons[0].contains("error 32 (InvalidTimestamp); set the clock"),
        "{reasons:?}"
    );
    // Nobody sends to a process that is not ready, so that it has to try again by itself.
    serve.await_ready(200, "clock: ok; warning: ").await;

    configure_topic(&world.kafka, &world.name, LOG_APPEND_TIME).await;
    accept(&serve.address, &events(20)).await;
    serve.await_ready(200, "clock: ok\n").await;
    let _consume = world.consume(&[]).await;
    world.await_counted(40).await;
}

#[tokio::test]
async fn migrate_says_whose_clock_decides_and_changes_nothing_by_itself() {
    let world = World::new("whose");
    let made = world.migrate(&[]).await;
    let kind = format!("4 partitions, 1 copy, {LOG_APPEND_TIME}\n");
    assert!(made.contains(&kind), "{made}");
    let nothing = world.migrate(&[]).await;
    assert!(nothing.starts_with("nothing to do: "), "{nothing}");

    let alter = format!("{CREATE_TIME},retention.ms=43200000");
    configure_topic(&world.kafka, &world.name, &alter).await;
    let (topic, kafka) = (&world.name, &world.kafka);
    let warning = format!("warning: topic {topic} has {CREATE_TIME}, so the clocks of its senders");
    let line = format!(
        "kafka-configs.sh --bootstrap-server {kafka} --alter --entity-type topics --entity-name {topic} --add-config {LOG_APPEND_TIME}\n"
    );
    let short = "\nwarning: the clock here and that of clickhouse at ";
    for args in [&[][..], &["--dry-run"]] {
        let page = world.migrate(args).await;
        assert!(
            page.starts_with(&warning) && page.contains(&line) && !page.contains(short),
            "{page}"
        );
        let page = world.with_clock(-2 * HOUR_SECONDS - 30).migrate(args).await;
        assert!(
            page.contains(short)
                && page.contains(" differ by 2h ")
                && page.contains(" keeps records for 12h (retention.ms=43200000)"),
            "{page}"
        );
    }
    let status = world.migrate(&["--status"]).await;
    let kind = format!("topic {topic}  4 partitions, 1 copy, {CREATE_TIME}\n");
    assert!(status.ends_with(&kind), "{status}");

    configure_topic(kafka, topic, LOG_APPEND_TIME).await;
    let page = world.with_clock(-2 * HOUR_SECONDS).migrate(&[]).await;
    assert_eq!(page, nothing);
    let away = World::on("whose_away", "127.0.0.1:1", &world.clickhouse);
    let status = away.migrate(&["--status"]).await;
    assert!(
        status.contains(&format!("topic {}  not known: ", away.name)),
        "{status}"
    );
}

/// Type, milliseconds and offset of each record of partition 0, as Kafka's own client has them.
async fn as_kafka_says(world: &World, records: usize) -> Vec<(String, i64, i64)> {
    let max = records.to_string();
    let args = [
        ["--topic", &world.name],
        ["--partition", "0"],
        ["--offset", "earliest"],
        ["--max-messages", &max],
        ["--property", "print.timestamp=true"],
        ["--property", "print.offset=true"],
        ["--property", "print.value=false"],
    ];
    let page = kafka_tool(CONSUMER, &world.kafka, &args.concat()).await;
    let record = |line: &str| {
        let mut fields = line.split(['\t', ':']);
        let mut next = || fields.next().unwrap().to_string();
        let (kind, millis, _, offset) = (next(), next(), next(), next());
        (kind, millis.parse().unwrap(), offset.parse().unwrap())
    };
    // Among them it says which of its options are old.
    let lines = page.lines().filter(|line| line.contains("\tOffset:"));
    lines.map(record).collect()
}

/// Writes events that their producer dated at the beginnings of months, some twice.
async fn write(world: &World, months_ago: &[u32], compression: Compression) {
    let again = served("2024-01-01T00:00:00");
    let record = |(number, ago): (usize, &u32)| {
        let event = if number % 3 == 0 {
            again.clone()
        } else {
            served("2024-01-01T00:00:00")
        };
        Record {
            key: None,
            value: Some(event.to_string().into_bytes()),
            headers: Default::default(),
            timestamp: month(*ago) + TimeDelta::milliseconds(number as i64),
        }
    };
    let records = months_ago.iter().enumerate().map(record).collect();
    let partition = world.partition(0).await;
    partition.produce(records, compression).await.unwrap();
}

/// Every row of a database, of those with a record or all.
async fn rows(world: &World, database: &str) -> Vec<Vec<String>> {
    let sql = "SELECT toString(offset), toString(toUnixTimestamp64Milli(arrival)), toString(kind), toString(span), \
               toString(repeat), toString(correlation_id), raw FROM events ORDER BY offset";
    world.sql_as("default", database, sql).await
}

#[tokio::test]
async fn arrival_is_what_kafka_says_also_where_the_type_of_a_topic_changes() {
    let world = World::new("types");
    let few = [
        "--partitions",
        "1",
        "--dedup-window-records",
        "5",
        "--retention",
        "3650d",
    ];
    world.migrate(&few).await;
    let mut rivals = Vec::new();
    let mut written = 0;
    for (setting, months_ago) in [
        (LOG_APPEND_TIME, [3, 3, 4, 3, 0, 9]),
        (CREATE_TIME, [2, 2, 5, 4, 4, 0]),
        (LOG_APPEND_TIME, [7, 1, 1, 2, 2, 0]),
        (CREATE_TIME, [0, 0, 6, 6, 1, 0]),
    ] {
        configure_topic(&world.kafka, &world.name, setting).await;
        for compression in [Compression::NoCompression, Compression::Gzip] {
            write(&world, &months_ago, compression).await;
        }
        world.produce(0, &[Some(b"no event"), None]).await;
        // Records without a date of their producer's choosing, and a marker behind them.
        commit(&world, "2").await;
        written += 2 * months_ago.len() as i64 + 2 + 2 + 1;
        // Of the rivals one goes on over the change, and one begins at it and looks at the record before its head.
        rivals.push(world.consume(&[]).await);
        if rivals.len() > 2 {
            rivals.remove(0);
        }
        world.await_log(written).await;
        rivals.last().unwrap().await_ready(200, "partition 0: ok").await;
        world.ok(&["report", "audit"]).await;
    }

    let stored = rows(&world, &world.name).await;
    let with_record: Vec<_> = stored.iter().filter(|row| row[2] != "gap").collect();
    let said = as_kafka_says(&world, with_record.len()).await;
    let kinds: Vec<&str> = said.iter().map(|(kind, _, _)| kind.as_str()).collect();
    assert!(
        kinds.contains(&"CreateTime") && kinds.contains(&"LogAppendTime"),
        "{kinds:?}"
    );
    let arrivals = said
        .iter()
        .map(|(_, millis, offset)| [offset.to_string(), millis.to_string()]);
    let stored_arrivals = with_record.iter().map(|row| [row[0].clone(), row[1].clone()]);
    assert!(
        stored_arrivals.clone().eq(arrivals),
        "{said:?} {:?}",
        stored_arrivals.collect::<Vec<_>>()
    );

    // A table that is built from the same log has the same rows.
    let other = format!("{}_again", world.name);
    let elsewhere = ["--clickhouse-database", &other];
    world.migrate(&[&few[2..4], &elsewhere].concat()).await;
    let _builder = world.consume(&elsewhere).await;
    eventually("the other table to be built", async || {
        let built = rows(&world, &other).await;
        (built == stored)
            .then_some(())
            .ok_or(format!("{built:?} is not {stored:?}"))
    })
    .await;

    // Months of both kinds go, and the audit knows of it.
    await_complete(&world).await;
    drop_months(&world, &named(1), &["--forget-repeats"]).await;
    let (page, next) = (world.ok(&["report", "audit", "--format", "json"]).await, written);
    let report: serde_json::Value = serde_json::from_str(&page).unwrap();
    let line = &report["partitions"][0];
    assert_eq!(
        (&line["head"], &line["damage"]),
        (&next.into(), &serde_json::Value::Null),
        "{page}"
    );
    world.produce(0, &[Some(b"no event")]).await;
    world.consume(&[]).await.await_ready(200, "partition 0: ok").await;
    world.ok(&["report", "audit"]).await;
}

#[tokio::test]
async fn rows_that_an_older_captcha_dated_by_their_producers_fit() {
    let world = World::new("older");
    world.migrate(&["--partitions", "2"]).await;
    configure_topic(&world.kafka, &world.name, LOG_APPEND_TIME).await;
    // The row of partition 1 has a date that nobody gave to its record.
    let dated = month(1);
    for (partition, millis) in [(0, dated.timestamp_millis()), (1, dated.timestamp_millis() + 1)] {
        let record = Record {
            key: None,
            value: Some(b"no event".to_vec()),
            headers: Default::default(),
            timestamp: dated,
        };
        let log = world.partition(partition).await;
        log.produce(vec![record], Compression::NoCompression).await.unwrap();
        world
            .sql(&format!(
                "INSERT INTO events (topic, partition, offset, span, arrival, kind, raw) \
                 SELECT '{}', {partition}, 0, 1, fromUnixTimestamp64Milli({millis}), 'bad', 'no event'",
                world.name
            ))
            .await;
        world.produce(partition, &[Some(b"no event")]).await;
    }
    let consume = world.consume(&[]).await;
    consume
        .await_ready(503, "partition 0: ok\npartition 1: kafka's log of")
        .await;
    let (code, partitions) = audit(&world, &[]).await;
    assert_eq!(code, Some(3), "{partitions:?}");
    assert_eq!((&partitions[0]["head"], damage(&partitions[0])), (&2.into(), vec![]));
    assert_eq!(damage(&partitions[1]), [("differing", 1)]);
}
