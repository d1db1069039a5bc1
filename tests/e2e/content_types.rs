//! The forms that events may come in, and protocols: NDJSON, gzip, zstd, dry runs, HTTP/2, TLS.

use serde_json::{Value, json};

use crate::client::{Reply, events, request};
use crate::world::World;
use captcha_corpus::gzip;

async fn send(address: &str, path: &str, form: (&str, &str), body: Vec<u8>) -> Reply {
    let headers = [("content-type", form.0), ("content-encoding", form.1)];
    request(address, "POST", path, &headers, body).await.unwrap()
}

fn lines(events: &Value) -> Vec<u8> {
    let lines: Vec<_> = events.as_array().unwrap().iter().map(Value::to_string).collect();
    lines.join("\n").into_bytes()
}

#[tokio::test]
async fn every_form_is_accepted_and_counted() {
    let world = World::new("forms");
    let (serve, _consume) = world.all().await;
    let mut sent = 0;
    for content_type in ["application/json", "application/x-ndjson"] {
        for coding in ["identity", "gzip", "zstd"] {
            // One, some, and more than is parsed at once.
            for count in [1, 7, 2_000] {
                let events = events(count);
                let plain = match content_type {
                    "application/json" => events.to_string().into_bytes(),
                    _ => lines(&events),
                };
                let body = match coding {
                    "gzip" => gzip(&plain),
                    "zstd" => zstd::encode_all(&plain[..], 3).unwrap(),
                    _ => plain,
                };
                let form = (content_type, coding);
                let reply = send(&serve.address, "/v1/events", form, body).await;
                assert_eq!(reply.status, 200, "{form:?} {count}: {}", reply.text());
                let receipts = reply.json()["receipts"].as_array().unwrap().len();
                assert_eq!(receipts, count, "{form:?}");
                sent += count;
            }
        }
    }
    world.await_counted(sent as u64).await;
    world.await_log(sent as i64).await;
}

#[tokio::test]
async fn a_dry_run_judges_and_stores_nothing() {
    let world = World::new("dry_run");
    world.migrate(&[]).await;
    let serve = world.serve().await;
    let form = ("application/x-ndjson", "gzip");
    let body = gzip(&lines(&events(3)));
    let reply = send(&serve.address, "/v1/events?dry_run=true", form, body.clone()).await;
    let answer = reply.json();
    assert_eq!(
        (&answer["status"], &answer["valid"], &answer["accepted"]),
        (&json!("valid"), &json!(3), &json!(0))
    );
    let wrong = gzip(b"{}");
    let reply = send(&serve.address, "/v1/events?dry_run=true", form, wrong).await;
    assert_eq!(reply.status, 422);
    let reply = send(&serve.address, "/v1/events?dry_run=yes", form, body).await;
    assert_eq!(
        (reply.status.as_u16(), reply.places()),
        (422, vec!["dry_run".to_string()])
    );
    for partition in 0..4 {
        assert!(world.records(partition).await.is_empty());
    }
}
