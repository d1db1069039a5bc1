//! The insert of a batch, guarded by the head.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use klickhouse::KlickhouseError;
use klickhouse::block::Block;
use tokio::time::timeout;

use super::columns::Columns;
use super::row::Row;
use crate::clickhouse::connection::server_version::Version;
use crate::clickhouse::connection::{QuorumRetry, RESEND_MAX, settings};
use crate::clickhouse::{Connection, Error, partition_condition, quote};
use crate::topic_partition::{Offset, TopicPartition};

/// For one insert. A slow disk may need seconds; after half a minute it is better to read the head.
const INSERT_TIMEOUT: Duration = Duration::from_secs(30);

// The server gives up waiting for other replicas before captcha gives up waiting for the server, even if the insert was
// sent again.
const _: () = assert!(settings::INSERT_QUORUM_TIMEOUT_MILLIS + RESEND_MAX.as_millis() <= INSERT_TIMEOUT.as_millis());

/// One batch for one partition: one insert, one block, one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Insert {
    pub topic_partition: TopicPartition,
    /// The head that was read before; the server refuses the insert if it has moved.
    pub head: Offset,
    /// The number of tokens of this head that were burnt.
    pub generation: u32,
    /// Whether the table is replicated.
    pub is_replicated: bool,
    /// Rows of one arrival month, ascending by offset, without a hole from `head` on.
    pub rows: Vec<Row>,
}

impl Insert {
    /// The deduplication token. Rivals at one head share it, so that one of them wins.
    pub fn token(&self) -> String {
        match self.generation {
            0 => self.first_token(),
            g => format!("{}#{g}", self.first_token()),
        }
    }

    fn first_token(&self) -> String {
        format!("{}:{}", self.topic_partition, self.head)
    }

    /// The condition that selects its rows once they are stored, whichever consumer stored them: their arrivals prune
    /// months and parts.
    pub fn stored_condition(&self) -> String {
        let arrivals = || self.rows.iter().map(|row| row.arrival_millis);
        let end = self.rows.last().map_or(self.head, |row| row.offset + 1);
        format!(
            "{} AND offset >= {} AND offset < {end} AND arrival >= fromUnixTimestamp64Milli({}) \
             AND arrival <= fromUnixTimestamp64Milli({})",
            partition_condition(&self.topic_partition),
            self.head,
            arrivals().min().unwrap_or(0),
            arrivals().max().unwrap_or(0),
        )
    }

