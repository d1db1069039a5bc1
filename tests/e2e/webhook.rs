//! `captcha report --webhook-url-file`: what a receiver gets, and what the command does with each of its answers.

use std::path::PathBuf;
use std::process::Output;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::certificates::{Authority, Valid, text};
use crate::client::{SITE, event};
use crate::keys::NOWHERE;
use crate::world::World;

/// A part of the address that no output has.
const SECRET: &str = "B0012345s3cret";

/// A receiver over TLS that answers each connection with the next of its answers, and the last one from then on.
struct Receiver {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
    folder: tempfile::TempDir,
    authority: Authority,
}

/// What a receiver answers, after a while.
#[derive(Clone)]
struct Answer {
    after: Duration,
    text: String,
}

fn answer(head: &str, body: &str) -> Answer {
    let length = body.len();
    Answer {
        after: Duration::ZERO,
        text: format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"),
    }
}

impl Receiver {
    async fn new(answers: Vec<Answer>) -> Receiver {
        Receiver::with_certificate(answers, &["localhost"], Valid::Now).await
    }

    async fn with_certificate(answers: Vec<Answer>, hosts: &[&str], valid: Valid) -> Receiver {
        let authority = Authority::new();
        let certified = authority.certify("webhook", hosts, valid);
        let acceptor = TlsAcceptor::from(certified.config());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let received = Arc::clone(&requests);
        tokio::spawn(async move {
            let mut answers = answers.into_iter();
            let mut current = answers.next().unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let (now, received) = (current.clone(), Arc::clone(&received));
                current = answers.next().unwrap_or(current);
                tokio::spawn(async move {
                    let request = read_request(&mut stream).await;
                    received.lock().push(request);
                    tokio::time::sleep(now.after).await;
                    let _ = stream.write_all(now.text.as_bytes()).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        let folder = tempfile::tempdir().unwrap();
        Receiver {
            port,
            requests,
            folder,
            authority,
        }
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Reports two events of a file to it.
    async fn report(&self, more: &[&str]) -> Output {
        let world = World::on("webhook", NOWHERE, NOWHERE);
        let address = format!("https://localhost:{}/services/{SECRET}?x=1\n", self.port);
        let (url, ca) = (self.file("url", &address), self.authority.file());
        let lines = ["serve", "serve"].map(|kind| format!("{}\n", event(SITE, kind, "2024-01-01T00:00:00")));
        let input = self.file("events.ndjson", &lines.concat());
        let words = [
            "report",
            "--input",
            text(&input),
            "--complete-through",
            "2024-02-01T00:00:00Z",
            "--webhook-url-file",
            text(&url),
            "--webhook-ca-file",
            text(&ca),
        ];
        let output = world.run(&[&words[..], more].concat()).await;
        for written in [&output.stdout, &output.stderr] {
            let written = String::from_utf8_lossy(written);
            assert!(!written.contains(SECRET), "{written}");
        }
        output
    }

    /// The report must fail, with one line; the line.
    async fn refused(&self) -> String {
        let output = self.report(&["--format", "csv"]).await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        let line = stderr.lines().last().unwrap().to_string();
        let begins = "captcha: cannot post the report to localhost: ";
        // The report is printed also if the webhook refuses it.
        assert!(String::from_utf8_lossy(&output.stdout).starts_with("date,site_id"));
        line.strip_prefix(begins)
            .unwrap_or_else(|| panic!("{line}"))
            .to_string()
    }

    fn bodies(&self) -> Vec<(String, String)> {
        let requests = self.requests.lock();
        let parts = requests.iter().map(|request| request.split_once("\r\n\r\n").unwrap());
        parts.map(|(head, body)| (head.to_string(), body.to_string())).collect()
    }
}

async fn read_request(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return text;
            }
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return text;
        }
    }
}

#[tokio::test]
async fn a_report_is_posted_and_printed() {
    let receiver = Receiver::new(vec![answer("200 OK", "ok")]).await;
    let day = [
        "--from",
        "2024-01-01",
        "--to",
        "2024-01-02",
        "--compare",
        "previous_week",
    ];
    let output = receiver.report(&day).await;
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains(SITE), "{printed}");
    for (format, content_type) in [("csv", "text/csv; charset=utf-8"), ("json", "application/json")] {
        let output = receiver.report(&["--format", format]).await;
        assert!(output.status.success(), "{output:?}");
        let (head, body) = receiver.bodies().pop().unwrap();
        assert!(
            head.to_lowercase().contains(&format!("content-type: {content_type}")),
            "{head}"
        );
        assert_eq!(body.as_bytes(), output.stdout);
    }
    let bodies = receiver.bodies();
    let (head, body) = &bodies[0];
    assert!(
        head.starts_with(&format!("POST /services/{SECRET}?x=1 HTTP/1.1\r\n")),
        "{head}"
    );
    assert!(
        head.to_lowercase()
            .contains(&format!("host: localhost:{}", receiver.port)),
        "{head}"
    );
    let message: Value = serde_json::from_str(body).unwrap();
    let said = message["text"].as_str().unwrap();
    assert!(said.starts_with("```\n") && said.ends_with("\n```"), "{said}");
    assert!(said.contains("2024-01-01") && said.contains(SITE), "{said}");
    // Changes, and how far it is complete; a chat has no colours.
    assert!(said.contains("change") && said.contains("2023-12-25"), "{said}");
    assert!(said.contains("2024-02-01") && !said.contains('\u{1b}'), "{said}");
    let years = [
        "--interval",
        "day",
        "--from",
        "2020-01-01",
        "--to",
        "2024-02-01",
        "--fill",
        "zero",
    ];
    assert!(receiver.report(&years).await.status.success());
    let (_, body) = receiver.bodies().pop().unwrap();
    let message: Value = serde_json::from_str(&body).unwrap();
    let said = message["text"].as_str().unwrap();
    assert!(
        said.contains("1,458 earlier rows") && said.contains("\ntotal "),
        "{said}"
    );
    assert!(said.lines().count() <= 48 && said.chars().count() < 4_000, "{said}");
}

#[tokio::test]
async fn a_receiver_that_is_busy_is_asked_again() {
    for busy in [
        "500 Internal Server Error",
        "503 Service Unavailable",
        "429 Too Many Requests\r\nRetry-After: 2",
    ] {
        let receiver = Receiver::new(vec![answer(busy, "busy"), answer("204 No Content", "")]).await;
        let began = Instant::now();
        let output = receiver.report(&[]).await;
        assert!(output.status.success(), "{busy}: {output:?}");
        assert_eq!(receiver.bodies().len(), 2);
        let least = if busy.contains("Retry-After") { 2 } else { 1 };
        assert!(
            began.elapsed() >= Duration::from_secs(least),
            "{busy}: {:?}",
            began.elapsed()
        );
    }
    let receiver = Receiver::new(vec![answer("502 Bad Gateway", "")]).await;
    let refused = receiver.refused().await;
    assert_eq!(refused, "it answered 502 Bad Gateway; given up after 3 tries");
    assert_eq!(receiver.bodies().len(), 3);
    let receiver = Receiver::new(vec![answer("429 Too Many Requests\r\nRetry-After: 3600", "")]).await;
    let refused = receiver.refused().await;
    assert!(
        refused.ends_with("asks to wait for 3600 s; run the command again after that"),
        "{refused}"
    );
    assert_eq!(receiver.bodies().len(), 1);
}

#[tokio::test]
async fn a_receiver_that_refuses_is_asked_once() {
    let echo = format!("Cannot POST /services/{SECRET}");
    for (head, body, said) in [
        (
            "404 Not Found",
            "no_service",
            "it answered 404 Not Found (no_service); see whether the address is still valid",
        ),
        (
            "404 Not Found",
            &echo,
            "it answered 404 Not Found; see whether the address is still valid",
        ),
        (
            "308 Permanent Redirect\r\nLocation: https://elsewhere.example/",
            "",
            "it redirects with 308 Permanent Redirect, which is not followed; put the final address into the file",
        ),
    ] {
        let receiver = Receiver::new(vec![answer(head, body)]).await;
        assert_eq!(receiver.refused().await, said);
        assert_eq!(receiver.bodies().len(), 1);
    }
}

#[tokio::test]
async fn a_slow_answer_is_waited_for_and_none_at_all_has_an_end() {
    let slow = Answer {
        after: Duration::from_secs(8),
        ..answer("200 OK", "ok")
    };
    let slow = Receiver::new(vec![slow]).await;
    let never = Answer {
        after: Duration::from_secs(3_600),
        ..answer("200 OK", "ok")
    };
    let never = Receiver::new(vec![never]).await;
    let began = Instant::now();
    let (output, refused) = tokio::join!(slow.report(&[]), never.refused());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        refused,
        "it did not answer within 30 s, but may have received the report"
    );
    assert!(began.elapsed() < Duration::from_secs(35), "{:?}", began.elapsed());
    assert_eq!(never.bodies().len(), 1);
}

