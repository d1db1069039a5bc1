//! One partition to read: every call ends in bounded time, and a failed one asks for a new handle.

use std::fmt;
use std::time::Duration;

use anyhow::anyhow;
use rskafka::client::error::Error;
use rskafka::client::partition::{OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::record::RecordAndOffset;
use tokio::time::timeout;

use super::class::{Class, class, explain};
use super::{Broker, CALL_TIMEOUT, nodelay};

/// How long a broker may hold a fetch open while there is nothing new.
const FETCH_WAIT: Duration = Duration::from_millis(500);

/// For one fetch, its wait and its transfer.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// A record as it lies in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place in the partition.
    pub offset: i64,
    /// Its own timestamp, in milliseconds since 1970; whatever its producer wrote there.
    pub timestamp_millis: i64,
    /// Its value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
}

/// What a fetch brought.
#[derive(Debug)]
pub struct Fetched {
    /// Records in ascending order of offset, maybe none, maybe with holes.
    pub records: Vec<Record>,
    /// The offset after the last record that is on all in-sync replicas.
    pub end: i64,
}

/// Why a fetch brought nothing.
#[derive(Debug)]
pub enum FetchError {
    /// The log has no such offset: it begins later or ends earlier.
    OutOfRange,
    /// A transaction marker is among what was fetched, which the driver cannot read. If one batch was
    /// asked for, it is the marker, and takes one offset.
    Marker,
    /// Anything else; the handle is of no further use.
    Failed(anyhow::Error),
}

/// A partition of the topic.
pub struct Partition {
    client: PartitionClient,
    broker: Broker,
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.client.fmt(f)
    }
}

impl Broker {
    /// Connects to the leader of a partition.
    ///
    /// # Errors
    /// No broker answers, there is no such topic, or the partition has no leader; 8 seconds after its turn at
    /// most.
    pub async fn partition(&self, number: i32) -> anyhow::Result<Partition> {
        let turn = self.opening.acquire().await?;
        let client = self.connect().await?;
        // The driver asks for metadata in a way that may create a missing topic; so look first.
        self.partitions_known_to(&client).await?;
        // A partition without a leader takes its time now, and not from others.
        drop(turn);
        let opening =
            client.partition_client(self.topic.as_str(), number, UnknownTopicHandling::Error);
        let client = timeout(CALL_TIMEOUT, opening)
            .await
            .map_err(|_| self.silent(CALL_TIMEOUT))?
            .map_err(|err| {
                let (addresses, why) = (self.addresses(), explain(&err));
                anyhow!(
                    "kafka at {addresses} has no leader for {}:{number}: {why}",
                    self.topic
                )
            })?;
        nodelay::set_everywhere();
        Ok(Partition {
            client,
            broker: self.clone(),
        })
    }
}

impl Partition {
    /// Asks [`Partition::fetch`] for one batch.
    pub const ONE_BATCH: i32 = 2;

    /// Waits half a second at most for records from an offset on, at most about `bytes_max` bytes of
    /// them; the first batch comes whole, however large.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn fetch(&self, offset: i64, bytes_max: i32) -> Result<Fetched, FetchError> {
        let wait_ms = FETCH_WAIT.as_millis() as i32;
        let fetch = self.client.fetch_records(offset, 1..bytes_max, wait_ms);
        match timeout(FETCH_TIMEOUT, fetch).await {
            Ok(Ok((records, end))) => Ok(Fetched {
                records: records.into_iter().map(record).collect(),
                end,
            }),
            Ok(Err(err)) if class(&err) == Class::OutOfRange => Err(FetchError::OutOfRange),
            Ok(Err(err)) if is_marker(&err) => Err(FetchError::Marker),
            Ok(Err(err)) => Err(FetchError::Failed(self.failed(err))),
            Err(_) => Err(FetchError::Failed(self.broker.silent(FETCH_TIMEOUT))),
        }
    }

    /// The first offset that is still there and the one after the last.
    ///
    /// # Errors
    /// No answer within 3 seconds each.
    pub async fn range(&self) -> anyhow::Result<(i64, i64)> {
        let start = self.offset(OffsetAt::Earliest).await?;
        Ok((start, self.offset(OffsetAt::Latest).await?))
    }

    async fn offset(&self, at: OffsetAt) -> anyhow::Result<i64> {
        timeout(CALL_TIMEOUT, self.client.get_offset(at))
            .await
            .map_err(|_| self.broker.silent(CALL_TIMEOUT))?
            .map_err(|err| self.failed(err))
    }

    pub(super) fn client(&self) -> &PartitionClient {
        &self.client
    }

    pub(super) fn failed(&self, err: Error) -> anyhow::Error {
        anyhow!(
            "kafka at {} did not serve {}:{}: {}",
            self.broker.addresses(),
            self.client.topic(),
            self.client.partition(),
            explain(&err)
        )
    }
}

/// The driver reads the length of a marker's record for its version, finds none that it knows, and fails
/// the whole answer (rskafka 0.6.0, protocol/record.rs). It has no type for it, only these words.
fn is_marker(err: &Error) -> bool {
    matches!(err, Error::Request(_)) && err.to_string().contains("Unknown control batch record")
}

fn record(RecordAndOffset { record, offset }: RecordAndOffset) -> Record {
    Record {
        offset,
        timestamp_millis: record.timestamp.timestamp_millis(),
        value: record.value,
    }
}
