//! The HTTP API: which request is answered with what.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use chrono::{NaiveDate, Utc};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, EXPECT, HeaderMap, HeaderValue};
use hyper::{Method, Request, StatusCode};
use serde::Serialize;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::metrics::{self, Metrics};
use super::problem::{ParameterError, Problem};
use crate::broker::{Outgoing, Producer, Receipt, TopicName};
use crate::event::{Event, parse_body};
use crate::http::{self, Answer};
use crate::store::{self, Counters, CountersError, Filter, Store};

/// For a body, from its first byte to its last.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of all bodies in progress together; more are answered 503.
const BODIES_BYTES_MAX: usize = 256 << 20;

/// Reports asked of ClickHouse at once; more are answered 503.
const REPORTS_MAX: usize = 16;

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
    reports_failing: AtomicBool,
}

/// What a path stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    About,
    Events,
    Report,
    Unknown,
}

impl Route {
    fn of(path: &str) -> Route {
        let versions = ["/v1", "/latest", "/V1"];
        let rest = versions
            .iter()
            .filter_map(|version| path.strip_prefix(version))
            .find(|rest| rest.is_empty() || rest.starts_with('/'));
        match rest.map(|rest| rest.trim_end_matches('/')) {
            Some("") => Route::About,
            Some("/events" | "/event") => Route::Events,
            Some("/report") => Route::Report,
            _ => Route::Unknown,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Route::About => "about",
            Route::Events => "events",
            Route::Report => "report",
            Route::Unknown => "other",
        }
    }
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
    ) -> Api {
        Api {
            topic,
            producer,
            store,
            metrics,
            body_bytes_max,
            bodies: Semaphore::new(BODIES_BYTES_MAX),
            reports: Semaphore::new(REPORTS_MAX),
            reports_failing: AtomicBool::new(false),
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
            (Route::Report | Route::About, _) => Err(Problem::MethodNotAllowed("GET, HEAD")),
            (Route::Unknown, _) => Err(Problem::NotFound),
        }
    }

    async fn accept(&self, query: &str, request: Request<Incoming>) -> Result<Answer, Problem> {
        no_parameters(query)?;
        media_type(request.headers())?;
        // Who asked first whether to send the body has not sent it, and is not made to.
        let asks_first = request.headers().contains_key(EXPECT);
        let (body, _permit) = self.read(request.into_body(), asks_first).await?;
        let events = parse_body(&body).map_err(|rejection| {
            self.metrics.bodies_refused.inc();
            Problem::Body(rejection)
        })?;
        let records = events.iter().map(outgoing).collect();
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
        let share = if announced.exact().is_some() {
            lower
        } else {
            limit
        };
        let share = u32::try_from(share).unwrap_or(u32::MAX);
        let permit = self
            .bodies
            .try_acquire_many(share)
            .map_err(|_| Problem::Overloaded)?;
        let whole = timeout(BODY_TIMEOUT, collect(&mut body, limit)).await;
        match whole.map_err(|_| Problem::BodyLate)? {
            Err(Problem::BodyTooLarge(limit)) => {
                discard(body).await;
                Err(Problem::BodyTooLarge(limit))
            }
            Err(problem) => Err(problem),
            Ok(bytes) => Ok((bytes, permit)),
        }
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
        counters
            .map(|counters| json(&counters))
            .map_err(Problem::Report)
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
        self.store.connect().await?.counters(filter).await
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

fn outgoing(event: &Event) -> Outgoing {
    Outgoing {
        key: event.key(),
        value: event.to_json(),
    }
}

fn receipt(receipt: &Receipt) -> String {
    format!("{}:{}", receipt.partition, receipt.offset)
}

/// The whole body, if it is not larger than the limit.
async fn collect(body: &mut Incoming, limit: usize) -> Result<Bytes, Problem> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        // Trailers are no data, and nobody asked for them.
        let Ok(data) = frame.map_err(|_| Problem::BodyBroken)?.into_data() else {
            continue;
        };
        if bytes.len() + data.len() > limit {
            return Err(Problem::BodyTooLarge(limit));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
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

fn media_type(headers: &HeaderMap) -> Result<(), Problem> {
    let refuse = |detail: String| Err(Problem::MediaType(detail));
    let Some(given) = headers.get(CONTENT_TYPE) else {
        return refuse("no content-type; expected application/json".to_string());
    };
    let given = given.to_str().unwrap_or("something unreadable");
    let essence = given.split(';').next().unwrap_or_default().trim();
    let charset = given.to_ascii_lowercase();
    let charset = charset
        .split_once("charset=")
        .map(|(_, charset)| charset.trim_matches(['"', ' ']));
    if charset.is_some_and(|charset| charset != "utf-8") {
        return refuse(format!("content-type {given}; JSON is UTF-8"));
    }
    if !essence.eq_ignore_ascii_case("application/json") {
        return refuse(format!("content-type {essence}; expected application/json"));
    }
    match headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None => Ok(()),
        Some(encoding) if encoding.eq_ignore_ascii_case(b"identity") => Ok(()),
        Some(_) => refuse("a content-encoding; expected none".to_string()),
    }
}

fn no_parameters(query: &str) -> Result<(), Problem> {
    let unknown: Vec<_> = form_urlencoded::parse(query.as_bytes())
        .map(|(name, _)| parameter_error(&name, "unknown; this path takes none"))
        .collect();
    if unknown.is_empty() {
        Ok(())
    } else {
        Err(Problem::Query(unknown))
    }
}

/// Reads `site_id` (repeated), `from` and `to`, and names everything else.
fn parse_filter(query: &str) -> Result<Filter, Vec<ParameterError>> {
    let mut filter = Filter::default();
    let mut errors = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let outcome = match name.as_ref() {
            "site_id" => Filter::parse_site_id(&value).map(|site_id| filter.site_ids.push(site_id)),
            "from" => set_date(&mut filter.from, &value),
            "to" => set_date(&mut filter.to, &value),
            _ => Err("unknown; expected site_id, from or to"),
        };
        errors.extend(outcome.err().map(|detail| parameter_error(&name, detail)));
    }
    if !filter.is_in_order() {
        errors.push(parameter_error("from", Filter::OUT_OF_ORDER));
    }
    if errors.is_empty() {
        Ok(filter)
    } else {
        Err(errors)
    }
}

