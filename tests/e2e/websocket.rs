//! `/v1/events/stream`: messages in, answers out in order, and how a stream ends.

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::client::{SITE, event, events, get, post, request, served, try_post};
use crate::process::{PATIENCE, Process, eventually};
use crate::world::World;

const PATH: &str = "/v1/events/stream";

/// A client's end of a stream.
pub struct Stream(WebSocketStream<TcpStream>);

impl Stream {
    pub async fn open(address: &str) -> Stream {
        Stream::try_open(address, PATH).await.unwrap()
    }

    /// With a key, as `Bearer KEY`.
    pub async fn open_with(address: &str, key: &str) -> Stream {
        let tcp = TcpStream::connect(address).await.unwrap();
        let mut request = format!("ws://{address}{PATH}").into_client_request().unwrap();
        let key = key.parse().unwrap();
        request.headers_mut().insert("authorization", key);
        Stream(client_async(request, tcp).await.unwrap().0)
    }

    /// # Errors
    /// The handshake was refused.
    async fn try_open(address: &str, path: &str) -> Result<Stream, Error> {
        let tcp = TcpStream::connect(address).await.unwrap();
        let (stream, _) = client_async(format!("ws://{address}{path}"), tcp).await?;
        Ok(Stream(stream))
    }

    pub async fn send(&mut self, text: impl ToString) {
        self.0.send(Message::text(text.to_string())).await.unwrap();
    }

    /// The next message that is no ping.
    async fn next(&mut self) -> Message {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.0.next()).await;
            match message.expect("the stream hung").unwrap().unwrap() {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    pub async fn answer(&mut self) -> Value {
        match self.next().await {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("no answer: {other:?}"),
        }
    }

    /// That it ends with this code and nothing before.
    async fn assert_closed(&mut self, code: CloseCode) {
        match self.next().await {
            Message::Close(Some(frame)) => assert_eq!(frame.code, code, "{frame}"),
            other => panic!("no close: {other:?}"),
        }
    }
}

fn receipts(answer: &Value) -> &[Value] {
    assert_eq!(answer["status"], "accepted", "{answer}");
    answer["receipts"].as_array().unwrap()
}

#[tokio::test]
async fn streamed_events_are_receipted_in_order_and_counted() {
    let world = World::new("streamed");
    world.migrate(&["--partitions", "1"]).await;
    let (serve, _consume) = (world.serve().await, world.consume(&[]).await);
    for path in [PATH, "/latest/events/stream", "/V1/events/stream/"] {
        let mut stream = Stream::try_open(&serve.address, path).await.unwrap();
        stream.send(event(SITE, "solve", "2001-01-01T05:55:07")).await;
        assert_eq!(receipts(&stream.answer().await).len(), 1, "{path}");
    }
    let mut stream = Stream::open(&serve.address).await;
    // All are on their way before the first answer is read.
    let counts: Vec<usize> = (0..300).map(|at| 1 + at % 3).collect();
    for count in &counts {
        stream.send(events(*count)).await;
    }
    for count in &counts {
        let answer = stream.answer().await;
        assert_eq!(receipts(&answer).len(), *count);
        assert_eq!(answer["accepted"], *count);
    }
    world.await_counted(603).await;
    world.await_log(603).await;
    assert_eq!(serve.metric("captcha_events_accepted_total").await, 603.0);
    let messages = "captcha_stream_messages_total{status=\"200\"}";
    assert_eq!(serve.metric(messages).await, 303.0);
    stream.0.close(None).await.unwrap();
    await_open(&serve, 0).await;
}

async fn await_open(serve: &Process, streams: u32) {
    eventually(&format!("{streams} streams to be open"), async || {
        let open = serve.metric("captcha_streams_open").await;
        (open == f64::from(streams)).then_some(()).ok_or(open.to_string())
    })
    .await;
}

#[tokio::test]
async fn a_refused_message_says_why_and_the_stream_goes_on() {
    let world = World::new("stream_refused");
    let (serve, _consume) = world.all().await;
    let mut stream = Stream::open(&serve.address).await;
    let mut half = events(3);
    half[1]["time"] = json!("2024-01-01");
    half[2]["site_id"] = json!(null);
    // The advice is that for a message, so it is for no client's flags or headers.
    let without_advice = |mut problem: Value| {
        let detail = problem["detail"].as_str().unwrap_or_default();
        problem["detail"] = json!(detail.split("; it ").next());
        problem
    };
    for (text, status, pointers, advice) in [
        (half.to_string(), 422, &["/1/time", "/2/site_id"][..], ""),
        ("[]".to_string(), 422, &[""], ""),
        (
            String::new(),
            400,
            &[],
            "it is empty: send an event or an array of events",
        ),
        ("{".to_string(), 400, &[], "it breaks off: a part of it is missing"),
        (
            "{}\n{}".to_string(),
            400,
            &[],
            "send each in a message of its own, or all as one array",
        ),
        (json!(vec![1; 10_001]).to_string(), 413, &[], ""),
    ] {
        stream.send(&text).await;
        let problem = stream.answer().await;
        assert_eq!(problem["status"], status, "{problem}");
        assert!(problem["detail"].as_str().unwrap().ends_with(advice), "{problem}");
        let posted = request(
            &serve.address,
            "POST",
            "/v1/events",
            &[("content-type", "application/json")],
            text,
        );
        let posted = posted.await.unwrap().json();
        assert_eq!(without_advice(problem.clone()), without_advice(posted));
        let errors = problem["errors"].as_array().cloned().unwrap_or_default();
        let named: Vec<_> = errors.iter().map(|error| error["pointer"].clone()).collect();
        assert_eq!(named, pointers);
        stream.send(served("2024-01-01T00:00:00")).await;
        assert_eq!(receipts(&stream.answer().await).len(), 1);
    }
    let refused = "captcha_stream_messages_total{status=\"422\"}";
    assert_eq!(serve.metric(refused).await, 2.0);
    // Of each three events, and five times a body that counts as one.
    for (reason, events) in [("malformed", 14.0), ("too_large", 2.0)] {
        let refused = format!("captcha_events_rejected_total{{reason=\"{reason}\"}}");
        assert_eq!(serve.metric(&refused).await, events, "{reason}");
    }

    let path = format!("{PATH}?dry_run=true");
    let mut dry = Stream::try_open(&serve.address, &path).await.unwrap();
    dry.send(events(2)).await;
    let answer = dry.answer().await;
    assert_eq!((&answer["status"], &answer["valid"]), (&json!("valid"), &json!(2)));
    world.await_counted(6).await;
    world.await_log(6).await;
}

#[tokio::test]
async fn what_is_no_handshake_is_told_what_one_is() {
    let world = World::new("stream_handshakes");
    world.migrate(&[]).await;
    let serve = world.serve().await;
    let address = serve.address.as_str();
    let reply = get(address, PATH).await;
    assert_eq!(reply.status, 426, "{}", reply.text());
    assert_eq!(reply.header("content-type"), "application/problem+json");
    assert_eq!(reply.header("upgrade"), "websocket");
    assert_eq!(reply.header("connection"), "upgrade");
    let good = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let mut version = good;
    version[2].1 = "8";
    let reply = request(address, "GET", PATH, &version, "").await.unwrap();
    assert_eq!(
        (reply.status.as_u16(), reply.header("sec-websocket-version")),
        (426, "13")
    );
    let mut key = good;
    key[3].1 = "short";
    assert_eq!(request(address, "GET", PATH, &key, "").await.unwrap().status, 400);
    let odd = format!("{PATH}?dry=1");
    let reply = request(address, "GET", &odd, &good, "").await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.places()), (422, vec!["dry".to_string()]));
    let reply = request(address, "POST", PATH, &good, "").await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.header("allow")), (405, "GET, OPTIONS"));

    let tcp = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), tcp)
        .await
        .unwrap();
    tokio::spawn(connection);
    let uri = format!("http://{address}{PATH}");
    let asked = Request::get(uri).body(Empty::<Bytes>::new()).unwrap();
    let answer = sender.send_request(asked).await.unwrap();
    assert_eq!(answer.status(), 426);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains("HTTP/1.1 only"), "{body:?}");
    let refused = "captcha_http_requests_total{route=\"stream\",status=\"426\"}";
    assert_eq!(serve.metric(refused).await, 3.0);
}

