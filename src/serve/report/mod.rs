//! Reports over HTTP, within limits for the rows that are on their way.

mod answer;
pub mod body;
mod compress;
mod cost;
pub mod fair_queue;
pub mod format;
mod group;
mod questions;
pub mod queue;
pub mod reader;
pub mod receipt;
mod text;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use chrono::Utc;
use futures_util::FutureExt as _;
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, VARY};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use self::answer::{Answer, Numbers};
use self::body::ReportBody;
use self::compress::{Compressed, Compressor};
use self::cost::Cost;
use self::format::Format;
use self::questions::{Questions, Request};
use self::queue::{Refusal, ReportQueue};
use self::reader::Reader;
use self::receipt::{ReceiptWaits, WaitError};
use self::text::ReportText;
use super::chart;
use super::limits::{Limits, REPORT_WAIT_SECONDS_MAX};
use super::problem::{ParameterError, Problem};
use super::request::query::ReportQuery;
use crate::clickhouse::{self, Cluster, Filter, ReportError, ReportRow};
use crate::http::{Body, Peer, Response, accept};
use crate::kafka::Kafka;
use crate::resource_pool::{Holder, Pool, Share};
use crate::statistics::{self, Interval, Query};
use crate::telemetry::log_once::Change;

/// Memory of a row of a report until it is sent.
const ROW_BYTES: usize = size_of::<ReportRow>();

/// Text of a report that is made and not sent: what is kept for a slow reader of one response, and the piece that is
/// being made.
const TEXT_BYTES_MAX: usize = 96 << 10;

/// For a report, its wait in the queue included; the contract promises an answer within 10 seconds.
const REPORT_TIMEOUT: Duration = Duration::from_secs(9);

/// Of this time, what is left for the report after a wait for a receipt.
const AFTER_WAIT: Duration = Duration::from_secs(1);

/// Rows of which the tag is made at once: some milliseconds, in which others want to be answered.
const TAGGED_ROWS_MAX: usize = 10_000;

/// How far a report is complete, also of a 304, which has no body.
pub const COMPLETE_THROUGH: HeaderName = HeaderName::from_static("complete-through");

/// Headers of every report. A browser keeps it, asks again each time, and mostly gets 304; a cache that others share
/// keeps none.
const COMMON: [(HeaderName, &str); 2] = [
    (CACHE_CONTROL, "private, no-cache"),
    (VARY, "accept, accept-encoding, authorization"),
];

const _: () = assert!(
    REPORT_TIMEOUT.as_secs() < 10 && (REPORT_WAIT_SECONDS_MAX as u64) < REPORT_TIMEOUT.as_secs(),
    "a report that has waited has time to be asked for, and the contract holds"
);

/// Reports of one database.
pub struct Reports {
    questions: Questions<Query, Result<Arc<Answer>, ReportError>>,
    source: Arc<Source>,
    receipts: ReceiptWaits,
    memory: Arc<Pool>,
}

/// Where reports come from.
struct Source {
    cluster: Cluster,
    is_failing: AtomicBool,
}

impl Reports {
    /// Reports of one database and one topic, whose rows take of this memory.
    pub fn new(cluster: Cluster, kafka: Kafka, limits: &Limits, memory: Arc<Pool>) -> Reports {
        let queue = ReportQueue::new(limits.reports_waiting_max as usize, limits.report_wait());
        Reports {
            questions: Questions::new(queue),
            receipts: ReceiptWaits::new(cluster.clone(), kafka),
            source: Arc::new(Source {
                cluster,
                is_failing: AtomicBool::new(false),
            }),
            memory,
        }
    }

    /// Readers whose report is not asked for yet.
    pub fn waiting(&self) -> usize {
        self.questions.waiting()
    }

