//! A partition read in order, also when its log begins later than expected or is another one.

use std::time::Duration;

use anyhow::bail;
use uuid::Uuid;

use super::client::Kafka;
use super::connect::raise_quota;
use super::fetcher::{FetchError, Fetched, Reader};
use super::protocol::records::Record;

/// What happened to a log that is not the one that was read before, though the topic is.
const LOST_ITS_END: &str = "the log lost its end; docs/exactly-once.md says what that means";

/// A place in a partition's log.
pub struct PartitionConsumer {
    reader: Reader,
    name: String,
    /// The offset that comes next.
    next: i64,
    /// The end of the log when it was last heard of.
    end: i64,
    /// By the last fetch.
    throttled: Duration,
}

impl Kafka {
    /// The log of a partition, from an offset on.
    ///
    /// # Errors
    /// As [`Kafka::reader`].
    pub async fn log(&self, number: i32, next: i64) -> anyhow::Result<PartitionConsumer> {
        Ok(PartitionConsumer {
            reader: self.reader(number).await?,
            name: format!("{}:{number}", self.topic()),
            next,
            end: 0,
            throttled: Duration::ZERO,
        })
    }

    /// The first record of a partition from an offset on that Kafka has, if there is one, and the offset after the last
    /// one. Looks once, half a second at most, and connects for it.
    ///
    /// # Errors
    /// As [`Kafka::reader`], or the log ends before the offset.
    pub async fn first_record(&self, number: i32, from: i64) -> anyhow::Result<(Option<Record>, i64)> {
        let reader = self.reader(number).await?;
        let mut fetched = reader.fetch(from, Reader::ONE_BATCH).await;
        if matches!(fetched, Err(FetchError::OutOfRange)) {
            let start = reader.start().await?;
            fetched = reader.fetch(start.max(from), Reader::ONE_BATCH).await;
        }
        match fetched {
            Ok(Fetched { records, end, .. }) => {
                let end = match end {
                    Some(end) => end,
                    None => reader.end_meanwhile().await?,
                };
                Ok((records.into_iter().next(), end))
            }
            Err(FetchError::OutOfRange) => {
                bail!("kafka has no {from} of {}:{number}", self.topic())
            }
            Err(FetchError::Failed(err)) => Err(err),
        }
    }
}

impl PartitionConsumer {
    /// The offset that comes next: whatever lies before it was handed out, or Kafka does not have it.
    pub fn next(&self) -> i64 {
        self.next
    }

    /// The offset after the last record, when it was last heard of.
    pub fn end(&self) -> i64 {
        self.end
    }

    /// How long the broker hands out nothing, as the last fetch heard, because a quota is used up; 0 if none is.
    pub fn throttled(&self) -> Duration {
        self.throttled
    }

    /// Goes on at a later offset.
    pub fn skip_to(&mut self, offset: i64) {
        self.next = self.next.max(offset);
    }

    /// Fetches once, about `bytes_max` bytes. May bring nothing and yet lead on, as [`PartitionConsumer::next`] tells.
    ///
    /// # Errors
    /// Kafka is away, or its log ends before the offset that comes next.
    pub async fn fetch(&mut self, bytes_max: i32) -> anyhow::Result<Vec<Record>> {
        match self.reader.fetch(self.next, bytes_max).await {
            Ok(fetched) => {
                self.next = fetched.next;
                self.throttled = fetched.throttled;
                self.end = match fetched.end {
                    Some(end) => end,
                    None => self.reader.end_meanwhile().await?,
                };
                Ok(fetched.records)
            }
            Err(FetchError::OutOfRange) => {
                self.skip_to_start().await?;
                Ok(Vec::new())
            }
            Err(FetchError::Failed(err)) => Err(err),
        }
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
            bail!("kafka's log of {name} has the offsets {start} to {end}, but {next} comes next: {LOST_ITS_END}");
        }
        tracing::warn!(log = %name, from = next, to = start, "kafka dropped records before they were read");
        self.next = start;
        self.end = end;
        Ok(())
    }

    /// Which topic of its name is read.
    pub fn topic_id(&self) -> Uuid {
        self.reader.topic_id()
    }

    /// The first offset that is still there and the one after the last.
    ///
    /// # Errors
    /// No answer within 3 seconds each.
    pub async fn range(&self) -> anyhow::Result<(i64, i64)> {
        Ok((self.reader.start().await?, self.reader.end().await?))
    }

    /// The offset after the last record that was confirmed before this was called, readable or not.
    ///
    /// # Errors
    /// No answer within 3 seconds.
    pub async fn confirmed_end(&self) -> anyhow::Result<i64> {
        self.reader.end().await
    }

    /// The record at an offset; `None` if Kafka does not have it.
    ///
    /// # Errors
    /// Kafka is away.
    pub async fn record_at(&self, offset: i64) -> anyhow::Result<Option<Record>> {
        match self.reader.fetch(offset, Reader::ONE_BATCH).await {
            Ok(Fetched { end: None, .. }) => bail!(
                "kafka throttles captcha and does not say what lies at {offset} of {}; {}",
                self.name,
                raise_quota("consumer_byte_rate")
            ),
            Ok(Fetched { records, .. }) => Ok(records.into_iter().find(|record| record.offset == offset)),
            Err(FetchError::OutOfRange) => Ok(None),
            Err(FetchError::Failed(err)) => Err(err),
        }
    }

    /// Another record stands at an offset than the one that was read there before.
    pub fn is_another(&self, offset: i64) -> anyhow::Error {
        anyhow::anyhow!(
            "kafka's log of {} has another record at {offset} than clickhouse: {LOST_ITS_END}",
            self.name
        )
    }
}
