//! Servers that stop, freeze and come back: a clear answer meanwhile, and nothing lost or doubled after.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use crate::client::{Reply, accept, events, get, try_post};
use crate::process::{Server, eventually, shared};
use crate::world::World;

const SHARED_CLICKHOUSE: &str = "CAPTCHA_TEST_CLICKHOUSE";
const SHARED_KAFKA: &str = "CAPTCHA_TEST_KAFKA";

fn assert_not_confirmed(reply: &Reply) {
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert!(!reply.header("retry-after").is_empty());
    assert_eq!(reply.json()["title"], "not confirmed");
}

/// Posts a new event until it is accepted, as a client does.
pub async fn accept_in_the_end(address: &str) {
    accept_event_in_the_end(address, &events(1)).await;
}

async fn accept_event_in_the_end(address: &str, event: &serde_json::Value) {
    eventually("an event to be accepted", async || {
        let reply = try_post(address, event).await?;
        (reply.status == 200).then_some(()).ok_or(reply.text())
    })
    .await;
}

/// Kafka listens before it knows its own brokers.
pub async fn migrate_in_the_end(world: &World, args: &[&str]) {
    let args = [&["migrate"], args].concat();
    eventually("migrate to succeed", async || {
        let output = world.run(&args).await;
        output
            .status
            .success()
            .then_some(())
            .ok_or(String::from_utf8_lossy(&output.stderr).into_owned())
    })
    .await;
}

#[tokio::test]
async fn kafka_away_is_503_from_the_first_request_on_and_recovers() {
    let mut kafka = Server::new("kafka");
    let world = World::on("kafka_away", &kafka.address(), &shared(SHARED_CLICKHOUSE));
    let serve = world.serve().await;
    assert_not_confirmed(&try_post(&serve.address, &events(1)).await.unwrap());
    serve.await_ready(503, "cannot connect to kafka").await;
    assert_eq!(get(&serve.admin, "/livez").await.status, 200);

    kafka.start();
    migrate_in_the_end(&world, &[]).await;
    accept_in_the_end(&serve.address).await;
    serve.await_ready(200, "kafka: ok").await;
    let consume = world.consume(&[]).await;
    world.await_counted(1).await;

    kafka.kill();
    let refused = "captcha_events_rejected_total{reason=\"kafka\"}";
    let before = serve.metric(refused).await;
    assert!(before >= 1.0, "the first event was not confirmed");
    for _ in 0..3 {
        assert_not_confirmed(&try_post(&serve.address, &events(5)).await.unwrap());
    }
    assert_eq!(serve.metric(refused).await, before + 15.0);
    let failed = "captcha_produce_duration_seconds_count{result=\"failed\"}";
    assert!(serve.metric(failed).await >= 1.0);
    consume.await_ready(503, "kafka").await;
    kafka.start();
    accept_in_the_end(&serve.address).await;
    consume.await_ready(200, "partition 0: ok").await;
    world.await_counted(2).await;
}

#[tokio::test]
async fn kafka_frozen_is_503_and_recovers() {
    let kafka = Server::started("kafka").await;
    let world = World::on("kafka_frozen", &kafka.address(), &shared(SHARED_CLICKHOUSE));
    migrate_in_the_end(&world, &[]).await;
    let serve = world.serve().await;
    accept_in_the_end(&serve.address).await;
    kafka.freeze().await;
    let lost = events(1);
    for _ in 0..2 {
        assert_not_confirmed(&try_post(&serve.address, &lost).await.unwrap());
    }
    serve.await_ready(503, "kafka").await;
    kafka.thaw();
    // Sent again, as a 503 asks for; its first copies may have arrived after all.
    accept_event_in_the_end(&serve.address, &lost).await;
    let _consume = world.consume(&[]).await;
    world.await_counted(2).await;
}

