//! Kafka as configured: connections to any of its brokers, each in bounded time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rskafka::messenger::{Messenger, RequestError};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::args::{Args, TopicName};
use super::broker_version;
use super::connect::{CALL_TIMEOUT, Connector, Wire};
use super::leader_reachability::LeaderReachability;
use super::transient::no_response;

/// Look-ups of leaders at once. A process with many partitions would otherwise send all of them to the same broker in
/// the same moment, and time out on its own queue.
const LEADER_LOOKUPS_MAX: usize = 4;

/// Of one response about the topic: metadata and configuration have a few kilobytes, with ten thousand partitions a few
/// hundred.
pub(super) const TOPIC_RESPONSE_BYTES_MAX: usize = 4 << 20;

/// The client of one cluster and one topic. Cheap to clone; each connection is made when it is needed.
#[derive(Debug, Clone)]
pub struct Kafka {
    addresses: Arc<[String]>,
    pub(super) topic: TopicName,
    pub(super) connector: Arc<Connector>,
    /// The index of the address that answered last. It is tried first, so that a dead address costs its timeout once.
    preferred: Arc<AtomicUsize>,
    /// Asking one broker is enough.
    was_version_checked: Arc<AtomicBool>,
    pub(super) leader_lookups: Arc<Semaphore>,
    pub(super) leaders: LeaderReachability,
}

impl Kafka {
    /// Checks the arguments; does not connect.
    ///
    /// # Errors
    /// A file with a password or certificates cannot be read, or has something else in it.
    pub fn new(args: Args) -> anyhow::Result<Kafka> {
        let addresses: Arc<[String]> = args.kafka_brokers.into();
        Ok(Kafka {
            topic: args.topic.kafka_topic,
            connector: Arc::new(Connector::new(args.security, Arc::clone(&addresses))?),
            addresses,
            preferred: Arc::default(),
            was_version_checked: Arc::default(),
            leader_lookups: Arc::new(Semaphore::new(LEADER_LOOKUPS_MAX)),
            leaders: LeaderReachability::default(),
        })
    }

    /// As configured, for messages.
    pub fn addresses(&self) -> String {
        self.addresses.join(",")
    }

    pub fn topic(&self) -> &TopicName {
        &self.topic
    }

    pub fn leaders(&self) -> &LeaderReachability {
        &self.leaders
    }

    /// A connection for requests about the topic, to the first address that answers.
    pub(super) async fn messenger(&self) -> anyhow::Result<Messenger<Wire>> {
        self.first_that_answers(async |address| {
            let messenger = self.connector.messenger(address, TOPIC_RESPONSE_BYTES_MAX).await?;
            if !self.was_version_checked.swap(true, Ordering::Relaxed) {
                let check = broker_version::log_if_newer(address, &messenger);
                // Only for the log: if the broker does not answer, the next request has a better error.
                let _ = timeout(CALL_TIMEOUT, check).await;
            }
            Ok(messenger)
        })
        .await
    }

    pub(super) fn request_failed(&self, err: RequestError) -> anyhow::Error {
        self.connector.request_failed(&self.addresses(), err)
    }

    /// Tries the addresses in turn, beginning with the one that answered last.
    async fn first_that_answers<'a, T, F>(&'a self, connect: impl Fn(&'a str) -> F) -> anyhow::Result<T>
    where
        F: Future<Output = anyhow::Result<T>>,
    {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut last_error = None;
        for attempt in 0..self.addresses.len() {
            let index = (first + attempt) % self.addresses.len();
            match connect(&self.addresses[index]).await {
                Ok(connected) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(connected);
                }
                Err(err) => last_error = Some(err),
            }
        }
        Err(last_error.unwrap_or_else(|| anyhow::anyhow!("no kafka address")))
    }

    /// The address that answered last will be tried last.
    pub(super) fn prefer_next_address(&self) {
        self.preferred.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn no_response(&self, limit: Duration) -> anyhow::Error {
        no_response(&self.addresses(), limit)
    }
}
