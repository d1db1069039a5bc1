//! API keys: making them, who may do what with them, their rates, and which web pages may call.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::client::{Reply, SITE, event, events, get, request};
use crate::process::{Process, eventually};
use crate::websocket::Stream;
use crate::world::{World, counters};

const OTHER_SITE: &str = "00000000-0000-4000-8000-000000000001";

pub const NOWHERE: &str = "127.0.0.1:1";

#[tokio::test]
async fn a_new_key_needs_no_server_and_its_line_is_all_of_stdout() {
    let world = World::on("new_key", NOWHERE, NOWHERE);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.key");
    let words = ["serve", "new-key", "--role", "write", "--sites", "*"];
    let more = ["--rate", "100", "--key-out", path.to_str().unwrap()];
    let output = world.run(&[&words[..], &more].concat()).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");

    let key = std::fs::read_to_string(&path).unwrap();
    let id = key.split('_').nth(1).unwrap();
    let hash = Sha256::digest(&key);
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        format!("{id} write * sha256:{hash:x} rate=100 burst=100\n")
    );
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[tokio::test]
async fn a_key_is_not_shown_to_a_log() {
    let world = World::on("no_terminal", NOWHERE, NOWHERE);
    let words = ["serve", "new-key", "--role", "read", "--sites", "*"];
    let output = world.run(&words).await;
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("--key-out FILE"), "{stderr}");
    assert!(!stderr.contains("captcha_"), "{stderr}");
}

/// Makes a key with `captcha serve new-key` and appends its line to a key file; the header value for it.
pub async fn new_key(world: &World, file: &Path, words: &[&str]) -> String {
    let key = tempfile::tempdir().unwrap().path().with_extension("key");
    let out = ["--key-out", key.to_str().unwrap()];
    let line = world.ok(&[&["serve", "new-key"], words, &out].concat()).await;
    let mut file = File::options().create(true).append(true).open(file).unwrap();
    file.write_all(line.as_bytes()).unwrap();
    let text = std::fs::read_to_string(&key).unwrap();
    std::fs::remove_file(key).unwrap();
    format!("Bearer {text}")
}

async fn send(serve: &Process, key: &str, events: &Value) -> Reply {
    let headers = [("content-type", "application/json"), ("authorization", key)];
    let body = events.to_string();
    request(&serve.address, "POST", "/v1/events", &headers, body)
        .await
        .unwrap()
}

async fn read(serve: &Process, key: &str, query: &str) -> Reply {
    let path = format!("/v1/report{query}");
    request(&serve.address, "GET", &path, &[("authorization", key)], "")
        .await
        .unwrap()
}

