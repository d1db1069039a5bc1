//! Tables that are the same on several ClickHouse servers: real ones, with a real ZooKeeper in Keeper's place.

use serde_json::Value;

use crate::client::{accept, events, get};
use crate::drop_months::drop_old_months;
use crate::process::{Process, Server, eventually, shared};
use crate::projections::{PROJECTIONS, await_status};
use crate::world::{World, all_counted};

const CLUSTER: [&str; 2] = ["--clickhouse-cluster", "main"];

struct Replicated {
    world: World,
    zookeeper: Server,
    /// By shard, two replicas each.
    shards: Vec<[Server; 2]>,
}

impl Replicated {
    /// So many shards of two replicas each, a topic of four partitions, and nothing in them.
    async fn new(test: &str, shards: usize) -> Replicated {
        let replicated = Replicated::without_schema(test, shards).await;
        replicated.migrate(&["--partitions", "4"]).await;
        replicated
    }

    async fn without_schema(test: &str, shards: usize) -> Replicated {
        let zookeeper = Server::started("zookeeper").await;
        let mut servers = Vec::new();
        for shard in 0..shards {
            let mut replicas = [(); 2].map(|()| Server::new("clickhouse"));
            for (name, replica) in ["a", "b"].into_iter().zip(&mut replicas) {
                let words = [
                    ["--zookeeper", &zookeeper.address()],
                    ["--shard", &shard.to_string()],
                    ["--replica", name],
                ];
                replica.set_args(words.concat().into_iter().map(str::to_string).collect());
                replica.start_and_listen().await;
            }
            servers.push(replicas);
        }
        let addresses: Vec<_> = servers.iter().map(|shard| joined(shard)).collect();
        let world = World::on(test, &shared("CAPTCHA_TEST_KAFKA"), &addresses.join(";"));
        Replicated {
            world,
            zookeeper,
            shards: servers,
        }
    }

    async fn migrate(&self, args: &[&str]) -> String {
        self.world.migrate(&[&CLUSTER, args].concat()).await
    }

    /// The world as one replica alone sees it.
    fn replica(&self, shard: usize, index: usize) -> World {
        self.world.beside(&self.shards[shard][index].address())
    }

    /// Waits until each replica of the only shard has each record in exactly one row; then the audit must find nothing.
    async fn await_log(&self, records: u64) {
        for index in 0..2 {
            self.replica(0, index).await_log(records as i64).await;
        }
        self.audit(records).await;
    }

    /// Waits until the report counts this many events; there is none while keeper or both replicas are away.
    async fn await_counted(&self, events: u64) {
        eventually(&format!("{events} events counted"), async || {
            all_counted(self.world.counted().await?, events)
        })
        .await;
    }

    async fn audit(&self, records: u64) {
        let args = ["report", "audit", "--format", "json"];
        let page: Value = serde_json::from_str(&self.world.ok(&args).await).unwrap();
        let partitions = page["partitions"].as_array().unwrap().iter();
        let compared = partitions.map(|partition| partition["compared"].as_u64().unwrap());
        assert_eq!(compared.sum::<u64>(), records, "{page}");
    }
}

fn joined(servers: &[Server]) -> String {
    let addresses: Vec<_> = servers.iter().map(Server::address).collect();
    addresses.join(",")
}

