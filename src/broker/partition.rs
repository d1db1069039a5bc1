//! One partition to write to: a handle that is opened in bounded time; after a failed call open a new one.

use std::fmt;

use anyhow::anyhow;
use rskafka::client::error::Error;
use rskafka::client::partition::{PartitionClient, UnknownTopicHandling};
use tokio::time::timeout;

use super::class::explain;
use super::{Broker, CALL_TIMEOUT, nodelay};

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
