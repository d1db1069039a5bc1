//! Questions with a limit in time, and answers that are whole.

use std::time::Duration;

use futures_util::StreamExt as _;
use klickhouse::block::Block;
use klickhouse::{KlickhouseError, Value};
use tokio::time::timeout;

use super::connect::Connection;
use super::exception;
use super::quorum_retry::QuorumRetry;
use crate::clickhouse::error::Error;
use crate::clickhouse::sql::Identifier;

/// For a question whose answer is small. With connecting it keeps an HTTP report that
/// ClickHouse does not answer under the 10 seconds that the contract promises.
pub(crate) const QUERY_TIMEOUT: Duration = Duration::from_secs(6);

/// Rows of an answer that is held whole. The largest, of all partitions of a topic, have some thousands.
const ROWS_MAX: usize = 100_000;

impl Connection {
    /// Questions are about this database from now on.
    pub(crate) async fn use_database(&self, database: &Identifier) -> Result<(), Error> {
        self.execute(&format!("USE {database}")).await
    }

    pub(crate) async fn execute(&self, sql: &str) -> Result<(), Error> {
        let turn = QuorumRetry::new();
        loop {
            let answer = self.for_each_block(sql, QUERY_TIMEOUT, |_| Ok(())).await;
            if !turn.wait_to_resend(&answer).await {
                return answer;
            }
        }
    }

    /// What a driver's error means to people.
    pub(crate) fn explain(&self, err: KlickhouseError) -> Error {
        match err {
            KlickhouseError::ServerException { code, message, .. } => {
                exception::explain(self.address(), self.database(), code, &message)
            }
            KlickhouseError::ProtocolError(_) => self.connection_error("closed the connection"),
            other => self.connection_error(&format!("could not be understood: {other}")),
        }
    }

    /// Hands over the blocks of an answer one by one. An answer that is cut short looks complete to the
    /// driver, so a second question on the same connection proves that the first was answered to its end.
    pub(crate) async fn for_each_block(
        &self,
        sql: &str,
        limit: Duration,
        mut on_block: impl FnMut(Block) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let ask = async {
            self.drain(sql, &mut on_block).await?;
            let mut answered = 0;
            self.drain("SELECT 1", |block| {
                answered += block.rows;
                Ok(())
            })
            .await?;
            match answered {
                1 => Ok(()),
                _ => Err(self.connection_error("closed the connection in the middle of an answer")),
            }
        };
        match timeout(limit, ask).await {
            Ok(answer) => answer,
            Err(_) => Err(self.connection_error(&format!("did not answer within {} s", limit.as_secs()))),
        }
    }

    async fn drain(&self, sql: &str, mut on_block: impl FnMut(Block) -> Result<(), Error>) -> Result<(), Error> {
        let stream = self.client.query_raw(sql, None).await;
        let mut stream = stream.map_err(|err| self.explain(err))?;
        while let Some(block) = stream.next().await {
            let block = block.map_err(|err| self.explain(err))?;
            if block.rows > 0 {
                on_block(block)?;
            }
        }
        Ok(())
    }

    /// The rows of a small answer.
    pub(crate) async fn rows(&self, sql: &str) -> Result<Vec<Vec<Value>>, Error> {
        let mut rows = Vec::new();
        self.for_each_block(sql, QUERY_TIMEOUT, |block| {
            rows.extend(rows_of(block));
            match rows.len() {
                0..=ROWS_MAX => Ok(()),
                _ => Err(self.connection_error(&format!("gave more than {ROWS_MAX} rows for a few"))),
            }
        })
        .await?;
        Ok(rows)
    }
}

pub(crate) fn rows_of(mut block: Block) -> Vec<Vec<Value>> {
    block
        .take_iter_rows()
        .map(|row| row.into_iter().map(|(_, _, value)| value).collect())
        .collect()
}

/// The text of a value.
pub(crate) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(bytes) => String::from_utf8(bytes.clone()).ok(),
        _ => None,
    }
}