#[tokio::test]
async fn too_few_replicas_are_503() {
    let first = Server::started("kafka").await;
    let mut second = Server::second_broker(&first);
    second.start();
    let world = World::on("replicas", &first.address(), &shared(SHARED_CLICKHOUSE));
    migrate_in_the_end(&world, &["--replication-factor", "2", "--partitions", "1"]).await;
    first.configure_topic(&world.name, "min.insync.replicas=2").await;
    let serve = world.serve().await;
    accept_in_the_end(&serve.address).await;

    second.kill();
    eventually("kafka to refuse", async || {
        let reply = try_post(&serve.address, &events(1)).await?;
        (reply.status == 503)
            .then(|| assert_not_confirmed(&reply))
            .ok_or(reply.text())
    })
    .await;
    eventually("the reason", async || {
        assert_not_confirmed(&try_post(&serve.address, &events(3)).await.unwrap());
        let reasons = serve.logged("kafka does not confirm", "reason");
        let told = reasons
            .iter()
            .any(|reason| reason.contains("error 19 (NotEnoughReplicas)") && reason.contains("start the brokers"));
        told.then_some(()).ok_or(format!("{reasons:?}"))
    })
    .await;
    second.start();
    accept_in_the_end(&serve.address).await;
}

#[tokio::test]
async fn leaders_that_move_refuse_nobody() {
    let first = Server::started("kafka").await;
    let mut second = Server::second_broker(&first);
    second.start_and_listen().await;
    let world = World::on("leaders", &first.address(), &shared(SHARED_CLICKHOUSE));
    migrate_in_the_end(&world, &["--replication-factor", "2", "--partitions", "4"]).await;
    let serve = world.serve().await;
    accept_in_the_end(&serve.address).await;
    let mut sent = 1;
    let mut post = async || {
        accept(&serve.address, &events(20)).await;
        sent += 20;
    };
    post().await;
    let mut stopping = pin!(second.stop());
    let mut goes_on = async || poll_fn(|cx| Poll::Ready(stopping.as_mut().poll(cx).is_pending())).await;
    while goes_on().await {
        post().await;
    }
    for _ in 0..5 {
        post().await;
    }
    let reasons = serve.logged("kafka does not confirm", "reason");
    assert!(reasons.is_empty(), "{reasons:?}");
    let _consume = world.consume(&[]).await;
    world.await_counted(sent).await;
}

#[tokio::test]
async fn clickhouse_away_is_waited_for() {
    let mut clickhouse = Server::started("clickhouse").await;
    let world = World::on("clickhouse_away", &shared(SHARED_KAFKA), &clickhouse.address());
    let (serve, mut consume) = world.all().await;
    let mut sent = 0;
    for round in 0..3 {
        accept(&serve.address, &events(40)).await;
        clickhouse.kill();
        accept(&serve.address, &events(40)).await;
        consume.await_ready(503, "clickhouse").await;
        assert_eq!(get(&consume.admin, "/livez").await.status, 200);
        serve.await_ready(200, "kafka: ok").await;
        let report = get(&serve.address, "/v1/report").await;
        report.assert_away();
        if round == 1 {
            consume.kill();
            consume = world.consume(&[]).await;
        }
        clickhouse.start();
        sent += 80;
        eventually("clickhouse to answer", async || {
            let output = world.run(&["report"]).await;
            output.status.success().then_some(()).ok_or("not yet".to_string())
        })
        .await;
        world.await_counted(sent).await;
        consume.await_ready(200, "partition 3: ok").await;
    }
    world.await_log(sent as i64).await;
}

#[tokio::test]
async fn clickhouse_frozen_is_waited_for() {
    let clickhouse = Server::started("clickhouse").await;
    let world = World::on("clickhouse_frozen", &shared(SHARED_KAFKA), &clickhouse.address());
    let (serve, consume) = world.all().await;
    accept(&serve.address, &events(10)).await;
    world.await_counted(10).await;
    clickhouse.freeze().await;
    accept(&serve.address, &events(10)).await;
    let report = get(&serve.address, "/v1/report").await;
    report.assert_away();
    consume.await_ready(503, "clickhouse").await;
    clickhouse.thaw();
    world.await_counted(20).await;
    consume.await_ready(200, "partition 0: ok").await;
    world.await_log(20).await;
}
