//! Answering with statistics, within limits for the rows that are on their way.

use std::sync::Arc;
use std::time::Duration;

use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::pace::{Change, Outage, Pace};
use super::problem::Problem;
use super::report::ReportBody;
use crate::http::{Answer, Body};
use crate::store::{self, Counters, CountersError, Filter, ROWS_MAX, Shards};

/// Reports asked of ClickHouse at once; more are answered 503.
const REPORTS_MAX: usize = 4;

/// Rows of all large reports that are being sent together, 40 bytes each, and of all small ones; more are
/// answered 503. Small ones have their own, because readers of large ones may take their time.
const REPORT_ROWS_MAX: usize = 2 * ROWS_MAX;

/// A report of at most so many rows is small: its text fits what the system keeps for a reader.
const SMALL_REPORT_ROWS_MAX: usize = 1_000;

/// For a report; the contract promises an answer within 10 seconds.
const REPORT_TIMEOUT: Duration = Duration::from_secs(9);

/// Reports of one database.
pub struct Reports {
    store: Shards,
    asking: Semaphore,
    large_rows: Arc<Semaphore>,
    small_rows: Arc<Semaphore>,
    pace: Pace,
    outage: Outage,
}

impl Reports {
    /// Reports of one database.
    pub fn new(store: Shards) -> Reports {
        Reports {
            store,
            asking: Semaphore::new(REPORTS_MAX),
            large_rows: Arc::new(Semaphore::new(REPORT_ROWS_MAX)),
            small_rows: Arc::new(Semaphore::new(REPORT_ROWS_MAX)),
            pace: Pace::new(),
            outage: Outage::none(),
        }
    }

    /// A report as an answer.
    ///
    /// # Errors
    /// There is none, and why.
    pub async fn answer(&self, filter: &Filter) -> Result<Answer, Problem> {
        let full = || Problem::ReportsFull(self.pace.retry_after(REPORTS_MAX));
        let _permit = self.asking.try_acquire().map_err(|_| full())?;
        let asked = timeout(REPORT_TIMEOUT, self.counters(filter)).await;
        let counters = asked.unwrap_or_else(|_| Err(late()));
        self.note(counters.as_ref().err());
        let counters = counters.map_err(|err| Problem::Report(err, self.outage.retry_after()))?;
        self.pace.done();
        let rows = counters.counters.len();
        let all = match rows <= SMALL_REPORT_ROWS_MAX {
            true => &self.small_rows,
            false => &self.large_rows,
        };
        let share = Arc::clone(all)
            .try_acquire_many_owned(rows as u32)
            .map_err(|_| full())?;
        let mut answer = Response::new(Body::made(ReportBody::new(counters, share)));
        let json = HeaderValue::from_static("application/json");
        answer.headers_mut().insert(CONTENT_TYPE, json);
        Ok(answer)
    }

    async fn counters(&self, filter: &Filter) -> Result<Counters, CountersError> {
        self.store.counters(filter).await
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

fn late() -> CountersError {
    let seconds = REPORT_TIMEOUT.as_secs();
    store::Error::Connection(format!("clickhouse did not answer within {seconds} s")).into()
}
