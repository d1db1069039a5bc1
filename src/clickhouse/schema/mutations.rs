//! Mutations, which rewrite tables in the background, and the size of a table.

use crate::clickhouse::connection::Connection;
use crate::clickhouse::error::Error;
use crate::clickhouse::sql::quote;

/// A mutation that has not ended.
#[derive(Debug, Clone, PartialEq, Eq, klickhouse::Row)]
pub struct Mutation {
    pub table: String,
    /// The clause of `ALTER TABLE`.
    pub command: String,
    /// Parts that are not rewritten yet.
    pub parts_to_do: i64,
    /// The error of its last try; mostly empty.
    pub failure: String,
}

impl Connection {
    /// Mutations of tables of the database that have not ended.
    ///
    /// # Errors
    /// No answer.
    pub async fn running_mutations(&self) -> Result<Vec<Mutation>, Error> {
        let sql = "SELECT table, command, toInt64(parts_to_do) AS parts_to_do, latest_fail_reason AS failure \
             FROM system.mutations WHERE database = currentDatabase() AND NOT is_done ORDER BY create_time";
        self.query_rows(sql).await
    }

    /// Bytes of a table on disk; 0 if it does not exist.
    ///
    /// # Errors
    /// No answer.
    pub async fn table_bytes(&self, table: &str) -> Result<u64, Error> {
        let sql = format!(
            "SELECT toUInt64(sum(bytes_on_disk)) FROM system.parts \
             WHERE database = currentDatabase() AND active AND table = {}",
            quote(table)
        );
        self.query_value(&sql).await
    }
}
