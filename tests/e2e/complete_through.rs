//! `complete_through`: what the report says of its own freshness, with quiet, paused and missing consumers.

use chrono::{DateTime, Utc};

use crate::client::{self, accept, events};
use crate::kafka_logs::open_transaction;
use crate::process::{TOPICS, eventually, kafka_tool};
use crate::world::World;

/// The report's own word; `None` while no moment can be named.
pub async fn complete_through(world: &World) -> Option<DateTime<Utc>> {
    let page = world.ok(&["report", "--format", "json"]).await;
    let report: serde_json::Value = serde_json::from_str(&page).unwrap();
    let instant = report["complete_through"].as_str()?;
    Some(instant.parse().unwrap())
}

pub async fn await_complete_through(world: &World, moment: DateTime<Utc>) {
    eventually(&format!("the report to be complete through {moment}"), async || {
        let through = complete_through(world).await;
        through
            .is_some_and(|through| through > moment)
            .then_some(())
            .ok_or(format!("{through:?}"))
    })
    .await;
}

/// ClickHouse's clock.
pub async fn now(world: &World) -> DateTime<Utc> {
    let rows = world.sql("SELECT toString(toUnixTimestamp64Milli(now64(3)))").await;
    DateTime::from_timestamp_millis(rows[0][0].parse().unwrap()).unwrap()
}

#[tokio::test]
async fn a_paused_consumer_holds_it_back_and_quiet_partitions_do_not() {
    let world = World::new("fresh");
    world.migrate(&["--partitions", "2"]).await;
    let serve = world.serve().await;
    assert_eq!(complete_through(&world).await, None);
    let _first = world.consume(&["--partition-share", "0/2"]).await;
    let second = world.consume(&["--partition-share", "1/2"]).await;
    // Nobody ever sent anything.
    await_complete_through(&world, now(&world).await).await;

    second.signal("STOP");
    let before = now(&world).await;
    accept(&serve.address, &events(50)).await;
    let after = now(&world).await;
    let claimed = format!(
        "SELECT toString(max(through) > fromUnixTimestamp64Milli({})) FROM claims WHERE partition = 0",
        after.timestamp_millis()
    );
    eventually("the other partition to be claimed", async || {
        let rows = world.sql(&claimed).await;
        (rows[0][0] == "1").then_some(()).ok_or(format!("{rows:?}"))
    })
    .await;
    let through = complete_through(&world).await.unwrap();
    assert!(through < before, "{through} is claimed, {before} is not stored");

    second.signal("CONT");
    await_complete_through(&world, after).await;
    let counted: u64 = world.report(&[]).await.iter().map(|row| row.2).sum();
    assert_eq!(counted, 50);
    let page = client::get(&serve.address, "/v1/report").await.json();
    let through: DateTime<Utc> = page["complete_through"].as_str().unwrap().parse().unwrap();
    assert!(through > after);
    let output = world.run(&["report"]).await;
    let note = String::from_utf8(output.stderr).unwrap();
    assert!(note.starts_with("captcha: complete through 20"), "{note}");
    let seconds = second
        .metric("captcha_complete_through_timestamp_seconds{partition=\"1\"}")
        .await;
    assert!(seconds > after.timestamp_millis() as f64 / 1e3);
}

#[tokio::test]
async fn a_partition_that_nobody_reads_leaves_it_open() {
    let world = World::new("fresh_grown");
    world.migrate(&["--partitions", "1"]).await;
    let _first = world.consume(&["--partition-share", "0/2"]).await;
    await_complete_through(&world, now(&world).await).await;
    let grow = ["--alter", "--topic", &world.name, "--partitions", "2"];
    kafka_tool(TOPICS, &world.kafka, &grow).await;
    eventually("the new partition to be missed", async || {
        let through = complete_through(&world).await;
        through.is_none().then_some(()).ok_or(format!("{through:?}"))
    })
    .await;
    let _second = world.consume(&["--partition-share", "1/2"]).await;
    await_complete_through(&world, now(&world).await).await;
}

#[tokio::test]
async fn an_open_transaction_holds_it_back() {
    let world = World::new("fresh_open");
    world.migrate(&["--partitions", "1"]).await;
    let serve = world.serve().await;
    let mut producer = open_transaction(&world).await;
    let before = now(&world).await;
    accept(&serve.address, &events(1)).await;
    let consume = world.consume(&[]).await;
    consume.await_ready(503, "is a transaction open there?").await;
    let through = complete_through(&world).await;
    assert!(through.is_none_or(|through| through < before), "{through:?}");
    producer.kill().await.unwrap();
}
