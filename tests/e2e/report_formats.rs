//! Reports over HTTP as clients expect them: formats, compression, tags, and receipts that are waited for.

use std::io::Read as _;

use crate::client::{Reply, SITE, accept, event, events, get, request, served};
use crate::complete_through::{await_complete_through, now};
use crate::process::{Process, Server, TOPICS, eventually, kafka_tool, shared};
use crate::world::{World, counters};

const OTHER: &str = "6f1c1f2e-3d0b-4c5a-9b0e-2f4b8f3f7a09";

async fn ask(serve: &Process, path: &str, headers: &[(&str, &str)]) -> Reply {
    request(&serve.address, "GET", path, headers, "").await.unwrap()
}

#[tokio::test]
async fn one_report_has_three_formats_and_two_codings() {
    let world = World::new("formats");
    let (serve, _consume) = world.all().await;
    for site in [SITE, OTHER] {
        accept(&serve.address, &event(site, "serve", "2024-02-29T12:00:00")).await;
    }
    world.await_counted(2).await;
    let csv = format!("date,site_id,served,solved\n2024-02-29,{OTHER},1,0\n2024-02-29,{SITE},1,0\n");
    let row = |site| format!("{{\"date\":\"2024-02-29\",\"site_id\":\"{site}\",\"served\":1,\"solved\":0}}");
    let (one, two) = (row(OTHER), row(SITE));
    let lines = format!("{one}\n{two}\n");
    let begin = format!("{{\"counters\":[{one},{two}],\"complete_through\":");
    for (path, accept, content_type, body) in [
        ("/v1/report", "", "application/json", begin.as_str()),
        ("/v1/report", "*/*", "application/json", begin.as_str()),
        ("/v1/report", "image/png", "application/json", begin.as_str()),
        ("/v1/report", "text/csv", "text/csv; charset=utf-8", csv.as_str()),
        (
            "/v1/report?format=csv",
            "application/json",
            "text/csv; charset=utf-8",
            &csv,
        ),
        (
            "/v1/report",
            "application/x-ndjson, text/csv;q=0.9",
            "application/x-ndjson",
            &lines,
        ),
        ("/v1/report?format=ndjson", "", "application/x-ndjson", &lines),
    ] {
        let reply = ask(&serve, path, &[("accept", accept)]).await;
        assert_eq!(reply.status, 200, "{path} {accept}: {}", reply.text());
        assert_eq!(reply.header("content-type"), content_type, "{path} {accept}");
        assert_eq!(reply.header("vary"), "accept, accept-encoding, authorization");
        assert_eq!(reply.header("cache-control"), "private, no-cache");
        let text = reply.text();
        let is_whole = text == body || (text.starts_with(body) && content_type == "application/json");
        assert!(is_whole, "{path} {accept}: {text}");
        // Small ones are never compressed.
        assert_eq!(reply.header("content-encoding"), "");
    }
    assert_eq!(csv, world.ok(&["report", "--format", "csv"]).await);

    // Enough to be compressed.
    let days = (1..=28).map(|day| served(&format!("2024-02-{day:02}T12:00:00")));
    accept(&serve.address, &days.collect()).await;
    world.await_counted(30).await;
    let plain = ask(&serve, "/v1/report?format=csv", &[]).await.text();
    for (accepted, coding) in [("gzip", "gzip"), ("gzip, deflate, br, zstd", "zstd"), ("br", "")] {
        let reply = ask(&serve, "/v1/report?format=csv", &[("accept-encoding", accepted)]).await;
        assert_eq!(reply.header("content-encoding"), coding, "{accepted}");
        let mut text = String::new();
        match coding {
            "gzip" => flate2::read::GzDecoder::new(&reply.body[..])
                .read_to_string(&mut text)
                .map(drop)
                .unwrap(),
            "zstd" => text = String::from_utf8(zstd::decode_all(&reply.body[..]).unwrap()).unwrap(),
            _ => text = reply.text(),
        }
        assert_eq!(text, plain, "{accepted}");
    }
}

