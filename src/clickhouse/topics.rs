//! What `captcha migrate` recorded of a topic.

use klickhouse::Value;
use uuid::Uuid;

use super::connection::text;
use super::insert_if_absent::InsertIfAbsent;
use super::{Connection, Error, ShardId, quote, unexpected};
use crate::topic_partition::LogName;

/// What `captcha migrate` recorded of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRecord {
    /// How often it was recorded.
    pub revision: u32,
    /// The name under which its records stand in the tables: its own, until it is made anew.
    pub log: LogName,
    /// Kafka's id of it; nil if it is not known.
    pub topic_id: Uuid,
    /// Number of partitions; 0 says that nobody consumes it any more.
    pub partitions: i32,
    /// N: an event sent again within the next N records of its partition is counted once.
    pub repeat_window_records: i64,
    /// Which shard of how many the server is.
    pub shard: ShardId,
}

impl TopicRecord {
    /// Whether the topic with this id is the one that was recorded, as far as that is known.
    pub fn matches_id(&self, topic_id: Uuid) -> bool {
        self.topic_id.is_nil() || self.topic_id == topic_id
    }
}

impl Connection {
    /// What is recorded of a topic; `None` before `captcha migrate` saw it.
    ///
    /// # Errors
    /// No answer, or the tables are not there.
    pub async fn topic_record(&self, topic: &str) -> Result<Option<TopicRecord>, Error> {
        let sql = format!(
            "SELECT revision, log, topic_id, partitions, repeat_window_records, shard, shards FROM topics WHERE topic = {} \
             ORDER BY revision DESC LIMIT 1",
            quote(topic)
        );
        match self.rows(&sql).await?.first().map(Vec::as_slice) {
            None => Ok(None),
            Some(
                [
                    Value::UInt32(revision),
                    log,
                    Value::Uuid(topic_id),
                    Value::Int32(partitions),
                    Value::Int64(window),
                    Value::Int32(index),
                    Value::Int32(of),
                ],
            ) => Ok(Some(TopicRecord {
                revision: *revision,
                log: LogName::new(&text(log).ok_or_else(|| unexpected("a topic"))?),
                topic_id: *topic_id,
                partitions: *partitions,
                repeat_window_records: *window,
                shard: ShardId { index: *index, of: *of },
            })),
            Some(_) => Err(unexpected("a topic")),
        }
    }

    /// As which shard migrate recorded this server: one, or none before a topic is recorded.
    ///
    /// # Errors
    /// No answer, or the tables are not there.
    pub(crate) async fn recorded_shards(&self) -> Result<Vec<ShardId>, Error> {
        let sql = "SELECT shard, shards FROM topics GROUP BY shard, shards";
        let shard = |row: &Vec<Value>| match row[..] {
            [Value::Int32(index), Value::Int32(of)] => Ok(ShardId { index, of }),
            _ => Err(unexpected("its shard")),
        };
        self.rows(sql).await?.iter().map(shard).collect()
    }

    /// The names under which records of a topic stood before it was made anew.
    ///
    /// # Errors
    /// No answer.
    pub async fn former_logs(&self, topic: &str, newest: &LogName) -> Result<Vec<LogName>, Error> {
        let sql = format!(
            "SELECT log FROM topics WHERE topic = {} AND log != {} GROUP BY log ORDER BY min(revision)",
            quote(topic),
            quote(newest.as_str())
        );
        let log = |row: &Vec<Value>| {
            let log = row.first().and_then(text);
            log.map(|log| LogName::new(&log))
                .ok_or_else(|| unexpected("former logs"))
        };
        self.rows(&sql).await?.iter().map(log).collect()
    }

    /// Records a new revision of a topic. Of many at once, one wins; read it back to see which.
    ///
    /// # Errors
    /// No answer.
    pub async fn record_topic(&self, topic: &str, facts: &TopicRecord) -> Result<(), Error> {
        let TopicRecord {
            revision,
            log,
            topic_id,
            partitions,
            repeat_window_records,
            shard: ShardId { index, of },
        } = facts;
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
