//! The HTTP API: which request is answered with what.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use chrono::Utc;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_TYPE, EXPECT, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::documents::Documents;
use super::metrics::{self, Metrics};
use super::problem::Problem;
use super::report::ReportBody;
use super::request::{Route, media_type, no_parameters, parse_filter};
use crate::broker::{Outgoing, Producer, Receipt, TopicName};
use crate::event::{Event, Rejection, parse_body};
use crate::http::{self, Answer};
use crate::store::{self, Counters, CountersError, Filter, ROWS_MAX, Store};

/// For a body, from its first byte to its last.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of all bodies in progress together; more are answered 503.
const BODIES_BYTES_MAX: usize = 128 << 20;

/// A larger body is read on a thread for such work: parsing takes 10 ms for each megabyte, in which
/// others want to be answered.
const PARSE_INLINE_BYTES_MAX: usize = 128 << 10;

/// Reports asked of ClickHouse at once; more are answered 503.
const REPORTS_MAX: usize = 4;

/// Rows of all large reports that are being sent together, 40 bytes each, and of all small ones; more are
/// answered 503. Small ones have their own, because readers of large ones may take their time.
const REPORT_ROWS_MAX: usize = 2 * ROWS_MAX;

/// A report of at most so many rows is small: its text fits what the system keeps for a reader.
const SMALL_REPORT_ROWS_MAX: usize = 1_000;

/// For a report; the contract promises an answer within 10 seconds.
const REPORT_TIMEOUT: Duration = Duration::from_secs(9);

/// How much of a body that is too large is still read, so that its sender gets to read the answer.
const DISCARD_BYTES_MAX: usize = 4 << 20;

/// And for how long.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// Everything that answering takes.
pub struct Api {
    topic: TopicName,
    producer: Producer,
    store: Store,
    metrics: Metrics,
    body_bytes_max: usize,
    bodies: Semaphore,
    reports: Semaphore,
    large_report_rows: Arc<Semaphore>,
    small_report_rows: Arc<Semaphore>,
    parsing: Semaphore,
    drain: Drain,
    reports_failing: AtomicBool,
    documents: Documents,
}

/// How the process ends.
pub struct Drain {
    /// Cancelled when it begins to.
    pub stop: CancellationToken,
    /// How long bodies may still take from then on.
    pub body_limit: Duration,
}

#[derive(Serialize)]
struct About {
    name: &'static str,
    version: &'static str,
    about: &'static str,
    paths: [&'static str; 3],
}

#[derive(Serialize)]
struct Accepted<'a> {
    status: &'static str,
    topic: &'a str,
    message: &'static str,
    accepted: usize,
    receipts: Vec<String>,
}

impl Api {
    /// An API for one topic and one database.
    pub fn new(
        topic: TopicName,
        producer: Producer,
        store: Store,
        metrics: Metrics,
        body_bytes_max: usize,
        drain: Drain,
    ) -> Api {
        Api {
            topic,
            producer,
            store,
            metrics,
            body_bytes_max,
            bodies: Semaphore::new(BODIES_BYTES_MAX),
            reports: Semaphore::new(REPORTS_MAX),
            large_report_rows: Arc::new(Semaphore::new(REPORT_ROWS_MAX)),
            small_report_rows: Arc::new(Semaphore::new(REPORT_ROWS_MAX)),
            parsing: Semaphore::new(available_parallelism().map_or(1, NonZero::get)),
            drain,
            reports_failing: AtomicBool::new(false),
            documents: Documents::new(),
        }
    }

