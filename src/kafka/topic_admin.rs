//! Creates and describes the topic. The driver's client has no configuration in its requests, so they are sent through
//! its messenger (feature `unstable-fuzzing`, hence the exact version in Cargo.toml).

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use rskafka::messenger::Messenger;
use rskafka::protocol::error::Error as ProtocolError;
use rskafka::protocol::messages::{CreateTopicConfig, CreateTopicRequest, CreateTopicsRequest};
use rskafka::protocol::primitives::{Boolean, Int16, Int32, NullableString, String_};
use tokio::time::timeout;
use uuid::Uuid;

use super::client::Kafka;
use super::connect::Wire;
use super::protocol::describe_configs::DescribeConfigsRequest;
use super::protocol::timestamp_type::TimestampType;
use super::transient::{Transient, broker_error};

/// For all requests of one description or one creation.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the controller may take to create the topic.
const CREATE_TIMEOUT_MS: i32 = 20_000;

/// In the protocol: `default.replication.factor` of the broker.
const BROKERS_DEFAULT: i16 = -1;

/// How long Kafka keeps records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention(Duration);

impl FromStr for Retention {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let duration = humantime::parse_duration(text)
            .map_err(|_| "expected a duration with its unit, such as 7d or 12h (s, m, h, d, w)")?;
        match i64::try_from(duration.as_millis()) {
            Ok(millis) if millis > 0 => Ok(Retention(duration)),
            _ => Err("expected more than zero".to_string()),
        }
    }
}

impl Retention {
    /// Kafka's default.
    pub const WEEK: Retention = Retention(Duration::from_secs(7 * 86_400));

    /// For `retention.ms`.
    pub fn millis(self) -> i64 {
        self.0.as_millis() as i64
    }
}

#[derive(Debug, Clone, Copy)]
pub struct TopicSpec {
    pub partitions: i32,
    /// `None`: the broker's `default.replication.factor`.
    pub replication_factor: Option<i16>,
    /// `retention.ms`.
    pub retention: Retention,
}

/// The topic as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicState {
    /// Another one if the topic is deleted and created again.
    pub id: Uuid,
    pub partitions: i32,
    /// The least, where partitions differ.
    pub replication_factor: i16,
    /// Defaults included.
    pub config: BTreeMap<String, String>,
}

impl TopicState {
    /// Of new records; the batches that are in the log keep theirs.
    pub fn timestamp_type(&self) -> TimestampType {
        let appended = TimestampType::LogAppendTime;
        match self.config.get(TimestampType::KEY) {
            Some(value) if *value == appended.to_string() => appended,
            _ => TimestampType::CreateTime,
        }
    }

    /// `None`: it keeps records for ever.
    pub fn retention_millis(&self) -> Option<i64> {
        let millis: i64 = self.config.get("retention.ms")?.parse().ok()?;
        (millis >= 0).then_some(millis)
    }
}

/// The `min.insync.replicas` with which one broker may be away and none may lie about records: one less than the
/// replicas, at least one.
pub fn min_insync_replicas(replication_factor: i16) -> i16 {
    (replication_factor - 1).max(1)
}

impl Kafka {
    /// `None` if there is no such topic.
    ///
    /// # Errors
    /// No broker answers, or it refuses.
    pub async fn topic_state(&self) -> anyhow::Result<Option<TopicState>> {
        timeout(ADMIN_TIMEOUT, self.fetch_topic_state())
            .await
            .map_err(|_| self.no_response(ADMIN_TIMEOUT))?
    }

    /// Waits until the broker knows a topic that the controller has just created. `None` after a few seconds.
    ///
    /// # Errors
    /// As [`Kafka::topic_state`].
    pub async fn await_topic(&self) -> anyhow::Result<Option<TopicState>> {
        const ATTEMPTS_MAX: u32 = 50;
        const INTERVAL: Duration = Duration::from_millis(100);
        for _ in 0..ATTEMPTS_MAX {
            if let Some(state) = self.topic_state().await? {
                return Ok(Some(state));
            }
            tokio::time::sleep(INTERVAL).await;
        }
        Ok(None)
    }

    /// Creates the topic, unless it exists.
    ///
    /// # Errors
    /// No broker answers, or it refuses: too few brokers, missing rights.
    pub async fn create_topic(&self, spec: TopicSpec) -> anyhow::Result<()> {
        timeout(ADMIN_TIMEOUT, self.create(spec))
            .await
            .map_err(|_| self.no_response(ADMIN_TIMEOUT))?
    }