#[tokio::test]
async fn what_is_no_message_closes_the_stream_after_the_answers_before() {
    let world = World::new("stream_codes");
    world.migrate(&[]).await;
    let serve = world.serve_with(&["--body-bytes-max", "1000"]).await;
    let binary = Message::binary(served("2024-01-01T00:00:00").to_string());
    let large = Message::text("x".repeat(1001));
    for (message, code) in [(binary, CloseCode::Unsupported), (large, CloseCode::Size)] {
        let mut stream = Stream::open(&serve.address).await;
        stream.send(served("2024-01-01T00:00:00")).await;
        stream.0.send(message).await.unwrap();
        assert_eq!(receipts(&stream.answer().await).len(), 1);
        stream.assert_closed(code).await;
    }
    for (bytes, code) in [
        // In the clear; not UTF-8; a terabyte is announced.
        (&[0x81, 1, b'x'][..], CloseCode::Protocol),
        (&[0x81, 0x81, 0, 0, 0, 0, 0xff], CloseCode::Invalid),
        (&[0x81, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0], CloseCode::Size),
    ] {
        let mut stream = Stream::open(&serve.address).await;
        stream.send(served("2024-01-01T00:00:00")).await;
        stream.0.get_mut().write_all(bytes).await.unwrap();
        assert_eq!(receipts(&stream.answer().await).len(), 1);
        stream.assert_closed(code).await;
    }
    await_open(&serve, 0).await;
}

