//! Bodies that are bombs, slow, endless or huge.

use std::io::Write as _;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::{Siege, connections, pour, status, to_the_end};
use captcha_corpus::gzip;

const HEAD: &str = "POST /v1/events HTTP/1.1\r\nhost: captcha\r\ncontent-type: application/json\r\n";

/// Bombs at once.
const BOMBS: usize = 200;

async fn send(address: &str, headers: &str, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = [format!("{HEAD}{headers}\r\n").as_bytes(), body].concat();
    let _ = stream.write_all(&request).await;
    stream
}

/// Sends a bomb many times at once. Each is refused: it is too large, or there is no memory for it at the moment.
async fn bombard(name: &'static str, coding: &str, bomb: Vec<u8>) {
    let flags = ["--memory-bytes-max", "33554432"];
    let siege = Siege::begin(name, &flags, true).await;
    let headers = format!("content-encoding: {coding}\r\ncontent-length: {}\r\n", bomb.len());
    for _ in 0..3 {
        let mut streams = Vec::new();
        for _ in 0..BOMBS {
            streams.push(send(&siege.serve.address, &headers, &bomb).await);
        }
        for mut stream in streams {
            let _ = stream.shutdown().await;
            let came = to_the_end(stream).await;
            assert!(
                [413, 503].contains(&status(&came)),
                "{}",
                String::from_utf8_lossy(&came)
            );
        }
    }
    // Two at a time, each with a window and a buffer that doubles; the allocator keeps what was freed for a second.
    siege.end(160, "--inflated-bytes-max, --memory-bytes-max").await;
}

#[tokio::test]
#[ignore = "minutes: make attacks"]
async fn gzip_bombs() {
    // 64 MiB in 64 members.
    let bomb = gzip(&vec![b' '; 1 << 20]).repeat(64);
    bombard("600 gzip bombs", "gzip", bomb).await;
}

#[tokio::test]
#[ignore = "minutes: make attacks"]
async fn zstd_bombs() {
    let bomb = zstd::encode_all(&vec![b' '; 64 << 20][..], 1).unwrap();
    bombard("600 zstd bombs", "zstd", bomb).await;
}

#[tokio::test]
#[ignore = "minutes: make attacks"]
async fn zstd_bombs_with_the_largest_window() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(23).unwrap();
    encoder.write_all(&vec![b' '; 64 << 20]).unwrap();
    bombard("600 zstd bombs, windows of 8 MiB", "zstd", encoder.finish().unwrap()).await;
}

#[tokio::test]
#[ignore = "minutes: make attacks"]
async fn bodies_that_come_byte_by_byte() {
    let siege = Siege::begin("2,000 bodies, byte by byte", &["--body-seconds", "3"], true).await;
    let mut streams = Vec::new();
    for _ in 0..connections(2_000) {
        streams.push(send(&siege.serve.address, "content-length: 1000000\r\n", b"[").await);
    }
    let name = "captcha_http_requests_total{route=\"events\",status=\"408\"}";
    while siege.serve.metric(name).await < streams.len() as f64 {
        for stream in &streams {
            let _ = stream.try_write(b" ");
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    for stream in streams {
        assert_eq!(status(&to_the_end(stream).await), 408);
    }
    siege.end(90, "--body-seconds").await;
}

#[tokio::test]
#[ignore = "minutes: make attacks"]
async fn bodies_that_are_held_back() {
    let flags = ["--memory-bytes-max", "33554432", "--body-seconds", "5"];
    let siege = Siege::begin("1,000 bodies of 1 MB, the last byte late", &flags, false).await;
    let body = vec![b' '; 1_000_000];
    let mut streams = Vec::new();
    for _ in 0..1_000 {
        let address = siege.serve.address.clone();
        let body = body.clone();
        streams.push(tokio::spawn(async move {
            send(&address, "content-length: 1000001\r\n", &body).await
        }));
    }
    for stream in streams {
        let came = to_the_end(stream.await.unwrap()).await;
        assert!(
            [408, 503, 0].contains(&status(&came)),
            "{}",
            String::from_utf8_lossy(&came)
        );
    }
    siege.end(2 * 32, "--memory-bytes-max, --body-seconds").await;
}

#[tokio::test]
#[ignore = "minutes: make attacks"]
async fn bodies_without_end_and_huge_ones() {
    let siege = Siege::begin("200 endless and huge bodies", &[], true).await;
    let chunk = [&b"10000\r\n"[..], &[b' '; 0x10000], b"\r\n"].concat();
    let blanks = vec![b' '; 0x10000];
    // So few at once that there is room for others.
    for _ in 0..10 {
        let mut poured = Vec::new();
        for number in 0..20 {
            let (headers, bytes) = match number % 2 {
                0 => ("transfer-encoding: chunked\r\n", &chunk),
                _ => ("content-length: 10000000000\r\n", &blanks),
            };
            let stream = send(&siege.serve.address, headers, b"").await;
            let bytes = bytes.clone();
            poured.push(tokio::spawn(async move { pour(stream, &bytes).await }));
        }
        for poured in poured {
            let (came, sent) = poured.await.unwrap();
            let answer = String::from_utf8_lossy(&came);
            assert!([413, 0].contains(&status(&came)), "{answer}");
            // 64 MiB are thrown away, and what comes while the connection closes.
            assert!(sent < 96 << 20, "{sent} bytes were taken");
        }
    }
    siege.end(2 * 40, "--body-bytes-max").await;
}
