//! The log in the table `events`, written: rows, and the insert that is guarded by the head.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use klickhouse::KlickhouseError;
use klickhouse::block::Block;
use tokio::time::timeout;

use super::columns::Columns;
use super::row::Row;
use crate::clickhouse::connection::server_version::Version;
use crate::clickhouse::connection::{QuorumRetry, settings};
use crate::clickhouse::{Connection, Error, partition_condition, quote};
use crate::topic_partition::TopicPartition;

/// For one insert. A slow disk may need seconds; after half a minute it is better to look at the head.
const INSERT_TIMEOUT: Duration = Duration::from_secs(30);

/// One batch for one partition: one insert, one block, one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Insert {
    /// Where the rows belong.
    pub topic_partition: TopicPartition,
    /// The head that was read before; the server refuses the insert if it has moved.
    pub head: i64,
    /// 0, and one more for each token of this head that was burnt.
    pub generation: u32,
    /// Whether the table is one of several replicas.
    pub is_replicated: bool,
    /// Rows of one arrival month, ascending by offset, without a hole from `head` on.
    pub rows: Vec<Row>,
}

impl Insert {
    /// The deduplication token: rivals at one head share it, so that one of them wins.
    pub fn token(&self) -> String {
        match self.generation {
            0 => self.first_token(),
            g => format!("{}#{g}", self.first_token()),
        }
    }

    fn first_token(&self) -> String {
        format!("{}:{}", self.topic_partition, self.head)
    }

    /// The condition under which the server takes the rows: the head is where it was, and nobody is inserting at it
    /// with another token. Of two such inserts one would see the other: each is in `system.processes` before it
    /// looks there, and looks at the head afterwards.
    fn guard(&self) -> String {
        // Made of parts, so that the text of a guard is not what it looks for.
        let with_token = |token: &str, end: &str| {
            let token = quote(token);
            format!("position(query, concat('insert_deduplication_token = ', char(39), {token}, {end})) > 0")
        };
        let others = format!(
            "(SELECT count() FROM system.processes WHERE query_id != queryID() \
             AND startsWith(query, 'INSERT') AND ({} OR {}) AND NOT {})",
            with_token(&self.first_token(), "char(39)"),
            with_token(&self.first_token(), "'#'"),
            with_token(&self.token(), "char(39)"),
        );
        format!(
            "throwIf(if({others} > 0, -1, ifNull((SELECT max(offset) + 1 FROM events WHERE {} AND {others} = 0 \
             GROUP BY topic, partition), 0)) != {}, 'head moved') = 0",
            partition_condition(&self.topic_partition),
            self.head,
        )
    }

    fn sql(&self, columns: &Columns, version: Version) -> String {
        let (columns, query) = columns.sql(&self.topic_partition);
        format!(
            "INSERT INTO events ({columns}) {query} WHERE {} \
             SETTINGS {}, insert_deduplication_token = {} FORMAT Native",
            self.guard(),
            settings::supported(settings::INSERT, version),
            quote(&self.token()),
        )
    }
}

impl Connection {
    /// Writes a batch, all or nothing. Ok means only that the server said nothing against it: the head,
    /// read on this connection afterwards, says whether the rows are there.
    ///
    /// # Errors
    /// The server refused, the head had moved ([`Action::HeadMoved`](crate::clickhouse::Class)), or no whole answer came.
    pub async fn insert(&self, mut insert: Insert) -> Result<(), Error> {
        let columns = Columns::new(std::mem::take(&mut insert.rows));
        let sql = insert.sql(&columns, self.version);
        let mut block = columns.into_block();
        let turn = QuorumRetry::new();
        let send = async {
            loop {
                // Only where it may have to be sent again: a batch is large.
                let again = insert.is_replicated.then(|| block.clone());
                let answer = self.send(&sql, block).await;
                let answer = answer.map_err(|err| self.explain(err));
                match again {
                    Some(again) if turn.wait_to_resend(&answer).await => block = again,
                    _ => return answer,
                }
            }
        };
        match timeout(INSERT_TIMEOUT, send).await {
            Ok(done) => done,
            Err(_) => Err(self.connection_error(&format!(
                "did not confirm an insert within {} s",
                INSERT_TIMEOUT.as_secs()
            ))),
        }
    }

    async fn send(&self, sql: &str, block: Block) -> Result<(), KlickhouseError> {
        let sent = stream::iter([block]);
        let mut answer = self.client.insert_native_raw(sql, sent, None).await?;
        while let Some(part) = answer.next().await {
            part?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic_partition::LogName;

    #[test]
    fn the_token_is_the_place_the_head_and_the_generation() {
        let topic_partition = TopicPartition {
            log: LogName::new("captcha"),
            partition: 3,
        };
        let mut insert = Insert {
            topic_partition,
            head: 17,
            generation: 0,
            is_replicated: false,
            rows: Vec::new(),
        };
        assert_eq!(insert.token(), "captcha:3:17");
        insert.generation = 2;
        assert_eq!(insert.token(), "captcha:3:17#2");
    }
}