#[tokio::test]
async fn another_server_than_the_one_of_the_certificate_gets_no_report() {
    for (hosts, valid, said) in [
        (&["other.example"][..], Valid::Now, "its certificate is for other names"),
        (&["localhost"], Valid::Past, "its certificate has expired"),
    ] {
        let receiver = Receiver::with_certificate(vec![answer("200 OK", "")], hosts, valid).await;
        assert_eq!(receiver.refused().await, format!("{said}; see --webhook-ca-file"));
        assert!(receiver.bodies().is_empty());
    }
    let mut receiver = Receiver::new(vec![answer("200 OK", "")]).await;
    receiver.authority = Authority::new();
    let refused = receiver.refused().await;
    assert!(refused.contains("signed by none of the authorities in"), "{refused}");
    assert!(receiver.bodies().is_empty());
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    receiver.port = free.local_addr().unwrap().port();
    drop(free);
    let refused = receiver.refused().await;
    assert!(
        refused.contains("onnection refused") && refused.ends_with("given up after 3 tries"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_report_that_is_less_complete_than_required_is_not_posted() {
    let receiver = Receiver::new(vec![answer("200 OK", "ok")]).await;
    let incomplete = receiver
        .report(&["--require-complete-through", "2024-03-01T00:00:00Z"])
        .await;
    assert_eq!(incomplete.status.code(), Some(4), "{incomplete:?}");
    assert!(receiver.bodies().is_empty());
    let unsolved = receiver.report(&["--require-solve-rate", "0.5"]).await;
    assert_eq!(unsolved.status.code(), Some(5), "{unsolved:?}");
    assert_eq!(receiver.bodies().len(), 1);
}

#[tokio::test]
async fn a_wrong_address_is_refused_before_anything_is_asked() {
    let receiver = Receiver::new(vec![answer("200 OK", "ok")]).await;
    let world = World::on("webhook_file", NOWHERE, NOWHERE);
    for (content, said) in [
        (format!("http://localhost/{SECRET}"), "expected https"),
        (SECRET.to_string(), "not an address"),
        (String::new(), "it is empty"),
    ] {
        let url = receiver.file("wrong", &content);
        let refused = world.refused(&["report", "--webhook-url-file", text(&url)]).await;
        assert!(refused.contains(said) && refused.contains(text(&url)), "{refused}");
        assert!(!refused.contains(SECRET), "{refused}");
    }
    let missing = world.refused(&["report", "--webhook-url-file", "/nowhere/url"]).await;
    assert!(
        missing.contains("/nowhere/url") && missing.contains("no such file"),
        "{missing}"
    );
}
