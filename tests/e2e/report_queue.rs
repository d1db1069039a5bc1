//! Many readers at the same moment: each has the report after a short wait, or learns when to come back.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::client::{Reply, SITE, accept, events, get, post, request};
use crate::keys::new_key;
use crate::process::{Process, Server, eventually, shared};
use crate::websocket::Stream;
use crate::world::{World, counters};

/// People who open the report together, as the first who met refusals were.
const TOGETHER: usize = 30;

/// Reports that are asked of ClickHouse at once.
const AT_ONCE: usize = 4;

/// Readers who ask together to see what becomes of one who waits and of one who may not.
const PROBES: usize = 8;

const WAITING: &str = "captcha_reports_waiting";

async fn read_together(address: &str, readers: usize) -> Vec<Reply> {
    let mut reading = JoinSet::new();
    for _ in 0..readers {
        let address = address.to_string();
        reading.spawn(async move { get(&address, "/v1/report").await });
    }
    reading.join_all().await
}

async fn refused(serve: &Process, reason: &str) -> f64 {
    let series = format!("captcha_reports_rejected_total{{reason=\"{reason}\"}}");
    serve.metric(&series).await
}

#[tokio::test]
async fn thirty_readers_at_once_all_have_the_report() {
    let world = World::new("readers");
    let (serve, _consume) = world.all().await;
    accept(&serve.address, &events(100)).await;
    world.await_counted(100).await;
    // Where one report takes over half a second, as on a machine that is busy, not all have a turn in time.
    let replies = eventually("thirty reports", async || {
        let replies = read_together(&serve.address, TOGETHER).await;
        let refused: Vec<_> = replies.iter().filter(|reply| reply.status != 200).collect();
        let texts = refused.iter().map(|reply| reply.text());
        let reasons = || Err(texts.collect::<Vec<_>>().concat());
        if refused.is_empty() { Ok(replies) } else { reasons() }
    })
    .await;
    for reply in replies {
        let served: u64 = counters(&reply.json()).iter().map(|row| row.2).sum();
        assert_eq!(served, 100, "{}", reply.text());
    }
    assert_eq!(serve.metric(WAITING).await, 0.0);
    for reason in ["queue_full", "rows", "hung_up"] {
        assert_eq!(refused(&serve, reason).await, 0.0, "{reason}");
    }
}

/// A `serve` whose ClickHouse answers nobody, with this many readers who ask again and again until they are dropped,
/// each for a site of its own.
async fn stuck(test: &str, flags: &[&str], readers: usize) -> (Server, Process, JoinSet<()>) {
    let clickhouse = Server::started("clickhouse").await;
    let kafka = shared("CAPTCHA_TEST_KAFKA");
    let world = World::on(test, &kafka, &clickhouse.address());
    world.migrate(&[]).await;
    let serve = world.serve_with(flags).await;
    clickhouse.freeze().await;
    let mut asking = JoinSet::new();
    for _ in 0..readers {
        let address = serve.address.clone();
        let path = format!("/v1/report?site_id={}", uuid::Uuid::now_v7());
        asking.spawn(async move {
            loop {
                get(&address, &path).await.assert_away();
            }
        });
    }
    (clickhouse, serve, asking)
}

#[tokio::test]
async fn a_queue_of_readers_has_an_end() {
    let flags = ["--reports-waiting-max", "1", "--report-wait-seconds", "1"];
    let (clickhouse, serve, mut asking) = stuck("queue", &flags, AT_ONCE).await;
    for (reason, detail) in [
        ("queue_full", "one report waits already"),
        ("wait_over", "the report had no turn within 1 s"),
    ] {
        // Of several at once, one has the place of those who wait when it is free, and the others have none.
        eventually(detail, async || {
            let mut probes = JoinSet::new();
            for _ in 0..PROBES {
                let (address, site) = (serve.address.clone(), uuid::Uuid::now_v7());
                probes.spawn(async move { get(&address, &format!("/v1/report?site_id={site}")).await });
            }
            let details = probes.join_all().await.into_iter().map(|reply| {
                reply.assert_away();
                reply.json()["detail"].as_str().unwrap().to_string()
            });
            let details: Vec<_> = details.collect();
            let fits = details.iter().any(|found| found.starts_with(detail));
            fits.then_some(()).ok_or(details.join("; "))
        })
        .await;
        assert!(refused(&serve, reason).await >= 1.0, "{reason}");
    }
    // They are no events.
    let busy = "captcha_events_rejected_total{reason=\"busy\"}";
    assert_eq!(serve.metric(busy).await, 0.0);
    asking.shutdown().await;
    clickhouse.thaw();
    eventually("a report", async || {
        let reply = get(&serve.address, "/v1/report").await;
        (reply.status == 200).then_some(()).ok_or(reply.text())
    })
    .await;
}