    /// Answers one request.
    pub async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        let began = Instant::now();
        let route = Route::of(request.uri().path());
        let answer = self.answer(route, request).await;
        let answer = answer.unwrap_or_else(Problem::into_answer);
        let labels = metrics::Request {
            route: route.name(),
            status: answer.status().as_u16(),
        };
        self.metrics.requests.get_or_create(&labels).inc();
        self.metrics
            .request_seconds
            .observe(began.elapsed().as_secs_f64());
        answer
    }

    async fn answer(&self, route: Route, request: Request<Incoming>) -> Result<Answer, Problem> {
        let query = request.uri().query().unwrap_or_default().to_string();
        match (route, request.method()) {
            (Route::Events, &Method::POST) => self.accept(&query, request).await,
            (Route::Events, _) => Err(Problem::MethodNotAllowed("POST")),
            (Route::Report, &Method::GET | &Method::HEAD) => self.report(&query).await,
            (Route::About, &Method::GET | &Method::HEAD) => {
                no_parameters(&query)?;
                Ok(json(&about()))
            }
            (Route::Document(name), &Method::GET | &Method::HEAD) => {
                no_parameters(&query)?;
                Ok(self.documents.answer(name, request.headers()))
            }
            (Route::Report | Route::About | Route::Document(_), _) => {
                Err(Problem::MethodNotAllowed("GET, HEAD"))
            }
            (Route::Unknown, _) => Err(Problem::NotFound),
        }
    }

    async fn accept(&self, query: &str, request: Request<Incoming>) -> Result<Answer, Problem> {
        no_parameters(query)?;
        media_type(request.headers())?;
        // Who asked first whether to send the body has not sent it, and is not made to.
        let asks_first = request.headers().contains_key(EXPECT);
        let (body, _permit) = self.read(request.into_body(), asks_first).await?;
        let records = self.records(body).await.map_err(|rejection| {
            self.metrics.bodies_refused.inc();
            Problem::Body(rejection)
        })?;
        let receipts = self
            .producer
            .send(records, Utc::now())
            .await
            .map_err(Problem::Send)?;
        self.metrics.events_accepted.inc_by(receipts.len() as u64);
        Ok(json(&Accepted {
            status: "accepted",
            topic: self.topic.as_str(),
            message: "every event is on all in-sync replicas and will be counted once",
            accepted: receipts.len(),
            receipts: receipts.iter().map(receipt).collect(),
        }))
    }

    /// What Kafka gets of a body. Large ones are read on other threads, as many at once as there are processors.
    async fn records(&self, body: Bytes) -> Result<Vec<Outgoing>, Rejection> {
        if body.len() <= PARSE_INLINE_BYTES_MAX {
            return records(&body);
        }
        let _turn = self.parsing.acquire().await;
        match tokio::task::spawn_blocking(move || records(&body)).await {
            Ok(read) => read,
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        }
    }

    /// The body, and its share of all bodies in progress.
    async fn read(
        &self,
        mut body: Incoming,
        asks_first: bool,
    ) -> Result<(Bytes, SemaphorePermit<'_>), Problem> {
        let limit = self.body_bytes_max;
        let announced = body.size_hint();
        let lower = usize::try_from(announced.lower()).unwrap_or(usize::MAX);
        if lower > limit {
            if !asks_first {
                discard(body).await;
            }
            return Err(Problem::BodyTooLarge(limit));
        }
        let stopped = async {
            self.drain.stop.cancelled().await;
            sleep(self.drain.body_limit).await;
        };
        let whole = tokio::select! {
            whole = self.collect(&mut body) => whole,
            () = sleep(BODY_TIMEOUT) => Err(Problem::BodyLate),
            () = stopped => Err(Problem::BodyLate),
        };
        if matches!(whole, Err(Problem::BodyTooLarge(_) | Problem::Overloaded)) {
            discard(body).await;
        }
        whole
    }

    /// The body as it comes. Its share of all bodies grows with it, so that one which is only announced
    /// takes nothing from others.
    async fn collect(&self, body: &mut Incoming) -> Result<(Bytes, SemaphorePermit<'_>), Problem> {
        let mut bytes = BytesMut::new();
        let take = |count| {
            self.bodies
                .try_acquire_many(count)
                .map_err(|_| Problem::Overloaded)
        };
        let mut share = take(0)?;
        while let Some(frame) = body.frame().await {
            // Trailers are no data, and nobody asked for them.
            let Ok(data) = frame.map_err(|_| Problem::BodyBroken)?.into_data() else {
                continue;
            };
            if bytes.len() + data.len() > self.body_bytes_max {
                return Err(Problem::BodyTooLarge(self.body_bytes_max));
            }
            share.merge(take(u32::try_from(data.len()).unwrap_or(u32::MAX))?);
            bytes.extend_from_slice(&data);
        }
        Ok((bytes.freeze(), share))
    }

    async fn report(&self, query: &str) -> Result<Answer, Problem> {
        let filter = parse_filter(query).map_err(Problem::Query)?;
        let _permit = self
            .reports
            .try_acquire()
            .map_err(|_| Problem::Overloaded)?;
        let asked = timeout(REPORT_TIMEOUT, self.counters(&filter)).await;
        let counters = asked.unwrap_or_else(|_| Err(late_report()));
        self.log_reports(counters.as_ref().err());
        let counters = counters.map_err(Problem::Report)?;
        let rows = counters.counters.len();
        let all = match rows <= SMALL_REPORT_ROWS_MAX {
            true => &self.small_report_rows,
            false => &self.large_report_rows,
        };
        let share = Arc::clone(all)
            .try_acquire_many_owned(rows as u32)
            .map_err(|_| Problem::Overloaded)?;
        let mut answer = Response::new(ReportBody::new(counters, share).boxed_unsync());
        let json = HeaderValue::from_static("application/json");
        answer.headers_mut().insert(CONTENT_TYPE, json);
        Ok(answer)
    }

    /// Says once that reports fail, and once that they work again.
    fn log_reports(&self, failure: Option<&CountersError>) {
        let failing = matches!(failure, Some(CountersError::Store(_)));
        if self.reports_failing.swap(failing, Ordering::Relaxed) == failing {
            return;
        }
        match failure {
            Some(reason) => tracing::warn!(%reason, "reports fail"),
            None => tracing::info!("reports work again"),
        }
    }

    async fn counters(&self, filter: &Filter) -> Result<Counters, CountersError> {
        self.store.connect_to_schema().await?.counters(filter).await
    }
}

