//! Which names this server is asked for: a page whose name points here must not be taken for its own.

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::keys::new_key;
use crate::process::Process;
use crate::world::World;

const NOWHERE: &str = "127.0.0.1:1";

/// The status and the whole answer of a request with this line and these headers.
async fn ask(serve: &Process, line: &str, headers: &[&str]) -> (u16, String) {
    let mut stream = TcpStream::connect(&serve.address).await.unwrap();
    let head = format!("{line} HTTP/1.1\r\n{}\r\n\r\n", headers.join("\r\n"));
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let len = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..len]).into_owned();
    (answer[9..12].parse().unwrap(), answer)
}

async fn ask_http2(serve: &Process, authority: &str) -> u16 {
    let stream = TcpStream::connect(&serve.address).await.unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(format!("http://{authority}/v1/")).body(Empty::<Bytes>::new());
    let answer = sender.send_request(request.unwrap()).await.unwrap();
    answer.status().as_u16()
}

/// A page's handshake, from the page that it asks for itself.
async fn open_stream(serve: &Process, host: &str) -> (u16, String) {
    let headers = [
        &format!("host: {host}"),
        &format!("origin: http://{host}"),
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    ask(serve, "GET /v1/events/stream", &headers).await
}

#[tokio::test]
async fn with_names_a_request_for_another_one_is_misdirected() {
    let world = World::on("names", NOWHERE, NOWHERE);
    let flags = ["--host", "captcha.example, [::1]:8000,10.0.0.7"];
    let serve = world.serve_with(&flags).await;
    for host in ["captcha.example", "CAPTCHA.example.:8443", "[::1]:8000", "10.0.0.7:80"] {
        let (status, answer) = ask(&serve, "GET /v1/", &[&format!("host: {host}")]).await;
        assert_eq!(status, 200, "{host}: {answer}");
        assert_eq!(ask_http2(&serve, host).await, 200, "{host}");
    }
    let own = serve.address.as_str();
    for host in [
        "evil.example",
        "captcha.example.evil.example",
        "[::1]:8001",
        "[::1]",
        "",
        own,
    ] {
        for line in [
            "GET /v1/",
            "GET /v1/report",
            "POST /v1/events",
            "OPTIONS /v1/events",
            "GET /v1/docs",
            "GET /nothing",
        ] {
            let (status, answer) = ask(&serve, line, &[&format!("host: {host}")]).await;
            assert_eq!(status, 421, "{line} {host}: {answer}");
            assert!(answer.contains("--host") && answer.contains(host), "{answer}");
        }
        let (status, answer) = open_stream(&serve, host).await;
        assert_eq!(status, 421, "{host}: {answer}");
    }
    // The target says another host than the header: both have to be ours.
    for (target, host) in [
        ("http://evil.example/v1/", "captcha.example"),
        ("http://captcha.example/v1/", "evil.example"),
    ] {
        let host = format!("host: {host}");
        let (status, answer) = ask(&serve, &format!("GET {target}"), &[&host]).await;
        assert_eq!(status, 421, "{target}: {answer}");
    }
    assert_eq!(ask_http2(&serve, "evil.example").await, 421);
    assert_eq!(open_stream(&serve, "captcha.example").await.0, 101);
    let refused = "captcha_http_requests_total{route=\"about\",status=\"421\"}";
    assert!(serve.metric(refused).await > 0.0);
}

#[tokio::test]
async fn without_names_and_keys_a_page_of_any_name_opens_no_stream() {
    let world = World::on("no_names", NOWHERE, NOWHERE);
    let serve = world.serve().await;
    for host in ["evil.example", "evil.example:8000", "localhost.evil.example"] {
        let (status, answer) = open_stream(&serve, host).await;
        assert_eq!(status, 403, "{host}: {answer}");
        for part in [host, "--host", "--cors-origins"] {
            assert!(answer.contains(part), "{part}: {answer}");
        }
    }
    for host in [&serve.address, "localhost:3000", "app.localhost", "[::1]:1"] {
        let (status, answer) = open_stream(&serve, host).await;
        assert_eq!(status, 101, "{host}: {answer}");
    }
    let page = ["--cors-origins", "http://shop.example"];
    let serve = world.serve_with(&page).await;
    assert_eq!(open_stream(&serve, "shop.example").await.0, 101);
    assert_eq!(open_stream(&serve, "evil.example").await.0, 403);
}

#[tokio::test]
async fn with_keys_a_page_is_held_to_its_key() {
    let world = World::on("names_keys", NOWHERE, NOWHERE);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.txt");
    new_key(&world, &file, &["--role", "write", "--sites", "*"]).await;
    let serve = world.serve_with(&["--keys-file", file.to_str().unwrap()]).await;
    assert_eq!(open_stream(&serve, "captcha.example").await.0, 401);
}
