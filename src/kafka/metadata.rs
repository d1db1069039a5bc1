//! What brokers know of the topic: its id, its partitions, and who leads them.

use anyhow::{Context as _, bail};
use rskafka::messenger::Messenger;
use rskafka::protocol::error::Error as ProtocolError;
use tokio::time::timeout;
use uuid::Uuid;

use super::client::Kafka;
use super::connect::{CALL_TIMEOUT, Wire};
use super::error_codes::explain_code;
use super::protocol::metadata::{DescribeTopic, Described};
use super::transient::said;

impl Kafka {
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

    /// Keeps a connection on which the topic can be asked about again and again.
    pub fn watch_topic(&self) -> TopicWatch {
        TopicWatch {
            broker: self.clone(),
            messenger: None,
        }
    }

    /// The topic's id, its partitions and who leads them; `None` if there is no such topic.
    pub(super) async fn describe(&self, messenger: &Messenger<Wire>) -> anyhow::Result<Option<Described>> {
        let described = messenger
            .request(DescribeTopic(self.topic.to_string()))
            .await
            .map_err(|err| self.unanswered(err))?;
        match described.error {
            Some(ProtocolError::UnknownTopicOrPartition) => Ok(None),
            Some(error) => Err(said(
                error,
                format!(
                    "kafka does not tell about topic {}: {}",
                    self.topic,
                    explain_code(error, None)
                ),
            )),
            None => {
                self.leaders.keep(&described);
                Ok(Some(described))
            }
        }
    }

    /// The topic's id, and the address of the broker that leads a partition.
    pub(super) async fn leader(&self, number: i32) -> anyhow::Result<(Uuid, String)> {
        let topic = self.topic();
        let described = self.describe(&self.messenger().await?).await?;
        let described = described.ok_or_else(|| self.no_topic())?;
        let mut partitions = described.partitions.iter();
        let leader = partitions
            .find(|partition| partition.number == number)
            .with_context(|| format!("topic {topic} has no partition {number}"))?
            .leader;
        let mut brokers = described.brokers.into_iter();
        match brokers.find(|(broker, _)| *broker == leader) {
            Some((_, address)) => Ok((described.topic_id, address)),
            None => bail!("{topic}:{number} has no leader at the moment"),
        }
    }
}

/// A connection to ask about the topic.
pub struct TopicWatch {
    broker: Kafka,
    messenger: Option<Messenger<Wire>>,
}

impl TopicWatch {
    /// How many partitions the topic has now. Connects anew after a failure.
    ///
    /// # Errors
    /// No broker answers in time, or there is no such topic.
    pub async fn partitions(&mut self) -> anyhow::Result<i32> {
        Ok(i32::try_from(self.described().await?.partitions.len())?)
    }

    /// All that a broker knows of the topic, in the same way.
    pub(super) async fn described(&mut self) -> anyhow::Result<Described> {
        let kept = self.messenger.take();
        let ask = async {
            let messenger = match kept {
                Some(messenger) => messenger,
                None => self.broker.messenger().await?,
            };
            let described = self.broker.describe(&messenger).await?;
            let described = described.ok_or_else(|| self.broker.no_topic())?;
            anyhow::Ok((messenger, described))
        };
        let answer = timeout(CALL_TIMEOUT, ask).await;
        let (messenger, described) = answer.map_err(|_| self.broker.silent(CALL_TIMEOUT))??;
        self.messenger = Some(messenger);
        Ok(described)
    }
}
