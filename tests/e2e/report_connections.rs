//! What reports cost ClickHouse: connections that are kept, questions that are one, and questions that end.

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::client::{SITE, accept, events, get, served};
use crate::consume_holds::users;
use crate::process::{Process, Server, eventually, shared};
use crate::world::{World, counters};

const KAFKA: &str = "CAPTCHA_TEST_KAFKA";

/// Reports that follow each other.
const REPORTS: usize = 50;

/// People who keep one page open.
const READERS: usize = 200;

/// Rows that are read slowly: at 40 us each, 40 s on one processor, in blocks of less than the 3 s that ClickHouse lets
/// one sleep.
const SLOW_ROWS: usize = 1_000_000;

/// A world on a ClickHouse of its own, with this many events stored.
async fn stored(test: &str, count: usize) -> (World, Server, Process) {
    let server = Server::started("clickhouse").await;
    let world = World::on(test, &shared(KAFKA), &server.address());
    let (serve, mut consume) = world.all().await;
    accept(&serve.address, &events(count)).await;
    world.await_counted(count as u64).await;
    // It writes watermarks each second, which are questions too.
    consume.terminate().await;
    (world, server, serve)
}

/// SELECT queries that the server was asked.
async fn selects(world: &World) -> i64 {
    let sql = "SELECT toString(value) FROM system.events WHERE event = 'SelectQuery'";
    world.sql(sql).await[0][0].parse().unwrap()
}

async fn served_events(serve: &Process, path: &str) -> u64 {
    let reply = get(&serve.address, path).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    counters(&reply.json()).iter().map(|row| row.2).sum()
}

#[tokio::test]
async fn a_report_after_another_is_two_questions() {
    let (world, _server, serve) = stored("two_questions", 3).await;
    let path = format!("/v1/report?site_id={SITE}");
    assert_eq!(served_events(&serve, &path).await, 3);
    let before = selects(&world).await;
    for _ in 0..REPORTS {
        assert_eq!(served_events(&serve, &path).await, 3);
    }
    let asked = selects(&world).await - before;
    // Now and then this test, the clock of serve and a new connection ask too.
    let expected = 2 * REPORTS as i64;
    assert!((expected..expected + 20).contains(&asked), "{asked}");
}

#[tokio::test]
async fn two_hundred_readers_of_one_page_are_all_answered_with_a_few_questions() {
    let (world, _server, serve) = stored("one_page", 30).await;
    let before = selects(&world).await;
    let mut reading = JoinSet::new();
    for _ in 0..READERS {
        let address = serve.address.clone();
        reading.spawn(async move { get(&address, "/v1/report").await });
    }
    let replies = reading.join_all().await;
    let asked = selects(&world).await - before;
    for reply in replies {
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(counters(&reply.json())[0].2, 30);
    }
    // Those who came while a question was on its way wait for the next one.
    assert!(asked < READERS as i64, "{asked}");
}

#[tokio::test]
async fn thirty_different_questions_at_once_are_all_answered() {
    let (_world, _server, serve) = stored("thirty", 3).await;
    let mut reading = JoinSet::new();
    for day in 1..=30 {
        let (address, all) = (serve.address.clone(), format!("/v1/report?from=1970-01-{day:02}"));
        reading.spawn(async move { get(&address, &all).await });
    }
    for reply in reading.join_all().await {
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(counters(&reply.json())[0].2, 3);
    }
}

#[tokio::test]
async fn a_server_that_rolls_costs_no_report_once_it_is_back() {
    let (world, mut server, serve) = stored("rolls", 3).await;
    for round in 0..3 {
        assert_eq!(served_events(&serve, "/v1/report").await, 3, "{round}");
        // Gracefully, at once, and frozen: the last one answers no question on the connection that was kept.
        match round {
            0 => server.stop().await,
            1 => server.kill(),
            _ => server.freeze().await,
        }
        get(&serve.address, "/v1/report").await.assert_away();
        if round == 2 {
            server.kill();
        }
        server.start_and_listen().await;
        eventually("tables", async || {
            let count = world.counted().await?;
            (count == 3).then_some(()).ok_or(count.to_string())
        })
        .await;
        assert_eq!(served_events(&serve, "/v1/report").await, 3, "{round}");
    }
}