#[tokio::test]
async fn sigterm_closes_streams_after_the_last_answer_and_loses_nothing() {
    let world = World::new("stream_sigterm");
    let (mut serve, _consume) = world.all().await;
    let mut idle = Stream::open(&serve.address).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let stream = Stream::open(&serve.address).await;
        clients.push(tokio::spawn(send_until_closed(stream)));
    }
    eventually("events to flow", async || {
        let accepted = serve.metric("captcha_events_accepted_total").await;
        (accepted > 1000.0).then_some(()).ok_or(accepted.to_string())
    })
    .await;
    assert_eq!(serve.terminate().await.code(), Some(0));
    idle.assert_closed(CloseCode::Restart).await;
    let mut accepted = 0;
    for client in clients {
        accepted += client.await.unwrap();
    }
    world.await_log(accepted as i64).await;
    world.await_counted(accepted).await;
}

/// Sends one event after the other without waiting for answers, and counts those until the close.
async fn send_until_closed(stream: Stream) -> u64 {
    let (mut sink, mut source) = stream.0.split();
    let sending = tokio::spawn(async move {
        let text = || Message::text(served("2024-01-01T00:00:00").to_string());
        while sink.send(text()).await.is_ok() {}
    });
    let mut accepted = 0;
    let closed = loop {
        match source.next().await.expect("the stream broke off") {
            Ok(Message::Text(text)) => {
                let answer = serde_json::from_str(&text).unwrap();
                accepted += receipts(&answer).len() as u64;
            }
            Ok(Message::Close(close)) => break close.unwrap().code,
            other => panic!("no answer: {other:?}"),
        }
    };
    assert_eq!(closed, CloseCode::Restart);
    sending.abort();
    accepted
}

#[tokio::test]
async fn a_stream_counts_as_a_connection() {
    let world = World::new("stream_limits");
    world.migrate(&[]).await;
    // Of which one address has two.
    let serve = world.serve_with(&["--connections-max", "4"]).await;
    let stream = Stream::open(&serve.address).await;
    let held = TcpStream::connect(&serve.address).await.unwrap();
    eventually("both to be open", async || {
        let open = serve.metric("captcha_connections_open").await;
        (open == 2.0).then_some(()).ok_or(open.to_string())
    })
    .await;
    post(&serve.address, &events(1)).await.assert_away();
    drop(stream);
    eventually("the place of the stream", async || {
        let reply = try_post(&serve.address, &events(1)).await?;
        (reply.status == 200).then_some(()).ok_or(reply.text())
    })
    .await;
    drop(held);
}

#[tokio::test]
async fn a_client_that_has_said_everything_gets_its_answers() {
    let world = World::new("said_all");
    world.migrate(&[]).await;
    let serve = world.serve().await;
    let mut stream = Stream::open(&serve.address).await;
    for _ in 0..3 {
        stream.send(events(2)).await;
    }
    // A FIN in the place of a close, right behind the messages.
    stream.0.get_mut().shutdown().await.unwrap();
    for _ in 0..3 {
        assert_eq!(receipts(&stream.answer().await).len(), 2);
    }
    match stream.next().await {
        Message::Close(None) => {}
        other => panic!("no close: {other:?}"),
    }
}

/// Memory that a process takes, in KiB.
fn memory_kib(serve: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", serve.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let words = line.unwrap().split_whitespace().next();
    words.unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_page_behind_a_proxy_that_changes_the_host_is_told_the_flag_that_helps() {
    let world = World::new("proxy");
    let page = "https://captcha.example";
    // A proxy sends its own name for the server, and leaves the page's origin as it is.
    let handshake = async |serve: &Process| {
        let headers = [
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("origin", page),
        ];
        request(&serve.address, "GET", PATH, &headers, "").await.unwrap()
    };
    let serve = world.serve().await;
    let reply = handshake(&serve).await;
    assert_eq!(reply.status, 403);
    let detail = reply.json()["detail"].as_str().unwrap().to_string();
    for part in [page, &serve.address, "--cors-origins", "proxy"] {
        assert!(detail.contains(part), "{part}: {detail}");
    }
    let serve = world.serve_with(&["--cors-origins", page]).await;
    assert_eq!(handshake(&serve).await.status, 101);
}

#[tokio::test]
async fn clients_that_never_read_are_left_and_take_little_memory() {
    const CLIENTS: usize = 10;
    let world = World::new("stream_unread");
    world.migrate(&[]).await;
    let serve = world.serve().await;
    // A kilobyte that is answered with ten.
    let bad = json!(vec![json!({"a": 1}); 120]).to_string();
    let before = memory_kib(&serve);
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 << 10).unwrap();
        let tcp = socket.connect(serve.address.parse().unwrap()).await.unwrap();
        let (mut stream, _) = client_async(format!("ws://{}{PATH}", serve.address), tcp)
            .await
            .unwrap();
        let bad = bad.clone();
        clients.push(tokio::spawn(async move {
            while stream.send(Message::text(bad.clone())).await.is_ok() {}
        }));
    }
    await_open(&serve, CLIENTS as u32).await;
    eventually("the clients to be left", async || {
        let more = memory_kib(&serve).saturating_sub(before);
        assert!(more < 32 << 10, "{more} KiB more for {CLIENTS} clients");
        let left = clients.iter().filter(|client| client.is_finished()).count();
        (left == CLIENTS).then_some(()).ok_or(format!("{left} are"))
    })
    .await;
    await_open(&serve, 0).await;
}
