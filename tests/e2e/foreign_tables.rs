//! A database in which somebody else has tables by captcha's names: `migrate` believes no name.

use crate::client::{accept, events};
use crate::process::eventually;
use crate::world::World;

/// All that captcha makes in a database.
const OURS: [&str; 6] = [
    "claims",
    "dead_letters",
    "events",
    "migration_log",
    "migrations",
    "topics",
];

async fn create_database(world: &World) {
    let sql = format!("CREATE DATABASE {}", world.name);
    world.sql_as("default", "default", &sql).await;
}

/// What there is in the database, and how it was made.
async fn there(world: &World) -> Vec<Vec<String>> {
    let sql = "SELECT name, create_table_query FROM system.tables WHERE database = currentDatabase() ORDER BY name";
    world.sql(sql).await
}

/// The statement by which the first migration makes `events`, changed.
fn events_without(part: &str) -> String {
    let sql = include_str!("../../migrations/V1__create_events.sql");
    assert!(sql.contains(part), "{part}");
    sql.replace(part, "")
}

/// `migrate` names each of these and leaves everything as it is.
async fn refused(world: &World, parts: &[&str]) {
    let before = there(world).await;
    for args in [&["migrate", "--dry-run"][..], &["migrate"]] {
        let line = world.refused(args).await;
        for part in parts {
            assert!(line.contains(part), "{part}: {line}");
        }
    }
    assert_eq!(there(world).await, before);
}

#[tokio::test]
async fn a_table_of_somebody_else_is_named_and_nothing_is_made_beside_it() {
    for name in OURS {
        let world = World::new(&format!("foreign_{name}"));
        create_database(&world).await;
        world
            .sql(&format!("CREATE TABLE {name} (x UInt8) ENGINE = MergeTree ORDER BY x"))
            .await;
        let differs = format!("has tables that are not as captcha makes them: {name} (");
        refused(&world, &[&differs, "; rename them or change them back"]).await;
        world.sql(&format!("RENAME TABLE {name} TO theirs")).await;
        let made = world.migrate(&[]).await;
        assert!(made.contains("applied V1__create_events.sql"), "{made}");
        assert!(world.migrate(&[]).await.starts_with("nothing to do"));
    }
}

#[tokio::test]
async fn other_things_by_these_names_are_refused_too() {
    for (name, sql) in [
        ("topics", "CREATE VIEW topics AS SELECT 1 AS topic"),
        (
            "events",
            "CREATE MATERIALIZED VIEW events ENGINE = MergeTree ORDER BY x AS SELECT 1 AS x",
        ),
        ("dead_letters", "CREATE VIEW dead_letters AS SELECT 1 AS topic"),
        (
            "claims",
            "CREATE DICTIONARY claims (id UInt64, x String) PRIMARY KEY id SOURCE(NULL()) LAYOUT(FLAT()) LIFETIME(0)",
        ),
        ("migrations", "CREATE TABLE migrations (version UInt32) ENGINE = Memory"),
    ] {
        let world = World::new(&format!("foreign_thing_{name}"));
        create_database(&world).await;
        world.sql(sql).await;
        let differs = format!("has tables that are not as captcha makes them: {name} (");
        refused(&world, &[&differs]).await;
    }
}

#[tokio::test]
async fn a_table_that_lacks_what_counting_once_rests_on_is_refused() {
    for (number, (part, reason)) in [
        (
            "    non_replicated_deduplication_window = 100000,\n",
            "non_replicated_deduplication_window is not set and must be at least 100000",
        ),
        (
            "    fsync_after_insert = 1,\n",
            "fsync_after_insert is not set and must be at least 1",
        ),
        ("PARTITION BY toYYYYMM(arrival)\n", "partition key"),
        ("    raw String CODEC(ZSTD(1)),\n", "column raw is missing"),
    ]
    .into_iter()
    .enumerate()
    {
        let world = World::new(&format!("lookalike_{number}"));
        create_database(&world).await;
        world.sql(&events_without(part)).await;
        refused(&world, &["events (", reason]).await;
    }
}

