//! Connections: TLS with certificates that change, HTTP/2, and the limits of time.

use std::path::Path;
use std::sync::Arc;

use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::{events, get};
use crate::keys::NOWHERE;
use crate::process::eventually;
use crate::world::World;

/// Writes a certificate for localhost that signs itself, and its key; the certificate as PEM.
fn write_certificate(certificate: &Path, key: &Path) -> String {
    let made = rcgen::generate_simple_self_signed(["localhost".to_string()]).unwrap();
    std::fs::write(key, made.signing_key.serialize_pem()).unwrap();
    std::fs::write(certificate, made.cert.pem()).unwrap();
    made.cert.pem()
}

/// Connects as a client that trusts this certificate alone.
async fn connect(address: &str, trusted: &str, protocol: &str) -> Result<TlsStream<TcpStream>, String> {
    let mut roots = RootCertStore::empty();
    let trusted = rustls::pki_types::CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap();
    roots.add(trusted).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    connected.map_err(|err| err.to_string())
}

/// Sends requests with one event each over one HTTP/2 connection, all at once; their statuses.
async fn post_all<S>(stream: S, count: usize) -> Vec<u16>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = handshake.unwrap();
    tokio::spawn(connection);
    let requests = (0..count).map(|_| {
        let request = hyper::Request::post("http://localhost/v1/events")
            .header("content-type", "application/json")
            .body(Full::new(bytes::Bytes::from(events(1).to_string())));
        let mut sender = sender.clone();
        async move {
            let answer = sender.send_request(request.unwrap()).await.unwrap();
            let status = answer.status().as_u16();
            answer.into_body().collect().await.unwrap();
            status
        }
    });
    futures_util::future::join_all(requests).await
}

#[tokio::test]
async fn http2_is_spoken_without_being_asked_for() {
    let world = World::new("http2");
    let (serve, _consume) = world.all().await;
    let stream = TcpStream::connect(&serve.address).await.unwrap();
    assert_eq!(post_all(stream, 300).await, [200; 300]);
    world.await_counted(300).await;
}

#[tokio::test]
async fn an_answer_to_head_has_no_content_over_http2_either() {
    let world = World::new("http2_head");
    let (serve, _consume) = world.all().await;
    let stream = TcpStream::connect(&serve.address).await.unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = handshake.unwrap();
    tokio::spawn(connection);
    for path in [
        "/v1/",
        "/v1/docs",
        "/v1/report",
        "/v1/dashboard",
        "/v1/report.svg",
        "/v1/nothing",
    ] {
        let uri = format!("http://{}{path}", serve.address);
        let request = hyper::Request::builder()
            .method("HEAD")
            .uri(uri)
            .body(Full::<bytes::Bytes>::default());
        let answer = sender.clone().send_request(request.unwrap()).await.unwrap();
        let (head, body) = answer.into_parts();
        let is_known = head.headers.contains_key("content-length") || path == "/v1/report";
        assert!(is_known, "{path}: {:?}", head.headers);
        // A frame of content would break the stream, as RFC 9113 has it.
        assert!(body.collect().await.unwrap().to_bytes().is_empty(), "{path}");
    }
}

#[tokio::test]
async fn certificates_are_read_again_when_they_change() {
    let world = World::new("tls");
    world.migrate(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key] = ["tls.crt", "tls.key"].map(|name| folder.path().join(name));
    let first = write_certificate(&certificate, &key);
    let flags = [
        "--tls-certificate-file",
        certificate.to_str().unwrap(),
        "--tls-key-file",
        key.to_str().unwrap(),
    ];
    let serve = world.serve_with(&flags).await;
    let stream = connect(&serve.address, &first, "h2").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(post_all(stream, 20).await, [200; 20]);

    let mut stream = connect(&serve.address, &first, "http/1.1").await.unwrap();
    let request = b"GET /v1/ HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    std::fs::write(&key, "no key").unwrap();
    serve.await_said("the old certificate stays in force").await;
    connect(&serve.address, &first, "h2").await.unwrap();

    let second = write_certificate(&certificate, &key);
    eventually("the new certificate", async || {
        connect(&serve.address, &second, "h2").await.map(drop)
    })
    .await;
    assert!(connect(&serve.address, &first, "h2").await.is_err());

    std::fs::write(&key, "no key").unwrap();
    let refused = world
        .refused(&[&["serve", "--listen", "127.0.0.1:0"], &flags[..]].concat())
        .await;
    assert!(refused.contains("tls.key holds no private key in PEM"), "{refused}");
}

