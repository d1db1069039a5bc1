//! The noun Kafka: clients that give up in bounded time, partitions to read, a producer that confirms.

mod broker_version;
mod connect;
mod error_codes;
mod fetcher;
mod leaders;
mod partition;
mod producer;
pub mod protocol;
mod scram_limit;
mod timestamp_type;
mod topic_admin;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rskafka::messenger::{Messenger, RequestError};
use tokio::sync::Semaphore;
use tokio::time::timeout;

pub use self::connect::raise_quota;
use self::connect::{Connector, SecurityArgs, Wire};
pub use self::leaders::Leaders;
pub use self::partition::PartitionConsumer;
pub use self::producer::routing::Requested;
pub use self::producer::{Producer, Receipt, SendError, Status};
pub use self::protocol::produce::ProducerRecord;
pub use self::protocol::records::{Record, VALUE_BYTES_MAX};
pub use self::timestamp_type::TimestampType;
pub use self::topic_admin::{Retention, TopicSpec, TopicState, TopicWatch, min_insync_replicas};
use crate::address::parse_address;

/// Partitions that are connected to at once. A process with many would otherwise ask the same broker for
/// all of them in the same moment, and time out on its own queue.
const OPENING_MAX: usize = 4;

/// For one question about metadata or offsets.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// Bytes of one answer about the topic: metadata and configuration are a few kilobytes, with ten thousand
/// partitions a few hundred.
const TOPIC_BYTES_MAX: usize = 4 << 20;

/// Where Kafka is and which topic holds the events.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Kafka")]
pub struct Args {
    /// Kafka brokers to begin with: host:port, comma separated
    #[arg(long, env = "CAPTCHA_KAFKA_BROKERS", value_name = "HOST:PORT,...", value_delimiter = ',', default_value = "127.0.0.1:9092", value_parser = parse_address)]
    kafka_brokers: Vec<String>,

    #[command(flatten)]
    topic: TopicArgs,

    #[command(flatten)]
    security: SecurityArgs,
}

/// Which topic holds the events.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct TopicArgs {
    /// Topic of the events
    #[arg(long, env = "CAPTCHA_KAFKA_TOPIC", value_name = "NAME", default_value = "captcha")]
    kafka_topic: TopicName,
}

impl TopicArgs {
    /// Its name.
    pub fn name(&self) -> &TopicName {
        &self.kafka_topic
    }
}

/// A name that Kafka accepts for a topic: 1 to 249 letters, digits, `.`, `_` or `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicName(Arc<str>);

impl FromStr for TopicName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The rule of org.apache.kafka.common.internals.Topic.validate.
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        let fits = (1..=249).contains(&text.len()) && text != "." && text != "..";
        if fits && text.chars().all(plain) {
            Ok(TopicName(text.into()))
        } else {
            Err("expected 1 to 249 letters, digits, `.`, `_` or `-`".to_string())
        }
    }
}

impl TopicName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Kafka as configured; connects anew whenever it is asked to.
#[derive(Debug, Clone)]
pub struct Kafka {
    addresses: Arc<[String]>,
    topic: TopicName,
    connector: Arc<Connector>,
    /// The address that answered last: tried first, so that a dead one costs its second only once.
    preferred: Arc<AtomicUsize>,
    /// Whether a broker was asked how new it is; one is enough.
    is_version_known: Arc<AtomicBool>,
    opening: Arc<Semaphore>,
    leaders: Leaders,
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

    /// Number of partitions of the topic.
    ///
    /// # Errors
    /// No broker answers in time, or there is no such topic.
    pub async fn partitions(&self) -> anyhow::Result<i32> {
        self.watch_topic().partitions().await
    }

    fn no_topic(&self) -> anyhow::Error {
        let (addresses, topic) = (self.addresses(), &self.topic);
        anyhow::anyhow!("kafka at {addresses} has no topic {topic}; run `captcha migrate`")
    }

    /// A connection to ask about the topic, on the first address that answers.
    async fn messenger(&self) -> anyhow::Result<Messenger<Wire>> {
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

    fn unanswered(&self, err: RequestError) -> anyhow::Error {
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
    fn prefer_another(&self) {
        self.preferred.fetch_add(1, Ordering::Relaxed);
    }

    fn silent(&self, limit: Duration) -> anyhow::Error {
        silent(&self.addresses(), limit)
    }
}

/// What may pass by itself, without anybody changing what is set: one line for people.
#[derive(Debug)]
pub struct Transient(String);

impl Transient {
    /// With this line.
    pub fn new(reason: String) -> Transient {
        Transient(reason)
    }
}

impl fmt::Display for Transient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Transient {}

fn silent(address: &str, limit: Duration) -> anyhow::Error {
    let seconds = limit.as_secs();
    Transient(format!(
        "kafka at {address} did not answer within {seconds} s; look at its load and its log"
    ))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_follow_kafkas_rule() {
        for good in ["captcha", "a.b_c-D9", &"x".repeat(249)] {
            assert!(good.parse::<TopicName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "a'b", "ä", &"x".repeat(250)] {
            assert!(bad.parse::<TopicName>().is_err(), "{bad}");
        }
    }
}
