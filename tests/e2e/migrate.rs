//! `captcha migrate`: once, again, at the same time, and against what does not fit.

use crate::world::{World, migrations, nothing_to_do};

#[tokio::test]
async fn a_second_run_changes_nothing_and_says_so() {
    let world = World::new("again");
    let planned = world.migrate(&["--dry-run"]).await;
    assert!(
        planned.contains("would make topic") && planned.contains("would apply V1__create_events.sql"),
        "{planned}"
    );
    assert!(
        world
            .migrate(&["--status"])
            .await
            .contains("V1__create_events.sql  not applied")
    );
    let first = world.migrate(&[]).await;
    assert!(
        first.contains("made topic") && first.contains("applied V1__create_events.sql"),
        "{first}"
    );
    let applied = world
        .sql("SELECT name, checksum, toString(applied_at) FROM migrations ORDER BY version")
        .await;
    assert_eq!(world.migrate(&[]).await, nothing_to_do());
    assert_eq!(world.migrate(&["--dry-run"]).await, nothing_to_do());
    assert!(
        world
            .migrate(&["--status"])
            .await
            .contains("V1__create_events.sql  applied 20")
    );
    let again = world
        .sql("SELECT name, checksum, toString(applied_at) FROM migrations ORDER BY version")
        .await;
    assert_eq!(applied, again);
}

