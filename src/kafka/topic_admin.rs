//! Making and checking the topic: the three requests of Kafka's protocol that the driver's own client
//! does not offer, over its messenger (feature `unstable-fuzzing`, hence the exact version pin).

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
use super::protocol::describe_configs::DescribeTopicConfig;
use super::protocol::timestamp_type::TimestampType;
use super::transient::{Transient, said};

/// For all requests of one look or one creation.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the controller may take to make a topic.
const CREATE_TIMEOUT_MS: i32 = 20_000;

/// `-1` in the protocol: what the broker's configuration says.
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
    /// Seven days, Kafka's own default.
    pub const WEEK: Retention = Retention(Duration::from_secs(7 * 86_400));

    /// In milliseconds, as `retention.ms` has it.
    pub fn millis(self) -> i64 {
        self.0.as_millis() as i64
    }
}

/// The topic to make.
#[derive(Debug, Clone, Copy)]
pub struct TopicSpec {
    /// Number of partitions.
    pub partitions: i32,
    /// Copies of each partition; `None` leaves it to the broker's `default.replication.factor`.
    pub replication_factor: Option<i16>,
    /// `retention.ms`.
    pub retention: Retention,
}

/// The topic that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicState {
    /// Which topic of this name it is; another one when it was deleted and made again.
    pub id: Uuid,
    /// Number of partitions.
    pub partitions: i32,
    /// Copies of each partition; the fewest, where partitions differ.
    pub replication_factor: i16,
    /// Its configuration, defaults included.
    pub config: BTreeMap<String, String>,
}

impl TopicState {
    /// Who dates its records from now on; batches that it has keep the type that it had then.
    pub fn timestamp_type(&self) -> TimestampType {
        let appended = TimestampType::LogAppendTime;
        match self.config.get(TimestampType::KEY) {
            Some(value) if *value == appended.to_string() => appended,
            _ => TimestampType::CreateTime,
        }
    }

    /// How long it keeps records; `None` for ever.
    pub fn retention_millis(&self) -> Option<i64> {
        let millis: i64 = self.config.get("retention.ms")?.parse().ok()?;
        (millis >= 0).then_some(millis)
    }
}

/// What `min.insync.replicas` must be, so that one broker may be away and none may lie: one less than
/// the copies, at least one.
pub fn min_insync_replicas(replication_factor: i16) -> i16 {
    (replication_factor - 1).max(1)
}

impl Kafka {
    /// The topic as it is; `None` if there is none.
    ///
    /// # Errors
    /// No broker answers, or it refuses to tell.
    pub async fn topic_state(&self) -> anyhow::Result<Option<TopicState>> {
        timeout(ADMIN_TIMEOUT, self.state())
            .await
            .map_err(|_| self.silent(ADMIN_TIMEOUT))?
    }

    /// The topic, once the broker that is asked knows of it: the controller makes it, and the news takes
    /// a moment. `None` if that takes more than a few seconds.
    ///
    /// # Errors
    /// As [`Kafka::topic_state`].
    pub async fn topic_state_once_known(&self) -> anyhow::Result<Option<TopicState>> {
        const LOOKS: u32 = 50;
        const BETWEEN: Duration = Duration::from_millis(100);
        for _ in 0..LOOKS {
            if let Some(state) = self.topic_state().await? {
                return Ok(Some(state));
            }
            tokio::time::sleep(BETWEEN).await;
        }
        Ok(None)
    }

    /// Makes the topic. One that somebody else made meanwhile is left as it is.
    ///
    /// # Errors
    /// No broker answers, or it refuses: too few brokers, no right to.
    pub async fn create_topic(&self, spec: TopicSpec) -> anyhow::Result<()> {
        timeout(ADMIN_TIMEOUT, self.create(spec))
            .await
            .map_err(|_| self.silent(ADMIN_TIMEOUT))?
    }

    async fn state(&self) -> anyhow::Result<Option<TopicState>> {
        let messenger = self.messenger().await?;
        let Some(described) = self.describe(&messenger).await? else {
            return Ok(None);
        };
        let partitions = described.partitions;
        let copies = partitions.iter().map(|partition| partition.copies);
        Ok(Some(TopicState {
            id: described.topic_id,
            partitions: i32::try_from(partitions.len())?,
            replication_factor: i16::try_from(copies.min().unwrap_or(0))?,
            config: self.describe_config(&messenger).await?,
        }))
    }

    async fn describe_config(&self, messenger: &Messenger<Wire>) -> anyhow::Result<BTreeMap<String, String>> {
        let answer = messenger
            .request(DescribeTopicConfig(self.topic.to_string()))
            .await
            .map_err(|err| self.unanswered(err))?;
        if let Some(err) = answer.error {
            return Err(said(
                err,
                format!("kafka does not tell the configuration of topic {}: {err}", self.topic),
            ));
        }
        Ok(answer.config)
    }

    async fn create(&self, spec: TopicSpec) -> anyhow::Result<()> {
        let messenger = self.messenger().await?;
        let copies = match spec.replication_factor {
            Some(copies) => copies,
            // Asked for beforehand, because min.insync.replicas follows from it.
            None => {
                let asked = self
                    .request_creation(&messenger, spec, BROKERS_DEFAULT, Vec::new(), true)
                    .await?;
                match asked {
                    Some(copies) => copies,
                    None => return Ok(()),
                }
            }
        };
        let config = [
            ("cleanup.policy", "delete".to_string()),
            // Retention goes by the dates of records, and no clock but the broker's may decide it.
            (TimestampType::KEY, TimestampType::LogAppendTime.to_string()),
            ("min.insync.replicas", min_insync_replicas(copies).to_string()),
            ("retention.ms", spec.retention.millis().to_string()),
            ("unclean.leader.election.enable", "false".to_string()),
        ];
        let config = config.map(|(name, value)| CreateTopicConfig {
            name: String_(name.to_string()),
            value: NullableString(Some(value)),
            tagged_fields: None,
        });
        self.request_creation(&messenger, spec, copies, config.into(), false)
            .await
            .map(drop)
    }

    /// Asks for the topic; the answer is its replication factor, `None` if the topic is there already.
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
        let answer = messenger.request(request).await;
        let answer = answer.map_err(|err| self.unanswered(err))?;
        let topic = answer.topics.into_iter().next().context("kafka told of no topic")?;
        match topic.error {
            // Told since version 5 of the request, which Kafka has had since 2.4.
            None => {
                let copies = topic.replication_factor.context("kafka is older than 2.4")?;
                Ok(Some(copies.0))
            }
            Some(ProtocolError::TopicAlreadyExists) => Ok(None),
            Some(err) => {
                let detail = topic.error_message.and_then(|text| text.0).unwrap_or_default();
                let reason = format!(
                    "kafka refuses to make topic {}: {err:?}: {}; look at kafka's rights and log, or make the topic by hand",
                    self.topic,
                    detail.trim_end_matches('.')
                );
                // Brokers may still be starting, and a topic that captcha may not make is made by somebody else.
                let comes = [
                    ProtocolError::InvalidReplicationFactor,
                    ProtocolError::TopicAuthorizationFailed,
                    ProtocolError::ClusterAuthorizationFailed,
                ];
                Err(match comes.contains(&err) {
                    true => Transient::new(reason).into(),
                    false => said(err, reason),
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