#[tokio::test]
async fn a_reader_that_hangs_up_frees_its_place_in_the_queue() {
    let flags = ["--reports-waiting-max", "1", "--report-wait-seconds", "8"];
    let (_clickhouse, serve, mut asking) = stuck("hung_up", &flags, AT_ONCE).await;
    let open = async || {
        let mut stream = TcpStream::connect(&serve.address).await.unwrap();
        // For a site of its own, so that it waits for no other.
        let path = format!("/v1/report?site_id={}", uuid::Uuid::now_v7());
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        // Its turn comes when one of those who ask is refused, and then another waits.
        let waits = async || (serve.metric(WAITING).await == 1.0).then_some(());
        eventually("a reader to wait", async || {
            waits().await.ok_or("nobody waits".to_string())
        })
        .await;
        stream
    };
    eventually("a reader that hung up to be gone", async || {
        drop(open().await);
        let count = refused(&serve, "hung_up").await;
        (count >= 1.0).then_some(()).ok_or(count.to_string())
    })
    .await;
    // One that has closed only its own side learns why.
    let text = eventually("an answer to half a connection", async || {
        let mut stream = open().await;
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let fits = answer.contains("closed its side of the connection");
        fits.then_some(answer.clone()).ok_or(answer)
    })
    .await;
    assert!(text.starts_with("HTTP/1.1 503"), "{text}");
    asking.shutdown().await;
}

#[tokio::test]
async fn too_many_requests_at_once_are_503() {
    let flags = ["--requests-max", "1"];
    let (clickhouse, serve, mut asking) = stuck("requests", &flags, 1).await;
    let in_progress = "captcha_http_requests_in_progress";
    eventually("the limit to be reached", async || {
        let count = serve.metric(in_progress).await;
        (count == 1.0).then_some(()).ok_or(count.to_string())
    })
    .await;
    // What needs no server needs no place either.
    assert_eq!(get(&serve.address, "/v1/").await.status, 200);
    eventually("a request without a place", async || {
        let reply = post(&serve.address, &events(1)).await;
        (reply.status == 503)
            .then(|| reply.assert_away())
            .ok_or("there was one".to_string())
    })
    .await;
    let mut stream = Stream::open(&serve.address).await;
    eventually("a message without a place", async || {
        stream.send(events(1)).await;
        let answer = stream.answer().await;
        let seconds = answer["retry_after"].as_u64().unwrap_or_default();
        let is_told = answer["status"] == 503 && (1..=30).contains(&seconds);
        is_told.then_some(()).ok_or(answer.to_string())
    })
    .await;
    asking.shutdown().await;
    clickhouse.thaw();
    eventually("room for one", async || {
        let reply = post(&serve.address, &events(1)).await;
        (reply.status == 200).then_some(()).ok_or(reply.text())
    })
    .await;
}

/// Connections of one key that ask for everything, and small reports that another key reads meanwhile.
const GREEDY: usize = 8;
const SMALL_REPORTS: usize = 30;

#[tokio::test]
async fn a_key_that_asks_for_everything_all_the_time_does_not_starve_another() {
    let world = World::new("greedy");
    world.migrate(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.txt");
    let words = ["--role", "read", "--sites", "*"];
    let greedy = new_key(&world, &file, &words).await;
    let other = new_key(&world, &file, &words).await;
    // A report that takes a while, and a site that has nothing in it.
    world
        .sql(
            "INSERT INTO events (topic, partition, offset, arrival, span, kind, site_id, type, correlation_id, time) \
             SELECT 'many', 0, number, now64(3), 1, 'event', generateUUIDv4(), 'serve', generateUUIDv4(), now() \
             FROM numbers(200000)",
        )
        .await;
    // The eight alone fill the turns and the queue.
    let flags = ["--reports-waiting-max", "4", "--report-wait-seconds", "8"];
    let keys = ["--keys-file", file.to_str().unwrap()];
    let serve = world.serve_with(&[&flags[..], &keys].concat()).await;
    let mut asking = JoinSet::new();
    for day in 1..=GREEDY {
        let (address, key) = (serve.address.clone(), greedy.clone());
        asking.spawn(async move {
            loop {
                let mut stream = TcpStream::connect(&address).await.unwrap();
                let path = format!("/v1/report?from=1970-01-0{day}");
                let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: {key}\r\n\r\n");
                stream.write_all(request.as_bytes()).await.unwrap();
                // Whatever the answer is, it asks again.
                let _ = stream.read_u8().await;
            }
        });
    }
    eventually("the queue to be full", async || {
        let waiting = serve.metric(WAITING).await;
        (waiting == 4.0).then_some(()).ok_or(waiting.to_string())
    })
    .await;
    let ask = async |query: &str| {
        let path = format!("/v1/report?site_id={SITE}{query}");
        let headers = [("authorization", other.as_str())];
        request(&serve.address, "GET", &path, &headers, "").await.unwrap()
    };
    let mut refused = Vec::new();
    for _ in 0..SMALL_REPORTS {
        let reply = ask("").await;
        if reply.status != 200 {
            refused.push(reply.text());
        }
    }
    assert!(refused.is_empty(), "{} of {SMALL_REPORTS}: {refused:#?}", refused.len());
    // One that is expected to cost much has no turn of its own, but a place: the reader who had it learns why.
    let sites: String = (1..=40)
        .map(|number| format!("&site_id={}", uuid::Uuid::from_u128(number)))
        .collect();
    eventually("a place that another one had", async || {
        ask(&sites).await;
        let displaced = self::refused(&serve, "displaced").await;
        (displaced >= 1.0).then_some(()).ok_or(displaced.to_string())
    })
    .await;
    asking.shutdown().await;
}