#[tokio::test]
async fn a_page_that_asks_again_gets_304_until_a_number_changes() {
    let world = World::new("tags");
    let (serve, _consume) = world.all().await;
    accept(&serve.address, &served("2024-02-29T12:00:00")).await;
    world.await_counted(1).await;
    await_complete_through(&world, now(&world).await).await;
    let first = get(&serve.address, "/v1/report").await;
    let tag = first.header("etag").to_string();
    assert!(tag.starts_with("W/\"") && tag.ends_with("-json\""), "{tag}");
    let through = first.json()["complete_through"].as_str().unwrap().to_string();
    assert_eq!(first.header("complete-through"), through);

    // The same rows, and newer.
    let known = |tag: &str| [("if-none-match", tag.to_string())];
    let ask_again = async |path: &str, tag: &str| {
        let [(name, value)] = known(tag);
        ask(&serve, path, &[(name, value.as_str())]).await
    };
    eventually("the same rows of a newer moment", async || {
        let again = ask_again("/v1/report", &tag).await;
        assert_eq!((again.status.as_u16(), again.body.len()), (304, 0), "{}", again.text());
        assert_eq!(again.header("etag"), tag);
        assert_eq!(again.header("vary"), "accept, accept-encoding, authorization");
        let newer = again.header("complete-through").to_string();
        (newer > through).then_some(()).ok_or(newer)
    })
    .await;
    for (path, tag, status) in [
        ("/v1/report?format=json", tag.as_str(), 304),
        ("/v1/report", &format!("\"x\", {}", tag.trim_start_matches("W/")), 304),
        ("/v1/report", "*", 304),
        ("/v1/report?format=csv", &tag, 200),
        ("/v1/report", "W/\"x\"", 200),
        // Other rows, and so another tag.
        ("/v1/report?to=2000-01-01", &tag, 200),
    ] {
        let reply = ask_again(path, tag).await;
        assert_eq!(reply.status.as_u16(), status, "{path} {tag}");
    }

    accept(&serve.address, &served("2024-02-29T12:00:00")).await;
    world.await_counted(2).await;
    let changed = ask_again("/v1/report", &tag).await;
    assert_eq!(changed.status, 200);
    assert_ne!(changed.header("etag"), tag);
    // Another process says the same.
    let other = world.serve().await;
    assert_eq!(
        get(&other.address, "/v1/report").await.header("etag"),
        changed.header("etag")
    );
}

#[tokio::test]
async fn a_report_waits_for_the_event_of_a_receipt() {
    let world = World::new("wait");
    world.migrate(&["--partitions", "2"]).await;
    let serve = world.serve().await;
    let consume = world.consume(&[]).await;
    for count in 1..=10 {
        let receipts = accept(&serve.address, &events(1)).await;
        let reply = get(&serve.address, &format!("/v1/report?wait={}", receipts[0])).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(counters(&reply.json())[0].2, count);
    }

    // It waits as long as nobody stores the event, and while it waits others have their reports.
    consume.signal("STOP");
    let receipts = accept(&serve.address, &events(1)).await;
    let path = format!("/v1/report?wait={}", receipts[0]);
    let waiting = {
        let (address, path) = (serve.address.clone(), path.clone());
        tokio::spawn(async move { get(&address, &path).await })
    };
    assert_eq!(get(&serve.address, "/v1/report").await.status, 200);
    let reply = waiting.await.unwrap();
    reply.assert_away();
    assert!(reply.text().contains("is not in the report yet"), "{}", reply.text());
    let waiting = tokio::spawn({
        let address = serve.address.clone();
        async move { get(&address, &path).await }
    });
    consume.signal("CONT");
    let reply = waiting.await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(counters(&reply.json())[0].2, 11);

    for (receipt, detail) in [
        ("2:0", "has no partition 2"),
        ("0:9999999", "kafka's log of partition 0 ends at"),
        ("0", "not a receipt like 3:57"),
    ] {
        let reply = get(&serve.address, &format!("/v1/report?wait={receipt}")).await;
        assert_eq!(reply.status, 422, "{receipt}: {}", reply.text());
        assert_eq!(reply.places(), ["wait"]);
        assert!(reply.text().contains(detail), "{}", reply.text());
    }
}

#[tokio::test]
async fn a_receipt_of_a_topic_before_it_was_made_again_is_refused() {
    let kafka = Server::started("kafka").await;
    let world = World::on("old_receipt", &kafka.address(), &shared("CAPTCHA_TEST_CLICKHOUSE"));
    eventually("a topic", async || {
        let output = world.run(&["migrate", "--partitions", "1"]).await;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        output.status.success().then_some(()).ok_or(stderr)
    })
    .await;
    let serve = world.serve().await;
    let receipts = accept(&serve.address, &events(5)).await;
    let consume = world.consume(&[]).await;
    world.await_counted(5).await;
    drop((serve, consume));
    kafka_tool(TOPICS, &kafka.address(), &["--delete", "--topic", &world.name]).await;
    world.migrate(&["--partitions", "1", "--topic-recreated"]).await;
    let serve = world.serve().await;
    let _consume = world.consume(&[]).await;
    let path = format!("/v1/report?wait={}", receipts[4]);
    let reply = get(&serve.address, &path).await;
    assert_eq!(reply.status, 422, "{}", reply.text());
    assert!(reply.text().contains("a topic that was made again"), "{}", reply.text());
}
