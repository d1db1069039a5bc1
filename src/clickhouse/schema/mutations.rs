//! The rewriting of tables that goes on in the server, and how large a table is.

use klickhouse::Value;

use crate::clickhouse::connection::{Connection, text};
use crate::clickhouse::error::{Error, unexpected};
use crate::clickhouse::sql::quote;

/// A rewriting of a table that goes on in the server.
#[derive(Debug, Clone, PartialEq, Eq)]
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
        let sql = "SELECT table, command, toInt64(parts_to_do), latest_fail_reason FROM system.mutations \
             WHERE database = currentDatabase() AND NOT is_done ORDER BY create_time";
        let rows = self.rows(sql).await?;
        rows.iter()
            .map(|row| mutation(row).ok_or_else(|| unexpected("the mutations")))
            .collect()
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
        match self.rows(&sql).await?.first().map(Vec::as_slice) {
            Some([Value::UInt64(bytes)]) => Ok(*bytes),
            _ => Err(unexpected("the size of a table")),
        }
    }
}

fn mutation(row: &[Value]) -> Option<Mutation> {
    let [table, command, Value::Int64(parts_to_do), failure] = row else {
        return None;
    };
    Some(Mutation {
        table: text(table)?,
        command: text(command)?,
        parts_to_do: *parts_to_do,
        failure: text(failure)?,
    })
}
