//! Making, deleting and counting topics.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use crate::Failure;

const TIMEOUT: Duration = Duration::from_secs(20);

fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    config
}

fn admin(brokers: &str) -> Result<AdminClient<DefaultClientContext>, Failure> {
    Ok(config(brokers).create()?)
}

/// Makes a topic.
pub async fn create(brokers: &str, topic: &str, partitions: i32) -> Result<(), Failure> {
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
    let made = admin(brokers)?.create_topics([&new], &options).await?;
    for outcome in made {
        outcome.map_err(|(topic, code)| format!("cannot make topic {topic}: {code}"))?;
    }
    Ok(())
}

/// Deletes a topic.
pub async fn delete(brokers: &str, topic: &str) -> Result<(), Failure> {
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
    let deleted = admin(brokers)?.delete_topics(&[topic], &options).await?;
    for outcome in deleted {
        outcome.map_err(|(topic, code)| format!("cannot delete topic {topic}: {code}"))?;
    }
    Ok(())
}

/// Records in all partitions of a topic from which nothing was removed.
pub fn count(brokers: &str, topic: &str) -> Result<i64, Failure> {
    let consumer: BaseConsumer = config(brokers).create()?;
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT)?;
    let topic = metadata.topics().first().ok_or("kafka told of no topic")?;
    let mut records = 0;
    for partition in topic.partitions() {
        let (first, end) = consumer.fetch_watermarks(topic.name(), partition.id(), TIMEOUT)?;
        records += end - first;
    }
    Ok(records)
}
