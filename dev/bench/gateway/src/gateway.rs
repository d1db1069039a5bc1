//! captcha's `POST /v1/events` on librdkafka, as short as it can be: what `captcha serve` is measured against.
//!
//! usage: librdkafka-gateway ADDRESS BROKERS TOPIC [SETTING=VALUE ...]    SETTING of librdkafka's producer

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Datelike as _, NaiveDateTime, Utc};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use uuid::Uuid;

const BODY_BYTES_MAX: usize = 2 << 20;
const EVENTS_MAX: usize = 10_000;

/// What captcha promises too: all in-sync replicas, an answer within 5 s, the partitions of Java's clients. Records go
/// uncompressed. With 0 ms of linger nearly every event is a request of its own: 6,500 events/s at 64 connections
/// instead of 28,000.
const SETTINGS: [(&str, &str); 7] = [
    ("acks", "all"),
    ("enable.idempotence", "false"),
    ("partitioner", "murmur2_random"),
    ("message.timeout.ms", "4500"),
    ("queue.buffering.max.ms", "1"),
    ("queue.buffering.max.messages", "1000000"),
    ("socket.nagle.disable", "true"),
];

type Failure = Box<dyn Error + Send + Sync>;

struct Gateway {
    producer: FutureProducer,
    topic: String,
}

/// The event, and its canonical JSON.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Event {
    site_id: Uuid,
    r#type: Kind,
    correlation_id: Uuid,
    time: Time,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Serve,
    Solve,
}

struct Time(NaiveDateTime);

#[derive(Serialize)]
struct Accepted<'a> {
    status: &'static str,
    topic: &'a str,
    message: &'static str,
    accepted: usize,
    receipts: Vec<String>,
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        let text = <&str>::deserialize(deserializer)?;
        let read = DateTime::parse_from_rfc3339(text).map(|time| time.naive_utc());
        let read = read.or_else(|_| text.parse::<NaiveDateTime>());
        match read {
            Ok(time) if (1970..=2200).contains(&time.year()) => Ok(Time(time)),
            Ok(_) => Err(de::Error::custom("outside the years 1970 to 2200")),
            Err(err) => Err(de::Error::custom(err)),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.and_utc().timestamp_subsec_micros() {
            0 => serializer.collect_str(&self.0.format("%Y-%m-%dT%H:%M:%S")),
            _ => serializer.collect_str(&self.0.format("%Y-%m-%dT%H:%M:%S%.6f")),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [address, brokers, topic, settings @ ..] = &words[..] else {
        return Err("usage: librdkafka-gateway ADDRESS BROKERS TOPIC [SETTING=VALUE ...]".into());
    };
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .extend(SETTINGS.map(|(key, value)| (key.to_string(), value.to_string())));
    for setting in settings {
        let (key, value) = setting.split_once('=').ok_or("a setting is KEY=VALUE")?;
        config.set(key, value);
    }
    let gateway = Arc::new(Gateway {
        producer: config.create()?,
        topic: topic.clone(),
    });
    let listener = TcpListener::bind(address).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        failed = serve(listener, gateway) => failed,
        _ = terminate.recv() => Ok(()),
    }
}

async fn serve(listener: TcpListener, gateway: Arc<Gateway>) -> Result<(), Failure> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let gateway = Arc::clone(&gateway);
        let service = service_fn(move |request| {
            let gateway = Arc::clone(&gateway);
            async move { Ok::<_, Infallible>(gateway.answer(request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            // A connection's error is its client's affair.
            let _ = connection.await;
        });
    }
}

impl Gateway {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if (request.method(), request.uri().path()) != (&Method::POST, "/v1/events") {
            return problem(StatusCode::NOT_FOUND, "no such path");
        }
        let json = HeaderValue::from_static("application/json");
        if request.headers().get(CONTENT_TYPE) != Some(&json) {
            return problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not application/json");
        }
        let Ok(body) = Limited::new(request.into_body(), BODY_BYTES_MAX)
            .collect()
            .await
        else {
            return problem(StatusCode::PAYLOAD_TOO_LARGE, "broken or too large");
        };
        let events = match events(&body.to_bytes()) {
            Ok(events) => events,
            Err(err) => return problem(StatusCode::UNPROCESSABLE_ENTITY, &err.to_string()),
        };
        match self.send(&events).await {
            Ok(receipts) => self.accepted(receipts),
            Err(err) => problem(StatusCode::SERVICE_UNAVAILABLE, &err.to_string()),
        }
    }

    /// Hands every event to librdkafka, then waits for all of them.
    async fn send(&self, events: &[Event]) -> Result<Vec<String>, Failure> {
        let arrival = Utc::now().timestamp_millis();
        let mut sent = Vec::with_capacity(events.len());
        for event in events {
            let mut key = Uuid::encode_buffer();
            let key = event.correlation_id.hyphenated().encode_lower(&mut key);
            let value = serde_json::to_vec(event)?;
            let record = FutureRecord::to(&self.topic)
                .key(&*key)
                .payload(&value)
                .timestamp(arrival);
            sent.push(self.producer.send_result(record).map_err(|(err, _)| err)?);
        }
        let mut receipts = Vec::with_capacity(sent.len());
        for delivery in sent {
            let delivery = delivery.await?.map_err(|(err, _)| err)?;
            receipts.push(format!("{}:{}", delivery.partition, delivery.offset));
        }
        Ok(receipts)
    }

    fn accepted(&self, receipts: Vec<String>) -> Response<Full<Bytes>> {
        let accepted = Accepted {
            status: "accepted",
            topic: &self.topic,
            message: "every event is on all in-sync replicas and will be counted once",
            accepted: receipts.len(),
            receipts,
        };
        answer(
            StatusCode::OK,
            serde_json::to_vec(&accepted).unwrap_or_default(),
        )
    }
}

fn events(body: &[u8]) -> Result<Vec<Event>, Failure> {
    let events = match body.trim_ascii_start().first() {
        Some(b'[') => serde_json::from_slice(body)?,
        Some(b'{') => vec![serde_json::from_slice(body)?],
        _ => return Err("neither an object nor an array".into()),
    };
    match events.len() {
        1..=EVENTS_MAX => Ok(events),
        count => Err(format!("{count} events; expected 1 to {EVENTS_MAX}").into()),
    }
}

fn problem(status: StatusCode, detail: &str) -> Response<Full<Bytes>> {
    let body =
        serde_json::json!({"type": "about:blank", "status": status.as_u16(), "detail": detail});
    answer(status, body.to_string().into_bytes())
}

fn answer(status: StatusCode, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, json);
    answer
}