#[tokio::test]
async fn http_without_tls_gets_the_advice_to_use_https() {
    let world = World::new("no_tls");
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key] = ["tls.crt", "tls.key"].map(|name| folder.path().join(name));
    let trusted = write_certificate(&certificate, &key);
    let flags = [
        "--tls-certificate-file",
        certificate.to_str().unwrap(),
        "--tls-key-file",
        key.to_str().unwrap(),
        "--connections-max",
        "1",
    ];
    let serve = world.serve_with(&flags).await;
    let post = "POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n";
    let requests = [
        "GET /v1/ HTTP/1.1\r\nhost: x\r\n\r\n".to_string(),
        format!("{post}{}", " ".repeat(100_000)),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_string(),
    ];
    let is_told = async || {
        for request in &requests {
            let mut stream = TcpStream::connect(&serve.address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.contains("application/problem+json"), "{head}");
            assert!(body.contains("https://"), "{body}");
        }
    };
    is_told().await;
    let refused = "captcha_connections_refused_total{reason=\"no_tls\"}";
    assert!(serve.metric(refused).await >= 1.0);
    // Beyond the limit of connections too.
    eventually("a place for a connection", async || {
        let open = serve.metric("captcha_connections_open").await;
        (open == 0.0).then_some(()).ok_or(open.to_string())
    })
    .await;
    let _held = connect(&serve.address, &trusted, "http/1.1").await.unwrap();
    is_told().await;
}

#[tokio::test]
async fn a_slow_head_is_told_from_an_idle_connection() {
    let world = World::new("patience");
    world.migrate(&[]).await;
    let serve = world
        .serve_with(&["--head-seconds", "1", "--idle-seconds", "3600"])
        .await;
    let request = b"GET /v1/ HTTP/1.1\r\nhost: x\r\n\r\n";
    let connected = async || TcpStream::connect(&serve.address).await.unwrap();
    let mut idle = connected().await;
    let mut answer = [0; 12];
    idle.write_all(request).await.unwrap();
    idle.read_exact(&mut answer).await.unwrap();

    let (mut silent, mut half, mut second) = (connected().await, connected().await, connected().await);
    half.write_all(&request[..9]).await.unwrap();
    second.write_all(request).await.unwrap();
    second.read_exact(&mut answer).await.unwrap();
    second.write_all(&request[..9]).await.unwrap();
    for stream in [&mut silent, &mut half, &mut second] {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
    }
    let late = "captcha_connections_refused_total{reason=\"head_late\"}";
    // Counted once the connection is gone.
    eventually("three late heads", async || {
        let count = serve.metric(late).await;
        (count == 3.0).then_some(()).ok_or(count.to_string())
    })
    .await;

    idle.write_all(request).await.unwrap();
    let mut rest = vec![0; 100];
    assert!(idle.read(&mut rest).await.unwrap() > 0);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let world = World::new("idle");
    world.migrate(&[]).await;
    let serve = world.serve_with(&["--idle-seconds", "1"]).await;
    let mut http1 = TcpStream::connect(&serve.address).await.unwrap();
    http1.write_all(b"GET /v1/ HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    http1.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"));

    let stream = TcpStream::connect(&serve.address).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    let request = hyper::Request::get("http://x/v1/").body(Full::<bytes::Bytes>::default());
    let connection = tokio::spawn(connection);
    assert_eq!(sender.send_request(request.unwrap()).await.unwrap().status(), 200);
    // Ended by the server with a GOAWAY: no error.
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn requests_carry_an_id_in_and_out() {
    let world = World::new("ids");
    let serve = world.serve_with(&["--access-log-share", "1"]).await;
    let headers = [("x-request-id", "the-callers-own")];
    let reply = crate::client::request(&serve.address, "GET", "/v1/", &headers, "")
        .await
        .unwrap();
    assert_eq!(reply.header("x-request-id"), "the-callers-own");
    let own = get(&serve.address, "/v1/nothing").await;
    assert_eq!(own.header("x-request-id").len(), 36);
    for id in ["the-callers-own", own.header("x-request-id")] {
        let logged = async || serve.logged("request", "request_id").contains(&id.to_string());
        eventually("the line of the access log", async || {
            logged().await.then_some(()).ok_or(id.to_string())
        })
        .await;
    }
}

