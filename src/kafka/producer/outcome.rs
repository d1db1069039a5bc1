//! The outcome of a produce request, for metrics and the check of clocks.

use std::collections::BTreeMap;
use std::time::Duration;

use rskafka::protocol::error::Error as ProtocolError;

use super::accumulator::Batch;
use crate::kafka::protocol::produce::ProduceResponse;
use crate::kafka::protocol::timestamp_type::TimestampType;
use crate::topic_partition::Partition;

/// How a request went; it may have records of many calls.
#[derive(Debug, Clone, Copy)]
pub struct ProduceOutcome {
    /// Until the response, or until the sender gave up.
    pub elapsed: Duration,
    /// Kafka confirmed every batch.
    pub is_confirmed: bool,
    /// Records that Kafka refused for their timestamp.
    pub timestamps_refused: usize,
    /// Of the confirmed batches; `None` if there are none.
    pub timestamp_type: Option<TimestampType>,
}

impl ProduceOutcome {
    pub(super) fn new(
        elapsed: Duration,
        batches: &BTreeMap<Partition, Batch>,
        response: &anyhow::Result<ProduceResponse>,
    ) -> ProduceOutcome {
        let mut outcome = ProduceOutcome {
            elapsed,
            is_confirmed: false,
            timestamps_refused: 0,
            timestamp_type: None,
        };
        let Ok(ProduceResponse { partitions, .. }) = response else {
            return outcome;
        };
        let mut confirmed = 0;
        for (partition, result) in partitions {
            match (result, batches.get(partition)) {
                (Ok(appended), Some(_)) => {
                    confirmed += 1;
                    outcome.timestamp_type = Some(appended.timestamp_type);
                }
                (Err(ProtocolError::InvalidTimestamp), Some(batch)) => {
                    outcome.timestamps_refused += batch.record_count();
                }
                _ => {}
            }
        }
        outcome.is_confirmed = confirmed == batches.len();
        outcome
    }
}
