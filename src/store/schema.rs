//! The schema: the migrations that are built in, those that are recorded, and what is known of a topic.

use std::time::Duration;

use klickhouse::Value;

use super::connection::unexpected;
use super::{Class, Connection, Error, Identifier, Store, quote};

/// A migration file that is built into the binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct File {
    /// Its name, `V<number>__<what_it_does>.sql`.
    pub name: &'static str,
    /// Its one statement.
    pub sql: &'static str,
}

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(File { name: $name, sql: include_str!(concat!("../../migrations/", $name)) }),*]
    };
}

/// All migrations, in order.
pub const FILES: &[File] = files![
    "V1__create_events.sql",
    "V2__create_dead_letters.sql",
    "V3__create_topics.sql",
    "V4__recode_events.sql",
];

/// The schema version that this binary reads and writes: the number of the last file.
pub const VERSION: u32 = FILES.len() as u32;

/// What the migrations make.
const TABLES: [&str; 3] = ["events", "dead_letters", "topics"];

/// For one statement of a migration, which may rewrite data.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(600);

/// An insert of which at most one with a token takes place.
const ONCE: &str = "async_insert = 0, insert_deduplicate = 1, deduplicate_insert = 'enable', \
     deduplicate_insert_select = 'force_enable'";

/// Tokens that are tried for one row. A crash burns one; nobody crashes that often.
const GENERATIONS_MAX: u32 = 20;

/// For an insert of somebody else that is still running, and between looks.
const RUNNING_LOOKS: u32 = 100;
const RUNNING_WAIT: Duration = Duration::from_millis(100);

/// A migration as the table `migrations` records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The number in its name.
    pub version: u32,
    /// The name of its file.
    pub name: String,
    /// SHA-256 of its file with `\n` line endings, in hexadecimal.
    pub checksum: String,
    /// When, UTC.
    pub applied_at: String,
}

/// What `captcha migrate` recorded of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicFacts {
    /// How often it was recorded.
    pub revision: u32,
    /// Number of partitions.
    pub partitions: i32,
    /// N: an event sent again within the next N records of its partition is counted once.
    pub repeat_window_records: i64,
}

impl Store {
    /// Makes the database unless it is there.
    ///
    /// # Errors
    /// No connection, or no right to.
    pub async fn create_database(&self) -> Result<(), Error> {
        let outside = self.connect_outside().await?;
        let database: &Identifier = self.database();
        outside
            .execute(&format!("CREATE DATABASE IF NOT EXISTS {database}"))
            .await
    }
}

impl Connection {
    /// The schema version: the largest one that is recorded, 0 before the first migration.
    ///
    /// # Errors
    /// No answer.
    pub async fn schema_version(&self) -> Result<u32, Error> {
        let applied = self.applied().await?;
        Ok(applied.last().map_or(0, |last| last.version))
    }

    /// The recorded migrations by version; none before the first run.
    ///
    /// # Errors
    /// No answer.
    pub async fn applied(&self) -> Result<Vec<Applied>, Error> {
        let sql =
            "SELECT version, name, checksum, toString(applied_at) FROM migrations ORDER BY version";
        let rows = match self.rows(sql).await {
            Err(err) if err.class() == Class::SchemaMissing => return Ok(Vec::new()),
            other => other?,
        };
        rows.iter()
            .map(|row| applied(row).ok_or_else(|| unexpected("the migrations")))
            .collect()
    }

