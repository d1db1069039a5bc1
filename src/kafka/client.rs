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
use super::leaders::Leaders;
use super::transient::silent;

/// Partitions that are connected to at once. A process with many would otherwise ask the same broker for
/// all of them in the same moment, and time out on its own queue.
const OPENING_MAX: usize = 4;

/// Bytes of one answer about the topic: metadata and configuration are a few kilobytes, with ten thousand
/// partitions a few hundred.
pub(super) const TOPIC_BYTES_MAX: usize = 4 << 20;

/// Kafka as configured; connects anew whenever it is asked to.
#[derive(Debug, Clone)]
pub struct Kafka {
    addresses: Arc<[String]>,
    pub(super) topic: TopicName,
    pub(super) connector: Arc<Connector>,
    /// The address that answered last: tried first, so that a dead one costs its second only once.
    preferred: Arc<AtomicUsize>,
    /// Whether a broker was asked how new it is; one is enough.
    is_version_known: Arc<AtomicBool>,
    pub(super) opening: Arc<Semaphore>,
    pub(super) leaders: Leaders,
}

impl Kafka {
    /// Checks what can be checked without a connection.
    ///
    /// # Errors
    /// A file of a password or of certificates cannot be read, or is not what it should be.
    pub fn new(args: Args) -> anyhow::Result<Kafka> {
        let addresses: Arc<[String]> = args.kafka_brokers.into();
        Ok(Kafka {
            topic: args.topic.kafka_topic,
            connector: Arc::new(Connector::new(args.security, Arc::clone(&addresses))?),
            addresses,
            preferred: Arc::default(),
            is_version_known: Arc::default(),
            opening: Arc::new(Semaphore::new(OPENING_MAX)),
            leaders: Leaders::default(),
        })
    }

    /// The addresses as given, for messages.
    pub fn addresses(&self) -> String {
        self.addresses.join(",")
    }

    /// The topic of the events.
    pub fn topic(&self) -> &TopicName {
        &self.topic
    }

    /// Which leaders can be reached.
    pub fn leaders(&self) -> &Leaders {
        &self.leaders
    }

    /// A connection to ask about the topic, on the first address that answers.
    pub(super) async fn messenger(&self) -> anyhow::Result<Messenger<Wire>> {
        self.first_that_answers(async |address| {
            let messenger = self.connector.messenger(address, TOPIC_BYTES_MAX).await?;
            if !self.is_version_known.swap(true, Ordering::Relaxed) {
                let question = broker_version::name_if_newer(address, &messenger);
                // Only to be known: what is asked next has an error that says more.
                let _ = timeout(CALL_TIMEOUT, question).await;
            }
            Ok(messenger)
        })
        .await
    }

    pub(super) fn unanswered(&self, err: RequestError) -> anyhow::Error {
        self.connector.unanswered(&self.addresses(), err)
    }

    /// Begins with the address that answered last.
    async fn first_that_answers<'a, T, F>(&'a self, connect: impl Fn(&'a str) -> F) -> anyhow::Result<T>
    where
        F: Future<Output = anyhow::Result<T>>,
    {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut last = None;
        for step in 0..self.addresses.len() {
            let index = (first + step) % self.addresses.len();
            match connect(&self.addresses[index]).await {
                Ok(connected) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(connected);
                }
                Err(err) => last = Some(err),
            }
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("no kafka address")))
    }

    /// The address that answered last will be the last to be asked.
    pub(super) fn prefer_another(&self) {
        self.preferred.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn silent(&self, limit: Duration) -> anyhow::Error {
        silent(&self.addresses(), limit)
    }
}
