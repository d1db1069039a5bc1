//! What `captcha migrate` recorded of a topic.

use klickhouse::Value;

use super::connection::unexpected;
use super::once::RowOnce;
use super::{Connection, Error, quote};

/// What `captcha migrate` recorded of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicFacts {
    /// How often it was recorded.
    pub revision: u32,
    /// The name under which its records stand in the tables: its own, until it is made anew.
    pub log: String,
    /// Number of partitions; 0 says that nobody consumes it any more.
    pub partitions: i32,
    /// N: an event sent again within the next N records of its partition is counted once.
    pub repeat_window_records: i64,
}

impl Connection {
    /// What is recorded of a topic; `None` before `captcha migrate` saw it.
    ///
    /// # Errors
    /// No answer, or the tables are not there.
    pub async fn topic_facts(&self, topic: &str) -> Result<Option<TopicFacts>, Error> {
        let sql = format!(
            "SELECT revision, log, partitions, repeat_window_records FROM topics WHERE topic = {} \
             ORDER BY revision DESC LIMIT 1",
            quote(topic)
        );
        match self.rows(&sql).await?.first().map(Vec::as_slice) {
            None => Ok(None),
            Some(
                [
                    Value::UInt32(revision),
                    Value::String(log),
                    Value::Int32(partitions),
                    Value::Int64(window),
                ],
            ) => Ok(Some(TopicFacts {
                revision: *revision,
                log: String::from_utf8(log.clone()).map_err(|_| unexpected("a topic"))?,
                partitions: *partitions,
                repeat_window_records: *window,
            })),
            Some(_) => Err(unexpected("a topic")),
        }
    }

    /// Records a new revision of a topic. Of many at once, one wins; read it back to see which.
    ///
    /// # Errors
    /// No answer.
    pub async fn record_topic(&self, topic: &str, facts: &TopicFacts) -> Result<(), Error> {
        let TopicFacts {
            revision,
            log,
            partitions,
            repeat_window_records,
        } = facts;
        let (name, log) = (quote(topic), quote(log));
        self.insert_once(&RowOnce {
            table: "topics (topic, log, revision, partitions, repeat_window_records)",
            values: format!("{name}, {log}, {revision}, {partitions}, {repeat_window_records}"),
            is_there: format!("FROM topics WHERE topic = {name} AND revision = {revision}"),
            token: format!("topic:{topic}:{revision}"),
        })
        .await
    }
}