fn late_report() -> CountersError {
    let seconds = REPORT_TIMEOUT.as_secs();
    store::Error::Connection(format!("clickhouse did not answer within {seconds} s")).into()
}

fn about() -> About {
    About {
        name: "captcha",
        version: env!("CARGO_PKG_VERSION"),
        about: "takes captcha events, counts each of them once, and tells how many were served and solved",
        paths: ["POST /v1/events", "GET /v1/report", "GET /v1/"],
    }
}

/// What Kafka gets of a body.
fn records(body: &[u8]) -> Result<Vec<Outgoing>, Rejection> {
    Ok(parse_body(body)?.iter().map(outgoing).collect())
}

fn outgoing(event: &Event) -> Outgoing {
    Outgoing {
        key: event.key(),
        value: event.to_json(),
    }
}

fn receipt(receipt: &Receipt) -> String {
    format!("{}:{}", receipt.partition, receipt.offset)
}

/// Reads some of a body that nobody wants, because a connection closed in the middle of sending may
/// lose the answer on its way.
async fn discard(mut body: Incoming) {
    let read = async {
        let mut seen = 0;
        while let Some(Ok(frame)) = body.frame().await {
            seen += frame.data_ref().map_or(0, Bytes::len);
            if seen > DISCARD_BYTES_MAX {
                break;
            }
        }
    };
    let _ = timeout(DISCARD_TIMEOUT, read).await;
}

fn json(value: &impl Serialize) -> Answer {
    // Our own types have string keys and no failing parts.
    http::answer(StatusCode::OK, "application/json", http::json_line(value))
}