#[tokio::test]
async fn a_table_that_was_put_in_the_place_of_ours_is_not_used() {
    let world = World::new("replaced");
    let (serve, mut consume) = world.all().await;
    accept(&serve.address, &events(3)).await;
    world.await_counted(3).await;
    assert!(consume.terminate().await.success());
    world.sql("RENAME TABLE events TO away").await;
    let window = "    non_replicated_deduplication_window = 100000,\n";
    world.sql(&events_without(window)).await;
    let reason = "non_replicated_deduplication_window is not set and must be at least 100000";
    refused(&world, &["events (", reason]).await;

    accept(&serve.address, &events(2)).await;
    let consume = world.consume(&[]).await;
    consume.await_ready(503, reason).await;
    let stored = world.sql("SELECT toString(count()) FROM events").await;
    assert_eq!(stored, [["0"]]);
    world.sql("EXCHANGE TABLES events AND away").await;
    assert!(world.migrate(&[]).await.starts_with("nothing to do"));
    world.await_counted(5).await;
}

#[tokio::test]
async fn what_an_older_captcha_recorded_of_a_foreign_table_is_made_again() {
    let world = World::new("recorded_in_vain");
    world.migrate(&[]).await;
    // An older one recorded V1 over somebody else's table, could not go on, and the table was moved away.
    for sql in [
        "DROP TABLE dead_letters",
        "DROP TABLE topics",
        "DROP TABLE claims",
        "DROP TABLE events",
        "ALTER TABLE migrations DELETE WHERE version > 1 SETTINGS mutations_sync = 2",
    ] {
        world.sql(sql).await;
    }
    let said = world.migrate(&[]).await;
    assert!(
        said.starts_with("made events again: it was lost, and nothing was ever stored\n"),
        "{said}"
    );
    assert!(said.contains("applied V7__place_shards.sql"), "{said}");
    assert!(world.migrate(&[]).await.starts_with("nothing to do"));
    let (serve, _consume) = world.all().await;
    accept(&serve.address, &events(3)).await;
    world.await_counted(3).await;
    // A view holds nothing, so it is made again at any time.
    world.sql("DROP TABLE dead_letters").await;
    let said = world.migrate(&[]).await;
    assert!(said.starts_with("made dead_letters again"), "{said}");
}

#[tokio::test]
async fn columns_indices_and_larger_windows_of_somebody_else_are_left_alone() {
    let world = World::new("own_columns");
    let (serve, _consume) = world.all().await;
    for sql in [
        "ALTER TABLE events ADD COLUMN mine String DEFAULT 'x' FIRST",
        "ALTER TABLE events ADD INDEX mine_too offset TYPE minmax",
        "ALTER TABLE events ADD PROJECTION mine_as_well (SELECT type, count() GROUP BY type)",
        "ALTER TABLE events MODIFY COLUMN raw CODEC(ZSTD(9))",
        "ALTER TABLE events MODIFY COLUMN raw COMMENT 'bytes, no TTL'",
        "ALTER TABLE events MODIFY SETTING non_replicated_deduplication_window = 200000, old_parts_lifetime = 100",
        "ALTER TABLE topics ADD COLUMN mine String",
    ] {
        world.sql(sql).await;
    }
    assert!(world.migrate(&[]).await.starts_with("nothing to do"));
    accept(&serve.address, &events(3)).await;
    world.await_counted(3).await;
    for (sql, reason) in [
        (
            "ALTER TABLE events MODIFY TTL toDateTime(arrival) + INTERVAL 10 YEAR",
            "it has a TTL",
        ),
        ("ALTER TABLE events REMOVE TTL", ""),
        (
            "ALTER TABLE topics MODIFY COLUMN shard Int64 DEFAULT 0",
            "column shard is Int64 and must be Int32",
        ),
    ] {
        world.sql(sql).await;
        if !reason.is_empty() {
            refused(
                &world,
                &["must be", reason].map(|part| if part == "must be" { "change them back" } else { part }),
            )
            .await;
        }
    }
}

#[tokio::test]
async fn a_column_that_a_later_migration_would_add_is_compared_before() {
    let world = World::new("foreign_column");
    world.migrate(&[]).await;
    for sql in [
        "ALTER TABLE migrations DELETE WHERE version > 6 SETTINGS mutations_sync = 2",
        "ALTER TABLE topics DROP COLUMN shards",
        "ALTER TABLE topics ADD COLUMN shards String",
    ] {
        world.sql(sql).await;
    }
    refused(&world, &["column shards is String and must be Int32"]).await;
    world.sql("ALTER TABLE topics DROP COLUMN shards").await;
    let said = world.migrate(&[]).await;
    assert!(said.contains("applied V7__place_shards.sql"), "{said}");
    let consume = world.consume(&[]).await;
    eventually("consume to be ready", async || {
        let reply = consume.ready().await;
        (reply.status == 200).then_some(()).ok_or(reply.text())
    })
    .await;
}
