//! Several ClickHouse servers that hold a part of the partitions each: counted together, and never in the wrong one.

use serde_json::{Value, json};

use crate::client::{accept, events, get, try_post};
use crate::process::{Server, eventually, shared};
use crate::world::{World, nothing_to_do};

const PARTITIONS: usize = 5;

struct Sharded {
    world: World,
    servers: [Server; 2],
}

impl Sharded {
    /// Two shards, a topic of five partitions, and nothing in them.
    async fn new(test: &str) -> Sharded {
        let servers = [Server::started("clickhouse").await, Server::started("clickhouse").await];
        let addresses = servers.each_ref().map(Server::address).join(";");
        let world = World::on(test, &shared("CAPTCHA_TEST_KAFKA"), &addresses);
        world.migrate(&["--partitions", "5"]).await;
        Sharded { world, servers }
    }

    /// The world as one shard alone sees it.
    fn shard(&self, index: usize) -> World {
        self.world.beside(&self.servers[index].address())
    }

    async fn audit(&self) -> Value {
        let audit = ["report", "audit", "--format", "json"];
        serde_json::from_str(&self.world.ok(&audit).await).unwrap()
    }
}

/// Posts batches until every partition has records: the records of each.
async fn fill(address: &str) -> [i64; PARTITIONS] {
    let mut ends = [0; PARTITIONS];
    while ends.contains(&0) {
        for receipt in accept(address, &events(40)).await {
            let (partition, offset) = receipt.split_once(':').unwrap();
            let end = &mut ends[partition.parse::<usize>().unwrap()];
            *end = (*end).max(offset.parse::<i64>().unwrap() + 1);
        }
    }
    ends
}

#[tokio::test]
async fn shards_hold_their_own_partitions_and_are_counted_together() {
    let sharded = Sharded::new("shards").await;
    let world = &sharded.world;
    let serve = world.serve().await;
    let ends = fill(&serve.address).await;
    for partition in [1, 2] {
        world.produce(partition, &[Some(b"garbage")]).await;
    }
    // One consumer for the even partitions, one for the odd: with two shards each meets one of them.
    let even = world.consume(&["--partition-share", "0/2"]).await;
    let odd = world.consume(&["--partition-share", "1/2"]).await;
    let total = ends.iter().sum::<i64>() as u64;
    world.await_counted(total).await;
    even.await_ready(200, "schema of shard 0 of 2: ok").await;
    odd.await_ready(200, "watermarks of shard 1 of 2: ok").await;
    assert!(!even.ready().await.text().contains("shard 1"));

    for index in 0..2 {
        let stored = "SELECT partition, max(offset) + 1 FROM events WHERE kind = 'event' \
                      GROUP BY partition ORDER BY partition";
        let stored = sharded.shard(index).sql(stored).await;
        let expected = (index..PARTITIONS).step_by(2);
        let expected: Vec<_> = expected.map(|at| [at.to_string(), ends[at].to_string()]).collect();
        assert_eq!(stored, expected);
    }
    let letters = world.ok(&["report", "dead-letters", "--format", "ndjson"]).await;
    let partitions: Vec<Value> = letters
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["partition"].clone())
        .collect();
    assert_eq!(partitions, [json!(2), json!(1)], "by shard");
    let letters = world.ok(&["report", "dead-letters", "--limit", "1"]).await;
    assert_eq!(letters.lines().count(), 3, "{letters}");

    let audit = sharded.audit().await;
    let audited = audit["partitions"].as_array().unwrap();
    assert_eq!(audited.len(), PARTITIONS, "{audit}");
    let compared: i64 = audited.iter().map(|line| line["compared"].as_i64().unwrap()).sum();
    assert_eq!(compared, total as i64 + 2);
    eventually("both shards to be complete", async || {
        let report = get(&serve.address, "/v1/report").await.json();
        let through = &report["complete_through"];
        through.is_string().then_some(()).ok_or(report.to_string())
    })
    .await;
}

#[tokio::test]
async fn one_shard_away_stops_reports_and_its_own_partitions_alone() {
    let mut sharded = Sharded::new("shard_away").await;
    let serve = sharded.world.serve().await;
    let mut consume = sharded.world.consume(&[]).await;
    let before = fill(&serve.address).await.iter().sum::<i64>() as u64;
    sharded.world.await_counted(before).await;

    sharded.servers[1].kill();
    let more = fill(&serve.address).await;
    let even = "SELECT sum(head) FROM (SELECT max(offset) + 1 AS head FROM events GROUP BY partition)";
    let expected = (more[0] + more[2] + more[4]).to_string();
    let alone = sharded.shard(0);
    eventually("the other shard to go on", async || {
        let stored = alone.sql(even).await[0][0].clone();
        (stored == expected).then_some(()).ok_or(stored)
    })
    .await;
    let reply = get(&serve.address, "/v1/report").await;
    assert_eq!(reply.status, 503, "{}", reply.text());
    let line = sharded.world.refused(&["report"]).await;
    assert!(line.contains(&sharded.servers[1].address()), "{line}");
    consume.await_ready(503, "partition 1: ").await;
    assert_eq!(
        try_post(&serve.address, &events(1)).await.unwrap().status,
        200,
        "serve needs kafka alone"
    );

    // A consumer that starts meanwhile does not wait for the shard that is away.
    consume.kill();
    let consume = sharded.world.consume(&[]).await;
    consume.await_ready(503, "partition 0: ok").await;
    sharded.servers[1].start_and_listen().await;
    let total = more.iter().sum::<i64>() as u64 + 1;
    sharded.world.await_counted(total).await;
    consume.await_ready(200, "partition 1: ok").await;
    sharded.audit().await;
}

