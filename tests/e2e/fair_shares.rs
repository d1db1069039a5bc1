//! What all clients share is shared: no address keeps others out, by connections, unread answers, slow bodies or memory.

use bytes::Bytes;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::attacks::http2;
use crate::client::{Reply, connect_from, events, request_from};
use crate::process::{PATIENCE, Process, eventually};
use crate::world::World;

const OPEN: &str = "captcha_connections_open";

async fn post_from(source: u8, address: &str) -> Result<Reply, String> {
    let headers = [("content-type", "application/json")];
    let body = events(1).to_string();
    request_from(source, address, "POST", "/v1/events", &headers, body).await
}

async fn get_from(source: u8, address: &str, headers: &[(&str, &str)]) -> Result<Reply, String> {
    request_from(source, address, "GET", "/v1/", headers, Bytes::new()).await
}

/// So many connections that say nothing, from 127.0.0.N.
async fn silent(source: u8, address: &str, count: usize) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..count {
        streams.push(connect_from(source, address).await.unwrap());
    }
    streams
}

async fn await_metric(serve: &Process, name: &str, value: f64) {
    eventually(&format!("{name} to be {value}"), async || {
        let is = serve.metric(name).await;
        (is == value).then_some(()).ok_or(is.to_string())
    })
    .await;
}

fn refused(reason: &str) -> String {
    format!("captcha_connections_refused_total{{reason=\"{reason}\"}}")
}

#[tokio::test]
async fn one_address_has_half_of_all_connections_at_most() {
    let world = World::new("half");
    let serve = world.serve_with(&["--connections-max", "20"]).await;
    let _greedy = silent(2, &serve.address, 15).await;
    await_metric(&serve, &refused("address"), 5.0).await;
    assert_eq!(serve.metric(OPEN).await, 10.0);
    let told = get_from(2, &serve.address, &[]).await.unwrap();
    told.assert_away();
    assert!(told.text().contains("or from your address"), "{}", told.text());
    // The next one has half of what is left.
    let _second = silent(3, &serve.address, 10).await;
    await_metric(&serve, OPEN, 15.0).await;
    let reply = get_from(4, &serve.address, &[]).await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
}

#[tokio::test]
async fn an_address_may_be_given_fewer_and_a_trusted_proxy_has_all() {
    let world = World::new("fewer");
    let flags = [
        "--connections-max",
        "20",
        "--address-connections-max",
        "3",
        "--trusted-proxies",
        "127.0.0.9,10.0.0.0/8",
    ];
    let serve = world.serve_with(&flags).await;
    let _few = silent(2, &serve.address, 5).await;
    await_metric(&serve, &refused("address"), 2.0).await;
    let proxied = silent(9, &serve.address, 16).await;
    await_metric(&serve, OPEN, 19.0).await;
    let reply = get_from(9, &serve.address, &[]).await.unwrap();
    assert_eq!(reply.status, 200);
    await_metric(&serve, OPEN, 19.0).await;
    let _last = silent(9, &serve.address, 2).await;
    await_metric(&serve, &refused("too_many"), 1.0).await;
    drop(proxied);
    await_metric(&serve, OPEN, 4.0).await;
}

/// A server whose clients may hold little, and a connection of HTTP/2 with 100 answers that it may not send.
async fn with_unread_answers(flags: &[&str]) -> (World, Process, TcpStream) {
    let world = World::new("unread");
    world.migrate(&[]).await;
    let serve = world.serve_with(flags).await;
    let mut stream = http2::connect(&serve.address, &http2::NO_WINDOW).await;
    for number in 0..100 {
        stream.write_all(&http2::get_stream(number)).await.unwrap();
    }
    let name = "captcha_http_requests_total{route=\"about\",status=\"200\"}";
    await_metric(&serve, name, 100.0).await;
    (world, serve, stream)
}