#[tokio::test]
async fn options_and_methods_are_told_by_path() {
    let world = World::new("options");
    let serve = world.serve().await;
    for (path, allow) in [
        ("/v1/events", "POST, OPTIONS"),
        ("/v1/report", "GET, HEAD, OPTIONS"),
        ("/latest/", "GET, HEAD, OPTIONS"),
    ] {
        for (method, status) in [("OPTIONS", 204), ("DELETE", 405), ("PATCH", 405)] {
            let reply = crate::client::request(&serve.address, method, path, &[], "")
                .await
                .unwrap();
            assert_eq!(
                (reply.status.as_u16(), reply.header("allow")),
                (status, allow),
                "{method} {path}"
            );
        }
    }
    let none = crate::client::request(&serve.address, "OPTIONS", "/v1/nothing", &[], "")
        .await
        .unwrap();
    assert_eq!(none.status, 404);
    assert!(none.text().contains("POST /v1/events"));
}

/// Sends one event after the other on one connection until it is told that the connection ends; how many were accepted.
async fn send_until_told(address: String) -> u64 {
    let stream = TcpStream::connect(&address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut accepted = 0;
    loop {
        let answer = sender.send_request(one_event("/v1/events")).await.unwrap();
        assert_eq!(answer.status(), 200);
        let ends = answer.headers().contains_key("connection");
        answer.into_body().collect().await.unwrap();
        accepted += 1;
        if ends {
            return accepted;
        }
    }
}

/// The same on HTTP/2, where a GOAWAY ends it: what it leaves unanswered was not begun.
async fn send_until_goaway(address: String) -> u64 {
    let stream = TcpStream::connect(&address).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    let ended = tokio::spawn(connection);
    let mut accepted = 0;
    while sender.ready().await.is_ok() {
        match sender.send_request(one_event("http://localhost/v1/events")).await {
            Ok(answer) => {
                assert_eq!(answer.status(), 200);
                answer.into_body().collect().await.unwrap();
                accepted += 1;
            }
            Err(_) => break,
        }
    }
    ended.await.unwrap().unwrap();
    accepted
}

fn one_event(target: &str) -> hyper::Request<Full<bytes::Bytes>> {
    hyper::Request::post(target)
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::new(bytes::Bytes::from(events(1).to_string())))
        .unwrap()
}

#[tokio::test]
async fn sigterm_under_load_fails_no_request_of_a_kept_connection() {
    let world = World::new("sigterm_kept");
    let (mut serve, _consume) = world.all().await;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..8 {
        clients.spawn(send_until_told(serve.address.clone()));
        clients.spawn(send_until_goaway(serve.address.clone()));
    }
    let accepted = "captcha_events_accepted_total";
    eventually("a load", async || {
        let count = serve.metric(accepted).await;
        (count > 100.0).then_some(()).ok_or(count.to_string())
    })
    .await;
    assert_eq!(serve.terminate().await.code(), Some(0));
    let sent: u64 = clients.join_all().await.into_iter().sum();
    world.await_counted(sent).await;
    world.await_log(sent as i64).await;
}

#[tokio::test]
async fn an_admin_port_that_other_machines_reach_is_warned_of_outside_of_a_pod() {
    let world = World::on("admin_port", NOWHERE, NOWHERE);
    let warning = "other machines may reach the admin port";
    for (address, in_pod, warns) in [
        ("127.0.0.1:0", false, false),
        ("0.0.0.0:0", false, true),
        ("0.0.0.0:0", true, false),
    ] {
        for (role, message) in [("serve", "serving"), ("consume", "consuming")] {
            let mut command = world.command(&[role, "--admin-listen", address]);
            command.env_remove("KUBERNETES_SERVICE_HOST");
            if in_pod {
                command.env("KUBERNETES_SERVICE_HOST", "10.0.0.1");
            }
            if role == "serve" {
                command.args(["--listen", "127.0.0.1:0"]);
            }
            let mut process = world.start_command(role, command);
            process.await_addresses(message).await;
            // It is logged before a probe is answered.
            process.ready().await;
            let said = process.said();
            assert_eq!(said.contains(warning), warns, "{role} {address}: {said}");
        }
    }
}
