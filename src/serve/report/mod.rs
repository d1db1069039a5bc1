//! Answering with statistics, within limits for the rows that are on their way.

pub mod body;
pub mod fair_queue;
pub mod queue;
pub mod reader;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::header::{CONTENT_TYPE, HeaderValue};
use tokio::time::{Instant, timeout_at};

use self::body::{ROW_TEXT_BYTES, ReportBody};
use self::queue::{Refusal, ReportQueue};
use self::reader::Reader;
use super::limits::Limits;
use super::problem::Problem;
use super::retry_after::{Change, Outage};
use crate::clickhouse::{self, Cluster, Filter, ReportError, ReportRow};
use crate::http::{Body, Response};
use crate::resource_pool::Share;

/// What a row of a report takes until it is sent.
const ROW_BYTES: usize = size_of::<ReportRow>();

/// Text of a report that is made and not sent: as much as is kept for a slow reader of one answer, and a piece that is made.
const TEXT_BYTES_MAX: usize = 96 << 10;

/// For a report, its place in the queue included; the contract promises an answer within 10 seconds.
const REPORT_TIMEOUT: Duration = Duration::from_secs(9);

/// Reports of one database.
pub struct Reports {
    cluster: Cluster,
    queue: Arc<ReportQueue>,
    outage: Outage,
}

impl Reports {
    /// Reports of one database.
    pub fn new(cluster: Cluster, limits: &Limits) -> Reports {
        Reports {
            cluster,
            queue: ReportQueue::new(limits.reports_waiting_max as usize, limits.report_wait()),
            outage: Outage::none(),
        }
    }

    /// Readers who wait for their turn.
    pub fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// A report as an answer, on a connection of a reader that waits for its turn until `hung_up`. Its rows take their
    /// memory of a share.
    ///
    /// # Errors
    /// There is none, and why.
    pub async fn answer(
        &self,
        filter: &Filter,
        reader: &Reader,
        share: Share,
        hung_up: impl Future<Output = ()>,
    ) -> Result<Response, Problem> {
        let deadline = Instant::now() + REPORT_TIMEOUT;
        let refused = |refusal| Problem::ReportRefused(refusal, self.queue.retry_after());
        let turn = self.queue.turn(reader, hung_up).await.map_err(refused)?;
        let asking_began = Instant::now();
        let share = Mutex::new(share);
        let room = |rows: usize| grow(&share, rows * ROW_BYTES);
        let asked = timeout_at(deadline, self.cluster.counters(filter, &room)).await;
        let counters = asked.unwrap_or_else(|_| Err(late(deadline - asking_began)));
        drop(turn);
        self.note(counters.as_ref().err());
        let counters = counters.map_err(|err| match err {
            ReportError::NoRoom => refused(Refusal::Rows),
            err => Problem::Report(err, self.outage.retry_after()),
        })?;
        let text_bytes = (counters.counters.len() + 1) * ROW_TEXT_BYTES;
        if !grow(&share, text_bytes.min(TEXT_BYTES_MAX)) {
            return Err(refused(Refusal::Rows));
        }
        let mut body = Body::made(ReportBody::new(counters));
        body.hold(share.into_inner().unwrap_or_else(PoisonError::into_inner));
        let mut answer = Response::new(body);
        let json = HeaderValue::from_static("application/json");
        answer.headers_mut().insert(CONTENT_TYPE, json);
        Ok(answer)
    }

    /// Says once that reports fail, and once that they work again.
    fn note(&self, failure: Option<&ReportError>) {
        let failure = failure.filter(|failure| matches!(failure, ReportError::Shard(_)));
        match (self.outage.note(failure.is_none()), failure) {
            (Some(Change::Began), Some(reason)) => tracing::warn!(%reason, "reports fail"),
            (Some(Change::Ended), _) => tracing::info!("reports work again"),
            _ => {}
        }
    }
}

fn grow(share: &Mutex<Share>, bytes: usize) -> bool {
    share.lock().unwrap_or_else(PoisonError::into_inner).grow(bytes)
}

fn late(time: Duration) -> ReportError {
    let seconds = time.as_secs_f64();
    let reason = format!("clickhouse did not answer within {seconds:.1} s");
    clickhouse::Error::Connection(reason).into()
}