    /// Responds with a report once the reader has its turn, unless `hung_up` completes before.
    ///
    /// # Errors
    /// [`Problem::ReportRefused`] and [`Problem::Report`]; [`Problem::NotStored`] and [`Problem::Query`] of a receipt.
    pub async fn respond(
        &self,
        query: ReportQuery,
        request: &HeaderMap,
        reader: &Reader,
        holder: Holder,
        hung_up: impl Future<Output = ()>,
    ) -> Result<Response, Problem> {
        let mut hung_up = std::pin::pin!(hung_up);
        let deadline = Instant::now() + REPORT_TIMEOUT;
        if let Some(receipt) = query.wait {
            let stored = self.receipts.wait(receipt, deadline - AFTER_WAIT);
            tokio::select! {
                biased;
                stored = stored => stored.map_err(wait_problem)?,
                () = &mut hung_up => return Err(Problem::ReportRefused(Refusal::HungUp)),
            }
        }
        let answer = self.answer(query.question, reader, holder, deadline, hung_up).await?;
        let format = query.format.unwrap_or_else(|| Format::accepted(request));
        let tag = format!("W/\"{:032x}-{}\"", answer.tag, format.name());
        let mut response = match accept::is_known(&tag, request) {
            true => {
                let mut response = Response::default();
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                response
            }
            false => self.write(&answer, format, request, holder)?,
        };
        let headers = response.headers_mut();
        for (name, value) in COMMON {
            headers.insert(name, HeaderValue::from_static(value));
        }
        // Hexadecimal digits, names and instants are always fit for a header.
        headers.extend(HeaderValue::try_from(tag).ok().map(|tag| (ETAG, tag)));
        let through = answer.freshness().complete_through_text();
        let through = through.and_then(|text| HeaderValue::try_from(text).ok());
        headers.extend(through.map(|through| (COMPLETE_THROUGH, through)));
        Ok(response)
    }

    /// The answer to a question, asked once for all who ask the same.
    async fn answer(
        &self,
        mut question: Query,
        reader: &Reader,
        holder: Holder,
        deadline: Instant,
        hung_up: impl Future<Output = ()>,
    ) -> Result<Arc<Answer>, Problem> {
        // Questions with the same sites are equal.
        question.site_ids.sort_unstable();
        question.site_ids.dedup();
        // It may have completed when the question is asked once more.
        let mut hung_up = std::pin::pin!(hung_up.fuse());
        loop {
            let request = Request {
                question: &question,
                reader,
                cost: Cost::of(&question, Utc::now()),
                deadline,
            };
            let mut is_own = false;
            let send = |deadline| {
                is_own = true;
                let rows = self.memory.share(holder);
                let source = Arc::clone(&self.source);
                source.ask(question.clone(), rows, deadline).boxed()
            };
            let answer = self.questions.answer(request, hung_up.as_mut(), send).await;
            let answer = answer.map_err(Problem::ReportRefused)?;
            let answer = answer.ok_or_else(|| Problem::Report(timed_out(REPORT_TIMEOUT)))?;
            match answer {
                Ok(answer) => return Ok(answer),
                // The client that asked for all has no memory left of its own. Another one may have some.
                Err(ReportError::OutOfMemory) if !is_own => continue,
                Err(ReportError::OutOfMemory) => return Err(Problem::ReportRefused(Refusal::Rows)),
                Err(err) => return Err(Problem::Report(err)),
            }
        }
    }

    /// The response with the rows, compressed if the client likes that and there is memory for it.
    fn write(
        &self,
        answer: &Arc<Answer>,
        format: Format,
        request: &HeaderMap,
        holder: Holder,
    ) -> Result<Response, Problem> {
        let text_bytes = answer.text_bytes_max();
        let share = self.memory.acquire(holder, text_bytes.min(TEXT_BYTES_MAX));
        let mut share = share.ok_or(Problem::ReportRefused(Refusal::Rows))?;
        let compressor = Compressor::accepted(request, text_bytes);
        let compressor = compressor.filter(|compressor| share.grow(compressor.memory_bytes()));
        let text = ReportBody::new(ReportText::new(Arc::clone(answer), format));
        let (mut body, coding) = match compressor {
            None => (Body::made(text), None),
            Some(compressor) => match Compressed::new(text, compressor) {
                Ok(body) => (Body::made(body), Some(compressor.name())),
                Err(text) => (Body::made(text), None),
            },
        };
        body.hold(share);
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
        headers.extend(coding.map(|coding| (CONTENT_ENCODING, HeaderValue::from_static(coding))));
        Ok(response)
    }
}

/// Asks the questions of one request.
pub struct Asker<'a> {
    reports: &'a Reports,
    reader: Reader,
    holder: Holder,
    peer: &'a Peer,
    deadline: Instant,
    /// Answers hold their share of the memory until what is made of them is made.
    answers: Mutex<Vec<Arc<Answer>>>,
}

