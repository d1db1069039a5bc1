//! Bytes from outside that would act on a terminal: whatever captcha prints or logs of them is escaped.

use serde_json::Value;

use crate::process::PATIENCE;
use crate::world::World;

/// Controls of both sets, DEL, marks that turn the direction of text, and characters that do not show.
const HOSTILE: &str = "\u{1b}[2J\u{7}\u{9b}31m\u{7f}\u{202e}\u{2066}\u{61c}\u{200b}\u{feff}\u{2028}\u{ad}\u{e0041}";

/// Fails with the characters that have no place in a page of lines.
fn assert_harmless(what: &str, page: &str) {
    let is_hidden = |c: &char| {
        let code = *c as u32;
        (c.is_control() && *c != '\n')
            || [0xad, 0x61c, 0xfeff].contains(&code)
            || (0x200b..=0x200f).contains(&code)
            || (0x2028..=0x202e).contains(&code)
            || (0x2060..=0x206f).contains(&code)
            || (0xe0000..=0xe0fff).contains(&code)
    };
    let hidden: Vec<char> = page.chars().filter(is_hidden).collect();
    assert!(hidden.is_empty(), "{what} has {hidden:?}: {page:?}");
}

#[tokio::test]
async fn a_hostile_record_is_escaped_in_every_format_and_keeps_its_value() {
    let world = World::new("hostile");
    world.migrate(&["--partitions", "1"]).await;
    // As a name that the reason repeats, and as a record that is not JSON.
    let field = serde_json::json!({ HOSTILE: 1 }).to_string();
    let values = [field.as_bytes(), HOSTILE.as_bytes()];
    world.produce(0, &values.map(Some)).await;
    let consume = world.consume(&[]).await;
    world.await_log(2).await;

    let table = world.ok(&["report", "dead-letters"]).await;
    assert_harmless("the table", &table);
    assert_eq!(table.lines().count(), 5, "{table}");
    let lines = world.ok(&["report", "dead-letters", "--format", "ndjson"]).await;
    assert_harmless("ndjson", &lines);
    let rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 2, "{lines}");
    assert_eq!(rows[0]["raw"], field);
    assert_eq!(rows[1]["raw"], HOSTILE);
    let stored = world.sql("SELECT reason FROM dead_letters ORDER BY offset").await;
    assert_eq!(rows[0]["reason"], stored[0][0].as_str());
    assert_harmless("the log", &consume.said());
}

#[tokio::test]
async fn what_clickhouse_says_is_escaped_in_reports_and_statuses() {
    let world = World::new("hostile_status");
    world.migrate(&["--partitions", "1"]).await;
    let quoted = HOSTILE.replace('\\', "\\\\").replace('\'', "\\'");
    world
        .sql(&format!(
            "INSERT INTO migrations (version, name, checksum, compatible_since) VALUES (99, 'V99__{quoted}\n.sql', 'x', 1)"
        ))
        .await;
    let status = world.ok(&["migrate", "--status"]).await;
    assert_harmless("the status", &status);
    assert!(status.contains("V99__\\u001b[2J"), "{status}");
    for words in [
        &["report"][..],
        &["report", "--format", "csv"],
        &["report", "--format", "json"],
        &["report", "audit"],
        &["report", "audit", "--format", "json"],
    ] {
        assert_harmless(&format!("{words:?}"), &world.ok(words).await);
    }
}

#[tokio::test]
async fn what_an_error_repeats_is_escaped() {
    let world = World::on("hostile_words", "127.0.0.1:1", "127.0.0.1:1");
    let file = format!("/nowhere/{HOSTILE}\nkeys");
    let refused = world.refused(&["serve", "--keys-file", &file]).await;
    assert_harmless("the error line", &refused);
    assert!(refused.contains("/nowhere/\\u001b[2J"), "{refused}");

    let usage = world.run(&["report", "--format", HOSTILE]).await;
    let stderr = String::from_utf8(usage.stderr).unwrap();
    assert_eq!(usage.status.code(), Some(2), "{stderr}");
    assert_harmless("the usage error", &stderr);
    assert!(stderr.contains("\\u001b[2J"), "{stderr}");

    let mut help = world.command(&["serve", "--help"]);
    help.env("CAPTCHA_ACCESS_LOG_SHARE", HOSTILE);
    let help = tokio::task::spawn_blocking(move || help.output().unwrap());
    let help = tokio::time::timeout(PATIENCE, help).await.unwrap().unwrap();
    let page = String::from_utf8(help.stdout).unwrap();
    assert_harmless("the help", &page);
    assert!(page.contains("[env: CAPTCHA_ACCESS_LOG_SHARE=\\u001b[2J"), "{page}");
}

#[tokio::test]
async fn what_a_request_or_a_setting_says_is_escaped_in_the_log() {
    let world = World::on("hostile_log", "127.0.0.1:1", "127.0.0.1:1");
    let mut command = world.command(&["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    command.env(format!("CAPTCHA_{HOSTILE}"), "1");
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut serve = crate::process::Process::start(command, log.path().to_path_buf());
    serve.await_addresses("serving").await;
    assert_harmless("the log", &serve.said());
    let named = serve.logged("no subcommand knows this setting", "name");
    assert_eq!(named, [format!("CAPTCHA_{HOSTILE}")]);
}