#[tokio::test]
async fn a_shard_in_another_place_is_refused() {
    let sharded = Sharded::new("shard_place").await;
    let [first, second] = sharded.servers.each_ref().map(Server::address);
    let wrong = [
        (
            format!("{second};{first}"),
            " of 2, and --clickhouse-addr has it as shard ",
        ),
        (
            first.clone(),
            "is shard 0 of 2, and --clickhouse-addr has it as shard 0 of 1; ",
        ),
        (
            second.clone(),
            "is shard 1 of 2, and --clickhouse-addr has it as shard 0 of 1; ",
        ),
    ];
    for (addresses, reason) in &wrong {
        let world = sharded.world.beside(addresses);
        for command in [&["report"][..], &["report", "audit"], &["report", "dead-letters"]] {
            let line = world.refused(command).await;
            assert!(line.contains(reason), "{line}");
        }
        let line = world.refused(&["migrate"]).await;
        assert!(line.contains(" and cannot become shard 0 of "), "{line}");
        let consume = world.consume(&[]).await;
        consume.await_ready(503, reason).await;
    }
    // A third one is not taken either.
    let more = sharded.world.beside(&format!("{first};{second};{first}0"));
    assert_eq!(more.run(&["migrate"]).await.status.code(), Some(2));
    let said = sharded.world.migrate(&[]).await;
    assert!(said.ends_with(&nothing_to_do()), "{said}");
}

/// A migrate that was killed between two shards is finished by the next one, with what it had recorded.
#[tokio::test]
async fn a_shard_that_migrate_did_not_reach_follows_the_others() {
    let mut second = Server::new("clickhouse");
    let first = Server::started("clickhouse").await;
    let addresses = format!("{};{}", first.address(), second.address());
    let world = World::on("shard_later", &shared("CAPTCHA_TEST_KAFKA"), &addresses);
    let line = world.refused(&["migrate"]).await;
    assert!(line.contains("cannot connect to clickhouse"), "{line}");
    second.start();
    eventually("migrate to succeed", async || {
        let output = world.run(&["migrate", "--dedup-window-records", "77"]).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        output.status.success().then_some(()).ok_or(said)
    })
    .await;
    let alone = world.beside(&second.address());
    alone.sql("TRUNCATE TABLE topics").await;
    let said = world.migrate(&[]).await;
    assert!(said.contains("dedup window 77 records"), "{said}");
    let recorded = alone
        .sql("SELECT shard, shards, repeat_window_records FROM topics")
        .await;
    assert_eq!(recorded, [["1", "2", "77"]]);
}

#[tokio::test]
async fn months_go_from_all_shards_or_from_none() {
    let sharded = Sharded::new("shard_months").await;
    let world = &sharded.world;
    let old = "INSERT INTO events (topic, partition, offset, arrival, kind) VALUES ('old', 0, 0, '2001-01-01 00:00:00', 'bad')";
    let has_old = "SELECT toString(count()) FROM events WHERE kind = 'bad'";
    for index in 0..2 {
        sharded.shard(index).sql(old).await;
    }
    let drop_months = ["migrate", "drop-months", "--before", "2001-02"];
    // Of the partitions that the second shard holds nothing is known, because nobody consumes them.
    let _even = world.consume(&["--partition-share", "0/2"]).await;
    let second = format!("what clickhouse at {} has", sharded.servers[1].address());
    eventually("the second shard alone to be unripe", async || {
        let line = world.refused(&drop_months).await;
        line.contains(&second).then_some(()).ok_or(line)
    })
    .await;
    for index in 0..2 {
        assert_eq!(sharded.shard(index).sql(has_old).await, [["1"]]);
    }
    let _odd = world.consume(&["--partition-share", "1/2"]).await;
    let page = eventually("both shards to be ripe", async || {
        let output = world.run(&drop_months).await;
        let page = String::from_utf8(output.stdout).unwrap();
        output.status.success().then_some(page.clone()).ok_or(page)
    })
    .await;
    for index in 0..2 {
        let address = sharded.servers[index].address();
        let lines = format!("shard {index} of 2, {address}:\ndropped 2001-01: 1 rows, 1 MB\n");
        assert!(page.contains(&lines), "{page}");
        assert_eq!(sharded.shard(index).sql(has_old).await, [["0"]]);
    }
}