#[tokio::test]
async fn a_key_sends_and_reads_its_own_sites_alone() {
    let world = World::new("keys");
    world.migrate(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.txt");
    let key = async |role, sites| new_key(&world, &file, &["--role", role, "--sites", sites]).await;
    let (all, ours, reads, reads_ours) = (
        key("write", "*").await,
        key("write", SITE).await,
        key("read", "*").await,
        key("read", SITE).await,
    );
    let serve = world.serve_with(&["--keys-file", file.to_str().unwrap()]).await;
    let _consume = world.consume(&[]).await;
    let [one, other] = [SITE, OTHER_SITE].map(|site| event(site, "serve", "2024-01-01T00:00:00"));

    assert_eq!(send(&serve, &all, &json!([one, other])).await.status, 200);
    let second = event(SITE, "serve", "2024-01-01T00:00:00");
    assert_eq!(send(&serve, &ours, &second).await.status, 200);
    for (events, places) in [
        (json!([second, other, other]), &["/1/site_id", "/2/site_id"][..]),
        (json!([other]), &["/0/site_id"]),
        (other.clone(), &["/site_id"]),
    ] {
        let reply = send(&serve, &ours, &events).await;
        assert_eq!(
            (reply.status.as_u16(), reply.places()),
            (403, places.iter().map(ToString::to_string).collect())
        );
    }
    assert_eq!(send(&serve, &reads, &one).await.status, 403);
    world.await_counted(3).await;

    assert_eq!(counters(&read(&serve, &reads, "").await.json()).len(), 2);
    let own = counters(&read(&serve, &reads_ours, "").await.json());
    assert_eq!((own.len(), own[0].1.as_str(), own[0].2), (1, SITE, 2));
    assert_eq!(read(&serve, &reads_ours, &format!("?site_id={SITE}")).await.status, 200);
    let foreign = format!("?site_id={SITE}&site_id={OTHER_SITE}");
    let reply = read(&serve, &reads_ours, &foreign).await;
    assert_eq!(
        (reply.status.as_u16(), reply.places()),
        (403, vec!["site_id".to_string()])
    );
    assert_eq!(read(&serve, &all, "").await.status, 403);

    let (good, last) = all.split_at(all.len() - 1);
    let wrong = format!("{good}{}", if last == "0" { "1" } else { "0" });
    for key in ["", "Bearer", "Bearer captcha_x", "Basic eDp5", &wrong] {
        for reply in [send(&serve, key, &one).await, read(&serve, key, "").await] {
            assert_eq!(reply.status, 401, "{key}");
            assert!(reply.header("www-authenticate").starts_with("Bearer "), "{key}");
        }
    }
    assert_eq!(get(&serve.address, "/v1/").await.status, 200);
    world.await_log(3).await;
}

#[tokio::test]
async fn keys_come_and_go_without_a_restart() {
    let world = World::new("key_file");
    world.migrate(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.txt");
    let words = ["--role", "write", "--sites", "*"];
    let first = new_key(&world, &file, &words).await;
    let serve = world.serve_with(&["--keys-file", file.to_str().unwrap()]).await;
    assert_eq!(send(&serve, &first, &events(1)).await.status, 200);

    let old = std::fs::read_to_string(&file).unwrap();
    let second = new_key(&world, &file, &words).await;
    let becomes = async |key: &str, status: u16| {
        eventually("the key file to be read again", async || {
            let reply = send(&serve, key, &events(1)).await;
            (reply.status == status).then_some(()).ok_or(reply.text())
        })
        .await;
    };
    becomes(&second, 200).await;
    let both = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, "nonsense\n").unwrap();
    serve.await_said("the key file cannot be loaded").await;
    assert_eq!(serve.metric("captcha_file_loaded{file=\"keys\"}").await, 0.0);
    assert_eq!(send(&serve, &first, &events(1)).await.status, 200);
    std::fs::write(&file, both.replace(&old, "")).unwrap();
    becomes(&first, 401).await;
    assert_eq!(send(&serve, &second, &events(1)).await.status, 200);
    assert_eq!(serve.metric("captcha_file_loaded{file=\"keys\"}").await, 1.0);

    std::fs::write(&file, "nonsense\n").unwrap();
    let refused = world
        .refused(&[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--keys-file",
            file.to_str().unwrap(),
        ])
        .await;
    assert!(refused.contains("line 1") && !refused.contains("nonsense"), "{refused}");
}

#[tokio::test]
async fn a_rate_is_kept_and_told() {
    let world = World::new("rates");
    world.migrate(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.txt");
    let words = ["--role", "write", "--sites", "*", "--rate", "1", "--burst", "1000"];
    let key = new_key(&world, &file, &words).await;
    let serve = world.serve_with(&["--keys-file", file.to_str().unwrap()]).await;

    let reply = send(&serve, &key, &events(990)).await;
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.header("ratelimit-policy"),
        "\"events\";q=1;qu=\"events\";w=1;captcha-burst=1000"
    );
    assert_eq!(reply.header("ratelimit"), "\"events\";r=10;t=1");
    let reply = send(&serve, &key, &events(900)).await;
    assert_eq!(reply.status, 429, "{}", reply.text());
    let seconds: u64 = reply.header("retry-after").parse().unwrap();
    assert!((800..=890).contains(&seconds), "{seconds}");
    assert!(reply.header("ratelimit").starts_with("\"events\";r="));
    let headers = [("content-type", "application/json"), ("authorization", key.as_str())];
    for (count, status) in [(1_000, 200), (1_001, 413)] {
        let (path, body) = ("/v1/events?dry_run=true", events(count).to_string());
        let reply = request(&serve.address, "POST", path, &headers, body).await.unwrap();
        assert_eq!(reply.status, status, "{}", reply.text());
    }
    let reply = send(&serve, &key, &events(1_001)).await;
    assert_eq!((reply.status.as_u16(), reply.header("retry-after")), (413, ""));
}

#[tokio::test]
async fn an_expired_key_is_refused_on_requests_and_on_an_open_stream() {
    let world = World::new("expiry");
    world.migrate(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.txt");
    let words = ["--role", "write", "--sites", "*", "--expires", "2200-01-31"];
    let key = new_key(&world, &file, &words).await;
    let id = key.split('_').nth(1).unwrap();
    let list = ["serve", "keys", "--keys-file", file.to_str().unwrap()];
    let listed = async || world.ok(&list).await;
    let valid = format!("{id}  write  all    -            -     2200-01-31  valid\n");
    assert!(listed().await.ends_with(&valid), "{}", listed().await);

    let serve = world.serve_with(&["--keys-file", file.to_str().unwrap()]).await;
    let used = format!("captcha_key_last_used_timestamp_seconds{{key=\"{id}\"}}");
    assert_eq!(serve.metric(&used).await, 0.0);
    assert_eq!(serve.metric("captcha_keys{state=\"valid\"}").await, 1.0);
    let mut stream = Stream::open_with(&serve.address, &key).await;
    stream.send(events(1)).await;
    assert_eq!(stream.answer().await["status"], "accepted");
    assert_eq!(send(&serve, &key, &events(1)).await.status, 200);
    assert!(serve.metric(&used).await > 1.7e9);

    let line = std::fs::read_to_string(&file).unwrap();
    let soon = chrono::Utc::now() + chrono::TimeDelta::seconds(5);
    let soon = soon.format("%Y-%m-%dT%H:%M:%SZ").to_string();
    std::fs::write(&file, line.replace("2200-01-31", &soon)).unwrap();
    let expired = format!("this key expired at {soon} (UTC); ask for a new one");
    eventually("a request to be refused", async || {
        let reply = send(&serve, &key, &events(1)).await;
        let is_refused = reply.status == 401 && reply.json()["detail"] == expired;
        is_refused.then_some(()).ok_or(reply.text())
    })
    .await;
    stream.send(events(1)).await;
    let answer = stream.answer().await;
    assert_eq!((&answer["status"], &answer["detail"]), (&json!(401), &json!(expired)));
    assert_eq!(serve.metric("captcha_keys{state=\"expired\"}").await, 1.0);
    assert!(listed().await.ends_with("expired\n"), "{}", listed().await);
}

#[tokio::test]
async fn refused_keys_are_counted_and_logged_and_a_flood_is_a_few_lines() {
    let world = World::new("refused_keys");
    world.migrate(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.txt");
    let words = ["--role", "write", "--sites", SITE];
    let key = new_key(&world, &file, &words).await;
    let expiring = ["--role", "write", "--sites", "*", "--expires", "2200-01-31"];
    let expired = new_key(&world, &file, &expiring).await;
    let lines = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, lines.replace("2200-01-31", "2020-01-31")).unwrap();
    let serve = world.serve_with(&["--keys-file", file.to_str().unwrap()]).await;
    let id = |key: &str| key.split('_').nth(1).unwrap().to_string();
    let wrong = format!("Bearer captcha_{}_{}", id(&key), "0".repeat(64));
    let unknown = format!("Bearer captcha_n0b0dy_{}", "0".repeat(64));
    let foreign = event(OTHER_SITE, "serve", "2024-01-01T00:00:00");

    const FLOOD: usize = 200;
    for _ in 0..FLOOD {
        assert_eq!(send(&serve, &wrong, &events(1)).await.status, 401);
    }
    assert_eq!(send(&serve, &unknown, &events(1)).await.status, 401);
    assert_eq!(send(&serve, "Bearer nothing", &events(1)).await.status, 401);
    assert_eq!(send(&serve, &expired, &events(1)).await.status, 401);
    assert_eq!(send(&serve, &key, &foreign).await.status, 403);
    assert_eq!(read(&serve, &key, "").await.status, 403);
    assert_eq!(get(&serve.address, "/v1/report").await.status, 401);
    let mut stream = Stream::open_with(&serve.address, &key).await;
    stream.send(foreign).await;
    assert_eq!(stream.answer().await["status"], 403);

    for (reason, count, id) in [
        ("wrong_secret", FLOOD, id(&key)),
        ("unknown", 1, "n0b0dy".to_string()),
        ("malformed", 1, String::new()),
        ("missing", 1, String::new()),
        ("expired", 1, id(&expired)),
        ("role", 1, id(&key)),
        ("site", 2, id(&key)),
    ] {
        let counter = format!("captcha_keys_rejected_total{{reason=\"{reason}\"}}");
        assert_eq!(serve.metric(&counter).await, count as f64, "{reason}");
        let said = serve.said();
        let written = said
            .lines()
            .filter(|line| line.contains("key refused") && line.contains(&format!("\"reason\":\"{reason}\"")));
        let written: Vec<_> = written.collect();
        assert!(!written.is_empty(), "{reason}: {said}");
        assert!(written.len() <= count.min(FLOOD / 4), "{reason}: {said}");
        let first = written[0];
        assert!(first.contains("\"address\":\"127.0.0.1\""), "{first}");
        assert!(id.is_empty() || first.contains(&id), "{first}");
    }
    let secret = key.rsplit('_').next().unwrap();
    assert!(!serve.said().contains(secret));
}

#[tokio::test]
async fn processes_that_share_a_rate_grant_no_more_than_all_of_it() {
    let world = World::new("rate_share");
    world.migrate(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.txt");
    let words = ["--role", "write", "--sites", "*", "--rate", "1", "--burst", "1000"];
    let key = new_key(&world, &file, &words).await;
    let flags = ["--keys-file", file.to_str().unwrap(), "--rate-share", "1/3"];
    let mut accepted = 0;
    for _ in 0..3 {
        let serve = world.serve_with(&flags).await;
        let reply = send(&serve, &key, &events(333)).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(
            reply.header("ratelimit-policy"),
            "\"events\";q=1;qu=\"events\";w=1;captcha-burst=333"
        );
        accepted += 333;
        assert_eq!(send(&serve, &key, &events(334)).await.status, 413);
    }
    assert!(accepted <= 1_000);
}

#[tokio::test]
async fn pages_of_listed_origins_may_call() {
    let world = World::on("cors", NOWHERE, NOWHERE);
    let flags = ["--cors-origins", "https://shop.example,http://localhost:3000"];
    let serve = world.serve_with(&flags).await;
    let ask = async |method: &str, path: &str, origin: &str| {
        let headers = [("origin", origin), ("access-control-request-method", "POST")];
        request(&serve.address, method, path, &headers, "").await.unwrap()
    };
    let preflight = ask("OPTIONS", "/v1/events", "https://shop.example").await;
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-origin"), "https://shop.example");
    assert!(
        preflight
            .header("access-control-allow-headers")
            .contains("authorization")
    );
    let vary = async |method: &str, path: &str| {
        let answer = ask(method, path, "https://shop.example").await;
        let values = answer.headers.get_all("vary").iter();
        let values: Vec<_> = values.map(|value| value.to_str().unwrap().to_string()).collect();
        values.join(", ")
    };
    assert_eq!(vary("OPTIONS", "/v1/events").await, "origin");
    assert_eq!(vary("GET", "/v1/").await, "origin");
    assert_eq!(vary("GET", "/v1/docs").await, "accept-encoding, origin");
    let foreign = ask("OPTIONS", "/v1/events", "https://evil.example").await;
    assert_eq!(
        (foreign.status.as_u16(), foreign.header("access-control-allow-origin")),
        (204, "")
    );
    // Errors are read by pages too.
    let refused = ask("POST", "/v1/events", "http://localhost:3000").await;
    assert_eq!(
        (refused.status.as_u16(), refused.header("access-control-allow-origin")),
        (415, "http://localhost:3000")
    );
    assert_eq!(refused.header("vary"), "origin");
}
