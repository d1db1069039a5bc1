//! Errors are for people: one line, lower case, what was tried, where, why it failed, what to do next.

use std::io::BufRead as _;
use std::process::Stdio;

use crate::client::{accept, events};
use crate::world::World;

#[tokio::test]
async fn servers_that_are_not_there() {
    let mut world = World::new("nowhere");
    let kafka = std::mem::replace(&mut world.kafka, "127.0.0.1:1".to_string());
    let line = world.refused(&["migrate"]).await;
    assert!(
        line.starts_with("captcha: cannot connect to kafka at 127.0.0.1:1: "),
        "{line}"
    );
    world.kafka = kafka;
    world.clickhouse = "127.0.0.1:1".to_string();
    for command in ["migrate", "report"] {
        let line = world.refused(&[command]).await;
        assert!(
            line.starts_with("captcha: cannot connect to clickhouse at 127.0.0.1:1: "),
            "{line}"
        );
    }
    world.clickhouse = "no-such-host.invalid:9000".to_string();
    let line = world.refused(&["report"]).await;
    assert!(
        line.starts_with("captcha: cannot connect to clickhouse at no-such-host.invalid:9000: "),
        "{line}"
    );
}

#[tokio::test]
async fn servers_that_are_something_else() {
    let mut world = World::new("swapped");
    std::mem::swap(&mut world.kafka, &mut world.clickhouse);
    let line = world.refused(&["report"]).await;
    assert!(line.contains(&world.clickhouse), "{line}");
    std::mem::swap(&mut world.kafka, &mut world.clickhouse);
    world.kafka = world.clickhouse.clone();
    let line = world.refused(&["migrate"]).await;
    assert!(
        line.contains(&format!("cannot talk to kafka at {}", world.kafka)),
        "{line}"
    );
}

#[tokio::test]
async fn a_log_filter_that_is_none() {
    let world = World::new("loud");
    let mut command = world.command(&["report"]);
    let output = command.env("CAPTCHA_LOG", "loud").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(
        line.starts_with("captcha: CAPTCHA_LOG=loud is not a log filter: "),
        "{line}"
    );
}

#[tokio::test]
async fn a_missing_schema_and_a_missing_topic() {
    let world = World::new("missing");
    let line = world.refused(&["report"]).await;
    assert!(
        line.contains(&format!(
            "has no tables in database {}; run `captcha migrate`",
            world.name
        )),
        "{line}"
    );
    let serve = world.serve().await;
    serve.await_ready(503, "run `captcha migrate`").await;
    let reply = crate::client::post(&serve.address, &events(1)).await;
    assert_eq!(reply.status, 503);
    let report = crate::client::get(&serve.address, "/v1/report").await;
    assert_eq!(report.status, 503);
    assert!(
        report.json()["detail"].as_str().unwrap().contains("captcha migrate"),
        "{}",
        report.text()
    );
}

#[tokio::test]
async fn a_wrong_password() {
    let world = World::new("password");
    let line = world.refused(&["report", "--clickhouse-password", "swordfish"]).await;
    let start = format!(
        "captcha: clickhouse at {} refused the login of user default: ",
        world.clickhouse
    );
    assert!(
        line.starts_with(&start) && line.contains("user default: error 516 ("),
        "{line}"
    );
    assert!(!line.contains("swordfish"), "{line}");
}

#[tokio::test]
async fn files_and_ports() {
    let world = World::new("files");
    for command in ["serve", "consume", "migrate", "report"] {
        let line = world
            .refused(&[command, "--clickhouse-password-file", "/nonexistent/password"])
            .await;
        let start = "captcha: clickhouse: cannot read the password from /nonexistent/password: ";
        assert!(line.starts_with(start), "{line}");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (command, flag) in [
        ("serve", "--listen"),
        ("serve", "--admin-listen"),
        ("consume", "--admin-listen"),
    ] {
        let other = if flag == "--listen" {
            "--admin-listen"
        } else {
            "--listen"
        };
        let mut args = vec![command, flag, &address];
        if command == "serve" {
            args.extend([other, "127.0.0.1:0"]);
        }
        let output = world.run(&args).await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        let wanted = format!("captcha: cannot listen on {address}; choose another with {flag}: ");
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.lines().last().unwrap().starts_with(&wanted), "{stderr}");
    }
}

#[tokio::test]
async fn wrong_usage_is_exit_2_and_names_the_flag() {
    let world = World::new("usage");
    for (args, named) in [
        (&["serve", "--listen", "8000"][..], "--listen"),
        (&["serve", "--partition-share", "0/1"], "--partition-share"),
        (&["serve", "--body-bytes-max", "0"], "--body-bytes-max"),
        (&["consume", "--partition-share", "2/2"], "--partition-share"),
        (&["consume", "--kafka-topic", "a b"], "--kafka-topic"),
        (&["consume", "--kafka-brokers", "localhost"], "--kafka-brokers"),
        (&["migrate", "--retention", "soon"], "--retention"),
        (&["migrate", "--partitions", "0"], "--partitions"),
        (&["report", "--from", "2001-1-1"], "--from"),
        (&["report", "--site-id", "7"], "--site-id"),
        (&["report", "--format", "xml"], "--format"),
        (&["report", "--clickhouse-database", "a;b"], "--clickhouse-database"),
        (&["report", "--kafka-topic", "x"], "--kafka-topic"),
        (&["nonsense"], "nonsense"),
        (&[], "Usage"),
    ] {
        let output = world.run(args).await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(named), "{args:?}: {stderr}");
    }
}

