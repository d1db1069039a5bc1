//! Kafka that answers where it is asked and gives addresses for its leaders that lead nowhere.

use tokio::net::{TcpListener, TcpStream};

use crate::client::{events, try_post};
use crate::outages::{accept_in_the_end, migrate_in_the_end};
use crate::process::{Server, TOPICS, eventually, free_port, java_class, shared};
use crate::world::World;

/// Gives an address of a broker where nobody listens.
fn advertise(kafka: &mut Server) -> String {
    let advertised = format!("127.0.0.1:{}", free_port());
    kafka.add_setting(&format!("advertised.listeners=PLAINTEXT://{advertised}"));
    advertised
}

/// Leads there all the same from now on.
async fn forward(from: &str, to: String) {
    let listener = TcpListener::bind(from).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let to = to.clone();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(to).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
}

#[tokio::test]
async fn an_advertised_address_that_leads_nowhere_is_named_until_it_leads_there() {
    let mut kafka = Server::new("kafka");
    let advertised = advertise(&mut kafka);
    kafka.start_and_listen().await;
    let clickhouse = shared("CAPTCHA_TEST_CLICKHOUSE");
    let world = World::on("advertised", &kafka.address(), &clickhouse);
    migrate_in_the_end(&world, &["--partitions", "2"]).await;
    let (serve, consume) = (world.serve().await, world.consume(&[]).await);
    let reachable = format!("captcha_leader_reachable{{leader=\"{advertised}\"}}");
    let reason = format!("cannot connect to kafka at {advertised}: Connection refused");
    let advice = "check advertised.listeners of kafka";
    let unready = "kafka: no leader can be reached";
    serve.await_ready(503, unready).await;
    consume.await_ready(503, advice).await;
    for process in [&serve, &consume] {
        let text = process.ready().await.text();
        assert!(text.contains(&reason) && text.contains(advice), "{text}");
        assert_eq!(process.metric(&reachable).await, 0.0);
    }
    assert_eq!(serve.metric("captcha_ready{check=\"kafka\"}").await, 0.0);
    let reply = try_post(&serve.address, &events(1)).await.unwrap();
    assert_eq!(reply.status, 503, "{}", reply.text());

    forward(&advertised, kafka.address()).await;
    serve.await_ready(200, "kafka: ok\n").await;
    accept_in_the_end(&serve.address).await;
    world.await_counted(1).await;
    consume.await_ready(200, "partition 1: ok").await;
    for process in [&serve, &consume] {
        assert_eq!(process.metric(&reachable).await, 1.0);
    }
}

#[tokio::test]
async fn one_of_two_leaders_that_leads_nowhere_is_named_and_the_other_one_serves() {
    let first = Server::started("kafka").await;
    let mut second = Server::second_broker(&first);
    let advertised = advertise(&mut second);
    second.start_and_listen().await;
    let clickhouse = shared("CAPTCHA_TEST_CLICKHOUSE");
    let world = World::on("advertised_half", &first.address(), &clickhouse);
    let create = ["--create", "--topic", &world.name];
    let create = [&create[..], &["--replica-assignment", "1,2"]].concat();
    eventually("a topic with a leader on each broker", async || {
        let mut tool = java_class(TOPICS, &first.address());
        let output = tool.args(&create).output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then_some(()).ok_or(said)
    })
    .await;
    world.migrate(&["--partitions", "2"]).await;
    let (serve, consume) = (world.serve().await, world.consume(&[]).await);
    let note = format!("kafka: ok; warning: not all leaders can be reached: cannot connect to kafka at {advertised}");
    serve.await_ready(200, &note).await;
    consume.await_ready(503, "partition 0: ok").await;
    consume.await_ready(503, "check advertised.listeners of kafka").await;
    // Each time another event: which leader it goes to is chance.
    eventually("an event to be accepted", async || {
        let reply = try_post(&serve.address, &events(1)).await?;
        (reply.status == 200).then_some(()).ok_or(reply.text())
    })
    .await;
    for process in [&serve, &consume] {
        for (leader, level) in [(&first.address(), 1.0), (&advertised, 0.0)] {
            let reachable = format!("captcha_leader_reachable{{leader=\"{leader}\"}}");
            assert_eq!(process.metric(&reachable).await, level, "{leader}");
        }
    }
}
