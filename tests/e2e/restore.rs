//! Backups of ClickHouse: what is put back is older, and Kafka has the rest.

use crate::client::{accept, events};
use crate::world::World;

#[tokio::test]
async fn a_restored_backup_is_filled_up_from_kafka() {
    let world = World::new("restore");
    let name = &world.name;
    let ask = async |sql: String| world.sql_as("default", "default", &sql).await;
    let (serve, mut consume) = world.all().await;
    accept(&serve.address, &events(50)).await;
    world.await_counted(50).await;
    ask(format!("BACKUP DATABASE {name} TO File('{name}')")).await;
    accept(&serve.address, &events(30)).await;
    world.await_counted(80).await;

    // Consumers are stopped, as docs/operations.md says; senders go on.
    assert!(consume.terminate().await.success());
    accept(&serve.address, &events(20)).await;
    ask(format!("DROP DATABASE {name} SYNC")).await;
    ask(format!("RESTORE DATABASE {name} FROM File('{name}')")).await;
    world.await_counted(50).await;
    world.ok(&["report", "audit"]).await;
    assert!(world.migrate(&[]).await.starts_with("nothing to do"));

    let consume = world.consume(&[]).await;
    world.await_counted(100).await;
    world.await_log(100).await;
    consume.await_ready(200, "partition 0: ok").await;
    world.ok(&["report", "audit"]).await;
}