#[tokio::test]
async fn help_shows_no_secrets() {
    let world = World::new("help");
    for command in ["serve", "consume", "migrate", "report"] {
        let mut command = world.command(&[command, "--help"]);
        let output = command
            .env("CAPTCHA_CLICKHOUSE_PASSWORD", "swordfish")
            .output()
            .unwrap();
        assert!(output.status.success());
        assert!(!String::from_utf8_lossy(&output.stdout).contains("swordfish"));
    }
}

#[tokio::test]
async fn a_closed_pipe_is_no_failure() {
    let world = World::new("pipe");
    let (serve, _consume) = world.all().await;
    accept(&serve.address, &events(1)).await;
    world.await_counted(1).await;
    let mut child = world
        .command(&["report"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let notes = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), notes.lines().count()), (Some(0), 1), "{notes}");
    assert!(
        notes.contains("complete"),
        "how far the report is complete, and no failure: {notes}"
    );
}

/// Runs captcha with streams that somebody has closed already, as `head` and `grep -q` do: exit code and what is left of
/// its output.
async fn run_into_closed(world: &World, args: &[&str], closed: &[&str]) -> (Option<i32>, String) {
    let mut command = world.command(args);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    if closed.contains(&"stdout") {
        drop(child.stdout.take());
    }
    if closed.contains(&"stderr") {
        drop(child.stderr.take());
    }
    let end = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let output = tokio::time::timeout(crate::process::PATIENCE, end).await;
    let output = output.expect("captcha does not end").unwrap();
    let left = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&left).into_owned())
}

#[tokio::test]
async fn a_closed_pipe_stops_no_work() {
    let world = World::new("pipe_work");
    let closed = async |args: &[&str], streams: &[&str], code: i32| {
        let ended = run_into_closed(&world, args, streams).await;
        assert_eq!(ended, (Some(code), String::new()), "{args:?} into closed {streams:?}");
    };
    closed(&["migrate", "--dry-run"], &["stdout"], 0).await;
    closed(&["migrate"], &["stdout"], 0).await;
    assert!(world.migrate(&[]).await.starts_with("nothing to do"));
    closed(&["migrate", "--status"], &["stdout"], 0).await;
    closed(&["migrate", "--partitions", "9"], &["stdout", "stderr"], 1).await;

    let old = "INSERT INTO events (topic, partition, offset, arrival, kind) VALUES ('old', 0, 5, '2001-01-01 00:00:00', 'bad')";
    world.sql(old).await;
    let mut consume = world.consume(&[]).await;
    crate::drop_months::await_complete(&world).await;
    assert!(consume.terminate().await.success());
    closed(&["migrate", "drop-months", "--before", "2001-02"], &["stdout"], 0).await;
    let left = world.sql("SELECT kind FROM events").await;
    assert_eq!(left, [["mark"]]);

    // An audit finds the damage, whoever reads it.
    let damage = format!(
        "INSERT INTO events (topic, partition, offset, arrival, kind, span) SELECT '{}', 0, 15, now64(3), 'gap', 8",
        world.name
    );
    world.sql(&damage).await;
    closed(&["report", "audit"], &["stdout", "stderr"], 3).await;
    closed(&["report", "dead-letters"], &["stdout"], 0).await;
}

#[tokio::test]
async fn output_that_is_lost_otherwise_is_said_when_the_work_is_done() {
    let world = World::new("full_output");
    let mut command = world.command(&["migrate"]);
    let full = std::fs::File::options().write(true).open("/dev/full");
    let output = command.stdout(full.unwrap()).output().unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{line}");
    assert!(line.starts_with("captcha: cannot write to stdout: "), "{line}");
    assert!(world.migrate(&[]).await.starts_with("nothing to do"));
}

#[tokio::test]
async fn a_log_that_nobody_reads_any_more_stops_nothing() {
    let world = World::new("pipe_log");
    world.migrate(&[]).await;
    let mut child = world
        .command(&["consume", "--admin-listen", "127.0.0.1:0"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // As `captcha consume 2>&1 | head -1`, which has seen enough with the first line.
    let stderr = child.stderr.take().unwrap();
    let first = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        std::io::BufReader::new(stderr).read_line(&mut line).unwrap();
        line
    });
    let first = first.await.unwrap();
    // Each dead letter is a line of the log.
    world.produce(0, &[Some(b"garbage"), Some(b"garbage")]).await;
    world.await_log(2).await;
    let ended = child.try_wait().unwrap();
    assert_eq!(ended, None, "after {first}");
    let pid = child.id().to_string();
    let told = std::process::Command::new("kill").arg(&pid).status();
    assert!(told.unwrap().success());
    let status = tokio::task::spawn_blocking(move || child.wait().unwrap());
    assert_eq!(status.await.unwrap().code(), Some(0), "after {first}");
}
