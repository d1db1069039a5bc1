//! A partition read in order, over everything that may stand in the way: transaction markers, and a log that
//! begins later than expected or is another one.

use anyhow::bail;

use super::partition::{FetchError, Fetched, Partition};
use super::{Broker, Record};

/// Bytes that are asked for after one batch came through alone.
const LIMIT_AFTER_BATCH: i32 = 4 << 10;

/// What is to be done about another log.
const MADE_ANEW: &str = "the topic was made anew; `captcha migrate --topic-made-anew` goes on with it from its beginning";

/// A place in a partition's log.
pub struct Log {
    partition: Partition,
    name: String,
    /// The offset that comes next.
    next: i64,
    /// Bytes that the next fetch asks for at most: few after a transaction marker, because more may be near
    /// and each would spoil a whole answer.
    limit: i32,
    /// The end of the log when it was last heard of.
    end: i64,
}

impl Broker {
    /// The log of a partition, from an offset on.
    ///
    /// # Errors
    /// As [`Broker::partition`].
    pub async fn log(&self, number: i32, next: i64) -> anyhow::Result<Log> {
        Ok(Log {
            partition: self.partition(number).await?,
            name: format!("{}:{number}", self.topic()),
            next,
            limit: i32::MAX,
            end: 0,
        })
    }
}

impl Log {
    /// The offset that comes next: whatever lies before it was handed out, or Kafka does not have it.
    pub fn next(&self) -> i64 {
        self.next
    }

    /// The offset after the last record, when it was last heard of.
    pub fn end(&self) -> i64 {
        self.end
    }

    /// Goes on at a later offset.
    pub fn skip_to(&mut self, offset: i64) {
        self.next = self.next.max(offset);
    }

    /// Fetches once, about `bytes_max` bytes. May bring nothing and yet lead on, as [`Log::next`] tells.
    ///
    /// # Errors
    /// Kafka is away, or its log ends before the offset that comes next.
    pub async fn fetch(&mut self, bytes_max: i32) -> anyhow::Result<Vec<Record>> {
        let limit = self.limit.min(bytes_max);
        match self.partition.fetch(self.next, limit).await {
            Ok(Fetched { records, end }) => {
                self.limit = limit.saturating_mul(2).max(LIMIT_AFTER_BATCH);
                self.end = end;
                self.next = records.last().map_or(self.next, |last| last.offset + 1);
                return Ok(records);
            }
            Err(FetchError::OutOfRange) => self.skip_to_start().await?,
            // One batch at a time up to the marker, and past it.
            Err(FetchError::Marker) if limit > Partition::ONE_BATCH => {
                self.limit = Partition::ONE_BATCH;
            }
            Err(FetchError::Marker) => self.next += 1,
            Err(FetchError::Failed(err)) => return Err(err),
        }
        Ok(Vec::new())
    }

    /// The log does not have the offset that comes next. If it begins later, retention was faster than we;
    /// if it ends earlier, it is another log than the one that was read before.
    async fn skip_to_start(&mut self) -> anyhow::Result<()> {
        let (name, next) = (&self.name, self.next);
        let (start, end) = self.range().await?;
        if start == next {
            bail!("kafka's log of {name} begins at {next} and does not have it");
        }
        if end < next || start < next {
            bail!(
                "kafka's log of {name} has the offsets {start} to {end}, but {next} comes next: {MADE_ANEW}"
            );
        }
        tracing::warn!(log = %name, from = next, to = start, "kafka dropped records before they were read");
        self.next = start;
        self.end = end;
        Ok(())
    }

    /// The first offset that is still there and the one after the last.
    ///
    /// # Errors
    /// No answer within 3 seconds each.
    pub async fn range(&self) -> anyhow::Result<(i64, i64)> {
        self.partition.range().await
    }

    /// The offset after the last record that was confirmed before this was called, even if an open transaction
    /// keeps it from readers.
    ///
    /// # Errors
    /// No answer in time.
    pub async fn confirmed_end(&self) -> anyhow::Result<i64> {
        match self.partition.confirmed_end().await {
            Ok(end) => Ok(end),
            Err(FetchError::Failed(err)) => Err(err),
            Err(_) => bail!(
                "kafka's log of {} changed while its end was asked for",
                self.name
            ),
        }
    }

    /// The record at an offset; `None` if Kafka does not have it.
    ///
    /// # Errors
    /// Kafka is away.
    pub async fn record_at(&self, offset: i64) -> anyhow::Result<Option<Record>> {
        match self.partition.fetch(offset, Partition::ONE_BATCH).await {
            Ok(Fetched { records, .. }) => {
                Ok(records.into_iter().find(|record| record.offset == offset))
            }
            Err(FetchError::OutOfRange | FetchError::Marker) => Ok(None),
            Err(FetchError::Failed(err)) => Err(err),
        }
    }

    /// Another record stands at an offset than the one that was read there before.
    pub fn is_another(&self, offset: i64) -> anyhow::Error {
        anyhow::anyhow!(
            "kafka's log of {} has another record at {offset} than clickhouse: {MADE_ANEW}",
            self.name
        )
    }
}