    async fn fetch_topic_state(&self) -> anyhow::Result<Option<TopicState>> {
        let messenger = self.messenger().await?;
        let Some(metadata) = self.topic_metadata(&messenger).await? else {
            return Ok(None);
        };
        let partitions = metadata.partitions;
        let replicas = partitions.iter().map(|partition| partition.replicas);
        Ok(Some(TopicState {
            id: metadata.topic_id,
            partitions: i32::try_from(partitions.len())?,
            replication_factor: i16::try_from(replicas.min().unwrap_or(0))?,
            config: self.topic_config(&messenger).await?,
        }))
    }

    async fn topic_config(&self, messenger: &Messenger<Wire>) -> anyhow::Result<BTreeMap<String, String>> {
        let response = messenger
            .request(DescribeConfigsRequest(self.topic.to_string()))
            .await
            .map_err(|err| self.request_failed(err))?;
        if let Some(err) = response.error {
            return Err(broker_error(
                err,
                format!(
                    "kafka did not describe the configuration of topic {}: {err}",
                    self.topic
                ),
            ));
        }
        Ok(response.config)
    }

    async fn create(&self, spec: TopicSpec) -> anyhow::Result<()> {
        let messenger = self.messenger().await?;
        let replicas = match spec.replication_factor {
            Some(replicas) => replicas,
            // Validated first, because min.insync.replicas follows from the broker's default.
            None => {
                let validated = self
                    .request_creation(&messenger, spec, BROKERS_DEFAULT, Vec::new(), true)
                    .await?;
                match validated {
                    Some(replicas) => replicas,
                    None => return Ok(()),
                }
            }
        };
        let config = [
            ("cleanup.policy", "delete".to_string()),
            // Retention goes by the timestamps of records, and only the broker's clock may decide it.
            (TimestampType::KEY, TimestampType::LogAppendTime.to_string()),
            ("min.insync.replicas", min_insync_replicas(replicas).to_string()),
            ("retention.ms", spec.retention.millis().to_string()),
            ("unclean.leader.election.enable", "false".to_string()),
        ];
        let config = config.map(|(name, value)| CreateTopicConfig {
            name: String_(name.to_string()),
            value: NullableString(Some(value)),
            tagged_fields: None,
        });
        self.request_creation(&messenger, spec, replicas, config.into(), false)
            .await
            .map(drop)
    }

    /// Returns the replication factor of the topic; `None` if the topic exists already.
    async fn request_creation(
        &self,
        messenger: &Messenger<Wire>,
        spec: TopicSpec,
        replication_factor: i16,
        configs: Vec<CreateTopicConfig>,
        validate_only: bool,
    ) -> anyhow::Result<Option<i16>> {
        let request = CreateTopicsRequest {
            topics: vec![CreateTopicRequest {
                name: String_(self.topic.to_string()),
                num_partitions: Int32(spec.partitions),
                replication_factor: Int16(replication_factor),
                assignments: Vec::new(),
                configs,
                tagged_fields: None,
            }],
            timeout_ms: Int32(CREATE_TIMEOUT_MS),
            validate_only: Some(Boolean(validate_only)),
            tagged_fields: None,
        };
        let response = messenger.request(request).await;
        let response = response.map_err(|err| self.request_failed(err))?;
        let topic = response
            .topics
            .into_iter()
            .next()
            .context("kafka answered without a topic; look at its log")?;
        match topic.error {
            // Since version 5 of the request, which Kafka has had since 2.4.
            None => {
                let replicas = topic.replication_factor.context("kafka is older than 2.4")?;
                Ok(Some(replicas.0))
            }
            Some(ProtocolError::TopicAlreadyExists) => Ok(None),
            Some(err) => {
                let detail = topic.error_message.and_then(|text| text.0).unwrap_or_default();
                let reason = format!(
                    "kafka refuses to create topic {}: {err:?}: {}; check the acls and the log of kafka, \
                     or create the topic by hand",
                    self.topic,
                    detail.trim_end_matches('.')
                );
                Err(match err {
                    // Brokers may still be starting.
                    ProtocolError::InvalidReplicationFactor => Transient::new(reason).into(),
                    err => broker_error(err, reason),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_broker_may_be_away() {
        assert_eq!([1, 2, 3, 5].map(min_insync_replicas), [1, 1, 2, 4]);
    }

    #[test]
    fn retention_is_read_with_its_unit() {
        assert_eq!("7d".parse::<Retention>().map(Retention::millis), Ok(604_800_000));
        assert_eq!("1h 30m".parse::<Retention>().map(Retention::millis), Ok(5_400_000));
        for bad in ["", "7", "-1d", "0s", "soon"] {
            assert!(bad.parse::<Retention>().is_err(), "{bad}");
        }
    }
}
