//! `captcha serve`: what it accepts, what it refuses, and how it ends.

use rskafka::client::partition::OffsetAt;
use serde_json::json;

use crate::client::{SITE, accept, event, events, get, post, request, served, try_post};
use crate::world::{World, counters};

const OTHER_SITE: &str = "00000000-0000-4000-8000-000000000001";

#[tokio::test]
async fn posted_events_come_back_in_the_report() {
    let world = World::new("posted");
    let (serve, _consume) = world.all().await;
    accept(&serve.address, &event(SITE, "serve", "2001-01-01T05:55:07")).await;
    let day = [
        event(SITE, "serve", "2001-01-01T23:59:59.999999"),
        event(SITE, "solve", "2001-01-02T01:00:00+02:00"),
        event(SITE, "serve", "2001-01-02T00:00:00"),
        event(OTHER_SITE, "serve", "2199-12-31T23:59:59Z"),
    ];
    assert_eq!(accept(&serve.address, &json!(day)).await.len(), 4);
    world.await_counted(5).await;

    let row = |date: &str, site: &str, served, solved| (date.to_string(), site.to_string(), served, solved);
    let all = [
        row("2001-01-01", SITE, 2, 1),
        row("2001-01-02", SITE, 1, 0),
        row("2199-12-31", OTHER_SITE, 1, 0),
    ];
    assert_eq!(world.report(&[]).await, all);
    let http = get(&serve.address, "/v1/report").await;
    assert_eq!(
        (http.status.as_u16(), http.header("content-type")),
        (200, "application/json")
    );
    assert_eq!(counters(&http.json()), all);
    // The same text, but for how far it is complete, which may go on in between.
    let text = world.ok(&["report", "--format", "json"]).await;
    let without = |text: &str| text.split_once(",\"complete_through\":").unwrap().0.to_string();
    assert_eq!(without(&http.text()), without(&text));

    let one_day = format!("/latest/report?site_id={SITE}&from=2001-01-01&to=2001-01-02");
    assert_eq!(counters(&get(&serve.address, &one_day).await.json()), all[..1]);
    assert_eq!(
        world.report(&["--site-id", SITE, "--from", "2001-01-02"]).await,
        all[1..2]
    );
    let both = format!("/V1/report?site_id={SITE}&site_id={OTHER_SITE}&from=2001-01-02");
    assert_eq!(counters(&get(&serve.address, &both).await.json()), all[1..]);
    let none = "/v1/report?site_id=00000000-0000-4000-8000-0000000000ff";
    let empty = get(&serve.address, none).await.text();
    assert_eq!(without(&empty), "{\"counters\":[]");

    let csv = world.ok(&["report", "--format", "csv"]).await;
    assert_eq!(csv.lines().nth(1), Some(format!("2001-01-01,{SITE},2,1").as_str()));
    let table = world.ok(&["report"]).await;
    assert!(table.contains(SITE) && !table.contains('\u{1b}'), "{table}");
    world.await_log(5).await;
}

#[tokio::test]
async fn the_same_event_is_counted_once() {
    let world = World::new("repeats");
    let (serve, mut consume) = world.all().await;
    let first = served("2024-05-01T00:00:00");
    let mut same_instant = first.clone();
    same_instant["time"] = json!("2024-05-01T02:00:00.000+02:00");
    let solve = json!({"site_id": first["site_id"], "type": "solve",
        "correlation_id": first["correlation_id"], "time": first["time"]});
    accept(&serve.address, &json!([first, first, same_instant])).await;
    accept(&serve.address, &first).await;
    accept(&serve.address, &solve).await;
    world.await_counted(2).await;
    consume.kill();
    let _consume = world.consume(&[]).await;
    // Remembered across a restart; the sixth record is a repeat, the seventh is new.
    accept(&serve.address, &json!([solve, served("2024-05-01T00:00:00")])).await;
    world.await_counted(3).await;
    world.await_log(7).await;
    let repeats = world.sql("SELECT toString(sum(repeat)) FROM events").await;
    assert_eq!(repeats, [["4"]]);
}

