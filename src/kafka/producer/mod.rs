//! The producer: records in, receipts out once the records are on all in-sync replicas.
//!
//! ```text
//! send(records)
//!   |  partitioner: the key decides the partition; partition_records: one group per partition
//!   v
//! ProduceJob (one per partition) <-------------------------------------------+
//!   |  routing: partition -> sender of its leader                            | retry, while the leader moves
//!   v                                                                        |
//! BrokerSender (one per broker that leads partitions) -----------------------+
//!   |  accumulator: all jobs that gathered in the queue -> one batch per partition
//!   |  one produce request in flight
//!   v
//! Kafka --- base offset of each batch ---> Receipt (partition, offset) of each record
//!
//! metadata_refresh: asks once a second who leads which partition, and when a sender failed; changes the routes
//! failing:          partitions that Kafka does not confirm, for retries and the log
//! ```
//! Batches need no timer: what gathers while a request is in flight is the next request, so they grow with the load.
//! Memory of waiting records is bounded in bytes, their wait in time.

mod accumulator;
mod failing;
mod job;
mod metadata_refresh;
mod outcome;
mod partition_records;
mod partitioner;
mod routing;
mod sender;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use self::job::ProduceJob;
use self::metadata_refresh::MetadataRefresh;
pub use self::metadata_refresh::ProducerStatus;
pub use self::outcome::ProduceOutcome;
use self::partition_records::{PartitionRecords, cost_bytes, group_by_partition};
use self::routing::{Routes, SenderHandle, Senders};
use self::sender::PRODUCE_TIMEOUT;
use super::client::Kafka;
use super::protocol::produce::ProducerRecord;
use crate::topic_partition::{Offset, Partition};

/// Until [`Producer::send`] says that Kafka did not confirm. The contract promises a response within 5 s.
const CONFIRM_TIMEOUT: Duration = Duration::from_millis(4_500);

const _: () = assert!(
    PRODUCE_TIMEOUT.as_millis() < CONFIRM_TIMEOUT.as_millis(),
    "a caller would time out before it got the reason of a failed request"
);

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    pub partition: Partition,
    pub offset: Offset,
}

/// Why there are no receipts. Records may be in Kafka all the same; sending them again is safe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendError {
    /// Too many records wait for Kafka already; nothing was sent.
    Overloaded,
    /// Kafka did not confirm, for this reason.
    Unconfirmed(Arc<str>),
}

/// Writes to all partitions of the topic.
pub struct Producer {
    senders: watch::Receiver<Senders>,
    waiting_bytes: Arc<Semaphore>,
    _metadata_refresh: AbortOnDropHandle<()>,
}

/// Where the reply to a job arrives, and the indexes of its records among those of the call.
struct PendingJob {
    partition: Partition,
    indexes: Vec<usize>,
    reply: oneshot::Receiver<Result<Offset, Arc<str>>>,
}

impl Producer {
    /// Starts in the background, whether Kafka is there or not. `report` gets about once a second whether the topic can
    /// be written to; `observe` gets the outcome of each produce request. All records that wait for Kafka cost
    /// `waiting_bytes_max` bytes at most; beyond it [`Producer::send`] fails at once.
    pub fn start(
        kafka: Kafka,
        waiting_bytes_max: u32,
        report: impl Fn(ProducerStatus) + Send + 'static,
        observe: impl Fn(&ProduceOutcome) + Send + Sync + 'static,
    ) -> Producer {
        let routes = Arc::new(Routes::new(Box::new(observe)));
        let senders = routes.subscribe();
        let refresh = MetadataRefresh::new(kafka, routes);
        Producer {
            senders,
            waiting_bytes: Arc::new(Semaphore::new(waiting_bytes_max as usize)),
            _metadata_refresh: AbortOnDropHandle::new(tokio::spawn(refresh.run(report))),
        }
    }

