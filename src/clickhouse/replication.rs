//! Replicated tables: what differs from tables of one server.
//!
//! A statement of a migration runs on each replica, with the engine of the same name that replicates. Everything else
//! is settings of each connection (`connection/settings.rs`), which a table of one server ignores, and one rule: no
//! token counts as burnt, because Keeper stores a part and its token together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OwnedMutexGuard;
use tokio::time::{sleep, timeout};

use super::connection::has_code;
use super::connection::server_version::adapt_codecs;
use super::{Connection, Error, Identifier, Shard, quote};

/// For one statement of a migration, which may rewrite data.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(600);

/// The code of a replica that lacks an insert which others have.
const NOT_IN_QUORUM: i32 = 289;

/// For a new replica to fetch small tables, and between looks; they take less than a second.
const FETCH_MAX: Duration = Duration::from_secs(60);
const FETCH_LOOK: Duration = Duration::from_millis(200);

/// The settings of a replicated table that take the place of the deduplication window of one server.
pub(crate) fn replicated_window() -> Vec<(&'static str, u64)> {
    super::schema::declared::settings_of(REPLICATED_WINDOW).unwrap_or_default()
}

/// The number of inserts, and the seconds, for which Keeper remembers tokens.
const REPLICATED_WINDOW: &str =
    "replicated_deduplication_window = 100000, replicated_deduplication_window_seconds = 31536000";

impl Shard {
    /// Waits until no other insert of this process into replicated tables runs; the next one waits until the guard is
    /// dropped. Otherwise the server refuses one of them: see [`QuorumRetry`](super::connection::QuorumRetry).
    pub async fn lock_inserts(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.inserting).lock_owned().await
    }

    /// Whether `migrate` makes replicated tables.
    pub fn is_cluster(&self) -> bool {
        self.cluster.is_some()
    }

    /// Runs a statement that makes or changes tables: on each replica where a cluster is named.
    ///
    /// # Errors
    /// A server refused it or did not answer. The next try repeats it on the replicas that have run it.
    pub async fn run_ddl(&self, connection: &Connection, statement: &str) -> Result<(), Error> {
        let Some(cluster) = &self.cluster else {
            return connection.run_ddl(statement).await;
        };
        let statement = to_replicated(statement, cluster);
        for address in &self.addresses {
            let replica = self.connect_to_replica(address).await?;
            replica.run_ddl(&statement).await?;
        }
        Ok(())
    }

    /// Makes the database unless it exists: on each replica where a cluster is named.
    ///
    /// # Errors
    /// No connection, or no right to.
    pub async fn create_database(&self) -> Result<(), Error> {
        let statement = format!("CREATE DATABASE IF NOT EXISTS {}", self.database);
        if self.cluster.is_none() {
            return self.connect_without_database().await?.run_ddl(&statement).await;
        }
        for address in &self.addresses {
            self.connect_to_address(address).await?.run_ddl(&statement).await?;
        }
        Ok(())
    }
}

/// A replica that had no tables.
pub struct EmptyReplica {
    pub address: String,
    /// The address of a replica of its shard that has them.
    pub source: String,
}

impl Shard {
    /// Makes the tables of replicas that have none as another replica of the shard has them; it fetches what is in them
    /// by itself. One that is new, or has lost its disk. Returns which they are; in a dry run nothing is made. One that
    /// is away is left alone: it has tables, or the next migrate makes them.
    ///
    /// # Errors
    /// A server refuses, such as one that Keeper remembers by this name.
    pub async fn fill_empty_replicas(&self, dry_run: bool) -> Result<Vec<EmptyReplica>, Error> {
        let mut replicas = Vec::new();
        for address in self.cluster.iter().flat_map(|_| &self.addresses) {
            let Ok(connection) = self.connect_to_address(address).await else {
                continue;
            };
            let tables = connection.definitions(&self.database).await?;
            replicas.push((address, connection, tables));
        }
        let Some((source, _, tables)) = replicas.iter().find(|(.., tables)| !tables.is_empty()) else {
            return Ok(Vec::new());
        };
        let mut empty = Vec::new();
        for (address, replica, _) in replicas.iter().filter(|(.., tables)| tables.is_empty()) {
            empty.push(EmptyReplica {
                address: (*address).clone(),
                source: (*source).clone(),
            });
            if dry_run {
                continue;
            }
            let database = format!("CREATE DATABASE IF NOT EXISTS {}", self.database);
            replica.run_ddl(&database).await?;
            for table in tables {
                replica.run_ddl(table).await?;
            }
            replica.use_database(&self.database).await?;
            replica.await_small_tables().await?;
        }
        Ok(empty)
    }
}