#[tokio::test]
async fn what_changes_while_a_connection_is_kept_is_seen_by_the_next_report() {
    let mut server = Server::new("clickhouse");
    let world = World::on("kept_changes", &shared(KAFKA), &server.address());
    // A policy that follows a table, so that it changes while the server runs.
    let policy = format!(
        "<databases><{0}><events><filter>partition NOT IN (SELECT partition FROM {0}.hidden)</filter></events></{0}>\
         </databases>",
        world.name
    );
    server.set_users(&users(&[("reader", "", &policy)]));
    server.start_and_listen().await;
    world.migrate(&[]).await;
    world
        .sql("CREATE TABLE hidden (partition Int32) ENGINE = MergeTree ORDER BY ()")
        .await;
    let login = ["--clickhouse-user", "reader", "--clickhouse-password", "pw"];
    let serve = world.serve_with(&login).await;
    let _consume = world.consume(&[]).await;
    accept(&serve.address, &events(3)).await;
    world.await_counted(3).await;
    assert_eq!(served_events(&serve, "/v1/report").await, 3);

    for partitions in [
        "SELECT min(partition) FROM events",
        "SELECT DISTINCT partition FROM events",
    ] {
        world.sql(&format!("INSERT INTO hidden {partitions}")).await;
        let reply = get(&serve.address, "/v1/report").await;
        assert_eq!(reply.status, 503, "{}", reply.text());
        let reasons = serve.logged("reports fail", "reason");
        assert!(
            reasons
                .iter()
                .all(|reason| reason.contains("a row policy hides the others")),
            "{reasons:?}"
        );
        world.sql("TRUNCATE TABLE hidden").await;
        assert_eq!(served_events(&serve, "/v1/report").await, 3);
    }

    world.sql("RENAME TABLE claims TO elsewhere").await;
    let reply = get(&serve.address, "/v1/report").await;
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert!(reply.text().contains("the tables are not what"), "{}", reply.text());
    world.sql("RENAME TABLE elsewhere TO claims").await;
    assert_eq!(served_events(&serve, "/v1/report").await, 3);
}

/// A `serve` that reads the events of its ClickHouse slowly, through a policy that hides none.
async fn slow(test: &str, profile: &str, flags: &[&str]) -> (World, Server, Process) {
    let mut server = Server::new("clickhouse");
    let world = World::on(test, &shared(KAFKA), &server.address());
    let policy = format!(
        "<databases><{0}><events><filter>sleepEachRow(0.00004) + offset &gt;= 0</filter></events></{0}></databases>",
        world.name
    );
    server.set_users(&users(&[("slow", profile, &policy)]));
    server.start_and_listen().await;
    world.migrate(&["--partitions", "1"]).await;
    world
        .sql(&format!(
            "INSERT INTO events (topic, partition, offset, arrival, span, kind, site_id, type, correlation_id, time) \
             SELECT '{}', 0, number, now64(3), 1, 'event', '{SITE}', 'serve', generateUUIDv4(), now() \
             FROM numbers({SLOW_ROWS})",
            world.name
        ))
        .await;
    let login = ["--clickhouse-user", "slow", "--clickhouse-password", "pw"];
    let serve = world.serve_with(&[&login, flags].concat()).await;
    (world, server, serve)
}

/// Waits until the slow user asks something, or nothing.
async fn await_asking(world: &World, asks: bool) {
    eventually(&format!("a question to be there: {asks}"), async || {
        let sql = "SELECT query FROM system.processes WHERE user = 'slow' AND query LIKE '%FROM events%'";
        let rows = world.sql(sql).await;
        (rows.is_empty() != asks).then_some(()).ok_or(format!("{rows:?}"))
    })
    .await;
}

