//! Topics that nobody consumes any more: retired once no consumer runs, and resumed only if that is said.

use crate::client::{accept, events};
use crate::complete_through::{await_complete_through, complete_through, now};
use crate::process::{Server, TOPICS, kafka_tool, shared};
use crate::world::World;

/// Replaces all watermarks by one of this age.
async fn set_watermark(world: &World, age_seconds: i64) {
    world.sql("TRUNCATE TABLE claims").await;
    let sql = format!(
        "INSERT INTO claims (log, partition, through, partitions) \
         SELECT '{}', 2, now64(3) - {age_seconds}, 4",
        world.name
    );
    world.sql(&sql).await;
}

#[tokio::test]
async fn a_topic_that_nobody_consumes_any_more_is_retired_and_only_resumed_if_that_is_said() {
    let world = World::new("retired");
    world.migrate(&[]).await;
    let line = world
        .refused(&["migrate", "--retire-topic", "--kafka-topic", "typo"])
        .await;
    assert!(line.contains("topic typo is not recorded"), "{line}");
    let line = world.refused(&["migrate", "--resume-topic"]).await;
    let wanted = format!("captcha: topic {} is not retired; leave --resume-topic out", world.name);
    assert_eq!(line, wanted);
    let said = world.migrate(&["--retire-topic"]).await;
    assert!(said.starts_with("retired topic"), "{said}");
    let said = world.migrate(&["--retire-topic"]).await;
    assert!(said.contains("is retired already"), "{said}");
    let consume = world.consume(&[]).await;
    consume
        .await_ready(503, "is retired in clickhouse; see --kafka-topic, ")
        .await;

    let refusal = format!(": topic {} is retired, so nothing is done; ", world.name);
    for args in [&[][..], &["--dry-run"], &["--wait", "3600"]] {
        let line = world.refused(&[&["migrate"], args].concat()).await;
        assert!(
            line.contains(&refusal) && line.contains("`captcha migrate --resume-topic`"),
            "{line}"
        );
    }
    let status = world.migrate(&["--status"]).await;
    assert!(status.contains(&format!("topic {}  retired; ", world.name)), "{status}");
    let said = world.migrate(&["--resume-topic", "--dry-run"]).await;
    assert!(said.starts_with("would record topic "), "{said}");
    world.refused(&["migrate"]).await;

    let said = world.migrate(&["--resume-topic"]).await;
    assert!(
        said.starts_with(&format!("resumed topic {}: 4 partitions, ", world.name)),
        "{said}"
    );
    consume.await_ready(200, "schema: ok").await;
    assert_eq!(world.refused(&["migrate", "--resume-topic"]).await, wanted);
    world.migrate(&[]).await;
    await_complete_through(&world, now(&world).await).await;
}

#[tokio::test]
async fn a_topic_that_is_consumed_is_not_retired_unless_it_is_forced() {
    let world = World::new("still_consumed");
    let (serve, mut consume) = world.all().await;
    accept(&serve.address, &events(20)).await;
    await_complete_through(&world, now(&world).await).await;
    let retire = ["migrate", "--retire-topic"];
    let start = format!(
        "captcha: topic {0} is still consumed: the watermark of {0}:",
        world.name
    );
    for args in [&[][..], &["--wait", "3600"]] {
        let line = world.refused(&[&retire[..], args].concat()).await;
        assert!(line.starts_with(&start), "{line}");
        let advice = " s old; stop each `captcha consume` of the topic and try again 60 s later, or give --force";
        assert!(line.contains(advice), "{line}");
    }
    await_complete_through(&world, now(&world).await).await;

    // Watermarks are as old as ClickHouse's clock says, also if that was set back.
    consume.kill();
    for age_seconds in [-3_600, 0] {
        set_watermark(&world, age_seconds).await;
        let line = world.refused(&retire).await;
        assert!(line.starts_with(&format!("{start}2 in clickhouse at ")), "{line}");
    }
    let said = world.ok(&[&retire[..], &["--force"]].concat()).await;
    assert!(said.starts_with("retired topic"), "{said}");
    assert_eq!(complete_through(&world).await, None);
    world.migrate(&["--resume-topic"]).await;
    set_watermark(&world, 61).await;
    let said = world.ok(&retire).await;
    assert!(said.starts_with("retired topic"), "{said}");

    // What was sent meanwhile is read once it is resumed, and what was stored stays.
    accept(&serve.address, &events(10)).await;
    world.migrate(&["--resume-topic"]).await;
    let _consume = world.consume(&[]).await;
    world.await_counted(30).await;
    world.ok(&["report", "audit"]).await;
}

#[tokio::test]
async fn a_retired_topic_that_was_deleted_is_not_made_again_by_itself() {
    let world = World::new("retired_gone");
    world.migrate(&["--partitions", "1"]).await;
    world.migrate(&["--retire-topic"]).await;
    kafka_tool(TOPICS, &world.kafka, &["--delete", "--topic", &world.name]).await;
    let line = world.refused(&["migrate"]).await;
    assert!(line.contains(" is retired, so nothing is done; "), "{line}");
    let line = world.refused(&["migrate", "--resume-topic"]).await;
    assert!(
        line.contains("`captcha migrate --topic-recreated` makes it again"),
        "{line}"
    );
    let said = world.migrate(&["--topic-recreated"]).await;
    assert!(said.contains("as recreated"), "{said}");
}

#[tokio::test]
async fn a_topic_that_was_resumed_in_one_shard_alone_is_resumed_in_the_others() {
    let servers = [Server::started("clickhouse").await, Server::started("clickhouse").await];
    let addresses = servers.each_ref().map(Server::address).join(";");
    let world = World::on("half_resumed", &shared("CAPTCHA_TEST_KAFKA"), &addresses);
    world.migrate(&["--partitions", "2"]).await;
    world.migrate(&["--retire-topic"]).await;
    // As a migrate leaves it that is killed after the first shard.
    let resumed = "INSERT INTO topics (topic, log, topic_id, revision, partitions, repeat_window_records, shard, shards) \
                   SELECT topic, log, topic_id, 3, 2, repeat_window_records, shard, shards FROM topics WHERE revision = 2";
    world.sql(resumed).await;
    let line = world.refused(&["migrate"]).await;
    assert!(line.contains(" is retired, so nothing is done; "), "{line}");
    let said = world.migrate(&["--resume-topic"]).await;
    assert_eq!(said.matches("resumed topic ").count(), 1, "{said}");
    world.migrate(&[]).await;
}