/// Posts one batch after the other until told to stop: how many events.
fn post_until_told(address: &str) -> (tokio::sync::oneshot::Sender<()>, tokio::task::JoinHandle<u64>) {
    let (stop, mut told) = tokio::sync::oneshot::channel();
    let address = address.to_string();
    let posting = tokio::spawn(async move {
        let mut sent = 0;
        while told.try_recv().is_err() {
            sent += accept(&address, &events(20)).await.len() as u64;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        sent
    });
    (stop, posting)
}

/// Waits until every partition of a consumer is ready.
async fn await_all_ready(consume: &Process) {
    for partition in 0..4 {
        let check = format!("partition {partition}: ok");
        consume.await_ready(200, &check).await;
    }
}

#[tokio::test]
async fn two_shards_of_two_replicas_hold_the_same() {
    let replicated = Replicated::new("replicas", 2).await;
    let again = replicated.migrate(&[]).await;
    assert!(again.contains("nothing to do"), "{again}");
    let world = &replicated.world;
    let serve = world.serve().await;
    let _consume = world.consume(&[]).await;
    let mut sent = 0;
    for _ in 0..10 {
        sent += accept(&serve.address, &events(40)).await.len() as u64;
    }
    for partition in 0..4 {
        world.produce(partition, &[Some(b"garbage")]).await;
    }
    world.await_counted(sent).await;
    eventually("garbage among the dead letters", async || {
        let lines = world.ok(&["report", "dead-letters", "--format", "ndjson"]).await;
        (lines.lines().count() == 4).then_some(()).ok_or(lines)
    })
    .await;
    for shard in 0..2 {
        let stored = "SELECT partition, count(), uniqExact(offset), max(offset) FROM events \
                      GROUP BY partition ORDER BY partition";
        let first = replicated.replica(shard, 0).sql(stored).await;
        let of_shard = first.iter().all(|row| row[0].parse::<usize>().unwrap() % 2 == shard);
        assert!(of_shard && first.len() == 2, "{first:?}");
        let second = replicated.replica(shard, 1);
        eventually("the second replica to hold the same", async || {
            let rows = second.sql(stored).await;
            (rows == first).then_some(()).ok_or(format!("{rows:?}"))
        })
        .await;
    }
    replicated.audit(sent + 4).await;
    // No table is on one replica alone.
    let kinds = "SELECT DISTINCT startsWith(engine, 'Replicated') FROM system.tables \
                 WHERE database = currentDatabase() AND engine LIKE '%MergeTree'";
    assert_eq!(replicated.replica(1, 1).sql(kinds).await, [["1"]]);
}

#[tokio::test]
async fn a_foreign_table_on_one_replica_is_named() {
    let replicated = Replicated::without_schema("foreign_replica", 1).await;
    let world = &replicated.world;
    let second = replicated.replica(0, 1);
    let create = format!("CREATE DATABASE {}", world.name);
    second.sql_as("default", "default", &create).await;
    let v1 = include_str!("../../migrations/V1__create_events.sql");
    second.sql(v1).await;
    let address = replicated.shards[0][1].address();
    let migrate = [&["migrate"], &CLUSTER[..]].concat();
    let line = world.refused(&migrate).await;
    assert!(
        line.contains(&format!(
            "clickhouse at {address} has tables that are not as captcha makes them: events (it is not replicated"
        )),
        "{line}"
    );
    let databases = "SELECT toString(count()) FROM system.databases WHERE name = '{}'";
    let first = replicated.replica(0, 0);
    let count = first
        .sql_as("default", "default", &databases.replace("{}", &world.name))
        .await;
    assert_eq!(count, [["0"]]);
    second.sql("RENAME TABLE events TO theirs").await;
    replicated.migrate(&[]).await;
    assert!(replicated.migrate(&[]).await.contains("nothing to do"));
    // Without the name of the cluster nothing is made beside what is replicated.
    assert!(world.migrate(&[]).await.contains("nothing to do"));
    first.sql("DROP TABLE dead_letters SYNC").await;
    let line = world.refused(&["migrate"]).await;
    assert!(
        line.contains("give --clickhouse-cluster, as when they were made"),
        "{line}"
    );
    let said = replicated.migrate(&[]).await;
    assert!(said.starts_with("made dead_letters again: "), "{said}");
}

#[tokio::test]
async fn a_replica_or_the_keeper_that_is_away_holds_up_and_nothing_else() {
    let mut replicated = Replicated::new("replica_away", 1).await;
    let (serve, consume) = {
        let world = &replicated.world;
        (world.serve().await, world.consume(&[]).await)
    };
    let mut sent = accept(&serve.address, &events(40)).await.len() as u64;
    replicated.await_counted(sent).await;
    await_all_ready(&consume).await;

    for index in [1, 0] {
        replicated.shards[0][index].kill();
        // What is counted is told by the one that is left, and what comes is kept by Kafka.
        replicated.await_counted(sent).await;
        let posted = accept(&serve.address, &events(40)).await.len() as u64;
        consume
            .await_ready(503, "answered error 285 (TOO_FEW_LIVE_REPLICAS)")
            .await;
        assert_eq!(get(&consume.admin, "/livez").await.status, 200);
        let again = replicated.migrate(&[]).await;
        assert!(again.contains("nothing to do"), "{again}");
        replicated.shards[0][index].start_and_listen().await;
        sent += posted;
        replicated.await_counted(sent).await;
        await_all_ready(&consume).await;
    }

    replicated.zookeeper.kill();
    let posted = accept(&serve.address, &events(40)).await.len() as u64;
    consume.await_ready(503, "(KEEPER_EXCEPTION)").await;
    replicated.zookeeper.start_and_listen().await;
    sent += posted;
    replicated.await_counted(sent).await;
    await_all_ready(&consume).await;
    replicated.await_log(sent).await;
}

#[tokio::test]
async fn replicas_and_consumers_are_killed_under_load() {
    let mut replicated = Replicated::new("replicas_killed", 1).await;
    let fast = ["--insert-interval-ms", "20"];
    let serve = replicated.world.serve().await;
    let mut consume = replicated.world.consume(&fast).await;
    // A replica that was killed gives up if Keeper does not know of half the rows that it has on disk: not of a last part,
    // then, if there is more than that.
    let mut sent = 0;
    for _ in 0..4 {
        sent += accept(&serve.address, &events(5_000)).await.len() as u64;
    }
    replicated.await_counted(sent).await;
    let (stop, posting) = post_until_told(&serve.address);
    for round in 0..12 {
        tokio::time::sleep(std::time::Duration::from_millis(300 + 70 * round)).await;
        match round % 4 {
            0 | 2 => {
                let replica = &mut replicated.shards[0][round as usize % 4 / 2];
                replica.kill();
                replica.start_and_listen().await;
            }
            1 => {
                consume.kill();
                consume = replicated.world.consume(&fast).await;
            }
            _ => {
                replicated.zookeeper.kill();
                replicated.zookeeper.start_and_listen().await;
            }
        }
    }
    stop.send(()).unwrap();
    sent += posting.await.unwrap();
    replicated.await_counted(sent).await;
    replicated.await_log(sent).await;
    await_all_ready(&consume).await;
}

#[tokio::test]
async fn consumers_of_different_replicas_meet_and_stay_exact() {
    let replicated = Replicated::new("replica_rivals", 1).await;
    let world = &replicated.world;
    let serve = world.serve().await;
    let [a, b] = &replicated.shards[0];
    let turned = world.beside(&[b.address(), a.address()].join(","));
    let fast = ["--insert-interval-ms", "10"];
    let rivals = [world.consume(&fast).await, turned.consume(&fast).await];
    for rival in &rivals {
        await_all_ready(rival).await;
    }
    let mut sent = 0;
    eventually("consumers that meet", async || {
        for _ in 0..20 {
            sent += accept(&serve.address, &events(30)).await.len() as u64;
        }
        let [first, second] = &rivals;
        let name = "captcha_heads_moved_total";
        let moved = first.metric(name).await + second.metric(name).await;
        (moved > 0.0).then_some(()).ok_or("never".to_string())
    })
    .await;
    replicated.await_counted(sent).await;
    replicated.await_log(sent).await;
}

#[tokio::test]
async fn months_go_from_both_replicas() {
    let replicated = Replicated::without_schema("replica_months", 1).await;
    drop_old_months(&replicated.world, &CLUSTER).await;
    let rows = "SELECT partition, offset, kind FROM events ORDER BY partition, offset";
    let [first, second] = [0, 1].map(|index| replicated.replica(0, index));
    assert_eq!(first.sql(rows).await, second.sql(rows).await);
}

#[tokio::test]
async fn a_replica_that_lost_its_disk_is_made_again() {
    let mut replicated = Replicated::new("replica_lost", 1).await;
    let (serve, _consume) = {
        let world = &replicated.world;
        (world.serve().await, world.consume(&[]).await)
    };
    let mut sent = accept(&serve.address, &events(40)).await.len() as u64;
    replicated.await_counted(sent).await;
    for (index, name) in [(1, "b"), (0, "a")] {
        replicated.shards[0][index].lose_disk();
        sent += accept(&serve.address, &events(40)).await.len() as u64;
        replicated.shards[0][index].start_and_listen().await;
        let migrate = [&["migrate"], &CLUSTER[..]].concat();
        let line = replicated.world.refused(&migrate).await;
        assert!(line.contains("run SYSTEM DROP REPLICA on another one"), "{line}");

        let other = replicated.replica(0, 1 - index);
        let active = "SELECT toString(max(active_replicas)) FROM system.replicas";
        eventually("keeper to miss the replica", async || {
            let active = other.sql(active).await;
            (active == [["1"]])
                .then_some(())
                .ok_or(format!("{active:?} are active"))
        })
        .await;
        let forget = format!("SYSTEM DROP REPLICA '{name}' FROM DATABASE {}", other.name);
        other.sql(&forget).await;
        let page = replicated.migrate(&["--dry-run"]).await;
        let [lost, left] = [index, 1 - index].map(|at| replicated.shards[0][at].address());
        let line = format!("the tables of {lost} as {left} has them\n");
        assert!(page.contains(&format!("would make {line}")), "{page}");
        let page = replicated.migrate(&[]).await;
        assert!(page.starts_with(&format!("made {}; ", line.trim_end())), "{page}");
        let made = replicated.replica(0, index);
        let queue = "SELECT toString(sum(queue_size)) FROM system.replicas";
        eventually("the replica to have fetched all", async || {
            let waiting = made.sql(queue).await;
            (waiting == [["0"]]).then_some(()).ok_or(format!("{waiting:?} wait"))
        })
        .await;
        // An insert that waited for the one that is gone does not know of this one.
        made.sql("SYSTEM RESTART REPLICAS").await;
        replicated.await_counted(sent).await;
        replicated.await_log(sent).await;
    }
}

#[tokio::test]
async fn older_rows_get_projections_on_each_replica() {
    let replicated = Replicated::new("replicas_projections", 1).await;
    let world = &replicated.world;
    let serve = world.serve().await;
    let _consume = world.consume(&[]).await;
    accept(&serve.address, &events(40)).await;
    replicated.await_counted(40).await;
    for name in PROJECTIONS {
        let clear = format!("ALTER TABLE events CLEAR PROJECTION {name} SETTINGS mutations_sync = 2");
        world.sql(&clear).await;
    }
    for index in 0..2 {
        await_status(&replicated.replica(0, index), 0, 40).await;
    }
    let said = replicated.migrate(&[]).await;
    assert!(
        said.contains("making projection days of older rows: 40 of 40 rows lack it\n"),
        "{said}"
    );
    accept(&serve.address, &events(40)).await;
    replicated.await_counted(80).await;
    for index in 0..2 {
        await_status(&replicated.replica(0, index), 80, 80).await;
    }
    let again = replicated.migrate(&[]).await;
    assert!(again.contains("nothing to do"), "{again}");
    replicated.await_log(80).await;
}