    /// The tables that migrations made and that are not there any more.
    ///
    /// # Errors
    /// No answer.
    pub async fn lost_tables(&self) -> Result<Vec<&'static str>, Error> {
        let sql = "SELECT name FROM system.tables WHERE database = currentDatabase()";
        let there = self.rows(sql).await?;
        let is_lost = |name: &&str| {
            let name = Value::String(name.as_bytes().to_vec());
            !there.iter().any(|row| row.first() == Some(&name))
        };
        Ok(TABLES.into_iter().filter(is_lost).collect())
    }

    /// Makes the table that records migrations.
    ///
    /// # Errors
    /// No answer, or no right to.
    pub async fn create_history(&self) -> Result<(), Error> {
        self.execute(
            "CREATE TABLE IF NOT EXISTS migrations (version UInt32, name String, checksum String, \
             applied_at DateTime64(3, 'UTC') DEFAULT now64(3)) ENGINE = MergeTree ORDER BY version \
             SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, \
             fsync_part_directory = 1",
        )
        .await
    }

    /// Runs the statement of a migration and records it. Of many at once, all run it and one records.
    ///
    /// # Errors
    /// The server refused the statement, or no answer.
    pub async fn apply(
        &self,
        version: u32,
        name: &str,
        checksum: &str,
        sql: &str,
    ) -> Result<(), Error> {
        self.each_block(sql, MIGRATION_TIMEOUT, |_| Ok(())).await?;
        self.insert_once(&RowOnce {
            table: "migrations (version, name, checksum)",
            values: format!("{version}, {}, {}", quote(name), quote(checksum)),
            is_there: format!("FROM migrations WHERE version = {version}"),
            token: format!("migration:{version}"),
        })
        .await
    }

    /// Inserts a row unless it is there; of many at once, one does. A token may be burnt: the server noted
    /// it and died before it kept the row, and from then on answers Ok and keeps nothing. So the row is
    /// looked for, and if it is not there and nobody is inserting it, the next token is tried.
    async fn insert_once(&self, row: &RowOnce) -> Result<(), Error> {
        let RowOnce {
            table,
            values,
            is_there,
            token,
        } = row;
        for generation in 0..GENERATIONS_MAX {
            let token = format!("{token}#{generation}");
            self.execute(&format!(
                "INSERT INTO {table} SELECT {values} WHERE (SELECT count() {is_there}) = 0 \
                 SETTINGS {ONCE}, insert_deduplication_token = {}",
                quote(&token)
            ))
            .await?;
            self.await_end_of_insert(&token).await?;
            if !self
                .rows(&format!("SELECT 1 {is_there} LIMIT 1"))
                .await?
                .is_empty()
            {
                return Ok(());
            }
        }
        Err(self.failed(&format!("drops every insert into {table}")))
    }

    async fn await_end_of_insert(&self, token: &str) -> Result<(), Error> {
        for _ in 0..RUNNING_LOOKS {
            if !self.is_inserting(token).await? {
                return Ok(());
            }
            tokio::time::sleep(RUNNING_WAIT).await;
        }
        Err(self.failed(&format!("is still working on the insert {token}")))
    }

    /// What is recorded of a topic; `None` before `captcha migrate` saw it.
    ///
    /// # Errors
    /// No answer, or the tables are not there.
    pub async fn topic_facts(&self, topic: &str) -> Result<Option<TopicFacts>, Error> {
        let sql = format!(
            "SELECT revision, partitions, repeat_window_records FROM topics WHERE topic = {} \
             ORDER BY revision DESC LIMIT 1",
            quote(topic)
        );
        match self.rows(&sql).await?.first().map(Vec::as_slice) {
            None => Ok(None),
            Some(
                [
                    Value::UInt32(revision),
                    Value::Int32(partitions),
                    Value::Int64(window),
                ],
            ) => Ok(Some(TopicFacts {
                revision: *revision,
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
            partitions,
            repeat_window_records,
        } = facts;
        let name = quote(topic);
        self.insert_once(&RowOnce {
            table: "topics (topic, revision, partitions, repeat_window_records)",
            values: format!("{name}, {revision}, {partitions}, {repeat_window_records}"),
            is_there: format!("FROM topics WHERE topic = {name} AND revision = {revision}"),
            token: format!("topic:{topic}:{revision}"),
        })
        .await
    }
}

/// A row that is to be there once.
struct RowOnce {
    /// Table and columns.
    table: &'static str,
    /// The row.
    values: String,
    /// `FROM` and `WHERE` of a question that the row, or one that stands for it, answers.
    is_there: String,
    /// What all who insert it call it.
    token: String,
}

fn applied(row: &[Value]) -> Option<Applied> {
    let text = |value: &Value| match value {
        Value::String(bytes) => String::from_utf8(bytes.clone()).ok(),
        _ => None,
    };
    let [Value::UInt32(version), name, checksum, applied_at] = row else {
        return None;
    };
    Some(Applied {
        version: *version,
        name: text(name)?,
        checksum: text(checksum)?,
        applied_at: text(applied_at)?,
    })
}
