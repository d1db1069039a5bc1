//! Many connections, slow heads, and heads that are too large.

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::client::connect_from;

use super::{GET, Siege, connections, pour, status, to_the_end};

/// Opens connections from eight addresses: one may have half of them at most.
async fn open(address: &str, count: usize, first: &[u8]) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for number in 0..count {
        let source = 10 + (number % 8) as u8;
        let mut stream = connect_from(source, address).await.unwrap();
        // One that is refused may be closed by now.
        let _ = stream.write_all(first).await;
        streams.push(stream);
    }
    streams
}

#[tokio::test]
#[ignore = "minutes: make attacks"]
async fn heads_that_come_byte_by_byte() {
    // Long enough for a slow machine to open them all before the first is given up: what is measured is all at once.
    let siege = Siege::begin("5,000 heads, byte by byte", &["--head-seconds", "30"], true).await;
    let count = connections(5_000);
    let streams = open(&siege.serve.address, count, b"POST /v1/events HTTP/1.1\r\nx: ").await;
    while siege.refused("head_late").await < count as f64 {
        for stream in &streams {
            let _ = stream.try_write(b"y");
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    drop(streams);
    // 36 KB each: hyper reads into 8 KiB at first and into 16 once a byte has taken some of them; the allocator keeps the
    // 8 that this frees.
    siege.end(200, "--head-seconds").await;
}

#[tokio::test]
#[ignore = "minutes: make attacks"]
async fn connections_that_say_nothing() {
    let siege = Siege::begin("5,000 silent connections", &["--head-seconds", "3"], true).await;
    let count = connections(5_000);
    let streams = open(&siege.serve.address, count, b"").await;
    siege.await_bystander().await;
    siege.await_refused("head_late", count).await;
    drop(streams);
    siege.end(60, "--head-seconds").await;
}

#[tokio::test]
#[ignore = "minutes: make attacks"]
async fn connections_that_idle_after_a_request() {
    let siege = Siege::begin("5,000 idle connections", &["--idle-seconds", "3"], true).await;
    let count = connections(5_000);
    let streams = open(&siege.serve.address, count, GET).await;
    siege.await_bystander().await;
    for stream in streams {
        let came = to_the_end(stream).await;
        assert_eq!(status(&came), 200);
    }
    siege.end(180, "--idle-seconds").await;
}

#[tokio::test]
#[ignore = "minutes: make attacks"]
async fn more_connections_than_there_may_be() {
    let flags = ["--connections-max", "100", "--head-seconds", "3600"];
    let siege = Siege::begin("3,000 connections, 100 allowed", &flags, true).await;
    let count = connections(3_000);
    let streams = open(&siege.serve.address, count, b"GET").await;
    siege.await_refused("address", count - 99).await;
    siege.await_bystander().await;
    // Those that leave have a limit as well; past it a connection is closed without a word.
    let is_told = |stream: &&TcpStream| {
        let mut came = [0; 12];
        matches!(stream.try_read(&mut came), Ok(12)) && status(&came) == 503
    };
    let told = streams.iter().filter(is_told).count();
    assert!(told > 0);
    siege
        .end(40, &format!("--connections-max; {told} were answered 503"))
        .await;
}

#[tokio::test]
#[ignore = "minutes: make attacks"]
async fn heads_without_end() {
    let siege = Siege::begin("500 heads without end", &[], true).await;
    for head in [&b"GET /v1/ HTTP/1.1\r\n"[..], b"GET /", b"GET /v1/ HTTP/1.1\r\nx: "] {
        let streams = open(&siege.serve.address, 500, head).await;
        // Headers, a target, a value.
        let more = if head.ends_with(b"\n") { "x: y\r\n" } else { "yyyyyy" };
        let more = more.repeat(1_000).into_bytes();
        let poured: Vec<_> = streams
            .into_iter()
            .map(|stream| {
                let more = more.clone();
                tokio::spawn(async move { pour(stream, &more).await })
            })
            .collect();
        for poured in poured {
            let (came, _) = poured.await.unwrap();
            assert!(
                [0, 431].contains(&status(&came)),
                "{:?}",
                String::from_utf8_lossy(&came)
            );
        }
    }
    siege.end(60, "--head-bytes-max").await;
}

#[tokio::test]
#[ignore = "minutes: make attacks"]
async fn requests_whose_answers_are_not_read() {
    let siege = Siege::begin("100 connections that never read", &[], true).await;
    let mut streams = open(&siege.serve.address, 100, b"").await;
    let requests = GET.repeat(1_000);
    let mut sent = 0;
    for stream in &mut streams {
        // Until the server reads no more, because nobody takes what it has to say.
        loop {
            let write = stream.write(&requests);
            match tokio::time::timeout(std::time::Duration::from_millis(200), write).await {
                Ok(Ok(bytes)) => sent += bytes,
                _ => break,
            }
        }
    }
    siege.await_bystander().await;
    drop(streams);
    siege
        .end(60, &format!("TCP's own window, after {} MB of requests", sent >> 20))
        .await;
}
