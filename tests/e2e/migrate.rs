//! `captcha migrate`: once, again, at the same time, and against what does not fit.

use crate::world::World;

#[tokio::test]
async fn a_second_run_changes_nothing_and_says_so() {
    let world = World::new("again");
    let planned = world.migrate(&["--dry-run"]).await;
    assert!(
        planned.contains("would make topic")
            && planned.contains("would apply V1__create_events.sql"),
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
    assert_eq!(
        world.migrate(&[]).await,
        "nothing to do: schema version 4\n"
    );
    assert_eq!(
        world.migrate(&["--dry-run"]).await,
        "nothing to do: schema version 4\n"
    );
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
    let runs = (0..6).map(|_| world.run(&["migrate"]));
    for output in futures_util::future::join_all(runs).await {
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let recorded = world
        .sql("SELECT toString(count()), toString(uniqExact(version)) FROM migrations")
        .await;
    assert_eq!(recorded, [["4", "4"]]);
    assert_eq!(
        world.sql("SELECT toString(count()) FROM topics").await,
        [["1"]]
    );
    assert_eq!(
        world.migrate(&[]).await,
        "nothing to do: schema version 4\n"
    );
}

#[tokio::test]
async fn what_was_applied_and_what_is_built_in_must_agree() {
    let world = World::new("divergent");
    world.migrate(&[]).await;
    let alter = |what: &str| format!("ALTER TABLE migrations {what} SETTINGS mutations_sync = 2");
    world
        .sql(&alter("UPDATE checksum = 'other' WHERE version = 2"))
        .await;
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
    world
        .migrate(&["--partitions", "2", "--retention", "3d"])
        .await;
    assert!(
        world
            .migrate(&["--retention", "3d", "--partitions", "2"])
            .await
            .starts_with("nothing to do")
    );
    let line = world
        .refused(&["migrate", "--partitions", "8", "--retention", "1d"])
        .await;
    assert!(
        line.contains("the number of partitions is 2 and should be 8"),
        "{line}"
    );
    assert!(
        line.contains("retention.ms is 259200000 and should be 86400000"),
        "{line}"
    );
    assert!(world.migrate(&[]).await.starts_with("nothing to do"));
}

#[tokio::test]
async fn the_repeat_window_is_fixed() {
    let world = World::new("fixed");
    let first = world.migrate(&["--repeat-window-records", "20"]).await;
    assert!(first.contains("repeat window 20 records"), "{first}");
    for same in [&[][..], &["--repeat-window-records", "20"]] {
        assert!(world.migrate(same).await.starts_with("nothing to do"));
    }
    let line = world
        .refused(&["migrate", "--repeat-window-records", "30"])
        .await;
    assert!(
        line.contains("fixed at 20 records and cannot become 30"),
        "{line}"
    );
}

#[tokio::test]
async fn burnt_tokens_do_not_stop_it() {
    let world = World::new("burnt_migration");
    world.migrate(&[]).await;
    // What a crash between a token and its row leaves behind: the first run's tokens are noted.
    let gone = "WHERE 1 SETTINGS mutations_sync = 2";
    for table in ["migrations", "topics"] {
        world
            .sql(&format!("ALTER TABLE {table} DELETE {gone}"))
            .await;
    }
    let again = world.migrate(&[]).await;
    assert!(
        again.contains("applied V3__create_topics.sql") && again.contains("recorded topic"),
        "{again}"
    );
    assert!(world.migrate(&[]).await.starts_with("nothing to do"));
    let rows =
        "SELECT toString((SELECT count() FROM migrations)), toString((SELECT count() FROM topics))";
    assert_eq!(world.sql(rows).await, [["4", "1"]]);
}

#[tokio::test]
async fn a_lost_table_is_named() {
    let world = World::new("lost_table");
    world.migrate(&[]).await;
    world.sql("DROP TABLE events").await;
    let line = world.refused(&["migrate"]).await;
    assert!(
        line.contains("has lost events, which migrations made"),
        "{line}"
    );
    let consume = world.consume(&[]).await;
    consume
        .await_ready(503, "has not all tables in database")
        .await;
}
