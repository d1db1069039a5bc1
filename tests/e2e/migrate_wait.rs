//! `migrate --wait`: for what comes by itself, and for nothing else. Users and rights that come later are waited for in
//! `secure_clickhouse.rs` and `secure_kafka.rs`, whose servers have some.

use crate::process::{Process, Server};
use crate::world::World;

/// How often it said that it waits for this.
fn waits(process: &Process, part: &str) -> usize {
    let said = process.said();
    let lines = said.lines().filter(|line| line.starts_with("waiting up to "));
    lines.filter(|line| line.contains(part)).count()
}

#[tokio::test]
async fn servers_that_start_later_are_waited_for() {
    let (mut kafka, mut clickhouse) = (Server::new("kafka"), Server::new("clickhouse"));
    let world = World::on("late", &kafka.address(), &clickhouse.address());
    let mut migrate = world.start("migrate", &["migrate", "--wait", "3600"]);
    let to_clickhouse = format!("cannot connect to clickhouse at {}", clickhouse.address());
    let to_kafka = format!("cannot connect to kafka at {}", kafka.address());
    migrate.await_said(&to_clickhouse).await;
    clickhouse.start_and_listen().await;
    migrate.await_said(&to_kafka).await;
    kafka.start_and_listen().await;
    assert!(migrate.ended().await.success());
    assert!(world.migrate(&[]).await.starts_with("nothing to do"));
    for reason in [to_clickhouse, to_kafka] {
        assert_eq!(waits(&migrate, &reason), 1, "{reason}");
    }
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_called_that() {
    let mut world = World::new("nameless");
    let kafka = std::mem::replace(&mut world.kafka, "nobody.invalid:9092".to_string());
    let line = world.refused(&["migrate"]).await;
    let start = "captcha: cannot connect to kafka at nobody.invalid:9092: the name ";
    assert!(line.starts_with(start), "{line}");
    assert!(
        line.ends_with("; check --kafka-brokers, and the dns of this machine"),
        "{line}"
    );
    world.kafka = kafka;
    world.clickhouse = "nobody.invalid:9000".to_string();
    for command in ["migrate", "report"] {
        let line = world.refused(&[command]).await;
        let start = "captcha: cannot connect to clickhouse at nobody.invalid:9000: the name ";
        assert!(line.starts_with(start), "{line}");
        assert!(
            line.ends_with("; check --clickhouse-addr, and the dns of this machine"),
            "{line}"
        );
    }
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let mut migrate = world.start("migrate", &["migrate", "--wait", "3600"]);
        migrate
            .await_said("waiting up to 3600 s: cannot connect to clickhouse at nobody.invalid:9000: the name ")
            .await;
        migrate.signal(signal);
        assert_eq!(migrate.ended().await.code(), Some(code));
        migrate.await_said(&format!("captcha: stopped by SIG{signal}")).await;
    }
}

#[tokio::test]
async fn a_wait_has_an_end() {
    let mut world = World::new("in_vain");
    world.kafka = "127.0.0.1:1".to_string();
    let output = world.run(&["migrate", "--wait", "1"]).await;
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{line}");
    let start = "captcha: gave up after 1 s: cannot connect to kafka at 127.0.0.1:1: ";
    assert!(line.starts_with(start), "{line}");
}

#[tokio::test]
async fn what_no_wait_cures_ends_at_once() {
    let world = World::new("hopeless");
    let wait = ["migrate", "--wait", "3600"];
    let with = |more: &[&'static str]| [&wait[..], more].concat();
    let refused = async |more: &[&'static str], reason: &str| {
        let output = world.run(&with(more)).await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}{line}");
        assert!(line.contains(reason), "{line}");
        assert!(!said.contains("waiting up to"), "{said}");
    };
    refused(
        &["--clickhouse-password-file", "/nowhere/password"],
        "cannot read the password",
    )
    .await;
    world.migrate(&[]).await;
    refused(&["--partitions", "9"], "the number of partitions is 4 and should be 9").await;
    refused(&["--dedup-window-records", "9"], "cannot become 9").await;
    world
        .sql("ALTER TABLE migrations UPDATE checksum = 'other' WHERE version = 2 SETTINGS mutations_sync = 2")
        .await;
    refused(&[], "migration V2__create_dead_letters.sql differs").await;
    world.sql("RENAME TABLE topics TO away").await;
    world
        .sql("CREATE TABLE topics (x UInt8) ENGINE = MergeTree ORDER BY x")
        .await;
    refused(&[], "tables that are not as captcha makes them: topics").await;
}
