//! `captcha report dead-letters`, and the script of docs/exactly-once.md that sends corrected letters again.

use std::os::unix::fs::symlink;
use std::process::{Command, Output};

use serde_json::Value;

use crate::client::{accept, served};
use crate::process::{PATIENCE, TOPICS, kafka_tool};
use crate::world::World;

/// The dead letters as ndjson has them.
async fn letters(world: &World) -> Vec<Value> {
    let lines = world.ok(&["report", "dead-letters", "--format", "ndjson"]).await;
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// An event that says `served` instead of `serve`.
fn misspelt() -> String {
    served("2024-01-01T00:00:00")
        .to_string()
        .replace("\"serve\"", "\"served\"")
}

#[tokio::test]
async fn dead_letters_are_shown_corrected_and_sent_again() {
    let world = World::new("letters");
    world.migrate(&["--partitions", "1"]).await;
    let serve = world.serve().await;
    let misspelt = misspelt();
    let values = [misspelt.as_bytes(), b"\xff", misspelt.as_bytes(), b""];
    world.produce(0, &values.map(Some)).await;
    let consume = world.consume(&[]).await;
    world.await_log(4).await;

    let table = world.ok(&["report", "dead-letters", "--format", "table"]).await;
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(
        lines.len(),
        1 + 3 * 2 + 1,
        "a record without bytes has no second line: {table}"
    );
    assert!(lines[1].starts_with(&format!("{}:0:0  20", world.name)), "{table}");
    assert!(lines[1].contains("Z  /type neither"), "{table}");
    assert!(lines[2].starts_with("  {\"") && lines[2].len() == 80, "{table}");
    let one = world.ok(&["report", "dead-letters", "--limit", "1"]).await;
    assert_eq!(one.lines().count(), 3, "{one}");
    let none = world
        .ok(&["report", "dead-letters", "--format", "ndjson", "--to", "2020-01-01"])
        .await;
    assert_eq!(none, "");

    let letters = letters(&world).await;
    assert_eq!(letters[1]["raw_hex"], "ff");
    let corrected = letters
        .iter()
        .filter_map(|letter| letter["raw"].as_str().filter(|raw| !raw.is_empty()))
        .map(|raw| serde_json::from_str::<Value>(&raw.replace("served", "serve")).unwrap());
    accept(&serve.address, &corrected.collect()).await;
    world.await_counted(1).await;
    world.await_log(6).await;
    let repeats = consume.metric("captcha_consumed_rows_total{kind=\"repeat\"}").await;
    assert_eq!(repeats, 1.0);
}

#[tokio::test]
async fn letters_of_a_recreated_topic_differ_by_their_log() {
    let world = World::new("letter_logs");
    world.migrate(&["--partitions", "1"]).await;
    world.produce(0, &[Some(b"old")]).await;
    let mut consume = world.consume(&[]).await;
    world.await_log(1).await;
    consume.kill();
    kafka_tool(TOPICS, &world.kafka, &["--delete", "--topic", &world.name]).await;
    world.migrate(&["--topic-recreated"]).await;
    world.produce(0, &[Some(b"new")]).await;
    let _consume = world.consume(&[]).await;
    let [old, new] = crate::process::eventually("letters of both logs", async || {
        let letters = letters(&world).await;
        <[Value; 2]>::try_from(letters).map_err(|letters| format!("{letters:?}"))
    })
    .await;
    let newest = format!("{}@2", world.name);
    for (letter, log, raw) in [(old, &world.name, "old"), (new, &newest, "new")] {
        assert_eq!(letter["log"], log.as_str(), "{letter}");
        assert_eq!(
            (&letter["partition"], &letter["offset"]),
            (&0.into(), &0.into()),
            "{letter}"
        );
        assert_eq!(letter["raw"], raw, "{letter}");
    }
    let table = world.ok(&["report", "dead-letters"]).await;
    for name in [format!("{}:0:0  ", world.name), format!("{newest}:0:0  ")] {
        let count = table.lines().filter(|line| line.starts_with(&name)).count();
        assert_eq!(count, 1, "{name} in {table}");
    }
}

/// Runs the script of the documentation, which calls `captcha`, with this world's settings.
async fn replay(world: &World, address: &str) -> Output {
    let page = include_str!("../../docs/exactly-once.md");
    let section = page.split("### Replaying dead letters\n").nth(1).unwrap();
    let script = section.split("```bash\n").nth(1).unwrap().split("```").next().unwrap();
    let script = script.replace("http://127.0.0.1:8000", &format!("http://{address}"));
    let captcha = world.command(&[]);
    let folder = tempfile::tempdir().unwrap();
    symlink(captcha.get_program(), folder.path().join("captcha")).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    bash.args(["-c", &script])
        .env("PATH", path)
        .env("TMPDIR", folder.path());
    for (name, value) in captcha.get_envs() {
        match value {
            Some(value) => bash.env(name, value),
            None => bash.env_remove(name),
        };
    }
    let run = tokio::task::spawn_blocking(move || bash.output().unwrap());
    tokio::time::timeout(PATIENCE, run)
        .await
        .expect("the script does not end")
        .unwrap()
}

#[tokio::test]
async fn the_script_of_the_documentation_names_what_is_still_wrong_and_sends_the_rest() {
    const MISSPELT: usize = 230;
    let world = World::new("replay");
    world.migrate(&["--partitions", "1"]).await;
    let serve = world.serve().await;
    let mut values: Vec<Vec<u8>> = (0..MISSPELT).map(|_| misspelt().into_bytes()).collect();
    let wrong = [
        (
            1,
            misspelt().replace("2024-01-01T00:00:00", "yesterday").into_bytes(),
            "time not a time like",
        ),
        (2, b"not json".to_vec(), "null; expected an event object"),
        (150, b"\xff".to_vec(), "null; expected an event object"),
        (151, b"[1]".to_vec(), "null; expected an event object"),
        (233, b"{\"type\":\"served\"}".to_vec(), "site_id missing"),
    ];
    for (offset, value, _) in &wrong {
        values.insert(*offset, value.clone());
    }
    let values: Vec<_> = values.iter().map(|value| Some(value.as_slice())).collect();
    world.produce(0, &values).await;
    let consume = world.consume(&[]).await;
    let records = (MISSPELT + wrong.len()) as i64;
    world.await_log(records).await;

    let replayed = replay(&world, &serve.address).await;
    let (stdout, stderr) = [replayed.stdout, replayed.stderr]
        .map(|bytes| String::from_utf8(bytes).unwrap())
        .into();
    assert!(replayed.status.success() && stderr.is_empty(), "{stdout}{stderr}");
    for (offset, _, reason) in &wrong {
        let named = format!("still wrong: {}:0:{offset}: {reason}", world.name);
        assert_eq!(stdout.matches(&named).count(), 1, "{named}: {stdout}");
    }
    let sent = stdout.lines().filter_map(|line| line.strip_prefix("sent: "));
    assert_eq!(
        sent.map(|count| count.parse::<usize>().unwrap()).sum::<usize>(),
        MISSPELT,
        "{stdout}"
    );
    world.await_counted(MISSPELT as u64).await;

    // A second run sends the same again.
    let again = replay(&world, &serve.address).await;
    assert!(again.status.success(), "{again:?}");
    world.await_log(records + 2 * MISSPELT as i64).await;
    world.await_counted(MISSPELT as u64).await;
    let repeats = consume.metric("captcha_consumed_rows_total{kind=\"repeat\"}").await;
    assert_eq!(repeats, MISSPELT as f64);
}

#[tokio::test]
async fn the_script_of_the_documentation_ends_with_an_answer_that_is_no_verdict() {
    let world = World::new("replay_away");
    world.migrate(&["--partitions", "1"]).await;
    world.produce(0, &[Some(misspelt().as_bytes())]).await;
    let _consume = world.consume(&[]).await;
    world.await_log(1).await;
    // Dry runs go on while Kafka is away, sending does not.
    let away = World::on("replay_no_kafka", "127.0.0.1:1", &world.clickhouse);
    let serve = away.serve().await;
    let replayed = replay(&world, &serve.address).await;
    let stdout = String::from_utf8(replayed.stdout).unwrap();
    assert_eq!(replayed.status.code(), Some(1), "{stdout}");
    assert!(stdout.contains("\"status\":503"), "{stdout}");
}
