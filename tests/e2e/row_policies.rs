//! Row policies that hide rows of `events`: nothing is stored twice, and no part is reported as the whole.

use crate::client::{SITE, accept, event, events, get};
use crate::complete_through::{await_complete_through, now};
use crate::consume_holds::users;
use crate::process::{Server, eventually, shared};
use crate::world::World;

/// Events in each test: of one batch, which is one insert.
const EVENTS: usize = 40;

/// Hides rows of a table from a user, in a file of users.
fn hidden(database: &str, table: &str, filter: &str) -> String {
    format!("<databases><{database}><{table}><filter>{filter}</filter></{table}></{database}></databases>")
}

/// A ClickHouse for a world, with one user `filtered` who sees of a table what a filter lets through.
async fn filtered(test: &str, table: &str, filter: &str) -> (World, Server) {
    let mut server = Server::new("clickhouse");
    let world = World::on(test, &shared("CAPTCHA_TEST_KAFKA"), &server.address());
    let policy = hidden(&world.name, table, filter);
    server.set_users(&users(&[("filtered", "", &policy)]));
    server.start_and_listen().await;
    world.migrate(&["--partitions", "1"]).await;
    (world, server)
}

const LOGIN: [&str; 4] = ["--clickhouse-user", "filtered", "--clickhouse-password", "pw"];

/// What stands in the table, hidden or not.
async fn stored(world: &World) -> usize {
    world.sql("SELECT toString(count()) FROM events").await[0][0]
        .parse()
        .unwrap()
}

/// Stores events as a user that does not see all of them, and then as one that does.
async fn hold_and_go_on(test: &str, filter: &str, named: &str) {
    let (world, mut server) = filtered(test, "events", filter).await;
    let serve = world.serve().await;
    accept(&serve.address, &events(EVENTS)).await;
    let consume = world.consume(&LOGIN).await;
    consume.await_ready(503, named).await;
    consume.await_ready(503, "a row policy hides the others").await;
    assert_eq!(stored(&world).await, EVENTS, "{filter}");
    // What comes meanwhile waits, and another process stores nothing again either.
    accept(&serve.address, &events(EVENTS)).await;
    let another = world.consume(&LOGIN).await;
    another.await_ready(503, named).await;
    assert_eq!(stored(&world).await, EVENTS, "{filter}");
    assert_eq!(consume.metric("captcha_burnt_tokens_total").await, 0.0);

    server.kill();
    server.set_users(&users(&[("filtered", "", "")]));
    server.start_and_listen().await;
    world.await_log(2 * EVENTS as i64).await;
    world.await_counted(2 * EVENTS as u64).await;
}

#[tokio::test]
async fn a_policy_that_hides_every_row_stores_no_row_twice() {
    hold_and_go_on("policy_all", "0", "0 of the 40 rows of events").await;
}

#[tokio::test]
async fn a_policy_that_hides_the_newest_rows_stores_no_row_twice() {
    hold_and_go_on(
        "policy_newest",
        "offset != 39 AND offset != 38",
        "38 of the 40 rows of events",
    )
    .await;
}

#[tokio::test]
async fn a_policy_that_shows_one_row_alone_stores_no_row_twice() {
    hold_and_go_on("policy_one", "offset = 0", "1 of the 40 rows of events").await;
}

#[tokio::test]
async fn migrate_touches_nothing_where_a_policy_hides_its_own_tables() {
    for table in ["migrations", "migration_log", "topics", "claims", "events"] {
        let (world, _server) = filtered(&format!("policy_{table}"), table, "0").await;
        let serve = world.serve().await;
        let _consume = world.consume(&[]).await;
        accept(&serve.address, &events(1)).await;
        world.await_counted(1).await;
        await_complete_through(&world, now(&world).await).await;
        let everything = "SELECT name, toString(metadata_modification_time) FROM system.tables \
                          WHERE database = currentDatabase() ORDER BY name";
        let before = world.sql(everything).await;
        for command in [&["migrate"][..], &["migrate", "drop-months", "--before", "2001-01"]] {
            let line = world.refused(&[command, &LOGIN].concat()).await;
            assert!(line.contains("shows user filtered 0 of the "), "{line}");
            assert!(line.contains(&format!("rows of {table}: a row policy hides")), "{line}");
        }
        assert_eq!(world.sql(everything).await, before, "{table}");
    }
}

#[tokio::test]
async fn what_a_policy_hides_is_reported_by_nobody_as_the_whole() {
    let filter = format!("site_id != '{SITE}'");
    let (world, _server) = filtered("policy_report", "events", &filter).await;
    let serve = world.serve_with(&LOGIN).await;
    let _consume = world.consume(&[]).await;
    let other = event("6f1c1f2e-3d0b-4c5a-9b0e-2f4b8f3f7a09", "serve", "2024-02-29T12:00:00");
    accept(&serve.address, &events(3)).await;
    accept(&serve.address, &other).await;
    world.await_counted(4).await;
    for command in [&["report"][..], &["report", "audit"], &["report", "dead-letters"]] {
        let line = world.refused(&[command, &LOGIN].concat()).await;
        assert!(
            line.contains("shows user filtered 1 of the 4 rows of events: a row policy hides the others"),
            "{line}"
        );
    }
    let reply = get(&serve.address, "/v1/report").await;
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert!(!reply.text().contains("filtered"), "{}", reply.text());
    eventually("the reason in the log of serve", async || {
        let reasons = serve.logged("reports fail", "reason");
        let named = reasons
            .iter()
            .any(|reason| reason.contains("a row policy hides the others"));
        named.then_some(()).ok_or(format!("{reasons:?}"))
    })
    .await;
}
