//! Projections of rows that are older than these: `captcha migrate` begins them, and ClickHouse makes them meanwhile.

use crate::challenges::{arrive_as_dated, event, insert_as_old, produce, walk};
use crate::process::eventually;
use crate::world::{World, nothing_to_do};

pub const PROJECTIONS: [&str; 3] = ["days", "quarter_hours", "solve_times"];

/// Rows of an older captcha, and of all captchas until the projections are made.
const OLD: usize = 60;
const ALL: usize = 120;

/// Makes the tables those of schema version 7, which has no roles.
async fn go_back_to_version_7(world: &World) {
    let clauses = |verb: &str, names: &[&str]| {
        let clauses: Vec<_> = names.iter().map(|name| format!("{verb} {name}")).collect();
        clauses.join(", ")
    };
    let columns = ["role", "solve_after_micros", "other_month", "rules"];
    for alter in [
        format!("events {}", clauses("DROP PROJECTION", &PROJECTIONS)),
        format!("events {}", clauses("DROP COLUMN", &columns)),
        "migrations DELETE WHERE version > 7".to_string(),
    ] {
        world
            .sql(&format!("ALTER TABLE {alter} SETTINGS mutations_sync = 2"))
            .await;
    }
}

/// Waits until `--status` says this of each projection.
pub async fn await_status(world: &World, rows: usize, of: usize) {
    eventually(&format!("projections of {rows} of {of} rows"), async || {
        let status = world.migrate(&["--status"]).await;
        let is_said = |name: &str| status.contains(&format!("projection {name}  in {rows} of {of} rows\n"));
        PROJECTIONS.into_iter().all(is_said).then_some(()).ok_or(status)
    })
    .await;
}

async fn fingerprint(world: &World) -> Vec<Vec<String>> {
    let columns = "topic, partition, offset, arrival, span, kind, reason, raw, repeat, site_id, type, correlation_id, time, \
                   role, solve_after_micros, other_month, rules";
    let sql = format!(
        "SELECT toString(count()), toString(groupBitXor(cityHash64({columns}))) FROM events WHERE offset < {ALL}"
    );
    world.sql(&sql).await
}

#[tokio::test]
async fn older_rows_get_projections_while_consumers_run() {
    let world = World::new("older_rows");
    world
        .migrate(&["--partitions", "1", "--dedup-window-records", "20"])
        .await;
    arrive_as_dated(&world).await;
    go_back_to_version_7(&world).await;
    let old = (0..OLD).map(|at| event(["serve", "solve"][at % 2], at / 2, at));
    let events: Vec<_> = old.chain(walk(ALL - OLD)).collect();
    produce(&world, &events[..OLD]).await;
    for from in [0, 20, 40] {
        let batch: Vec<_> = events[from..from + 20].to_vec();
        insert_as_old(&world, from, &batch).await;
    }
    world.sql("SYSTEM STOP MERGES events").await;

    let would = world.migrate(&["--dry-run"]).await;
    let said = world.migrate(&[]).await;
    for name in PROJECTIONS {
        let what = format!("projection {name} of older rows: {OLD} of {OLD} rows lack it\n");
        assert!(would.contains(&format!("would make {what}")), "{would}");
        assert!(said.contains(&format!("making {what}")), "{said}");
    }
    for args in [&[][..], &["--dry-run"]] {
        let said = world.migrate(args).await;
        assert!(
            said.ends_with(&nothing_to_do()) && !said.contains("projection"),
            "{said}"
        );
    }
    let begun = world
        .sql("SELECT toString(uniqExact(mutation_id)) FROM system.mutations WHERE database = currentDatabase() AND table = 'events' AND NOT is_done")
        .await;
    assert_eq!(begun, [["1"]]);
    await_status(&world, 0, OLD).await;

    // Neither consumers nor later migrations wait for it.
    let _consume = world.consume(&["--insert-interval-ms", "1"]).await;
    for some in events[OLD..].chunks(7) {
        produce(&world, some).await;
    }
    world.await_log(ALL as i64).await;
    await_status(&world, ALL - OLD, ALL).await;
    world
        .sql("ALTER TABLE migrations DELETE WHERE version = 9 SETTINGS mutations_sync = 2")
        .await;
    let said = world.migrate(&[]).await;
    assert!(said.ends_with("applied V9__aggregate_reports.sql\n"), "{said}");

    let before = fingerprint(&world).await;
    world.sql("SYSTEM START MERGES events").await;
    for some in walk(30).chunks(3) {
        produce(&world, some).await;
    }
    world.await_log(ALL as i64 + 30).await;
    await_status(&world, ALL + 30, ALL + 30).await;
    assert!(world.migrate(&[]).await.ends_with(&nothing_to_do()));
    assert_eq!(fingerprint(&world).await, before);
    // The tokens of rows that got projections are remembered.
    let topic = &world.name;
    world
        .sql(&format!(
            "INSERT INTO events (topic, partition, offset, arrival) SELECT '{topic}', 0, 1000, now64(3) ORDER BY ALL \
             SETTINGS async_insert = 0, insert_deduplicate = 1, deduplicate_insert = 'enable', \
             deduplicate_insert_select = 'force_enable', insert_deduplication_token = '{topic}:0:20'"
        ))
        .await;
    assert_eq!(fingerprint(&world).await, before);

    // From the projections and from rows: the same.
    let counts = "SELECT toString(site_id), toString(intDiv(toUnixTimestamp64Second(time), 900) AS quarter_hour), \
                  toString(countIf((repeat = 0) AND (type = 'serve'))), toString(countIf(role = 'first')) FROM events \
                  GROUP BY site_id, quarter_hour ORDER BY site_id";
    let [projected, plain] = ["force_optimize_projection = 1", "optimize_use_projections = 0"];
    let projected = world.sql(&format!("{counts} SETTINGS {projected}")).await;
    assert_eq!(projected, world.sql(&format!("{counts} SETTINGS {plain}")).await);
    let first: usize = projected.iter().map(|row| row[3].parse::<usize>().unwrap()).sum();
    let in_new_rows = world.sql("SELECT toString(countIf(role = 'first')) FROM events").await;
    assert!(first > 0 && in_new_rows == [[first.to_string()]], "{projected:?}");
    let page = world.ok(&["report", "audit"]).await;
    assert!(page.starts_with("clean: "), "{page}");
}
