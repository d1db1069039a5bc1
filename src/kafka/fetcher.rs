//! Fetches from the leader of one partition. Every call ends in bounded time; after an error a new fetcher is needed.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use rskafka::messenger::Messenger;
use rskafka::protocol::error::Error as ProtocolError;
use rskafka::protocol::messages::{
    IsolationLevel, ListOffsetsRequest, ListOffsetsRequestPartition, ListOffsetsRequestTopic,
};
use rskafka::protocol::primitives::{Int32, Int64, String_};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use uuid::Uuid;

use super::client::{Kafka, TOPIC_RESPONSE_BYTES_MAX};
use super::connect::{CALL_TIMEOUT, Wire, throttle_time};
use super::error_codes::{Action, action, explain_code};
use super::protocol::fetch::{CONSUMER_REPLICA_ID, FetchRequest};
use super::protocol::record_reader::{ReadLimits, Record};
use crate::topic_partition::{Offset, Partition};

/// How long a broker may wait with its response while there are no new records.
const FETCH_MAX_WAIT_MS: i32 = 500;

/// For one fetch: the wait and the transfer.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

const _: () = assert!(
    (FETCH_MAX_WAIT_MS as u128) < FETCH_TIMEOUT.as_millis(),
    "a fetch without new records would time out"
);

/// Of one response. The first batch of a fetch comes whole, and a topic may allow large ones; Kafka receives 100 MiB at
/// once by default (`socket.request.max.bytes`).
const RESPONSE_BYTES_MAX: usize = 128 << 20;

/// Timestamps of ListOffsets with a meaning of their own.
const LATEST_TIMESTAMP: i64 = -1;
const EARLIEST_TIMESTAMP: i64 = -2;

#[derive(Debug)]
pub struct Fetched {
    /// In ascending order of offset, maybe none, maybe with holes.
    pub records: Vec<Record>,
    /// To fetch from next: after the records, and after what a consumer does not see.
    pub next_offset: Offset,
    /// After the last record that is on all in-sync replicas; a broker that throttles does not say.
    pub end_offset: Option<Offset>,
    /// How long the broker does not read requests, because a quota is used up; else 0.
    pub throttled: Duration,
}

#[derive(Debug)]
pub enum FetchError {
    /// The log begins after the offset, or ends before it.
    OutOfRange,
    /// The fetcher cannot be used any more.
    Failed(anyhow::Error),
}

pub struct Fetcher {
    kafka: Kafka,
    topic_id: Uuid,
    leader: Messenger<Wire>,
    /// Of the leader.
    address: String,
    partition: Partition,
}

impl Kafka {
    /// Connects to the leader of a partition.
    ///
    /// # Errors
    /// No broker answers, there is no such topic, or the partition has no leader; after 8 seconds at most, and the wait
    /// for other look-ups.
    pub async fn fetcher(&self, partition: Partition) -> anyhow::Result<Fetcher> {
        let permit = self.leader_lookups.acquire().await?;
        let found = timeout(CALL_TIMEOUT, self.leader(partition)).await;
        let (topic_id, address) = found.map_err(|_| self.no_response(CALL_TIMEOUT))??;
        // A leader that hangs must not delay the look-ups of others.
        drop(permit);
        let leader = self.connector.messenger(&address, RESPONSE_BYTES_MAX).await;
        self.leaders.record(&address, &leader);
        let leader = leader.with_context(|| format!("cannot reach the leader of {}:{partition}", self.topic()))?;
        Ok(Fetcher {
            kafka: self.clone(),
            topic_id,
            leader,
            address,
            partition,
        })
    }
}

impl Fetcher {
    /// As `max_bytes` of [`Fetcher::fetch`]: one batch.
    pub const ONE_BATCH: i32 = 1;

    pub fn topic_id(&self) -> Uuid {
        self.topic_id
    }