#[tokio::test]
async fn many_at_once_are_safe() {
    let world = World::new("at_once");
    let runs = (0..20).map(|_| world.run(&["migrate"]));
    for output in futures_util::future::join_all(runs).await {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let recorded = world
        .sql("SELECT toString(count()), toString(uniqExact(version)) FROM migrations")
        .await;
    let count = migrations().len().to_string();
    assert_eq!(recorded, [[count.as_str(), count.as_str()]]);
    assert_eq!(world.sql("SELECT toString(count()) FROM topics").await, [["1"]]);
    assert_eq!(world.migrate(&[]).await, nothing_to_do());
}

#[tokio::test]
async fn what_was_applied_and_what_is_built_in_must_agree() {
    let world = World::new("divergent");
    world.migrate(&[]).await;
    let alter = |what: &str| format!("ALTER TABLE migrations {what} SETTINGS mutations_sync = 2");
    world.sql(&alter("UPDATE checksum = 'other' WHERE version = 2")).await;
    let line = world.refused(&["migrate"]).await;
    assert!(
        line.starts_with("captcha: migration V2__create_dead_letters.sql differs"),
        "{line}"
    );
    world.sql(&alter("DELETE WHERE version = 2")).await;
    let line = world.refused(&["migrate"]).await;
    assert!(
        line.contains("migration V2__create_dead_letters.sql is not applied, but a later one is"),
        "{line}"
    );
    world
        .sql("INSERT INTO migrations (version, name, checksum) VALUES (99, 'V99__future.sql', 'x')")
        .await;
    let line = world.refused(&["migrate"]).await;
    assert!(
        line.contains("migration V99__future.sql is applied, but this captcha does not have it"),
        "{line}"
    );
}

#[tokio::test]
async fn a_topic_that_is_there_is_checked_and_never_altered() {
    let world = World::new("checked");
    world.migrate(&["--partitions", "2", "--retention", "3d"]).await;
    assert!(
        world
            .migrate(&["--retention", "3d", "--partitions", "2"])
            .await
            .starts_with("nothing to do")
    );
    let line = world
        .refused(&["migrate", "--partitions", "8", "--retention", "1d"])
        .await;
    assert!(line.contains("the number of partitions is 2 and should be 8"), "{line}");
    assert!(
        line.contains("retention.ms is 259200000 and should be 86400000"),
        "{line}"
    );
    assert!(world.migrate(&[]).await.starts_with("nothing to do"));
}

#[tokio::test]
async fn the_repeat_window_is_fixed() {
    let world = World::new("fixed");
    let first = world.migrate(&["--dedup-window-records", "20"]).await;
    assert!(first.contains("dedup window 20 records"), "{first}");
    for same in [&[][..], &["--dedup-window-records", "20"]] {
        assert!(world.migrate(same).await.starts_with("nothing to do"));
    }
    let line = world.refused(&["migrate", "--dedup-window-records", "30"]).await;
    assert!(line.contains("fixed at 20 records and cannot become 30"), "{line}");
}

#[tokio::test]
async fn burnt_tokens_do_not_stop_it() {
    let world = World::new("burnt_migration");
    world.migrate(&[]).await;
    // What a crash between a token and its row leaves behind: the first run's tokens are noted.
    let gone = "WHERE 1 SETTINGS mutations_sync = 2";
    for table in ["migrations", "topics"] {
        world.sql(&format!("ALTER TABLE {table} DELETE {gone}")).await;
    }
    let again = world.migrate(&[]).await;
    assert!(
        again.contains("applied V3__create_topics.sql") && again.contains("recorded topic"),
        "{again}"
    );
    assert!(world.migrate(&[]).await.starts_with("nothing to do"));
    let rows = "SELECT toString((SELECT count() FROM migrations)), toString((SELECT count() FROM topics))";
    let count = migrations().len().to_string();
    assert_eq!(world.sql(rows).await, [[count.as_str(), "1"]]);
}

#[tokio::test]
async fn a_lost_table_is_named() {
    let world = World::new("lost_table");
    world.migrate(&[]).await;
    world.sql("DROP TABLE events").await;
    let line = world.refused(&["migrate"]).await;
    assert!(line.contains("has lost events, which migrations made"), "{line}");
    let consume = world.consume(&[]).await;
    consume.await_ready(503, "has not all tables in database").await;
}

/// Makes the database one of this schema version, as an older captcha left it.
async fn forget_after(world: &World, version: u32) {
    for change in [
        format!("DELETE WHERE version > {version}"),
        "DROP COLUMN compatible_since".to_string(),
    ] {
        world
            .sql(&format!("ALTER TABLE migrations {change} SETTINGS mutations_sync = 2"))
            .await;
    }
}

/// What nobody migrates beside: a mutation that does not come on as long as merges are stopped.
async fn begin_endless_mutation(world: &World) {
    world.sql("SYSTEM STOP MERGES events").await;
    world.sql("INSERT INTO events (topic) SELECT 'x'").await;
    world
        .sql("ALTER TABLE events UPDATE reason = 'x' WHERE 1 SETTINGS mutations_sync = 0")
        .await;
}

#[tokio::test]
async fn killed_with_the_lock_it_is_followed_by_the_next() {
    let world = World::new("migrate_killed");
    world.migrate(&[]).await;
    forget_after(&world, 4).await;
    begin_endless_mutation(&world).await;
    let mut first = world.start("migrate", &["migrate"]);
    first
        .await_said("waiting for a mutation of events: 1 parts to do")
        .await;
    let mut second = world.start("migrate", &["migrate"]);
    second.await_said(&format!("/{}/", first.pid())).await;
    first.kill();
    second.await_said("was not heard of for 12 s; taking its place").await;
    second.await_said("waiting for a mutation of events").await;
    world.sql("SYSTEM START MERGES events").await;
    assert!(second.ended().await.success());
    assert!(world.migrate(&[]).await.starts_with("nothing to do"));
    let steps = world
        .sql("SELECT toString(step), name FROM migration_log WHERE term = 3 AND step != 'alive' ORDER BY at")
        .await;
    let mut wanted = vec![["lock".to_string(), String::new()]];
    for name in migrations().split_off(4) {
        wanted.extend(["begin", "done"].map(|step| [step.to_string(), name.clone()]));
    }
    wanted.push(["unlock".to_string(), String::new()]);
    assert_eq!(steps, wanted);
}

#[tokio::test]
async fn killed_anywhere_it_goes_on_where_it_was() {
    let world = World::new("migrate_killed_often");
    for delay_ms in [40, 70, 110] {
        let mut killed = world.start("migrate", &["migrate"]);
        tokio::time::sleep(std::time::Duration::from_millis(delay_ms)).await;
        killed.kill();
    }
    world.migrate(&[]).await;
    // What a crash leaves behind that comes after a statement and before it is noted as done.
    forget_after(&world, 5).await;
    world
        .sql(
            "INSERT INTO migration_log (term, at, owner, step, name) SELECT 100, now64(3) - 60, 'pod-1', \
             step, name FROM values('step String, name String', ('lock', ''), ('begin', 'V6__name_logs.sql'))",
        )
        .await;
    let said = world.migrate(&[]).await;
    assert!(
        said.starts_with("pod-1 began V6__name_logs.sql and was not heard of for 12 s; taking its place\napplied V6"),
        "{said}"
    );
    let facts = "SELECT toString(count()), toString(uniqExact(version)), toString(max(version)) FROM migrations";
    let version = migrations().len().to_string();
    assert_eq!(world.sql(facts).await, [[version.as_str(); 3]]);
    assert!(world.migrate(&[]).await.starts_with("nothing to do"));
}

#[tokio::test]
async fn who_lost_the_lock_does_nothing_more() {
    let world = World::new("migrate_overtaken");
    world.migrate(&[]).await;
    forget_after(&world, 4).await;
    begin_endless_mutation(&world).await;
    let mut frozen = world.start("migrate", &["migrate"]);
    frozen.await_said("waiting for a mutation of events").await;
    // As if it had been frozen for so long that another one took over.
    world
        .sql("INSERT INTO migration_log (term, owner, step) SELECT 100, 'pod-2', 'lock'")
        .await;
    world.sql("SYSTEM START MERGES events").await;
    assert!(!frozen.ended().await.success());
    frozen
        .await_said("another migrate has taken the lock; run it again")
        .await;
    let applied = world.sql("SELECT toString(max(version)) FROM migrations").await;
    assert_eq!(applied, [["4"]]);
}

#[tokio::test]
async fn an_older_schema_is_named_and_a_newer_one_may_do() {
    let world = World::new("gate");
    world.migrate(&[]).await;
    forget_after(&world, 4).await;
    let missing = migrations().split_off(4).join(", ");
    let lacking = &format!("has schema version 4, without {missing}; run `captcha migrate`");
    let line = world.refused(&["report"]).await;
    assert!(line.contains(lacking), "{line}");
    let serve = world.serve().await;
    let reply = crate::client::get(&serve.address, "/v1/report").await;
    assert_eq!(reply.status, 503);
    serve.await_said(lacking).await;
    let consume = world.consume(&[]).await;
    consume.await_ready(503, lacking).await;
    world.migrate(&[]).await;
    consume.await_ready(200, "schema: ok").await;

    let newer = |version: u32, since: u32| {
        format!(
            "INSERT INTO migrations (version, name, checksum, compatible_since) \
             SELECT {version}, 'V{version}__future.sql', 'x', {since}"
        )
    };
    let version = migrations().len() as u32;
    world.sql(&newer(version + 1, version)).await;
    world.ok(&["report"]).await;
    let beside = world.consume(&[]).await;
    beside.await_ready(200, "schema: ok").await;
    let line = world.refused(&["migrate"]).await;
    let future = format!(
        "V{}__future.sql is applied, but this captcha does not have it",
        version + 1
    );
    assert!(line.contains(&future), "{line}");
    world.sql(&newer(version + 2, version + 2)).await;
    let line = world.refused(&["report"]).await;
    assert!(line.contains("use a newer captcha"), "{line}");
}