impl<'a> Asker<'a> {
    pub fn new(reports: &'a Reports, reader: Reader, holder: Holder, peer: &'a Peer) -> Asker<'a> {
        Asker {
            reports,
            reader,
            holder,
            peer,
            deadline: Instant::now() + REPORT_TIMEOUT,
            answers: Mutex::default(),
        }
    }

    /// The answer to a question about a chart, by the interval that is asked for or one that fits, and whether it is
    /// longer than that one.
    ///
    /// # Errors
    /// As [`Asker::ask`].
    pub async fn ask_over_time(
        &self,
        question: Query,
        asked: Option<Interval>,
        now_micros: i64,
    ) -> Result<(Arc<statistics::Answer>, bool), Problem> {
        let (interval, is_longer) = chart::fitting_interval(&question, asked, now_micros);
        let question = Query { interval, ..question };
        let answer = self.ask(question.clone()).await?;
        // Where an open range begins and ends is known only now.
        Ok(match chart::longer_interval(&answer) {
            None => (answer, is_longer),
            Some(interval) => (self.ask(Query { interval, ..question }).await?, asked.is_some()),
        })
    }

    /// The answer to a question, unless the client hangs up before. All questions have the time of one report together.
    ///
    /// # Errors
    /// [`Problem::ReportRefused`] and [`Problem::Report`].
    pub async fn ask(&self, question: Query) -> Result<Arc<statistics::Answer>, Problem> {
        let question = Query {
            is_extended: true,
            ..question
        };
        let hung_up = self.peer.hung_up();
        let answer = self
            .reports
            .answer(question, &self.reader, self.holder, self.deadline, hung_up)
            .await?;
        self.answers.lock().push(Arc::clone(&answer));
        match &answer.numbers {
            Numbers::Statistics(answer) => Ok(Arc::clone(answer)),
            // Only a question that is not extended has a plain answer.
            Numbers::Plain(_) => Err(Problem::Bug),
        }
    }
}

fn wait_problem(error: WaitError) -> Problem {
    match error {
        WaitError::Foreign(detail) => Problem::Query(vec![ParameterError {
            parameter: "wait".to_string(),
            detail,
        }]),
        WaitError::NotStored(receipt, head) => Problem::NotStored(receipt, head),
        WaitError::Clickhouse(error) => Problem::Report(error.into()),
    }
}

impl Source {
    /// Asks for a report until a deadline. The share grows with its rows.
    async fn ask(
        self: Arc<Source>,
        question: Query,
        share: Share,
        deadline: Instant,
    ) -> Result<Arc<Answer>, ReportError> {
        let began = Instant::now();
        let share = Mutex::new(share);
        let room = |rows: usize| grow(&share, rows * ROW_BYTES);
        let numbers = timeout_at(deadline, self.numbers(&question, &room)).await;
        let numbers = numbers.unwrap_or_else(|_| Err(timed_out(deadline - began)));
        self.log_change(numbers.as_ref().err());
        let (numbers, share) = (numbers?, share.into_inner());
        let is_large = numbers.row_count() > TAGGED_ROWS_MAX;
        let answer = move || Arc::new(Answer::new(numbers, share));
        Ok(match is_large {
            false => answer(),
            true => {
                let answer = tokio::task::spawn_blocking(answer).await;
                answer.map_err(|_| clickhouse::unexpected("the rows of a report"))?
            }
        })
    }

    async fn numbers(&self, question: &Query, room: &clickhouse::ReserveRows<'_>) -> Result<Numbers, ReportError> {
        Ok(match Filter::of(question) {
            Some(filter) => Numbers::Plain(self.cluster.report(&filter, room).await?),
            None => Numbers::Statistics(Arc::new(self.cluster.answer(question, room).await?)),
        })
    }

    /// Logs once that reports fail, and once that they work again.
    fn log_change(&self, failure: Option<&ReportError>) {
        let failure = failure.filter(|failure| matches!(failure, ReportError::Shard(_)));
        let failed_before = self.is_failing.swap(failure.is_some(), Relaxed);
        match (Change::between(failed_before, failure.is_some()), failure) {
            (Some(Change::Began), Some(reason)) => tracing::warn!(%reason, "reports fail"),
            (Some(Change::Ended), _) => tracing::info!("reports work again"),
            _ => {}
        }
    }
}

fn grow(share: &Mutex<Share>, bytes: usize) -> bool {
    share.lock().grow(bytes)
}

fn timed_out(time: Duration) -> ReportError {
    let seconds = time.as_secs_f64();
    let reason = format!("clickhouse did not answer within {seconds:.1} s");
    clickhouse::Error::Connection(reason).into()
}
