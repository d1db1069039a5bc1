//! What is not the fault of a record: consume holds, says so once, loses nothing, and goes on by itself when the
//! cause is gone. Each class of `docs/errors.md` that can be produced here, on the real servers.

use crate::client::{accept, events, get, served, try_post};
use crate::process::{Process, Server, TOPICS, configure_topic, eventually, kafka_tool, shared};
use crate::world::World;

const SHARED_KAFKA: &str = "CAPTCHA_TEST_KAFKA";

/// Waits until consume is not ready for this reason; it lives all the same.
async fn holds(consume: &Process, reason: &str) {
    consume.await_ready(503, reason).await;
    assert_eq!(get(&consume.admin, "/livez").await.status, 200);
}

/// Waits until everything is counted, once, and none of it was called bad.
async fn goes_on(world: &World, consume: &Process, records: u64) {
    world.await_counted(records).await;
    world.await_log(records as i64).await;
    consume.await_ready(200, "partition 0: ok").await;
    let letters = world.sql("SELECT toString(count()) FROM dead_letters").await;
    assert_eq!(letters, [["0"]]);
}

/// Stores a few events, breaks something, sends more, sees consume hold, repairs it, and sees it go on.
async fn hold_and_go_on(test: &str, broken: &[&str], reasons: &[&str], repaired: &[&str]) {
    let world = World::new(test);
    let named = |sql: &str| sql.replace("DB", &world.name);
    world.migrate(&["--partitions", "1"]).await;
    let (serve, consume) = (world.serve().await, world.consume(&[]).await);
    accept(&serve.address, &events(3)).await;
    goes_on(&world, &consume, 3).await;
    for sql in broken {
        world.sql(&named(sql)).await;
    }
    accept(&serve.address, &events(5)).await;
    for reason in reasons {
        holds(&consume, reason).await;
    }
    accept(&serve.address, &events(1)).await;
    for sql in repaired {
        world.sql_as("default", "default", &named(sql)).await;
    }
    goes_on(&world, &consume, 9).await;
    // Told once that it lasts, and once that it is over.
    let partition = |message| {
        let checks = consume.logged(message, "check");
        checks.iter().filter(|check| *check == "partition 0").count()
    };
    assert_eq!(partition("not ready any more"), 1);
    assert_eq!(partition("ready"), 2, "when it started, and after that");
}

#[tokio::test]
async fn a_missing_table() {
    let broken = ["RENAME TABLE events TO away"];
    let repaired = ["RENAME TABLE DB.away TO DB.events"];
    let reason = "has not all tables in database";
    hold_and_go_on("table", &broken, &[reason, "run `captcha migrate`"], &repaired).await;
}

/// A view of somebody else's on `events`, into a table of theirs.
const THEIRS: [&str; 2] = [
    "CREATE TABLE theirs (offset UInt8, x String) ENGINE = MergeTree ORDER BY offset",
    "CREATE MATERIALIZED VIEW their_view TO theirs AS SELECT offset FROM events",
];

/// What is said is about the view, and not about captcha's own tables; or nothing, where the server stores a batch although
/// the view failed, which the head says.
async fn their_view_fails(test: &str, broken: &[&str], reason: &str) {
    let world = World::new(test);
    world.migrate(&["--partitions", "1"]).await;
    let (serve, consume) = (world.serve().await, world.consume(&[]).await);
    accept(&serve.address, &events(3)).await;
    goes_on(&world, &consume, 3).await;
    for sql in broken {
        world.sql(sql).await;
    }
    accept(&serve.address, &events(5)).await;
    eventually("a reason, or the events", async || {
        let ready = consume.ready().await.text();
        assert!(!ready.contains("captcha migrate"), "{ready}");
        let is_stored = world.counted().await == Ok(8);
        let is_held = ready.contains("error") && ready.contains(reason);
        (is_stored || is_held).then_some(()).ok_or(ready)
    })
    .await;
    assert!(world.migrate(&[]).await.starts_with("nothing to do"));
    world.sql("DROP VIEW their_view").await;
    goes_on(&world, &consume, 8).await;
}

#[tokio::test]
async fn a_view_of_somebody_else_whose_target_is_gone() {
    let broken = [THEIRS[0], THEIRS[1], "DROP TABLE theirs"];
    let reason = ".theirs' of view";
    their_view_fails("their_target", &broken, reason).await;
}