    /// The most important statement of the system: it stores a batch once, however many consumers send it, and however
    /// often.
    ///
    /// Below is the whole of it for a batch of nothing but events, at head 17 of partition 3, on a server that knows
    /// all of the settings (a test compares). Rows of other kinds send `span`, `kind`, `reason` and `raw` too.
    ///
    /// - One block of one row follows it. `reinterpret` and `ARRAY JOIN` make the rows of it: see [`Columns`].
    /// - `throwIf` compares the head with the one that the batch follows, inside the insert. If a rival was faster, it
    ///   answers error 395 and stores nothing. A plain `WHERE` that is false would lose the connection.
    /// - While another insert at this head runs with another token, the head counts as moved (-1). Of two such inserts
    ///   one sees the other: each is in `system.processes` before it looks there, and looks at the head afterwards. The
    ///   text that they look for is made of parts, so that no guard finds itself.
    /// - The token makes the second of two equal inserts store nothing. After a token that was burnt it ends with `#1`.
    /// - The settings keep one insert one block and one part: see [`settings::INSERT`].
    ///
    /// ```sql
    /// INSERT INTO events (
    ///   topic, partition, offset, arrival, span, kind, reason, raw, repeat, site_id, type, correlation_id, time, role,
    ///   solve_after_micros, other_month, rules
    /// )
    /// SELECT
    ///   'captcha', 3, offset, arrival, 1, 'event', '', '', repeat, site_id, type, correlation_id, time, role,
    ///   solve_after_micros, other_month, 1
    /// FROM input(
    ///   'offset_values String, arrival_values String, repeat_values String, site_id_values String,
    ///    type_values String, correlation_id_values String, time_values String, role_values String,
    ///    solve_after_micros_values String, other_month_values String'
    /// )
    /// ARRAY JOIN
    ///   reinterpret(offset_values, 'Array(Int64)') AS offset,
    ///   reinterpret(arrival_values, 'Array(DateTime64(3, \'UTC\'))') AS arrival,
    ///   reinterpret(repeat_values, 'Array(UInt8)') AS repeat,
    ///   reinterpret(site_id_values, 'Array(UUID)') AS site_id,
    ///   reinterpret(type_values, 'Array(Enum8(\'\' = 0, \'serve\' = 1, \'solve\' = 2))') AS type,
    ///   reinterpret(correlation_id_values, 'Array(UUID)') AS correlation_id,
    ///   reinterpret(time_values, 'Array(DateTime64(6, \'UTC\'))') AS time,
    ///   reinterpret(role_values, 'Array(Enum8(\'\' = 0, \'first\' = 1, \'again\' = 2, \'answer\' = 3, \'open\' = 4))') AS role,
    ///   reinterpret(solve_after_micros_values, 'Array(Int64)') AS solve_after_micros,
    ///   reinterpret(other_month_values, 'Array(UInt32)') AS other_month
    /// WHERE throwIf(
    ///   if(
    ///     (
    ///       SELECT count() FROM system.processes
    ///       WHERE query_id != queryID() AND startsWith(query, 'INSERT')
    ///       AND (
    ///         position(query, concat('insert_deduplication_token = ', char(39), 'captcha:3:17', char(39))) > 0
    ///         OR position(query, concat('insert_deduplication_token = ', char(39), 'captcha:3:17', '#')) > 0
    ///       )
    ///       AND NOT position(
    ///         query, concat('insert_deduplication_token = ', char(39), 'captcha:3:17', char(39))
    ///       ) > 0
    ///     ) > 0,
    ///     -1,
    ///     ifNull(
    ///       (
    ///         SELECT max(offset) + 1 FROM events
    ///         WHERE topic = 'captcha' AND partition = 3 AND (
    ///           SELECT count() FROM system.processes
    ///           WHERE query_id != queryID() AND startsWith(query, 'INSERT')
    ///           AND (
    ///             position(query, concat('insert_deduplication_token = ', char(39), 'captcha:3:17', char(39))) > 0
    ///             OR position(query, concat('insert_deduplication_token = ', char(39), 'captcha:3:17', '#')) > 0
    ///           )
    ///           AND NOT position(
    ///             query, concat('insert_deduplication_token = ', char(39), 'captcha:3:17', char(39))
    ///           ) > 0
    ///         ) = 0
    ///         GROUP BY topic, partition
    ///       ),
    ///       0
    ///     )
    ///   ) != 17,
    ///   'head moved'
    /// ) = 0
    /// SETTINGS
    ///   async_insert = 0, insert_deduplicate = 1, deduplicate_insert = 'enable',
    ///   deduplicate_insert_select = 'force_enable', use_strict_insert_block_limits = 0,
    ///   max_insert_block_size = 1048449, max_insert_block_size_bytes = 0,
    ///   max_insert_threads = 1, max_block_size = 1048449,
    ///   insert_deduplication_token = 'captcha:3:17'
    /// FORMAT Native
    /// ```
    fn sql(&self, columns: &Columns, version: Version) -> String {
        let (names, query) = columns.sql(&self.topic_partition);
        let rivals = self.rivals();
        format!(
            "INSERT INTO events ({names}) {query} \
             WHERE throwIf(if({rivals} > 0, -1, \
             ifNull((SELECT max(offset) + 1 FROM events WHERE {} AND {rivals} = 0 GROUP BY topic, partition), 0)) \
             != {}, 'head moved') = 0 \
             SETTINGS {}, insert_deduplication_token = {} FORMAT Native",
            partition_condition(&self.topic_partition),
            self.head,
            settings::supported(settings::INSERT, version),
            quote(&self.token()),
        )
    }

