//! How flags and variables are read: as people and their tools write them.

use std::process::Output;

use crate::world::World;

/// Runs a report with these variables.
async fn report_with(world: &World, variables: &[(&str, &str)]) -> Output {
    let mut command = world.command(&["report", "--format", "csv"]);
    command.envs(variables.iter().copied());
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn an_empty_variable_is_an_absent_one() {
    let world = World::new("empty");
    world.migrate(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "").unwrap();
    let file = file.to_str().unwrap();
    let output = report_with(
        &world,
        &[
            ("CAPTCHA_CLICKHOUSE_TLS", ""),
            ("CAPTCHA_CLICKHOUSE_CA_FILE", ""),
            ("CAPTCHA_CLICKHOUSE_CLIENT_KEY_FILE", ""),
            ("CAPTCHA_CLICKHOUSE_USER", ""),
            ("CAPTCHA_FORMAT", ""),
            // Both of them would be one too many.
            ("CAPTCHA_CLICKHOUSE_PASSWORD", ""),
            ("CAPTCHA_CLICKHOUSE_PASSWORD_FILE", file),
        ],
    )
    .await;
    assert!(output.status.success(), "{}", said(&output));
    let mut serve = world.command(&["serve", "--help"]);
    for name in ["CAPTCHA_LISTEN", "CAPTCHA_KAFKA_TLS", "CAPTCHA_IDLE_SECONDS"] {
        serve.env(name, "");
    }
    assert!(serve.output().unwrap().status.success());
    // On the command line nobody writes it by mistake.
    let output = world.run(&["report", "--clickhouse-addr", ""]).await;
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
}

#[tokio::test]
async fn a_switch_is_on_or_off_in_every_spelling() {
    let world = World::new("switch");
    world.migrate(&[]).await;
    for (text, is_on) in [
        ("1", true),
        ("true", true),
        ("True", true),
        ("yes", true),
        ("on", true),
        ("0", false),
        ("false", false),
        ("no", false),
        ("OFF", false),
    ] {
        let output = report_with(&world, &[("CAPTCHA_CLICKHOUSE_TLS", text)]).await;
        match is_on {
            false => assert!(output.status.success(), "{text}: {}", said(&output)),
            true => assert!(said(&output).contains("with tls"), "{text}: {}", said(&output)),
        }
    }
    for name in ["CAPTCHA_CLICKHOUSE_TLS", "CAPTCHA_KAFKA_TLS"] {
        let mut command = world.command(&["serve"]);
        let output = command.env(name, "maybe").output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let said = said(&output);
        assert!(
            said.contains("'maybe'") && said.contains("expected true or false, 1 or 0, yes or no, on or off"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn addresses_may_have_blanks_between_them() {
    let mut world = World::new("blanks");
    let (kafka, clickhouse) = (world.kafka.clone(), world.clickhouse.clone());
    world.kafka = format!("127.0.0.1:1, {kafka} ");
    world.clickhouse = format!(" 127.0.0.1:1 , {clickhouse}");
    world.migrate(&[]).await;
    let serve = world.serve_with(&["--cors-origins", " https://a.example , https://b.example"]);
    serve.await.await_ready(200, "kafka: ok").await;
    assert_eq!(world.report(&[]).await, []);
}

#[tokio::test]
async fn an_address_is_read_in_one_way() {
    let world = World::new("one_way");
    for flag in ["--kafka-brokers", "--clickhouse-addr"] {
        for (address, expected) in [
            ("::1:9000", "an IPv6 address in brackets"),
            ("localhost", "expected host:port"),
            ("http://localhost:9000", "without http://"),
            ("local host:9000", "expected host:port"),
            ("a:1,", "expected host:port"),
        ] {
            let output = world.run(&["migrate", flag, address]).await;
            assert_eq!(output.status.code(), Some(2), "{flag} {address}");
            let said = said(&output);
            assert!(said.contains(expected), "{flag} {address}: {said}");
        }
    }
}