#[tokio::test]
async fn a_view_of_somebody_else_that_fails() {
    for (number, view) in [
        "AS SELECT toUInt8(topic) AS offset FROM events",
        "AS SELECT offset FROM events WHERE offset IN (SELECT offset FROM other)",
        "AS SELECT offset FROM events WHERE toString(offset) IN (SELECT x FROM more)",
        "AS SELECT offset FROM events WHERE throwIf(offset < 100, 'theirs') = 0",
    ]
    .iter()
    .enumerate()
    {
        let view = format!("CREATE MATERIALIZED VIEW their_view TO theirs {view}");
        let broken = [
            THEIRS[0],
            "CREATE TABLE other (offset UInt8) ENGINE = MergeTree ORDER BY offset",
            "CREATE TABLE more (offset UInt8, x String) ENGINE = MergeTree ORDER BY offset",
            &view,
            "DROP TABLE other",
            "ALTER TABLE more DROP COLUMN x",
        ];
        let reason = ".their_view, which is not captcha's, or drop it";
        their_view_fails(&format!("their_view_{number}"), &broken, reason).await;
    }
}

#[tokio::test]
async fn a_missing_database() {
    let broken = ["RENAME DATABASE DB TO DB_away"];
    let repaired = ["RENAME DATABASE DB_away TO DB"];
    let reason = "has no tables in database";
    hold_and_go_on("database", &broken, &[reason, "run `captcha migrate`"], &repaired).await;
}

#[tokio::test]
async fn a_missing_column() {
    let broken = ["ALTER TABLE events RENAME COLUMN reason TO why"];
    let repaired = ["ALTER TABLE DB.events RENAME COLUMN why TO reason"];
    let reason = "error 16 (NO_SUCH_COLUMN_IN_TABLE)";
    hold_and_go_on("column", &broken, &[reason], &repaired).await;
}

#[tokio::test]
async fn a_missing_column_that_is_read() {
    let broken = ["ALTER TABLE events RENAME COLUMN raw TO cooked"];
    let repaired = ["ALTER TABLE DB.events RENAME COLUMN cooked TO raw"];
    hold_and_go_on("read", &broken, &["error 47 (UNKNOWN_IDENTIFIER)"], &repaired).await;
}

#[tokio::test]
async fn too_many_parts() {
    let broken = ["ALTER TABLE events MODIFY SETTING parts_to_delay_insert = 1, parts_to_throw_insert = 1"];
    let repaired = ["ALTER TABLE DB.events RESET SETTING parts_to_delay_insert, parts_to_throw_insert"];
    let reasons = ["error 252 (TOO_MANY_PARTS)", "wait until clickhouse has merged them"];
    hold_and_go_on("parts", &broken, &reasons, &repaired).await;
}

#[tokio::test]
async fn not_enough_space_by_a_setting() {
    let broken = ["ALTER TABLE events MODIFY SETTING min_free_disk_bytes_to_perform_insert = 1000000000000000"];
    let repaired = ["ALTER TABLE DB.events RESET SETTING min_free_disk_bytes_to_perform_insert"];
    let reasons = ["error 243 (NOT_ENOUGH_SPACE)", "make room on clickhouse's disk"];
    hold_and_go_on("space", &broken, &reasons, &repaired).await;
}

#[tokio::test]
async fn a_read_only_table() {
    let broken = ["ALTER TABLE events MODIFY SETTING table_readonly = 1"];
    let repaired = ["ALTER TABLE DB.events RESET SETTING table_readonly"];
    let reason = "error 774 (TABLE_IS_PERMANENTLY_READ_ONLY)";
    hold_and_go_on("read_only", &broken, &[reason], &repaired).await;
}

/// Users of a ClickHouse: `default`, who may do all, and the others, each with what its profile, its constraints
/// and its grants are.
pub fn users(others: &[(&str, &str, &str)]) -> String {
    const ANYWHERE: &str = "<networks><ip>::/0</ip></networks><quota>default</quota>";
    let (mut profiles, mut entries) = (String::new(), String::new());
    for (name, profile, grants) in others {
        profiles += &format!("<{name}>{profile}</{name}>");
        entries += &format!("<{name}><password>pw</password><profile>{name}</profile>{grants}{ANYWHERE}</{name}>");
    }
    format!(
        "<profiles><default/>{profiles}</profiles><quotas><default/></quotas>\
         <users><default><password></password><profile>default</profile>{ANYWHERE}</default>{entries}</users>"
    )
}