    /// How many other inserts run at this head with another token.
    fn rivals(&self) -> String {
        let with_token = |token: &str, end: &str| {
            let token = quote(token);
            format!("position(query, concat('insert_deduplication_token = ', char(39), {token}, {end})) > 0")
        };
        format!(
            "(SELECT count() FROM system.processes WHERE query_id != queryID() \
             AND startsWith(query, 'INSERT') AND ({} OR {}) AND NOT {})",
            with_token(&self.first_token(), "char(39)"),
            with_token(&self.first_token(), "'#'"),
            with_token(&self.token(), "char(39)"),
        )
    }
}

impl Connection {
    /// Writes a batch, all or nothing. Ok means only that the server reported no error: the head, read on this
    /// connection afterwards, tells whether the rows are stored.
    ///
    /// # Errors
    /// The server refused it, the head had moved ([`Action::HeadMoved`](crate::clickhouse::Action)), or no whole answer
    /// came.
    pub async fn insert(&self, mut insert: Insert) -> Result<(), Error> {
        let columns = Columns::new(std::mem::take(&mut insert.rows));
        let sql = insert.sql(&columns, self.version);
        let mut block = columns.into_block();
        let retry = QuorumRetry::new();
        let send = async {
            loop {
                // Only where it may have to be sent again: a batch is large.
                let again = insert.is_replicated.then(|| block.clone());
                let answer = self.send(&sql, block).await;
                let answer = answer.map_err(|err| self.explain(err));
                match again {
                    Some(again) if retry.wait_to_resend(&answer).await => block = again,
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
    use crate::clickhouse::RowKind;
    use crate::event::numbered;
    use crate::topic_partition::{LogName, Partition};

    fn insert() -> Insert {
        Insert {
            topic_partition: TopicPartition {
                log: LogName::new("captcha"),
                partition: Partition::new(3),
            },
            head: Offset::new(17),
            generation: 0,
            is_replicated: false,
            rows: Vec::new(),
        }
    }

    /// Without line breaks, and blanks inside parentheses.
    fn flat(sql: &str) -> String {
        let words: Vec<&str> = sql.split_whitespace().collect();
        words.join(" ").replace("( ", "(").replace(" )", ")")
    }

    #[test]
    fn the_documentation_has_the_statement_as_it_is_sent() {
        let source = include_str!("insert.rs");
        let documented = source
            .split("/// ```sql\n")
            .nth(1)
            .and_then(|rest| rest.split("/// ```\n").next());
        let documented = documented.expect("a block of sql").replace("    ///", "");
        let event = Row {
            offset: Offset::new(17),
            arrival_millis: 0,
            kind: RowKind::Event {
                event: numbered(1),
                repeat: false,
                challenge: None,
            },
        };
        let sent = insert().sql(&Columns::new(vec![event]), Version::new(26, 7));
        assert_eq!(flat(&documented), flat(&sent));
    }

    #[test]
    fn stored_rows_are_found_by_their_offsets_and_arrivals() {
        let row = |offset, arrival_millis, span| Row {
            offset: Offset::new(offset),
            arrival_millis,
            kind: RowKind::Gap { span },
        };
        let insert = Insert {
            rows: vec![row(17, 9, 1), row(18, 5, 1), row(21, 7, 3)],
            ..insert()
        };
        assert_eq!(
            insert.stored_condition(),
            "topic = 'captcha' AND partition = 3 AND offset >= 17 AND offset < 22 \
             AND arrival >= fromUnixTimestamp64Milli(5) AND arrival <= fromUnixTimestamp64Milli(9)"
        );
    }

    #[test]
    fn the_token_is_the_partition_the_head_and_the_generation() {
        let mut insert = insert();
        assert_eq!(insert.token(), "captcha:3:17");
        insert.generation = 2;
        assert_eq!(insert.token(), "captcha:3:17#2");
    }
}
