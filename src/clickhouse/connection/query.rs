//! Queries with a timeout, and answers that are complete.

use std::time::Duration;

use futures_util::StreamExt as _;
use klickhouse::block::Block;
use klickhouse::{FromSql, KlickhouseError, Row, ToSql, UnitValue};
use tokio::time::timeout;

use super::connect::Connection;
use super::exception;
use super::query_limits::{GrantedSettings, QUERY_TIMEOUT};
use super::quorum_retry::QuorumRetry;
use crate::clickhouse::error::Error;
use crate::clickhouse::sql::Identifier;

/// Rows of an answer that is held whole. The largest, of all partitions of a topic, have some thousands.
const ROWS_MAX: usize = 100_000;

impl Connection {
    pub(crate) async fn use_database(&self, database: &Identifier) -> Result<(), Error> {
        self.execute(&format!("USE {database}")).await
    }

    pub(crate) async fn execute(&self, sql: &str) -> Result<(), Error> {
        let retry = QuorumRetry::new();
        loop {
            let answer = self.for_each_block(sql, QUERY_TIMEOUT, |_| Ok(())).await;
            if !retry.wait_to_resend(&answer).await {
                return answer;
            }
        }
    }

    /// The driver's error for people.
    pub(crate) fn explain(&self, err: KlickhouseError) -> Error {
        match err {
            KlickhouseError::ServerException { code, message, .. } => {
                exception::explain(self.address(), self.database(), code, &message)
            }
            KlickhouseError::ProtocolError(_) => self.connection_error("closed the connection"),
            other => self.connection_error(&format!("could not be understood: {other}")),
        }
    }

    /// Hands over the blocks of an answer one by one. An answer that is cut short looks complete to the driver; only the
    /// packet at its end, which is counted before the driver reads it, proves that it was.
    pub(crate) async fn for_each_block(
        &self,
        sql: &str,
        limit: Duration,
        on_block: impl FnMut(Block) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let settings = GrantedSettings::default();
        self.for_each_block_with(sql, &settings, limit, on_block).await
    }

    /// The same, with settings that travel with the query.
    pub(crate) async fn for_each_block_with(
        &self,
        sql: &str,
        settings: &GrantedSettings,
        limit: Duration,
        on_block: impl FnMut(Block) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let ask = async {
            let before = self.whole_answers();
            self.drain(sql, settings, on_block).await?;
            match self.whole_answers() == before + 1 {
                true => Ok(()),
                false => Err(self.connection_error("closed the connection in the middle of an answer")),
            }
        };
        match timeout(limit, ask).await {
            Ok(answer) => answer,
            Err(_) => Err(self.connection_error(&format!("did not answer within {} s", limit.as_secs()))),
        }
    }

    async fn drain(
        &self,
        sql: &str,
        settings: &GrantedSettings,
        mut on_block: impl FnMut(Block) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let stream = self.client.query_raw(sql, Some(settings.to_map())).await;
        let mut stream = stream.map_err(|err| self.explain(err))?;
        while let Some(block) = stream.next().await {
            let block = block.map_err(|err| self.explain(err))?;
            if block.rows > 0 {
                on_block(block)?;
            }
        }
        Ok(())
    }

    /// Hands over the rows of an answer one by one.
    pub(crate) async fn for_each_row<T: Row>(
        &self,
        sql: &str,
        limit: Duration,
        mut on_row: impl FnMut(T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.for_each_block(sql, limit, |block| self.read_rows(block, &mut on_row))
            .await
    }

    /// The rows of a small answer.
    pub(crate) async fn query_rows<T: Row>(&self, sql: &str) -> Result<Vec<T>, Error> {
        let mut rows = Vec::new();
        self.for_each_row(sql, QUERY_TIMEOUT, |row| {
            rows.push(row);
            match rows.len() {
                0..=ROWS_MAX => Ok(()),
                _ => Err(self.connection_error(&format!("gave more than {ROWS_MAX} rows for a few"))),
            }
        })
        .await?;
        Ok(rows)
    }

    /// The first row of a small answer, if it has any.
    pub(crate) async fn query_opt<T: Row>(&self, sql: &str) -> Result<Option<T>, Error> {
        Ok(self.query_rows(sql).await?.into_iter().next())
    }

    /// The values of a small answer of one column.
    pub(crate) async fn query_values<T: FromSql + ToSql>(&self, sql: &str) -> Result<Vec<T>, Error> {
        let rows = self.query_rows::<UnitValue<T>>(sql).await?;
        Ok(rows.into_iter().map(|UnitValue(value)| value).collect())
    }

    /// The value of an answer of one column and one row.
    pub(crate) async fn query_value<T: FromSql + ToSql>(&self, sql: &str) -> Result<T, Error> {
        let first = self.query_values(sql).await?.into_iter().next();
        first.ok_or_else(|| self.explain(KlickhouseError::MissingRow))
    }

    /// Hands over the rows of a block, each column by its name.
    pub(crate) fn read_rows<T: Row>(
        &self,
        mut block: Block,
        mut on_row: impl FnMut(T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        check_names::<T>(&block).map_err(|err| self.explain(err))?;
        for row in block.take_iter_rows() {
            on_row(T::deserialize_row(row).map_err(|err| self.explain(err))?)?;
        }
        Ok(())
    }
}

/// Refuses a column that the row does not have. The derived `deserialize_row` would read it by its position. It refuses
/// a column that is missing, or has another type, by itself.
fn check_names<T: Row>(block: &Block) -> klickhouse::Result<()> {
    let Some(names) = T::column_names() else {
        return Ok(());
    };
    match block
        .column_types
        .keys()
        .find(|name| !names.iter().any(|known| known == *name))
    {
        Some(name) => Err(KlickhouseError::DeserializeError(format!("unexpected column {name}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use klickhouse::block::BlockInfo;
    use klickhouse::{IndexMap, Type, Value};

    use super::*;

    #[derive(Debug, PartialEq, klickhouse::Row)]
    struct Pair {
        name: String,
        count: u64,
    }

    fn read(columns: [(&str, Type, Value); 2]) -> Result<Pair, String> {
        let mut block = Block {
            info: BlockInfo::default(),
            rows: 1,
            column_types: IndexMap::new(),
            column_data: IndexMap::new(),
        };
        for (name, column_type, value) in columns {
            block.column_types.insert(name.to_string(), column_type);
            block.column_data.insert(name.to_string(), vec![value]);
        }
        check_names::<Pair>(&block).map_err(|err| err.to_string())?;
        let row = block.take_iter_rows().next().expect("a row");
        Pair::deserialize_row(row).map_err(|err| err.to_string())
    }

    #[test]
    fn columns_are_read_by_name_and_type_and_never_by_position() {
        let name = |name| (name, Type::String, Value::String(b"a".to_vec()));
        let count = |name| (name, Type::UInt64, Value::UInt64(7));
        let pair = Pair {
            name: "a".to_string(),
            count: 7,
        };
        assert_eq!(read([count("count"), name("name")]), Ok(pair));
        let other = read([name("name"), count("sum")]);
        assert_eq!(other.unwrap_err(), "deserialize error: unexpected column sum");
        let signed = read([name("name"), ("count", Type::Int64, Value::Int64(7))]);
        assert!(signed.unwrap_err().contains("count"));
        assert_eq!(read([name("name"), name("name")]).unwrap_err(), "missing field count");
        let binary = read([("name", Type::String, Value::String(vec![0xff])), count("count")]);
        assert!(binary.unwrap_err().starts_with("utf-8 conversion error"));
    }
}