#[tokio::test]
async fn users_that_may_not() {
    const NOT_INSERT: &str = "<grants><query>GRANT SELECT ON *.*</query></grants>";
    const PINNED: &str = "<insert_deduplicate>0</insert_deduplicate>\
         <constraints><insert_deduplicate><const/></insert_deduplicate></constraints>";
    let limited = [
        ("granted", "", NOT_INSERT),
        ("reader", "<readonly>2</readonly>", ""),
        ("pinned", PINNED, ""),
        (
            "small",
            "<max_memory_usage>1</max_memory_usage><max_untracked_memory>1</max_untracked_memory>",
            "",
        ),
        ("slow", "<max_execution_time>0.000001</max_execution_time>", ""),
        (
            "lone",
            "<max_concurrent_queries_for_user>1</max_concurrent_queries_for_user>",
            "",
        ),
    ];
    let reasons = [
        ["error 497 (ACCESS_DENIED)", "grant it to --clickhouse-user"],
        ["error 164 (READONLY)", "readonly: set it to 0"],
        ["error 452 (SETTING_CONSTRAINT_VIOLATION)", "insert_deduplicate"],
        ["error 241 (MEMORY_LIMIT_EXCEEDED)", "give clickhouse more memory"],
        ["error 159 (TIMEOUT_EXCEEDED)", "max_execution_time"],
        ["error 202 (TOO_MANY_SIMULTANEOUS_QUERIES)", "do less at once"],
    ];
    let mut clickhouse = Server::new("clickhouse");
    clickhouse.set_users(&users(&limited));
    clickhouse.start_and_listen().await;
    let mut all = Vec::new();
    for ((user, _, _), reasons) in limited.iter().zip(reasons) {
        let world = World::on(user, &shared(SHARED_KAFKA), &clickhouse.address());
        world.migrate(&["--partitions", "1"]).await;
        let event = served("2024-02-29T12:00:00").to_string().into_bytes();
        world.produce(0, &[Some(&event)]).await;
        if *user == "lone" {
            occupy(&world, user).await;
        }
        let login = ["--clickhouse-user", user, "--clickhouse-password", "pw"];
        let consume = world.consume(&login).await;
        for reason in reasons {
            holds(&consume, reason).await;
        }
        all.push((world, consume));
    }
    clickhouse.kill();
    clickhouse.set_users(&users(&limited.map(|(name, _, _)| (name, "", ""))));
    clickhouse.start_and_listen().await;
    for (world, consume) in &all {
        goes_on(world, consume, 1).await;
    }
}

/// Has a user's only query running, for as long as its server lives.
async fn occupy(world: &World, user: &'static str) {
    let long = World::on("long", &world.kafka, &world.clickhouse);
    tokio::spawn(async move {
        let sql = "SELECT sleepEachRow(1) FROM numbers(3600) SETTINGS max_block_size = 1";
        long.sql_as(user, "default", sql).await
    });
    eventually("a query to run", async || {
        let running = format!("SELECT toString(count()) FROM system.processes WHERE user = '{user}'");
        let count = world.sql(&running).await;
        (count == [["1"]]).then_some(()).ok_or("none does".to_string())
    })
    .await;
}

#[tokio::test]
async fn a_wrong_password_until_it_is_the_right_one() {
    let mut clickhouse = Server::new("clickhouse");
    clickhouse.set_users(&users(&[("captcha", "", "")]));
    clickhouse.start_and_listen().await;
    let world = World::on("login", &shared(SHARED_KAFKA), &clickhouse.address());
    world.migrate(&["--partitions", "1"]).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "swordfish\n").unwrap();
    let path = file.path().to_str().unwrap();
    let login = ["--clickhouse-user", "captcha", "--clickhouse-password-file", path];
    let (serve, consume) = (world.serve().await, world.consume(&login).await);
    accept(&serve.address, &events(4)).await;
    holds(&consume, "error 516 (AUTHENTICATION_FAILED)").await;
    let refused = async |server: &str| {
        let series = format!("captcha_logins_refused_total{{server=\"{server}\"}}");
        consume.metric(&series).await
    };
    assert!(refused("clickhouse").await >= 1.0);
    assert_eq!(refused("kafka").await, 0.0);
    std::fs::write(&file, "pw\n").unwrap();
    goes_on(&world, &consume, 4).await;
}

#[tokio::test]
async fn an_insert_that_is_cancelled() {
    let world = World::new("cancelled");
    world.migrate(&["--partitions", "1"]).await;
    world
        .sql("ALTER TABLE events ADD CONSTRAINT slow CHECK sleep(2) = 0")
        .await;
    let (serve, consume) = (world.serve().await, world.consume(&[]).await);
    accept(&serve.address, &events(4)).await;
    let kill = "KILL QUERY WHERE current_database = currentDatabase() AND query LIKE 'INSERT INTO events%'";
    eventually("consume to hold", async || {
        world.sql(kill).await;
        let ready = consume.ready().await.text();
        ready
            .contains("error 394 (QUERY_WAS_CANCELLED)")
            .then_some(())
            .ok_or(ready)
    })
    .await;
    world.sql("ALTER TABLE events DROP CONSTRAINT slow").await;
    goes_on(&world, &consume, 4).await;
}