#[tokio::test]
async fn records_are_keyed_dated_by_arrival_and_receipted() {
    let world = World::new("records");
    world.migrate(&["--partitions", "3"]).await;
    let serve = world.serve().await;
    let before = chrono::Utc::now().timestamp_millis();
    let sent = events(30);
    let receipts = accept(&serve.address, &sent).await;
    let after = chrono::Utc::now().timestamp_millis();
    let mut partitions = Vec::new();
    for number in 0..3 {
        partitions.push(world.records(number).await);
    }
    assert!(partitions.iter().all(|records| !records.is_empty()));
    for (event, receipt) in sent.as_array().unwrap().iter().zip(&receipts) {
        let (partition, offset) = receipt.split_once(':').unwrap();
        let records = &partitions[partition.parse::<usize>().unwrap()];
        let record = &records[offset.parse::<usize>().unwrap()].record;
        assert_eq!(
            record.key.as_deref(),
            event["correlation_id"].as_str().map(str::as_bytes)
        );
        let value: serde_json::Value = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
        assert_eq!(&value, event);
        assert!((before..=after).contains(&record.timestamp.timestamp_millis()));
    }
}

#[tokio::test]
async fn every_spelling_of_the_paths_works_and_others_are_told_apart() {
    let world = World::new("paths");
    world.migrate(&[]).await;
    let serve = world.serve().await;
    let headers = [("content-type", "application/json; charset=UTF-8")];
    for path in [
        "/v1/events",
        "/v1/event",
        "/V1/event",
        "/V1/events",
        "/latest/events",
        "/latest/event",
    ] {
        let body = served("2024-01-01T00:00:00").to_string();
        let reply = request(&serve.address, "POST", path, &headers, body).await.unwrap();
        let answer = reply.json();
        assert_eq!(
            (reply.status.as_u16(), &answer["status"]),
            (200, &json!("accepted")),
            "{path}"
        );
        assert_eq!((&answer["topic"], &answer["accepted"]), (&json!(world.name), &json!(1)));
    }
    let about = get(&serve.address, "/v1/").await;
    assert_eq!((about.status.as_u16(), &about.json()["name"]), (200, &json!("captcha")));
    for (method, path, status) in [
        ("GET", "/v1/events", 405),
        ("PUT", "/v1/events", 405),
        ("POST", "/v1/report", 405),
        ("GET", "/", 404),
        ("POST", "/v1/eventss", 404),
        ("GET", "/livez", 404),
        ("GET", "/metrics", 404),
    ] {
        let reply = request(&serve.address, method, path, &[], "").await.unwrap();
        assert_eq!(reply.status.as_u16(), status, "{method} {path}");
        assert_eq!(
            reply.header("content-type"),
            "application/problem+json",
            "{method} {path}"
        );
        assert_eq!(reply.json()["status"], status);
    }
    let head = request(&serve.address, "HEAD", "/v1/", &[], "").await.unwrap();
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
}

#[tokio::test]
async fn refused_requests_store_nothing() {
    let world = World::new("refused");
    world.migrate(&[]).await;
    let serve = world.serve().await;
    let json = "application/json";
    let good = served("2024-01-01T00:00:00").to_string();
    let mut half = events(3);
    half[1]["time"] = json!("2024-01-01");
    half[2]["site_id"] = json!(null);
    let large = format!("[{}]", vec![good.as_str(); 20_000].join(","));
    for (content_type, body, status, places) in [
        (json, String::new(), 400, &[][..]),
        (json, "{".to_string(), 400, &[]),
        (json, format!("\u{feff}{good}"), 400, &[]),
        (json, "[]".to_string(), 422, &[""]),
        (json, "7".to_string(), 422, &[""]),
        (json, good.replace("serve", "saw"), 422, &["/type"]),
        (json, good.replace("\"time\"", "\"when\""), 422, &["/when", "/time"]),
        (json, half.to_string(), 422, &["/1/time", "/2/site_id"]),
        (json, large, 413, &[]),
        ("text/plain", good.clone(), 415, &[]),
        ("", good.clone(), 415, &[]),
    ] {
        let headers = [("content-type", content_type)];
        let headers = if content_type.is_empty() { &[][..] } else { &headers };
        let reply = request(&serve.address, "POST", "/v1/events", headers, body)
            .await
            .unwrap();
        assert_eq!(reply.status.as_u16(), status, "{}", reply.text());
        assert_eq!(reply.header("content-type"), "application/problem+json");
        if status == 422 {
            assert_eq!(reply.places(), places, "{}", reply.text());
        }
    }
    for (coding, status) in [("gzip", 400), ("zstd", 400), ("br", 415), ("gzip, zstd", 415)] {
        let headers = [("content-type", json), ("content-encoding", coding)];
        let reply = request(&serve.address, "POST", "/v1/events", &headers, good.clone())
            .await
            .unwrap();
        assert_eq!(reply.status, status, "{coding}");
    }
    let headers = [("content-type", json)];
    let reply = request(&serve.address, "POST", "/v1/events?dry=1", &headers, good)
        .await
        .unwrap();
    assert_eq!((reply.status.as_u16(), reply.places()), (422, vec!["dry".to_string()]));
    let reply = get(&serve.address, "/v1/report?site_id=x&day=1").await;
    assert_eq!(
        (reply.status.as_u16(), reply.places()),
        (422, vec!["site_id".to_string(), "day".to_string()])
    );

    for partition in 0..4 {
        let end = world
            .partition(partition)
            .await
            .get_offset(OffsetAt::Latest)
            .await
            .unwrap();
        assert_eq!(end, 0, "partition {partition}");
    }
}

