//! Metadata of the topic: its id, its partitions, and the broker that leads each of them.

use anyhow::{Context as _, bail};
use rskafka::messenger::Messenger;
use rskafka::protocol::error::Error as ProtocolError;
use tokio::time::timeout;
use uuid::Uuid;

use super::client::Kafka;
use super::connect::{CALL_TIMEOUT, Wire};
use super::error_codes::explain_code;
use super::protocol::metadata::{MetadataRequest, MetadataResponse};
use super::transient::broker_error;
use crate::topic_partition::Partition;

impl Kafka {
    /// The number of partitions of the topic.
    ///
    /// # Errors
    /// No broker answers in time, or there is no such topic.
    pub async fn partition_count(&self) -> anyhow::Result<i32> {
        self.metadata_client().partition_count().await
    }

    fn no_topic(&self) -> anyhow::Error {
        let (addresses, topic) = (self.addresses(), &self.topic);
        anyhow::anyhow!("kafka at {addresses} has no topic {topic}; run `captcha migrate`")
    }

    /// Keeps its connection from one request to the next.
    pub fn metadata_client(&self) -> MetadataClient {
        MetadataClient {
            kafka: self.clone(),
            messenger: None,
        }
    }

    /// `None` if there is no such topic.
    pub(super) async fn topic_metadata(&self, messenger: &Messenger<Wire>) -> anyhow::Result<Option<MetadataResponse>> {
        let metadata = messenger
            .request(MetadataRequest(self.topic.to_string()))
            .await
            .map_err(|err| self.request_failed(err))?;
        match metadata.error {
            Some(ProtocolError::UnknownTopicOrPartition) => Ok(None),
            Some(error) => Err(broker_error(
                error,
                format!(
                    "kafka did not describe topic {}: {}",
                    self.topic,
                    explain_code(error, None)
                ),
            )),
            None => {
                self.leaders.retain_leaders(&metadata);
                Ok(Some(metadata))
            }
        }
    }

    /// The id of the topic, and the address of the broker that leads a partition.
    pub(super) async fn leader(&self, partition: Partition) -> anyhow::Result<(Uuid, String)> {
        let topic = self.topic();
        let metadata = self.topic_metadata(&self.messenger().await?).await?;
        let metadata = metadata.ok_or_else(|| self.no_topic())?;
        let mut partitions = metadata.partitions.iter();
        let leader = partitions
            .find(|found| found.partition == partition)
            .with_context(|| format!("topic {topic} has no partition {partition}"))?
            .leader;
        let mut brokers = metadata.brokers.into_iter();
        match brokers.find(|(id, _)| *id == leader) {
            Some((_, address)) => Ok((metadata.topic_id, address)),
            None => bail!("{topic}:{partition} has no leader at the moment"),
        }
    }
}

/// Asks for the metadata of the topic again and again, on one connection while it lasts.
pub struct MetadataClient {
    kafka: Kafka,
    messenger: Option<Messenger<Wire>>,
}

impl MetadataClient {
    /// Connects again after a failure.
    ///
    /// # Errors
    /// No broker answers in time, or there is no such topic.
    pub async fn partition_count(&mut self) -> anyhow::Result<i32> {
        Ok(i32::try_from(self.metadata().await?.partitions.len())?)
    }

    /// As [`MetadataClient::partition_count`].
    pub(super) async fn metadata(&mut self) -> anyhow::Result<MetadataResponse> {
        let kept = self.messenger.take();
        let request = async {
            let messenger = match kept {
                Some(messenger) => messenger,
                None => self.kafka.messenger().await?,
            };
            let metadata = self.kafka.topic_metadata(&messenger).await?;
            let metadata = metadata.ok_or_else(|| self.kafka.no_topic())?;
            anyhow::Ok((messenger, metadata))
        };
        let response = timeout(CALL_TIMEOUT, request).await;
        let (messenger, metadata) = response.map_err(|_| self.kafka.no_response(CALL_TIMEOUT))??;
        self.messenger = Some(messenger);
        Ok(metadata)
    }
}