#[tokio::test]
async fn a_full_disk() {
    let Some(mut clickhouse) = Server::on_small_disk(64) else {
        eprintln!("not tried: this system makes no file system without root");
        return;
    };
    clickhouse.start_and_listen().await;
    let world = World::on("full", &shared(SHARED_KAFKA), &clickhouse.address());
    world.migrate(&["--partitions", "1"]).await;
    let (serve, consume) = (world.serve().await, world.consume(&[]).await);
    accept(&serve.address, &events(3)).await;
    goes_on(&world, &consume, 3).await;
    let filler = clickhouse.disk().join("filler");
    // Fails where it is to fail: when nothing is left.
    let full = std::fs::write(&filler, vec![1; 64 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    accept(&serve.address, &events(5)).await;
    holds(&consume, "error 243 (NOT_ENOUGH_SPACE)").await;
    std::fs::remove_file(filler).unwrap();
    goes_on(&world, &consume, 8).await;
}

#[tokio::test]
async fn a_disk_that_is_not_written() {
    let mut clickhouse = Server::started("clickhouse").await;
    let world = World::on("unwritten", &shared(SHARED_KAFKA), &clickhouse.address());
    world.migrate(&["--partitions", "1"]).await;
    let (serve, consume) = (world.serve().await, world.consume(&[]).await);
    accept(&serve.address, &events(3)).await;
    goes_on(&world, &consume, 3).await;
    // This engine answers Ok all the same, with a part of empty files. The head, read after it, tells.
    clickhouse.set_writable(false);
    accept(&serve.address, &events(5)).await;
    holds(&consume, "error 246 (CORRUPTED_DATA)").await;
    clickhouse.set_writable(true);
    // When it starts it sets the broken part aside: the head goes back, and the records are read again.
    clickhouse.kill();
    clickhouse.start_and_listen().await;
    goes_on(&world, &consume, 8).await;
}

#[tokio::test]
async fn a_topic_that_is_away() {
    let world = World::new("topic");
    world.migrate(&["--partitions", "1"]).await;
    let delete = ["--delete", "--topic", &world.name];
    kafka_tool(TOPICS, &world.kafka, &delete).await;
    let consume = world.consume(&[]).await;
    holds(&consume, &format!("has no topic {}; run `captcha migrate`", world.name)).await;
    world.migrate(&["--partitions", "1", "--topic-recreated"]).await;
    let event = served("2024-02-29T12:00:00").to_string().into_bytes();
    world.produce(0, &[Some(&event)]).await;
    goes_on(&world, &consume, 1).await;
}

#[tokio::test]
async fn a_topic_that_takes_only_small_batches() {
    let world = World::new("batches");
    world.migrate(&["--partitions", "1"]).await;
    let (serve, consume) = (world.serve().await, world.consume(&[]).await);
    let configure = async |setting: &str| configure_topic(&world.kafka, &world.name, setting).await;
    configure("max.message.bytes=10").await;
    let reply = try_post(&serve.address, &events(2)).await.unwrap();
    reply.assert_away();
    let reasons = serve.logged("kafka does not confirm", "reason");
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    assert!(reasons[0].contains("error 10 (MessageTooLarge)"), "{reasons:?}");
    assert!(reasons[0].contains("set max.message.bytes"), "{reasons:?}");
    configure("max.message.bytes=1048588").await;
    accept(&serve.address, &events(2)).await;
    goes_on(&world, &consume, 2).await;
    assert_eq!(serve.logged("kafka confirms again", "message").len(), 1);
}

#[tokio::test]
async fn names_are_those_of_the_server() {
    let page = include_str!("../../docs/errors.md");
    let section = page.split("\n## ").find(|part| part.starts_with("ClickHouse"));
    let world = World::new("names");
    let mut codes = 0;
    for line in section.unwrap().lines() {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let (Some(code), Some(name)) = (cells.next(), cells.next()) else {
            continue;
        };
        if code.parse::<i32>().is_ok() {
            let sql = format!("SELECT toString(errorCodeToName({code}))");
            let named = world.sql_as("default", "default", &sql).await;
            assert_eq!(named, [[name]], "{code}");
            codes += 1;
        }
    }
    assert!(codes > 30, "{codes}");
}