#[tokio::test]
async fn answers_that_nobody_reads_hold_no_place() {
    let (_world, serve, _unread) = with_unread_answers(&["--requests-max", "10"]).await;
    assert_eq!(serve.metric("captcha_http_requests_in_progress").await, 0.0);
    for source in [1, 2] {
        let reply = post_from(source, &serve.address).await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
}

#[tokio::test]
async fn unread_answers_hold_memory_until_they_are_gone() {
    let (_world, serve, unread) = with_unread_answers(&[]).await;
    let held = serve.metric("captcha_client_memory_bytes").await;
    assert!(held > 100.0 * 4096.0, "{held}");
    drop(unread);
    await_metric(&serve, "captcha_client_memory_bytes", 0.0).await;
}

#[tokio::test]
async fn heads_on_http2_count() {
    let world = World::new("heads");
    let serve = world.serve().await;
    let mut stream = http2::connect(&serve.address, &[]).await;
    for number in 0..20 {
        let head = http2::begun_stream_with_large_head(number);
        stream.write_all(&head).await.unwrap();
    }
    eventually("twenty heads of 15.5 kB", async || {
        let held = serve.metric("captcha_client_memory_bytes").await;
        (held > 20.0 * 3.0 * 15_500.0).then_some(()).ok_or(held.to_string())
    })
    .await;
}

/// Sends a request, its body in pieces of 1 kB with a pause after each, and reads what is said.
async fn trickle(serve: &Process, head: &str, pieces: usize, at_piece: impl Fn(usize)) -> String {
    let stream = connect_from(1, &serve.address).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let head = format!("POST {head}\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
    writing.write_all(head.as_bytes()).await.unwrap();
    for piece in 0..pieces {
        at_piece(piece);
        let chunk = format!("3e8\r\n{}\r\n", " ".repeat(1_000));
        writing.write_all(chunk.as_bytes()).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    writing.write_all(b"0\r\n\r\n").await.unwrap();
    let mut came = vec![0; 4096];
    let read = tokio::time::timeout(PATIENCE, reading.read(&mut came));
    let count = read.await.expect("an answer").unwrap();
    String::from_utf8_lossy(&came[..count]).into_owned()
}

#[tokio::test]
async fn a_refused_sender_may_say_all_of_it_also_while_the_server_stops() {
    let world = World::new("refused_body");
    let serve = world.serve().await;
    let said = trickle(&serve, "/v1/nothing HTTP/1.1", 50, |_| ()).await;
    assert!(said.starts_with("HTTP/1.1 404"), "{said}");
    // Sent although nobody has asked it to go on.
    let asks = "/v1/nothing HTTP/1.1\r\nexpect: 100-continue";
    let mut stream = connect_from(1, &serve.address).await.unwrap();
    let head = format!("POST {asks}\r\nhost: x\r\ncontent-length: 9\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut said = [0; 12];
    stream.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"HTTP/1.1 404");
    let stop = |piece| {
        if piece == 10 {
            serve.signal("TERM");
        }
    };
    let said = trickle(&serve, "/v1/nothing HTTP/1.1", 50, stop).await;
    assert!(said.starts_with("HTTP/1.1 404"), "{said}");
}

#[tokio::test]
async fn a_request_without_memory_is_refused_alone() {
    // For one address 1 MiB: two connections, and 100 streams and some.
    let flags = [
        "--memory-bytes-max",
        "2097152",
        "--body-bytes-max",
        "10000",
        "--inflated-bytes-max",
        "10000",
    ];
    let world = World::new("no_memory");
    world.migrate(&[]).await;
    let serve = world.serve_with(&flags).await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut stream = http2::connect(&serve.address, &http2::NO_WINDOW).await;
        for number in 0..100 {
            stream.write_all(&http2::get_stream(number)).await.unwrap();
        }
        // The first connection has all of its streams before the second one asks for any.
        eventually("100 streams to be held", async || {
            let bytes = serve.metric("captcha_client_memory_bytes").await;
            (bytes > 640_000.0).then_some(()).ok_or(bytes.to_string())
        })
        .await;
        streams.push(stream);
    }
    let mut frames = http2::Frames::of(streams.remove(1));
    assert_eq!(frames.reset().await, http2::REFUSED_STREAM);
    eventually("streams to be refused", async || {
        let count = serve.metric("captcha_http2_streams_refused_total").await;
        (count > 10.0).then_some(()).ok_or(count.to_string())
    })
    .await;
    // A connection takes more.
    let reply = post_from(1, &serve.address).await.unwrap();
    reply.assert_away();
    assert_eq!(serve.metric(&refused("memory")).await, 1.0);
    let reply = post_from(2, &serve.address).await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
}

#[tokio::test]
async fn bodies_that_do_not_come_hold_no_place() {
    let world = World::new("slow_bodies");
    world.migrate(&[]).await;
    let serve = world.serve_with(&["--requests-max", "1"]).await;
    let mut slow = connect_from(1, &serve.address).await.unwrap();
    let head = "POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\nexpect: 100-continue\r\n\r\n";
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut said = [0; 12];
    slow.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"HTTP/1.1 100");
    let reply = post_from(1, &serve.address).await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
}

/// Every line of the access log with its client.
fn clients(serve: &Process) -> Vec<String> {
    let said = serve.said();
    let lines = said.lines().filter_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        (line["message"] == "request").then(|| line["client"].as_str().unwrap().to_string())
    });
    lines.collect()
}

