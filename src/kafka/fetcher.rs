//! One partition to read: every call ends in bounded time, and a failed one asks for a new handle.

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

use super::client::{Kafka, TOPIC_BYTES_MAX};
use super::connect::{CALL_TIMEOUT, Wire, millis};
use super::error_codes::{Action, action, explain_code};
use super::protocol::fetch::{Fetch, NO_REPLICA};
use super::protocol::records::{Limits, Record};

/// How long a broker may hold a fetch open while there is nothing new.
const FETCH_WAIT_MS: i32 = 500;

/// For one fetch, its wait and its transfer.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of one answer. The first batch of a fetch comes whole, and a topic may allow large ones; Kafka's own limit
/// for what it receives at once is 100 MiB (`socket.request.max.bytes`).
const ANSWER_BYTES_MAX: usize = 128 << 20;

/// In the protocol, for the offset after the last record and for the first one.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// What a fetch brought.
#[derive(Debug)]
pub struct Fetched {
    /// Records in ascending order of offset, maybe none, maybe with holes.
    pub records: Vec<Record>,
    /// The offset after everything that was looked at, which may be more than the records.
    pub next: i64,
    /// The offset after the last record that is on all in-sync replicas; a broker that throttles does not say.
    pub end: Option<i64>,
    /// How long the broker does not listen, and hands out nothing, because a quota is used up; 0 if none is.
    pub throttled: Duration,
}

/// Why a fetch brought nothing.
#[derive(Debug)]
pub enum FetchError {
    /// The log has no such offset: it begins later or ends earlier.
    OutOfRange,
    /// Anything else; the handle is of no further use.
    Failed(anyhow::Error),
}

/// A connection to the leader of a partition, to read from it.
pub struct Reader {
    broker: Kafka,
    topic_id: Uuid,
    leader: Messenger<Wire>,
    /// Of the leader.
    address: String,
    number: i32,
}

impl Kafka {
    /// Connects to the leader of a partition.
    ///
    /// # Errors
    /// No broker answers, there is no such topic, or the partition has no leader; 8 seconds after its turn at
    /// most.
    pub async fn reader(&self, number: i32) -> anyhow::Result<Reader> {
        let turn = self.opening.acquire().await?;
        let found = timeout(CALL_TIMEOUT, self.leader(number)).await;
        let (topic_id, address) = found.map_err(|_| self.silent(CALL_TIMEOUT))??;
        // A leader that hangs takes its time now, and not from others.
        drop(turn);
        let leader = self.connector.messenger(&address, ANSWER_BYTES_MAX).await;
        self.leaders.tried(&address, &leader);
        let leader = leader.with_context(|| format!("cannot reach the leader of {}:{number}", self.topic()))?;
        Ok(Reader {
            broker: self.clone(),
            topic_id,
            leader,
            address,
            number,
        })
    }
}

impl Reader {
    /// Asks [`Reader::fetch`] for one batch.
    pub const ONE_BATCH: i32 = 1;

    /// Which topic of its name is read.
    pub fn topic_id(&self) -> Uuid {
        self.topic_id
    }

    /// Waits half a second at most for records from an offset on, at most about `bytes_max` bytes of
    /// them; the first batch comes whole, however large.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn fetch(&self, offset: i64, bytes_max: i32) -> Result<Fetched, FetchError> {
        let fetch = self.leader.request(Fetch {
            topic_id: self.topic_id,
            partition: self.number,
            offset,
            bytes_max,
            wait_ms: FETCH_WAIT_MS,
        });
        let answer = match timeout(FETCH_TIMEOUT, fetch).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(err)) => return Err(FetchError::Failed(self.failed(err.into()))),
            Err(_) => return Err(FetchError::Failed(self.broker.silent(FETCH_TIMEOUT))),
        };
        match answer.error.map(|error| (error, action(error))) {
            None => {}
            Some((_, Action::OutOfRange)) => return Err(FetchError::OutOfRange),
            Some((error, Action::Hold)) => return Err(FetchError::Failed(self.refused(error))),
        }
        let end = answer.high_watermark;
        let throttled = millis(answer.throttle_ms);
        // Away from the threads that answer: a batch may take seconds to inflate.
        let reading = spawn_blocking(move || answer.records(offset, Limits::DEFAULT)).await;
        match reading.map_err(anyhow::Error::from).flatten() {
            Ok((records, next)) => Ok(Fetched {
                records,
                next,
                end,
                throttled,
            }),
            Err(err) => Err(FetchError::Failed(
                self.failed(err.context(format!("what lies at {offset} cannot be read"))),
            )),
        }
    }

    /// The first offset that is still there.
    ///
    /// # Errors
    /// No answer within 3 seconds.
    pub async fn start(&self) -> anyhow::Result<i64> {
        self.offset(&self.leader, EARLIEST).await
    }

    /// The offset after the last record that was confirmed before this was called, even if an open transaction
    /// keeps readers from it. A leader that is new in office refuses to answer until it knows what its predecessor
    /// confirmed (KIP-207).
    ///
    /// # Errors
    /// No answer within 3 seconds.
    pub async fn end(&self) -> anyhow::Result<i64> {
        self.offset(&self.leader, LATEST).await
    }

    /// The same on a connection of its own: on one that is throttled the leader does not listen.
    ///
    /// # Errors
    /// The leader cannot be reached, or does not answer within 3 seconds.
    pub async fn end_meanwhile(&self) -> anyhow::Result<i64> {
        let connector = &self.broker.connector;
        let leader = connector.messenger(&self.address, TOPIC_BYTES_MAX).await?;
        self.offset(&leader, LATEST).await
    }

    async fn offset(&self, leader: &Messenger<Wire>, at: i64) -> anyhow::Result<i64> {
        let request = ListOffsetsRequest {
            replica_id: Int32(NO_REPLICA),
            isolation_level: Some(IsolationLevel::ReadUncommitted),
            topics: vec![ListOffsetsRequestTopic {
                name: String_(self.broker.topic().to_string()),
                partitions: vec![ListOffsetsRequestPartition {
                    partition_index: Int32(self.number),
                    timestamp: Int64(at),
                    max_num_offsets: Some(Int32(1)),
                }],
            }],
        };
        let answer = timeout(CALL_TIMEOUT, leader.request(request))
            .await
            .map_err(|_| self.broker.silent(CALL_TIMEOUT))?
            .map_err(|err| self.failed(err.into()))?;
        let mut partitions = answer.topics.into_iter().flat_map(|topic| topic.partitions);
        let partition = partitions.next().context("kafka told no offset")?;
        match (partition.error_code, partition.offset) {
            (Some(error), _) => Err(self.refused(error)),
            (None, Some(offset)) => Ok(offset.0),
            (None, None) => bail!("kafka is older than 0.10.1"),
        }
    }

    fn refused(&self, error: ProtocolError) -> anyhow::Error {
        self.failed(anyhow!(explain_code(error, None)))
    }

    fn failed(&self, err: anyhow::Error) -> anyhow::Error {
        let (addresses, topic) = (self.broker.addresses(), self.broker.topic());
        err.context(format!("kafka at {addresses} did not serve {topic}:{}", self.number))
    }
}