#[tokio::test]
async fn sigterm_answers_what_is_in_flight_and_exits_0() {
    let world = World::new("sigterm");
    let (mut serve, mut consume) = world.all().await;
    accept(&serve.address, &events(1)).await;
    let address = serve.address.clone();
    let clients: Vec<_> = (0..8)
        .map(|_| tokio::spawn(send_until_refused(address.clone())))
        .collect();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(serve.terminate().await.code(), Some(0));
    let mut accepted = 1;
    for client in clients {
        accepted += client.await.unwrap();
    }
    assert!(accepted > 1, "the clients sent nothing");
    world.await_counted(accepted).await;
    assert_eq!(consume.terminate().await.code(), Some(0));
}

/// Sends one event after the other, each on a new connection, until none can be made. A request whose
/// connection was accepted must be answered.
async fn send_until_refused(address: String) -> u64 {
    let mut accepted = 0;
    while tokio::net::TcpStream::connect(&address).await.is_ok() {
        match try_post(&address, &events(1)).await {
            Ok(reply) => {
                assert_eq!(reply.status, 200, "{}", reply.text());
                accepted += 1;
            }
            // Accepted by the kernel and closed before the process saw it: nothing was answered.
            Err(_) => break,
        }
    }
    accepted
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let world = World::new("second_signal");
    world.migrate(&[]).await;
    let mut serve = world.serve().await;
    // A request whose body never comes keeps the first signal waiting.
    let mut silent = tokio::net::TcpStream::connect(&serve.address).await.unwrap();
    let head = "POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut silent, head.as_bytes())
        .await
        .unwrap();
    serve.await_ready(200, "kafka: ok").await;
    serve.signal("TERM");
    serve.await_ready(503, "serving: stopping").await;
    serve.signal("INT");
    assert_eq!(serve.ended().await.code(), Some(130));
}

#[tokio::test]
async fn connections_beyond_the_limit_are_answered_503() {
    let world = World::new("connections");
    world.migrate(&[]).await;
    let serve = world.serve_with(&["--connections-max", "1"]).await;
    let held = tokio::net::TcpStream::connect(&serve.address).await.unwrap();
    let reply = post(&serve.address, &events(1)).await;
    reply.assert_away();
    drop(held);
    crate::process::eventually("the connection to be free again", async || {
        let reply = try_post(&serve.address, &events(1)).await?;
        (reply.status == 200).then_some(()).ok_or(reply.text())
    })
    .await;
}

#[tokio::test]
async fn more_than_may_wait_for_kafka_is_503_and_stores_nothing() {
    let world = World::new("overload");
    world.migrate(&[]).await;
    let serve = world.serve_with(&["--waiting-bytes-max", "20000"]).await;
    let reply = post(&serve.address, &events(100)).await;
    reply.assert_away();
    assert_eq!(reply.json()["title"], "overloaded");
    let refused = "captcha_events_rejected_total{reason=\"busy\"}";
    assert_eq!(serve.metric(refused).await, 100.0);
    assert_eq!(accept(&serve.address, &events(10)).await.len(), 10);
    let _consume = world.consume(&[]).await;
    world.await_counted(10).await;
    world.await_log(10).await;
}