fn set_date(date: &mut Option<NaiveDate>, text: &str) -> Result<(), &'static str> {
    if date.is_some() {
        return Err("given more than once");
    }
    *date = Some(Filter::parse_date(text)?);
    Ok(())
}

fn parameter_error(name: &str, detail: &str) -> ParameterError {
    const NAME_CHARS_MAX: usize = 64;
    ParameterError {
        parameter: name.chars().take(NAME_CHARS_MAX).collect(),
        detail: detail.to_string(),
    }
}

fn json(value: &impl Serialize) -> Answer {
    // Our own types have string keys and no failing parts.
    http::answer(StatusCode::OK, "application/json", http::json_line(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn all_spellings_of_the_paths() {
        for (path, route) in [
            ("/v1/events", Route::Events),
            ("/v1/events/", Route::Events),
            ("/v1/event", Route::Events),
            ("/V1/event", Route::Events),
            ("/V1/events", Route::Events),
            ("/latest/events", Route::Events),
            ("/latest/event", Route::Events),
            ("/v1/report", Route::Report),
            ("/V1/report", Route::Report),
            ("/latest/report", Route::Report),
            ("/v1", Route::About),
            ("/v1/", Route::About),
            ("/latest/", Route::About),
            ("/", Route::Unknown),
            ("/events", Route::Unknown),
            ("/v1events", Route::Unknown),
            ("/v12/events", Route::Unknown),
            ("/v1/Events", Route::Unknown),
            ("/LATEST/events", Route::Unknown),
            ("/v1/events/7", Route::Unknown),
            ("/v2/events", Route::Unknown),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }

    #[test]
    fn a_filter_is_read_whole() {
        let site = "7a6f0a3e-9d3c-4b0e-8a55-0a4f5b1c2d3e";
        let filter = parse_filter(&format!(
            "site_id={site}&from=2001-01-01&to=2001-02-01&site_id={}",
            site.to_uppercase()
        ))
        .unwrap();
        assert_eq!(filter.site_ids, [site.parse::<Uuid>().unwrap(); 2]);
        assert_eq!(filter.from, NaiveDate::from_ymd_opt(2001, 1, 1));
        assert_eq!(filter.to, NaiveDate::from_ymd_opt(2001, 2, 1));
        assert_eq!(parse_filter(""), Ok(Filter::default()));
    }

    #[test]
    fn every_wrong_parameter_is_named() {
        let errors =
            parse_filter("site_id=7&from=2001-1-1&to=&user=me&from=2001-01-01&%66rom=2001-01-02");
        let errors = errors.unwrap_err();
        let named: Vec<_> = errors
            .iter()
            .map(|e| (e.parameter.as_str(), e.detail.as_str()))
            .collect();
        assert_eq!(
            named,
            [
                ("site_id", "not a UUID"),
                ("from", "not a date like 2001-01-31"),
                ("to", "not a date like 2001-01-31"),
                ("user", "unknown; expected site_id, from or to"),
                ("from", "given more than once"),
            ]
        );
        let late = parse_filter("from=2001-01-02&to=2001-01-01").unwrap_err();
        assert_eq!(late[0].detail, Filter::OUT_OF_ORDER);
    }

    #[test]
    fn only_plain_json_is_read() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            media_type(&headers)
        };
        assert!(headers(&[("content-type", "application/json")]).is_ok());
        assert!(headers(&[("content-type", "Application/JSON ; charset=utf-8")]).is_ok());
        assert!(
            headers(&[
                ("content-type", "application/json"),
                ("content-encoding", "identity")
            ])
            .is_ok()
        );
        assert!(headers(&[]).is_err());
        assert!(headers(&[("content-type", "text/plain")]).is_err());
        assert!(headers(&[("content-type", "application/json; charset=latin1")]).is_err());
        assert!(headers(&[("content-type", "application/json; charset=\"UTF-8\"")]).is_ok());
        assert!(
            headers(&[
                ("content-type", "application/json"),
                ("content-encoding", "gzip")
            ])
            .is_err()
        );
    }
}
