//! Answering with statistics, within limits for the rows that are on their way.

use std::sync::Arc;
use std::time::Duration;

use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::limits::Limits;
use super::pace::{Change, Outage};
use super::problem::Problem;
use super::report::ReportBody;
use super::report_queue::{Refusal, ReportQueue};
use crate::http::{Answer, Body};
use crate::store::{self, CountersError, Filter, ROWS_MAX, Shards};

/// Rows of all large reports that are being sent together, 40 bytes each, and of all small ones; more are
/// answered 503. Small ones have their own, because readers of large ones may take their time.
const REPORT_ROWS_MAX: usize = 2 * ROWS_MAX;

/// A report of at most so many rows is small: its text fits what the system keeps for a reader.
const SMALL_REPORT_ROWS_MAX: usize = 1_000;

/// For a report, its place in the queue included; the contract promises an answer within 10 seconds.
const REPORT_TIMEOUT: Duration = Duration::from_secs(9);

/// Reports of one database.
pub struct Reports {
    store: Shards,
    queue: ReportQueue,
    large_rows: Arc<Semaphore>,
    small_rows: Arc<Semaphore>,
    outage: Outage,
}

impl Reports {
    /// Reports of one database.
    pub fn new(store: Shards, limits: &Limits) -> Reports {
        Reports {
            store,
            queue: ReportQueue::new(limits.reports_waiting_max as usize, limits.report_wait()),
            large_rows: Arc::new(Semaphore::new(REPORT_ROWS_MAX)),
            small_rows: Arc::new(Semaphore::new(REPORT_ROWS_MAX)),
            outage: Outage::none(),
        }
    }

    /// Readers who wait for their turn.
    pub fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// A report as an answer, for a reader who waits for its turn until `hung_up`.
    ///
    /// # Errors
    /// There is none, and why.
    pub async fn answer(
        &self,
        filter: &Filter,
        hung_up: impl Future<Output = ()>,
    ) -> Result<Answer, Problem> {
        let deadline = Instant::now() + REPORT_TIMEOUT;
        let refused = |refusal| Problem::ReportRefused(refusal, self.queue.retry_after());
        let turn = self.queue.turn(hung_up).await.map_err(refused)?;
        let asking_began = Instant::now();
        let asked = timeout_at(deadline, self.store.counters(filter)).await;
        let counters = asked.unwrap_or_else(|_| Err(late(deadline - asking_began)));
        drop(turn);
        self.note(counters.as_ref().err());
        let counters = counters.map_err(|err| Problem::Report(err, self.outage.retry_after()))?;
        let rows = counters.counters.len();
        let all = match rows <= SMALL_REPORT_ROWS_MAX {
            true => &self.small_rows,
            false => &self.large_rows,
        };
        let share = Arc::clone(all)
            .try_acquire_many_owned(rows as u32)
            .map_err(|_| refused(Refusal::Rows))?;
        let mut answer = Response::new(Body::made(ReportBody::new(counters, share)));
        let json = HeaderValue::from_static("application/json");
        answer.headers_mut().insert(CONTENT_TYPE, json);
        Ok(answer)
    }

    /// Says once that reports fail, and once that they work again.
    fn note(&self, failure: Option<&CountersError>) {
        let failure = failure.filter(|failure| matches!(failure, CountersError::Store(_)));
        match (self.outage.note(failure.is_none()), failure) {
            (Some(Change::Began), Some(reason)) => tracing::warn!(%reason, "reports fail"),
            (Some(Change::Ended), _) => tracing::info!("reports work again"),
            _ => {}
        }
    }
}

fn late(time: Duration) -> CountersError {
    let seconds = time.as_secs_f64();
    let reason = format!("clickhouse did not answer within {seconds:.1} s");
    store::Error::Connection(reason).into()
}