    /// Writes records and waits until all of them are on all in-sync replicas. The receipts are in the order of the
    /// records. If the caller stops waiting, what was sent stays sent.
    ///
    /// # Errors
    /// [`SendError`], after 4.5 seconds at most.
    pub async fn send(&self, records: Vec<ProducerRecord>, arrival: DateTime<Utc>) -> Result<Vec<Receipt>, SendError> {
        let deadline = Instant::now() + CONFIRM_TIMEOUT;
        // Before the first await, so that what waits for the routes is bounded too.
        let mut permit = self.acquire_waiting_bytes(&records)?;
        let senders = self.senders(deadline).await?;
        let count = records.len();
        let mut jobs = Vec::new();
        for group in group_by_partition(records, senders.len()) {
            // The costs of the groups add up to that of the records, so there is enough for each.
            let permit = permit.split(group.cost_bytes).ok_or(SendError::Overloaded)?;
            jobs.push(new_job(group, arrival.timestamp_millis(), deadline, permit));
        }
        let mut pending = Vec::with_capacity(jobs.len());
        for (job, waiting) in jobs {
            senders[job.partition.index()]
                .jobs
                .send(job)
                .map_err(|_| SendError::Unconfirmed("the producer has ended".into()))?;
            pending.push(waiting);
        }
        let receipts = timeout_at(deadline, receipts(pending, count)).await;
        receipts.unwrap_or_else(|_| Err(unconfirmed_in_time()))
    }

    fn acquire_waiting_bytes(&self, records: &[ProducerRecord]) -> Result<OwnedSemaphorePermit, SendError> {
        let bytes = u32::try_from(records.iter().map(cost_bytes).sum::<usize>());
        let permit = bytes
            .ok()
            .and_then(|bytes| self.waiting_bytes.clone().try_acquire_many_owned(bytes).ok());
        permit.ok_or(SendError::Overloaded)
    }

    async fn senders(&self, deadline: Instant) -> Result<Arc<[SenderHandle]>, SendError> {
        if let Ok(senders) = &*self.senders.borrow() {
            return Ok(Arc::clone(senders));
        }
        let mut senders = self.senders.clone();
        // The first look-up of the topic takes a moment after the start; that is worth waiting for.
        let known = timeout_at(deadline, senders.wait_for(Result::is_ok)).await;
        if let Ok(Ok(senders)) = known {
            return senders.clone().map_err(SendError::Unconfirmed);
        }
        let reason = self.senders.borrow().clone().err();
        Err(reason.map_or_else(unconfirmed_in_time, SendError::Unconfirmed))
    }
}

fn new_job(
    group: PartitionRecords,
    timestamp_millis: i64,
    deadline: Instant,
    permit: OwnedSemaphorePermit,
) -> (ProduceJob, PendingJob) {
    let (reply, replied) = oneshot::channel();
    let job = ProduceJob {
        partition: group.partition,
        timestamp_millis,
        records: group.records,
        cost_bytes: group.cost_bytes,
        deadline,
        retries: 0,
        reply,
        _permit: permit,
    };
    let pending = PendingJob {
        partition: group.partition,
        indexes: group.indexes,
        reply: replied,
    };
    (job, pending)
}

fn unconfirmed_in_time() -> SendError {
    SendError::Unconfirmed("kafka did not confirm in time".into())
}

/// The receipts of all records, in the order of the call.
async fn receipts(jobs: Vec<PendingJob>, count: usize) -> Result<Vec<Receipt>, SendError> {
    let mut receipts = vec![None; count];
    for job in jobs {
        // A sender drops a job without a reply only after its deadline.
        let replied = job.reply.await.map_err(|_| unconfirmed_in_time())?;
        let base_offset = replied.map_err(SendError::Unconfirmed)?;
        for (number, index) in (0..).zip(job.indexes) {
            receipts[index] = Some(Receipt {
                partition: job.partition,
                offset: base_offset + number,
            });
        }
    }
    receipts
        .into_iter()
        .collect::<Option<_>>()
        .ok_or_else(unconfirmed_in_time)
}
