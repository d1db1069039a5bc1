//! Reports over HTTP, within limits for the rows that are on their way.

pub mod body;
pub mod fair_queue;
pub mod queue;
pub mod reader;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use hyper::header::{CONTENT_TYPE, HeaderValue};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use self::body::{ROW_TEXT_BYTES, ReportBody};
use self::queue::{Refusal, ReportQueue};
use self::reader::Reader;
use super::limits::{Limits, REPORT_WAIT_SECONDS_MAX};
use super::problem::Problem;
use crate::clickhouse::{self, Cluster, Filter, ReportError, ReportRow};
use crate::http::{Body, Response};
use crate::resource_pool::Share;
use crate::telemetry::log_once::Change;

/// Memory of a row of a report until it is sent.
const ROW_BYTES: usize = size_of::<ReportRow>();

/// Text of a report that is made and not sent: what is kept for a slow reader of one response, and the piece that is
/// being made.
const TEXT_BYTES_MAX: usize = 96 << 10;

/// For a report, its wait in the queue included; the contract promises an answer within 10 seconds.
const REPORT_TIMEOUT: Duration = Duration::from_secs(9);

const _: () = assert!(
    REPORT_TIMEOUT.as_secs() < 10 && (REPORT_WAIT_SECONDS_MAX as u64) < REPORT_TIMEOUT.as_secs(),
    "a report that has waited has time to be asked for, and the contract holds"
);

/// Reports of one database.
pub struct Reports {
    cluster: Cluster,
    queue: Arc<ReportQueue>,
    is_failing: AtomicBool,
}

impl Reports {
    /// Reports of one database.
    pub fn new(cluster: Cluster, limits: &Limits) -> Reports {
        Reports {
            cluster,
            queue: ReportQueue::new(limits.reports_waiting_max as usize, limits.report_wait()),
            is_failing: AtomicBool::new(false),
        }
    }

    /// Readers who wait for their turn.
    pub fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// Responds with a report once the reader has its turn, unless `hung_up` completes before. The share grows with the
    /// rows.
    ///
    /// # Errors
    /// [`Problem::ReportRefused`] and [`Problem::Report`].
    pub async fn respond(
        &self,
        filter: &Filter,
        reader: &Reader,
        share: Share,
        hung_up: impl Future<Output = ()>,
    ) -> Result<Response, Problem> {
        let deadline = Instant::now() + REPORT_TIMEOUT;
        let turn = self.queue.turn(reader, hung_up).await.map_err(Problem::ReportRefused)?;
        let query_started = Instant::now();
        let share = Mutex::new(share);
        let room = |rows: usize| grow(&share, rows * ROW_BYTES);
        let report = timeout_at(deadline, self.cluster.report(filter, &room)).await;
        let report = report.unwrap_or_else(|_| Err(timed_out(deadline - query_started)));
        drop(turn);
        self.log_change(report.as_ref().err());
        let report = report.map_err(|err| match err {
            ReportError::OutOfMemory => Problem::ReportRefused(Refusal::Rows),
            err => Problem::Report(err),
        })?;
        let text_bytes = (report.rows.len() + 1) * ROW_TEXT_BYTES;
        if !grow(&share, text_bytes.min(TEXT_BYTES_MAX)) {
            return Err(Problem::ReportRefused(Refusal::Rows));
        }
        let mut body = Body::made(ReportBody::new(report));
        body.hold(share.into_inner());
        let mut response = Response::new(body);
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        Ok(response)
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
