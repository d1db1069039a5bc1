//! Rows that are to be there once, whoever inserts them and however often: a compare-and-swap for rare things.

use std::time::Duration;

use klickhouse::UnitValue;

use super::connection::settings::{INSERT_ONCE, supported};
use super::{Connection, Error, quote};

/// Tokens that are tried for one row. A crash burns one; nobody crashes that often.
const GENERATIONS_MAX: u32 = 20;

/// For an insert of somebody else that is still running, and between looks.
const RUNNING_LOOKS: u32 = 100;
const RUNNING_WAIT: Duration = Duration::from_millis(100);

/// A row that is to be there once.
pub(crate) struct InsertIfAbsent {
    /// Table and columns.
    pub table: &'static str,
    /// The row.
    pub values: String,
    /// `FROM` and `WHERE` of a question that the row, or one that stands for it, answers.
    pub exists: String,
    /// What all who insert it call it.
    pub token: String,
}

impl Connection {
    /// Inserts a row unless it is there; of many at once, one does. A token may be burnt: the server noted
    /// it and died before it kept the row, and from then on answers Ok and keeps nothing. So the row is
    /// looked for, and if it is not there and nobody is inserting it, the next token is tried.
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