impl Connection {
    /// The statements that make the tables of a database, and then its views.
    async fn definitions(&self, database: &Identifier) -> Result<Vec<String>, Error> {
        let sql = format!(
            "SELECT replaceRegexpOne(create_table_query, '^CREATE (TABLE|VIEW) ', 'CREATE \\\\1 IF NOT EXISTS ') \
             FROM system.tables WHERE database = {} ORDER BY engine = 'View', name",
            quote(&database.to_string())
        );
        self.query_values(&sql).await
    }

    /// Waits until a replica has all tables but that of events, which may take hours to fetch: a process that
    /// reads the schema may connect to this replica.
    async fn await_small_tables(&self) -> Result<(), Error> {
        let sql = "SELECT name FROM system.tables WHERE database = currentDatabase() \
             AND startsWith(engine, 'Replicated') AND name != 'events'";
        let began = Instant::now();
        for table in self.query_values::<String>(sql).await? {
            loop {
                let answer = self.query_value::<u64>(&format!("SELECT count() FROM {table}")).await;
                if !has_code(&answer, NOT_IN_QUORUM) || began.elapsed() > FETCH_MAX {
                    answer?;
                    break;
                }
                sleep(FETCH_LOOK).await;
            }
        }
        Ok(())
    }

    async fn run_ddl(&self, statement: &str) -> Result<(), Error> {
        let statement = adapt_codecs(statement, self.version);
        let run = self.for_each_block(&statement, STATEMENT_TIMEOUT, |_| Ok(()));
        // The limit of the question alone is not enough: its answer is looked for after it.
        let ran = timeout(2 * STATEMENT_TIMEOUT, run).await;
        ran.unwrap_or_else(|_| Err(self.connection_error("did not end a statement")))
    }
}

/// The statement for a table of several replicas. `{shard}` and `{replica}` are macros that every server of a cluster
/// has; `{database}` and `{table}` are ClickHouse's own.
fn to_replicated(statement: &str, cluster: &Identifier) -> String {
    let keeper_path = format!("'/clickhouse/{cluster}/{{shard}}/{{database}}/{{table}}', '{{replica}}'");
    statement
        .replace(
            "ENGINE = ReplacingMergeTree(",
            &format!("ENGINE = ReplicatedReplacingMergeTree({keeper_path}, "),
        )
        .replace(
            "ENGINE = MergeTree",
            &format!("ENGINE = ReplicatedMergeTree({keeper_path})"),
        )
        .replace("non_replicated_deduplication_window = 100000", REPLICATED_WINDOW)
        .replace("non_replicated_deduplication_window = 10000", REPLICATED_WINDOW)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clickhouse::schema::files::{CREATE_MIGRATION_LOG, CREATE_MIGRATIONS, FILES};

    #[test]
    fn every_table_is_replicated_and_nothing_else_changes() {
        let cluster = "main".parse().unwrap();
        let own = [CREATE_MIGRATIONS, CREATE_MIGRATION_LOG];
        let statements = FILES.iter().map(|file| file.sql).chain(own);
        let mut tables = 0;
        for statement in statements {
            let made = to_replicated(statement, &cluster);
            if !statement.contains("ENGINE") {
                assert_eq!(made, statement);
                continue;
            }
            tables += 1;
            assert!(
                made.contains("MergeTree('/clickhouse/main/{shard}/{database}/{table}', '{replica}'"),
                "{made}"
            );
            assert!(!made.contains("non_replicated"), "{made}");
            assert!(!made.contains("ENGINE = MergeTree"), "{made}");
        }
        assert_eq!(tables, 5);
        let claims = to_replicated("ENGINE = ReplacingMergeTree(through)", &cluster);
        assert!(claims.ends_with("'{replica}', through)"), "{claims}");
    }
}
