//! The sender to one broker, for all partitions that it leads: one request in flight, and what gathers meanwhile is the
//! next one.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::Context as _;
use rskafka::messenger::Messenger;
use rskafka::protocol::error::Error as ProtocolError;
use tokio::io::BufStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::accumulator::{Batch, drain};
use super::job::ProduceJob;
use super::outcome::ProduceOutcome;
use super::routing::{Routes, SenderHandle};
use crate::backoff::Backoff;
use crate::kafka::client::Kafka;
use crate::kafka::connect::{Wire, quota_advice, throttle_time};
use crate::kafka::error_codes::explain_code;
use crate::kafka::protocol::produce::{ProduceRequest, ProduceResponse};
use crate::kafka::transient::no_response;
use crate::topic_partition::{Offset, Partition};

/// For one request, connecting included; shorter than callers wait, so that the reason of a failure reaches them.
pub(super) const PRODUCE_TIMEOUT: Duration = Duration::from_secs(4);

/// How long the leader may wait for in-sync replicas, in milliseconds. Shorter still: then a partition whose replicas
/// hang fails alone, and the others of the same request are confirmed.
const REPLICAS_WAIT_MS: i32 = 3_500;

const _: () = assert!(
    (REPLICAS_WAIT_MS as u128) < PRODUCE_TIMEOUT.as_millis(),
    "a partition whose replicas hang would fail the other partitions of its request"
);

/// Of one response: some dozens for each partition.
const RESPONSE_BYTES_MAX: usize = 4 << 20;

/// A request of up to this size leaves in one write, with its length before it.
const WRITE_BUFFER_BYTES: usize = 64 << 10;
const READ_BUFFER_BYTES: usize = 4 << 10;

/// Records are retried while their partition has failed for less than this, since its leader may be moving. After that
/// callers get the reason at once.
const RETRY_WINDOW: Duration = Duration::from_secs(3);

/// Before a retry.
const RETRY_BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(50),
    longest: Duration::from_millis(500),
};

/// Between attempts to connect while nobody sends.
const RECONNECT_BACKOFF: Duration = Duration::from_secs(1);

/// A job with less time than this to its deadline is not retried: its caller would time out before it got the reason.
const RETRY_TIME_MIN: Duration = Duration::from_millis(500);

type Connection = Messenger<BufStream<Wire>>;

/// Why records were not written.
struct Failure {
    reason: String,
    is_retriable: bool,
}

pub(super) struct BrokerSender {
    kafka: Kafka,
    address: Arc<str>,
    /// Weak, because the routes have the handle of this sender.
    routes: Weak<Routes>,
}

impl BrokerSender {
    /// Ends when its last handle is dropped and every job in the queue has its reply.
    pub fn spawn(kafka: &Kafka, address: &str, routes: Weak<Routes>) -> SenderHandle {
        let (jobs, queue) = mpsc::unbounded_channel();
        let address: Arc<str> = address.into();
        let sender = BrokerSender {
            kafka: kafka.clone(),
            address: Arc::clone(&address),
            routes,
        };
        tokio::spawn(sender.run(queue));
        SenderHandle { address, jobs }
    }

    async fn run(self, mut queue: mpsc::UnboundedReceiver<ProduceJob>) {
        // Before the first job, so that it need not wait for a connection.
        let mut connection = self.connect().await.ok();
        let mut next = None;
        let mut throttled_until = Instant::now();
        loop {
            let first = match next.take() {
                Some(job) => Some(job),
                None => self.next_job(&mut queue, &mut connection).await,
            };
            let Some(first) = first else {
                return;
            };
            let batches = drain(first, &mut queue, &mut next);
            if batches.is_empty() {
                continue;
            }
            let began = Instant::now();
            let request = self.produce(&mut connection, &batches);
            let response = timeout(PRODUCE_TIMEOUT, request).await;
            let response = response.unwrap_or_else(|_| Err(self.timed_out(began < throttled_until)));
            if let Ok(ProduceResponse { throttle_ms, .. }) = &response {
                throttled_until = Instant::now() + throttle_time(*throttle_ms);
            }
            if let Some(routes) = self.routes.upgrade() {
                routes.observe(&ProduceOutcome::new(began.elapsed(), &batches, &response));
            }
            self.complete(batches, response);
        }
    }

    /// Why no response came in time. A broker that throttles a producer accepts a request and answers it, and then
    /// reads nothing for a while.
    fn timed_out(&self, is_throttled: bool) -> anyhow::Error {
        match is_throttled {
            true => anyhow::anyhow!(
                "kafka at {} throttles captcha and did not read for {} s; {}",
                self.address,
                PRODUCE_TIMEOUT.as_secs(),
                quota_advice("producer_byte_rate")
            ),
            false => no_response(&self.address, PRODUCE_TIMEOUT),
        }
    }