    /// Waits half a second at most for records from an offset on, and returns about `max_bytes` of them at most. The
    /// first batch comes whole, however large.
    pub async fn fetch(&self, offset: Offset, max_bytes: i32) -> Result<Fetched, FetchError> {
        let fetch = self.leader.request(FetchRequest {
            topic_id: self.topic_id,
            partition: self.partition,
            offset,
            max_bytes,
            max_wait_ms: FETCH_MAX_WAIT_MS,
        });
        let response = match timeout(FETCH_TIMEOUT, fetch).await {
            Ok(Ok(response)) => response,
            Ok(Err(err)) => return Err(FetchError::Failed(self.failed(err.into()))),
            Err(_) => return Err(FetchError::Failed(self.kafka.no_response(FETCH_TIMEOUT))),
        };
        match response.error.map(|error| (error, action(error))) {
            None => {}
            Some((_, Action::OutOfRange)) => return Err(FetchError::OutOfRange),
            Some((error, Action::Hold)) => return Err(FetchError::Failed(self.refused(error))),
        }
        let end_offset = response.high_watermark;
        let throttled = throttle_time(response.throttle_ms);
        // On a thread of its own: a batch may take seconds to decompress.
        let read = spawn_blocking(move || response.records(offset, ReadLimits::DEFAULT)).await;
        match read.map_err(anyhow::Error::from).flatten() {
            Ok((records, next_offset)) => Ok(Fetched {
                records,
                next_offset,
                end_offset,
                throttled,
            }),
            Err(err) => Err(FetchError::Failed(
                self.failed(err.context(format!("what lies at {offset} cannot be read"))),
            )),
        }
    }

    /// The first offset that retention has left.
    ///
    /// # Errors
    /// No answer within 3 seconds.
    pub async fn earliest_offset(&self) -> anyhow::Result<Offset> {
        self.list_offset(&self.leader, EARLIEST_TIMESTAMP).await
    }

    /// The offset after the last record that was confirmed before the call, even if an open transaction hides it from
    /// consumers. A new leader refuses to answer until it knows what its predecessor confirmed (KIP-207).
    ///
    /// # Errors
    /// No answer within 3 seconds.
    pub async fn latest_offset(&self) -> anyhow::Result<Offset> {
        self.list_offset(&self.leader, LATEST_TIMESTAMP).await
    }

    /// [`Fetcher::latest_offset`] on a new connection: the leader does not read from one that it throttles.
    ///
    /// # Errors
    /// The leader cannot be reached, or does not answer within 3 seconds.
    pub async fn latest_offset_if_throttled(&self) -> anyhow::Result<Offset> {
        let connector = &self.kafka.connector;
        let leader = connector.messenger(&self.address, TOPIC_RESPONSE_BYTES_MAX).await?;
        self.list_offset(&leader, LATEST_TIMESTAMP).await
    }

    async fn list_offset(&self, leader: &Messenger<Wire>, timestamp: i64) -> anyhow::Result<Offset> {
        let request = ListOffsetsRequest {
            replica_id: Int32(CONSUMER_REPLICA_ID),
            isolation_level: Some(IsolationLevel::ReadUncommitted),
            topics: vec![ListOffsetsRequestTopic {
                name: String_(self.kafka.topic().to_string()),
                partitions: vec![ListOffsetsRequestPartition {
                    partition_index: Int32(self.partition.get()),
                    timestamp: Int64(timestamp),
                    max_num_offsets: Some(Int32(1)),
                }],
            }],
        };
        let response = timeout(CALL_TIMEOUT, leader.request(request))
            .await
            .map_err(|_| self.kafka.no_response(CALL_TIMEOUT))?
            .map_err(|err| self.failed(err.into()))?;
        let mut partitions = response.topics.into_iter().flat_map(|topic| topic.partitions);
        let partition = partitions
            .next()
            .context("kafka answered without an offset; look at its log")?;
        match (partition.error_code, partition.offset) {
            (Some(error), _) => Err(self.refused(error)),
            (None, Some(offset)) => Ok(Offset::new(offset.0)),
            (None, None) => bail!("kafka is older than 0.10.1"),
        }
    }

    fn refused(&self, error: ProtocolError) -> anyhow::Error {
        self.failed(anyhow!(explain_code(error, None)))
    }

    fn failed(&self, err: anyhow::Error) -> anyhow::Error {
        let (addresses, topic) = (self.kafka.addresses(), self.kafka.topic());
        err.context(format!("kafka at {addresses} did not serve {topic}:{}", self.partition))
    }
}
