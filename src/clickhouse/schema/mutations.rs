//! The rewriting of tables that goes on in the server, and how large a table is.

use crate::clickhouse::connection::Connection;
use crate::clickhouse::error::Error;
use crate::clickhouse::sql::quote;

/// A rewriting of a table that goes on in the server.
#[derive(Debug, Clone, PartialEq, Eq, klickhouse::Row)]
pub struct Mutation {
    /// The table.
    pub table: String,
    /// What is done to it.
    pub command: String,
    /// Parts that are not rewritten yet.
    pub parts_to_do: i64,
    /// Why it does not come on; mostly empty.
    pub failure: String,
}

impl Connection {
    /// Mutations that rewrite tables of the database and have not ended.
    ///
    /// # Errors
    /// No answer.
    pub async fn running_mutations(&self) -> Result<Vec<Mutation>, Error> {
        let sql = "SELECT table, command, toInt64(parts_to_do) AS parts_to_do, latest_fail_reason AS failure FROM system.mutations \
             WHERE database = currentDatabase() AND NOT is_done ORDER BY create_time";
        self.query_rows(sql).await
    }

    /// Bytes of a table on disk; 0 if it is not there.
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