#[tokio::test]
async fn a_trusted_proxy_and_nobody_else_says_who_its_client_is() {
    let world = World::new("proxied");
    for (source, name) in [("x-forwarded-for", "x-forwarded-for"), ("forwarded", "forwarded")] {
        let flags = [
            "--access-log-share",
            "1",
            "--trusted-proxies",
            "127.0.0.9",
            "--client-address-from",
            source,
        ];
        let serve = world.serve_with(&flags).await;
        let value = match source {
            "forwarded" => "for=1.1.1.1, for=\"198.51.100.7:4711\"",
            _ => "1.1.1.1, 198.51.100.7",
        };
        for (from, headers) in [
            (9, vec![(name, value)]),
            (9, vec![]),
            (2, vec![(name, value)]),
            (9, vec![("x-real-ip", "1.1.1.1")]),
        ] {
            let reply = get_from(from, &serve.address, &headers).await.unwrap();
            assert_eq!(reply.status, 200);
        }
        let expected = ["198.51.100.7", "127.0.0.9", "127.0.0.2", "127.0.0.9"];
        eventually("four lines", async || {
            let clients = clients(&serve);
            (clients == expected).then_some(()).ok_or(json!(clients).to_string())
        })
        .await;
    }
}

#[tokio::test]
async fn the_proxy_protocol_is_read_from_a_trusted_proxy_alone() {
    let world = World::new("proxy_protocol");
    let flags = [
        "--access-log-share",
        "1",
        "--connections-max",
        "20",
        "--trusted-proxies",
        "127.0.0.9",
        "--client-address-from",
        "proxy-protocol",
    ];
    let serve = world.serve_with(&flags).await;
    let line = "PROXY TCP4 198.51.100.7 127.0.0.1 4711 80\r\n";
    let get = "GET /v1/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    for (source, bytes, begin) in [
        (9, format!("{line}{get}"), "HTTP/1.1 200"),
        (2, get.to_string(), "HTTP/1.1 200"),
        // A client cannot say that it is another.
        (2, format!("{line}{get}"), "HTTP/1.1 400"),
        (9, get.to_string(), ""),
    ] {
        let mut stream = connect_from(source, &serve.address).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut came = String::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut came));
        let _ = read.await.expect("an end");
        assert_eq!(&came[..begin.len().max(came.len().min(12))], begin, "{bytes}");
    }
    assert_eq!(clients(&serve), ["198.51.100.7", "127.0.0.2"]);
    assert_eq!(serve.metric(&refused("no_client")).await, 1.0);
    // What the client has counts as its own, not as the proxy's.
    let mut held = Vec::new();
    for _ in 0..15 {
        let mut stream = connect_from(9, &serve.address).await.unwrap();
        stream.write_all(line.as_bytes()).await.unwrap();
        held.push(stream);
    }
    await_metric(&serve, &refused("address"), 5.0).await;
}
