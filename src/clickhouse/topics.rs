//! The table `topics`: the facts of a topic that `captcha migrate` recorded.

use uuid::Uuid;

use super::insert_if_absent::InsertIfAbsent;
use super::{Connection, Error, ShardId, quote};
use crate::topic_partition::LogName;

/// The newest facts of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRecord {
    /// 1 for the first record of the topic, and one more for each later one.
    pub revision: u32,
    /// The name of its log in the tables: its own, until the topic is deleted and made again.
    pub log: LogName,
    /// Kafka's id of it; nil if it is not known.
    pub topic_id: Uuid,
    /// The number of partitions; 0 if the topic is retired, and no longer consumed.
    pub partitions: i32,
    /// N: an event sent again within the next N records of its partition is counted once.
    pub repeat_window_records: i64,
    /// The shard that the server is.
    pub shard: ShardId,
}

impl TopicRecord {
    /// Whether it is no longer consumed.
    pub fn is_retired(&self) -> bool {
        self.partitions == 0
    }

    /// Whether the recorded topic has this id; also if its id is not known.
    pub fn matches_id(&self, topic_id: Uuid) -> bool {
        self.topic_id.is_nil() || self.topic_id == topic_id
    }
}

/// A row of the table `topics`.
#[derive(klickhouse::Row)]
struct TopicRow {
    revision: u32,
    log: String,
    topic_id: Uuid,
    partitions: i32,
    repeat_window_records: i64,
    shard: i32,
    shards: i32,
}

impl TopicRow {
    fn into_record(self) -> TopicRecord {
        TopicRecord {
            revision: self.revision,
            log: LogName::new(&self.log),
            topic_id: self.topic_id,
            partitions: self.partitions,
            repeat_window_records: self.repeat_window_records,
            shard: ShardId {
                index: self.shard,
                of: self.shards,
            },
        }
    }
}

/// The shard of a row of the table `topics`.
#[derive(klickhouse::Row)]
struct ShardRow {
    shard: i32,
    shards: i32,
}

impl ShardRow {
    fn into_id(self) -> ShardId {
        ShardId {
            index: self.shard,
            of: self.shards,
        }
    }
}

impl Connection {
    /// Reads the newest facts of a topic; `None` before `captcha migrate` recorded it.
    ///
    /// # Errors
    /// No answer, or the tables are not there.
    pub async fn topic_record(&self, topic: &str) -> Result<Option<TopicRecord>, Error> {
        let sql = format!(
            "SELECT revision, log, topic_id, partitions, repeat_window_records, shard, shards \
             FROM topics WHERE topic = {} \
             ORDER BY revision DESC LIMIT 1",
            quote(topic)
        );
        Ok(self.query_opt(&sql).await?.map(TopicRow::into_record))
    }

    /// The shard as which `migrate` recorded this server: one, or none before it recorded a topic.
    ///
    /// # Errors
    /// No answer, or the tables are not there.
    pub(crate) async fn recorded_shards(&self) -> Result<Vec<ShardId>, Error> {
        let sql = "SELECT shard, shards FROM topics GROUP BY shard, shards";
        let shards = self.query_rows::<ShardRow>(sql).await?;
        Ok(shards.into_iter().map(ShardRow::into_id).collect())
    }

    /// The logs of a topic before it was deleted and made again.
    ///
    /// # Errors
    /// No answer.
    pub async fn former_logs(&self, topic: &str, newest: &LogName) -> Result<Vec<LogName>, Error> {
        let sql = format!(
            "SELECT log FROM topics WHERE topic = {} AND log != {} GROUP BY log ORDER BY min(revision)",
            quote(topic),
            quote(newest.as_str())
        );
        let logs = self.query_values::<String>(&sql).await?;
        Ok(logs.iter().map(|log| LogName::new(log)).collect())
    }

    /// Records a new revision of a topic. Of many at once, one wins; read it back to see which one.
    ///
    /// # Errors
    /// No answer.
    pub async fn record_topic(&self, topic: &str, record: &TopicRecord) -> Result<(), Error> {
        let TopicRecord {
            revision,
            log,
            topic_id,
            partitions,
            repeat_window_records,
            shard: ShardId { index, of },
        } = record;
        let (name, log) = (quote(topic), quote(log.as_str()));
        self.insert_if_absent(&InsertIfAbsent {
            table: "topics (topic, log, topic_id, revision, partitions, repeat_window_records, shard, shards)",
            values: format!(
                "{name}, {log}, '{topic_id}', {revision}, {partitions}, {repeat_window_records}, {index}, {of}"
            ),
            exists: format!("FROM topics WHERE topic = {name} AND revision = {revision}"),
            token: format!("topic:{topic}:{revision}"),
        })
        .await
    }
}