    /// Waits for a job. Meanwhile connects if there is no connection, so that it is known whether the leader can be
    /// reached before there is anything to send.
    async fn next_job(
        &self,
        queue: &mut mpsc::UnboundedReceiver<ProduceJob>,
        connection: &mut Option<Connection>,
    ) -> Option<ProduceJob> {
        while connection.is_none() {
            let connect = async {
                sleep(RECONNECT_BACKOFF).await;
                self.connect().await.ok()
            };
            tokio::select! {
                biased;
                job = queue.recv() => return job,
                connected = connect => *connection = connected,
            }
        }
        queue.recv().await
    }

    async fn connect(&self) -> anyhow::Result<Connection> {
        let buffered = |wire| BufStream::with_capacity(READ_BUFFER_BYTES, WRITE_BUFFER_BYTES, wire);
        let connector = &self.kafka.connector;
        let connected = connector
            .messenger_over(&self.address, RESPONSE_BYTES_MAX, buffered)
            .await;
        self.kafka.leaders.record(&self.address, &connected);
        connected
    }

    async fn produce(
        &self,
        connection: &mut Option<Connection>,
        batches: &BTreeMap<Partition, Batch>,
    ) -> anyhow::Result<ProduceResponse> {
        // Taken out, so that a call that is cancelled or fails leaves none behind and the next one connects again.
        let connected = match connection.take() {
            Some(connected) => connected,
            None => self.connect().await?,
        };
        let request = ProduceRequest {
            topic: self.kafka.topic().as_str(),
            batches: batches
                .iter()
                .map(|(partition, batch)| (*partition, batch.record_groups()))
                .collect(),
            timeout_ms: REPLICAS_WAIT_MS,
            size_hint: batches.values().map(|batch| batch.cost_bytes).sum(),
        };
        let response = connected.request(request).await;
        let response =
            response.with_context(|| format!("kafka at {} did not confirm; look at its log", self.address))?;
        *connection = Some(connected);
        Ok(response)
    }

    /// Replies to the jobs of each partition, or retries them.
    fn complete(&self, batches: BTreeMap<Partition, Batch>, response: anyhow::Result<ProduceResponse>) {
        let (mut results, failed) = match response {
            Ok(ProduceResponse { partitions, .. }) => (partitions.into_iter().collect(), None),
            Err(err) => (BTreeMap::new(), Some(format!("{err:#}"))),
        };
        for (partition, Batch { jobs, .. }) in batches {
            match results.remove(&partition) {
                Some(Ok(appended)) => self.confirm(partition, jobs, appended.base_offset),
                Some(Err(error)) => self.fail(partition, jobs, self.refused(partition, error)),
                None => {
                    let reason = failed
                        .clone()
                        .unwrap_or_else(|| format!("kafka at {} left a partition out of its response", self.address));
                    let is_retriable = true;
                    self.fail(partition, jobs, Failure { reason, is_retriable });
                }
            }
        }
    }

    fn refused(&self, partition: Partition, error: ProtocolError) -> Failure {
        let (address, topic) = (&self.address, self.kafka.topic());
        let why = explain_code(error, None);
        Failure {
            reason: format!("kafka at {address} did not take records of {topic}:{partition}: {why}"),
            is_retriable: matches!(
                error,
                ProtocolError::NotLeaderOrFollower | ProtocolError::LeaderNotAvailable
            ),
        }
    }

    /// Gives each job the offset of its first record. A caller that stopped waiting gets nothing.
    fn confirm(&self, partition: Partition, jobs: Vec<ProduceJob>, base_offset: Offset) {
        if let Some(routes) = self.routes.upgrade() {
            routes.failing.record_success(partition);
        }
        let mut offset = base_offset;
        for job in jobs {
            let count = job.records.len() as i64;
            let _ = job.reply.send(Ok(offset));
            offset += count;
        }
    }

    fn fail(&self, partition: Partition, jobs: Vec<ProduceJob>, failure: Failure) {
        let Some(routes) = self.routes.upgrade() else {
            return;
        };
        let now = Instant::now();
        let since = routes.failing.record_failure(partition);
        let backoff = RETRY_BACKOFF.wait(jobs.iter().map(|job| job.retries).max().unwrap_or(0));
        let may_retry = failure.is_retriable && now - since < RETRY_WINDOW;
        let (retried, failed): (Vec<_>, Vec<_>) = jobs
            .into_iter()
            .partition(|job| may_retry && now + backoff + RETRY_TIME_MIN < job.deadline);
        let reason: Arc<str> = failure.reason.into();
        if !failed.is_empty() {
            routes.failing.log_once(partition, &reason);
        }
        for job in failed {
            let _ = job.reply.send(Err(Arc::clone(&reason)));
        }
        if !retried.is_empty() {
            routes.request_refresh();
            tokio::spawn(retry(retried, reason, backoff, self.routes.clone()));
        }
    }
}

/// By the route that the partition has after the backoff.
async fn retry(jobs: Vec<ProduceJob>, reason: Arc<str>, backoff: Duration, routes: Weak<Routes>) {
    sleep(backoff).await;
    let Some(routes) = routes.upgrade() else {
        return;
    };
    for mut job in jobs {
        job.retries += 1;
        if let Err(job) = routes.dispatch(job) {
            let _ = job.reply.send(Err(Arc::clone(&reason)));
        }
    }
}
