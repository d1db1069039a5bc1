//! Quotas of a broker: slow is said, and nothing is taken for done.

use crate::client::{events, try_post};
use crate::outages::migrate_in_the_end;
use crate::process::{Process, Server, eventually, kafka_tool, shared};
use crate::world::World;

const THROTTLED: &str = "captcha_fetch_throttled_seconds_total";

/// Every client of a broker may read this many bytes a second, by its own count over ten seconds.
async fn limit(kafka: &Server, quota: &str) {
    let alter = ["--alter", "--entity-type", "clients", "--entity-default"];
    let args = [&alter[..], &["--add-config", quota]].concat();
    kafka_tool("kafka.admin.ConfigCommand", &kafka.address(), &args).await;
}

async fn stored(world: &World) -> i64 {
    let rows = world.sql("SELECT toString(sum(span)) FROM events").await;
    rows[0][0].parse().unwrap()
}

async fn lag(consume: &Process) -> i64 {
    consume.metric("captcha_lag_records{partition=\"0\"}").await as i64
}

/// Batches of records that are no events, each so large.
async fn fill(world: &World, batches: i64, bytes: usize) -> i64 {
    let value = vec![b'x'; bytes / 10];
    for _ in 0..batches {
        world.produce(0, &[Some(&value[..]); 10]).await;
    }
    batches * 10
}

#[tokio::test]
async fn a_consumer_that_is_throttled_says_how_far_it_is_behind() {
    let kafka = Server::started("kafka").await;
    let world = World::on("quota", &kafka.address(), &shared("CAPTCHA_TEST_CLICKHOUSE"));
    migrate_in_the_end(&world, &["--partitions", "1"]).await;
    let records = fill(&world, 12, 30_000).await;
    limit(&kafka, "consumer_byte_rate=20000").await;
    let consume = world.consume(&[]).await;
    eventually("some records to be stored", async || {
        let stored = stored(&world).await;
        (stored > 0).then_some(()).ok_or("none".to_string())
    })
    .await;
    let mut reason = String::new();
    eventually("all records to be stored", async || {
        let lag = lag(&consume).await;
        let ready = consume.ready().await;
        if ready.status == 503 {
            reason = ready.text();
        }
        // Asked last: it only grows.
        let stored = stored(&world).await;
        assert!(lag + stored >= records, "{lag} behind, {stored} of {records} stored");
        (stored == records).then_some(()).ok_or(format!("{stored} are"))
    })
    .await;
    assert!(reason.contains("consumer_byte_rate"), "{reason}");
    assert!(consume.metric("captcha_fetch_throttled_seconds_total").await > 0.0);
    consume.await_ready(200, "partition 0: ok").await;
}

/// Kafka counts over ten seconds, and hands out nothing that would be beyond the quota by itself.
#[tokio::test]
async fn a_batch_of_more_than_ten_seconds_waits_for_a_larger_quota() {
    let kafka = Server::started("kafka").await;
    let world = World::on("quotabatch", &kafka.address(), &shared("CAPTCHA_TEST_CLICKHOUSE"));
    migrate_in_the_end(&world, &["--partitions", "1"]).await;
    let records = fill(&world, 1, 300_000).await;
    limit(&kafka, "consumer_byte_rate=20000").await;
    let consume = world.consume(&[]).await;
    eventually("several tries", async || {
        let throttled = consume.metric(THROTTLED).await;
        (throttled > 15.0).then_some(()).ok_or(format!("{throttled} s"))
    })
    .await;
    assert_eq!((stored(&world).await, lag(&consume).await), (0, records));
    consume.await_ready(503, "with 10 records").await;
    limit(&kafka, "consumer_byte_rate=10000000").await;
    world.await_log(records).await;
    consume.await_ready(200, "partition 0: ok").await;
}

#[tokio::test]
async fn a_producer_that_is_throttled_names_the_quota() {
    let kafka = Server::started("kafka").await;
    let clickhouse = shared("CAPTCHA_TEST_CLICKHOUSE");
    let world = World::on("quotaserve", &kafka.address(), &clickhouse);
    migrate_in_the_end(&world, &["--partitions", "1"]).await;
    limit(&kafka, "producer_byte_rate=2000").await;
    let serve = world.serve().await;
    eventually("a request to be refused", async || {
        let reply = try_post(&serve.address, &events(100)).await?;
        (reply.status == 503).then_some(()).ok_or(reply.text())
    })
    .await;
    let reasons = serve.logged("kafka does not confirm", "reason");
    assert!(
        reasons[0].contains("throttles captcha") && reasons[0].contains("producer_byte_rate"),
        "{reasons:?}"
    );
}
