//! Reads one partition in order, also if its log begins later than expected, and not if it is another log.

use std::time::Duration;

use anyhow::bail;
use uuid::Uuid;

use super::client::Kafka;
use super::connect::quota_advice;
use super::fetcher::{FetchError, Fetched, Fetcher};
use super::protocol::record_reader::Record;
use crate::topic_partition::{Offset, Partition};

/// For a log that is not the one that was read before, though the topic is.
const LOST_ITS_END: &str = "the log lost its end; docs/exactly-once.md says what that means";

/// A position in the log of a partition.
pub struct PartitionConsumer {
    fetcher: Fetcher,
    /// `topic:partition`, for messages.
    name: String,
    position: Offset,
    /// As of the last fetch.
    end_offset: Offset,
    /// As of the last fetch.
    throttled: Duration,
}

impl Kafka {
    /// Reads a partition from an offset on.
    ///
    /// # Errors
    /// As [`Kafka::fetcher`].
    pub async fn partition_consumer(
        &self,
        partition: Partition,
        position: Offset,
    ) -> anyhow::Result<PartitionConsumer> {
        Ok(PartitionConsumer {
            fetcher: self.fetcher(partition).await?,
            name: format!("{}:{partition}", self.topic()),
            position,
            end_offset: Offset::ZERO,
            throttled: Duration::ZERO,
        })
    }

    /// The first record that Kafka has from an offset on, if there is one, and the end offset. Makes a connection of
    /// its own and fetches once, half a second at most.
    ///
    /// # Errors
    /// As [`Kafka::fetcher`], or the log ends before the offset.
    pub async fn first_record_from(
        &self,
        partition: Partition,
        from: Offset,
    ) -> anyhow::Result<(Option<Record>, Offset)> {
        let fetcher = self.fetcher(partition).await?;
        let mut fetched = fetcher.fetch(from, Fetcher::ONE_BATCH).await;
        if matches!(fetched, Err(FetchError::OutOfRange)) {
            let log_start = fetcher.earliest_offset().await?;
            fetched = fetcher.fetch(log_start.max(from), Fetcher::ONE_BATCH).await;
        }
        match fetched {
            Ok(Fetched {
                records, end_offset, ..
            }) => {
                let end_offset = match end_offset {
                    Some(end_offset) => end_offset,
                    None => fetcher.latest_offset_if_throttled().await?,
                };
                Ok((records.into_iter().next(), end_offset))
            }
            Err(FetchError::OutOfRange) => {
                bail!("kafka has no {from} of {}:{partition}", self.topic())
            }
            Err(FetchError::Failed(err)) => Err(err),
        }
    }
}

impl PartitionConsumer {
    /// The offset to read next. Everything before it was returned, or is not in Kafka.
    pub fn position(&self) -> Offset {
        self.position
    }

    /// The offset after the last record, as of the last fetch.
    pub fn end_offset(&self) -> Offset {
        self.end_offset
    }

    /// How long the broker returns nothing, as of the last fetch, because a quota is used up; else 0.
    pub fn throttled(&self) -> Duration {
        self.throttled
    }

    /// Moves the position to a later offset.
    pub fn skip_to(&mut self, offset: Offset) {
        self.position = self.position.max(offset);
    }

    /// Fetches once, about `max_bytes`. May return no records and yet move [`PartitionConsumer::position`].
    ///
    /// # Errors
    /// Kafka is away, or its log ends before the position.
    pub async fn fetch(&mut self, max_bytes: i32) -> anyhow::Result<Vec<Record>> {
        match self.fetcher.fetch(self.position, max_bytes).await {
            Ok(fetched) => {
                self.position = fetched.next_offset;
                self.throttled = fetched.throttled;
                self.end_offset = match fetched.end_offset {
                    Some(end_offset) => end_offset,
                    None => self.fetcher.latest_offset_if_throttled().await?,
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

    /// The log does not have the position. If it begins later, retention overtook the consumer; if it ends earlier, it
    /// is another log than the one that was read before.
    async fn skip_to_start(&mut self) -> anyhow::Result<()> {
        let (name, position) = (&self.name, self.position);
        let (log_start, end_offset) = self.offset_range().await?;
        if log_start == position {
            bail!("kafka's log of {name} begins at {position} and does not have it");
        }
        if end_offset < position || log_start < position {
            bail!(
                "kafka's log of {name} has the offsets {log_start} to {end_offset}, but {position} comes next: \
                 {LOST_ITS_END}"
            );
        }
        tracing::warn!(log = %name, from = position.get(), to = log_start.get(), "kafka dropped records before they were read");
        self.position = log_start;
        self.end_offset = end_offset;
        Ok(())
    }

    pub fn topic_id(&self) -> Uuid {
        self.fetcher.topic_id()
    }

    /// The earliest offset, and the one after the last record.
    ///
    /// # Errors
    /// No answer within 3 seconds each.
    pub async fn offset_range(&self) -> anyhow::Result<(Offset, Offset)> {
        Ok((
            self.fetcher.earliest_offset().await?,
            self.fetcher.latest_offset().await?,
        ))
    }

    /// The offset after the last record that was confirmed before the call, readable or not.
    ///
    /// # Errors
    /// No answer within 3 seconds.
    pub async fn confirmed_end(&self) -> anyhow::Result<Offset> {
        self.fetcher.latest_offset().await
    }

    /// The record at an offset; `None` if Kafka does not have it.
    ///
    /// # Errors
    /// Kafka is away.
    pub async fn record_at(&self, offset: Offset) -> anyhow::Result<Option<Record>> {
        match self.fetcher.fetch(offset, Fetcher::ONE_BATCH).await {
            Ok(Fetched { end_offset: None, .. }) => bail!(
                "kafka throttles captcha and does not say what lies at {offset} of {}; {}",
                self.name,
                quota_advice("consumer_byte_rate")
            ),
            Ok(Fetched { records, .. }) => Ok(records.into_iter().find(|record| record.offset == offset)),
            Err(FetchError::OutOfRange) => Ok(None),
            Err(FetchError::Failed(err)) => Err(err),
        }
    }

    /// The error for an offset whose record is not the one that was read there before.
    pub fn other_record_error(&self, offset: Offset) -> anyhow::Error {
        anyhow::anyhow!(
            "kafka's log of {} has another record at {offset} than clickhouse: {LOST_ITS_END}",
            self.name
        )
    }
}