/// How often the server has answered with an error.
async fn errors(world: &World, name: &str) -> u64 {
    let sql = format!("SELECT toString(sum(value)) FROM system.errors WHERE name = '{name}'");
    world.sql(&sql).await[0][0].parse().unwrap()
}

#[tokio::test]
async fn a_reader_that_hangs_up_cancels_its_question() {
    let (world, _server, serve) = slow("cancelled", "", &[]).await;
    let path = format!("/v1/report?site_id={SITE}");
    let open = async || {
        let mut stream = TcpStream::connect(&serve.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    };
    let first = open().await;
    await_asking(&world, true).await;
    drop(first);
    await_asking(&world, false).await;
    // The server did not work until the time of the question was over.
    assert_eq!(errors(&world, "TIMEOUT_EXCEEDED").await, 0);
}

#[tokio::test]
async fn a_question_has_a_time_and_a_memory_that_flags_limit() {
    let flags = ["--report-query-seconds", "1"];
    let (world, _server, serve) = slow("limited_time", "", &flags).await;
    let path = format!("/v1/report?site_id={SITE}");
    get(&serve.address, &path).await.assert_away();
    assert!(errors(&world, "TIMEOUT_EXCEEDED").await >= 1);

    let (world, _server, _serve) = stored("limited_memory", 1).await;
    world
        .sql(
            "INSERT INTO events (topic, partition, offset, arrival, span, kind, site_id, type, correlation_id, time) \
             SELECT 'many', 0, number, now64(3), 1, 'event', generateUUIDv4(), 'serve', generateUUIDv4(), now() \
             FROM numbers(200000)",
        )
        .await;
    let serve = world.serve_with(&["--report-query-bytes-max", "1048576"]).await;
    get(&serve.address, "/v1/report").await.assert_away();
    let reasons = serve.logged("reports fail", "reason");
    assert!(reasons[0].contains("MEMORY_LIMIT_EXCEEDED"), "{reasons:?}");
    assert_eq!(served_events(&world.serve().await, "/v1/report").await, 200_001);
}

/// Profiles that forbid what flags want, or are stricter.
const PROFILES: [(&str, &str); 4] = [
    ("readonly", "<readonly>2</readonly>"),
    (
        "constant",
        "<constraints><max_memory_usage><const/></max_memory_usage><max_execution_time><const/></max_execution_time>\
         </constraints>",
    ),
    (
        "between",
        "<max_memory_usage>900000000</max_memory_usage><constraints><max_memory_usage><min>800000000</min>\
         <max>1000000000</max></max_memory_usage><max_execution_time><min>1</min><max>5</max></max_execution_time>\
         </constraints>",
    ),
    (
        "asynchronous",
        "<interactive_delay>3600000000</interactive_delay><constraints><interactive_delay><const/></interactive_delay>\
         </constraints>",
    ),
];

#[tokio::test]
async fn a_profile_that_limits_questions_itself_is_left_alone() {
    let mut server = Server::new("clickhouse");
    server.set_users(&users(&PROFILES.map(|(name, profile)| (name, profile, ""))));
    server.start_and_listen().await;
    let world = World::on("own_limits", &shared(KAFKA), &server.address());
    let (usual, _consume) = world.all().await;
    accept(&usual.address, &served("2024-02-29T12:00:00")).await;
    world.await_counted(1).await;
    for (user, _) in PROFILES {
        let login = ["--clickhouse-user", user, "--clickhouse-password", "pw"];
        let serve = world.serve_with(&login).await;
        let path = format!("/v1/report?site_id={SITE}&site_id={}", Uuid::nil());
        assert_eq!(served_events(&serve, &path).await, 1, "{user}");
    }
}
