//! A job of the producer: the records of one call for one partition, and where the reply goes.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use crate::kafka::protocol::produce::ProducerRecord;
use crate::topic_partition::{Offset, Partition};

pub(super) struct ProduceJob {
    pub partition: Partition,
    /// Of all its records, in milliseconds since 1970: when they arrived.
    pub timestamp_millis: i64,
    pub records: Vec<ProducerRecord>,
    /// See `cost_bytes` of partition_records.rs.
    pub cost_bytes: usize,
    pub deadline: Instant,
    pub retries: u32,
    /// For the offset of the first record, or the reason why there is none.
    pub reply: oneshot::Sender<Result<Offset, Arc<str>>>,
    /// The job's share of what may wait; free again when the job is answered or dropped.
    pub _permit: OwnedSemaphorePermit,
}
