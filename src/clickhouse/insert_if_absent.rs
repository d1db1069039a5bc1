//! Rows that must exist once, however many processes insert them and however often: a compare-and-swap for rare things.

use std::time::Duration;

use klickhouse::UnitValue;

use super::connection::settings::{INSERT_ONCE, supported};
use super::{Connection, Error, quote};

/// Tokens that are tried for one row. A crash burns one.
const GENERATIONS_MAX: u32 = 20;

/// How often, and how far apart, `system.processes` is read while another insert of the same row runs.
const RUNNING_LOOKS: u32 = 100;
const RUNNING_WAIT: Duration = Duration::from_millis(100);

/// A row that must exist once.
pub(crate) struct InsertIfAbsent {
    /// The table, and the columns in parentheses.
    pub table: &'static str,
    /// The values of the columns, as SQL.
    pub values: String,
    /// `FROM` and `WHERE` of a query that finds the row, or one that takes its place.
    pub exists: String,
    /// The same for all processes that insert this row.
    pub token: String,
}

impl Connection {
    /// Inserts a row unless it exists; of many inserts at once, one succeeds. A token may be burnt: the server recorded
    /// it and died before it stored the row, and from then on answers Ok and stores nothing. So the row is read back.
    /// If it is missing, and no insert of it runs, the next token is tried.
    pub(crate) async fn insert_if_absent(&self, row: &InsertIfAbsent) -> Result<(), Error> {
        let InsertIfAbsent {
            table,
            values,
            exists,
            token,
        } = row;
        let settings = supported(INSERT_ONCE, self.version);
        for generation in 0..GENERATIONS_MAX {
            let token = format!("{token}#{generation}");
            self.execute(&format!(
                "INSERT INTO {table} SELECT {values} WHERE (SELECT count() {exists}) = 0 \
                 SETTINGS {settings}, insert_deduplication_token = {}",
                quote(&token)
            ))
            .await?;
            self.await_end_of_insert(&token).await?;
            let found = format!("SELECT 1 {exists} LIMIT 1");
            if self.query_opt::<UnitValue<u8>>(&found).await?.is_some() {
                return Ok(());
            }
        }
        Err(self.connection_error(&format!("drops every insert into {table}")))
    }

    async fn await_end_of_insert(&self, token: &str) -> Result<(), Error> {
        for _ in 0..RUNNING_LOOKS {
            if !self.is_inserting(token).await? {
                return Ok(());
            }
            tokio::time::sleep(RUNNING_WAIT).await;
        }
        Err(self.connection_error(&format!("is still working on the insert {token}")))
    }
}
