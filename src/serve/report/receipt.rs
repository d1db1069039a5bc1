//! `wait`: a report that is asked for once the event of a receipt is in the table.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout_at};

use crate::clickhouse::{Cluster, Error, Heads};
use crate::kafka::Kafka;
use crate::topic_partition::{Offset, Partition};

/// Between two looks at the heads, of all who wait together. Most events are stored within 50 ms.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// After this time Kafka is asked whether it has the offset at all: 99 of 100 events are stored by then.
const DOUBT_AFTER: Duration = Duration::from_secs(1);

/// A receipt, as `POST /v1/events` gives it for an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    pub partition: Partition,
    pub offset: Offset,
}

impl Receipt {
    /// Reads `partition:offset`.
    ///
    /// # Errors
    /// One short phrase that says what is expected.
    pub fn parse(text: &str) -> Result<Receipt, &'static str> {
        let parsed = text.split_once(':').and_then(|(partition, offset)| {
            // Neither number has a sign.
            let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
            let numbers = is_digits(partition).then(|| partition.parse().ok()).flatten();
            let offset = is_digits(offset).then(|| offset.parse().ok()).flatten();
            Some(Receipt {
                partition: Partition::new(numbers?),
                offset: Offset::new(offset?),
            })
        });
        parsed.ok_or("not a receipt like 3:57")
    }
}

/// Why an event was not awaited.
#[derive(Debug)]
pub enum WaitError {
    /// The topic does not have it: a short reason.
    Foreign(String),
    /// It is not stored yet, and time is over: how far its partition is.
    NotStored(Receipt, Option<Offset>),
    Clickhouse(Error),
}

/// Readers who wait for events.
pub struct ReceiptWaits {
    cluster: Cluster,
    kafka: Kafka,
    /// What was seen last, of each shard.
    seen: Vec<Mutex<Seen>>,
    /// Where Kafka's logs ended when it was asked last.
    ends: Mutex<BTreeMap<Partition, Offset>>,
}

#[derive(Default)]
struct Seen {
    at: Option<Instant>,
    heads: Heads,
}

impl ReceiptWaits {
    pub fn new(cluster: Cluster, kafka: Kafka) -> ReceiptWaits {
        ReceiptWaits {
            seen: cluster.iter().map(|_| Mutex::default()).collect(),
            ends: Mutex::default(),
            cluster,
            kafka,
        }
    }

    /// Waits until the table has the event of a receipt.
    ///
    /// # Errors
    /// [`WaitError`].
    pub async fn wait(&self, receipt: Receipt, until: Instant) -> Result<(), WaitError> {
        let mut head = None;
        let stored = self.stored(receipt, &mut head);
        let stored = timeout_at(until, stored).await;
        stored.unwrap_or(Err(WaitError::NotStored(receipt, head)))
    }

    async fn stored(&self, receipt: Receipt, head: &mut Option<Offset>) -> Result<(), WaitError> {
        let doubt_at = Instant::now() + DOUBT_AFTER;
        let mut is_doubted = false;
        loop {
            let heads = self.heads(receipt.partition).await.map_err(WaitError::Clickhouse)?;
            *head = heads.next.get(&receipt.partition).copied();
            if head.is_some_and(|head| head > receipt.offset) {
                return Ok(());
            }
            if !heads.has(receipt.partition) {
                let topic = self.kafka.topic();
                return Err(WaitError::Foreign(format!(
                    "topic {topic} has no partition {}",
                    receipt.partition
                )));
            }
            if !is_doubted && Instant::now() >= doubt_at {
                is_doubted = true;
                self.check_offset(receipt).await?;
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// The heads in the shard of a partition: those that somebody else just read, or newer ones.
    async fn heads(&self, partition: Partition) -> Result<Heads, Error> {
        for (shard, seen) in self.cluster.iter().zip(&self.seen) {
            if !shard.id().holds(partition) {
                continue;
            }
            let mut seen = seen.lock().await;
            let is_new = seen.at.is_some_and(|at| at.elapsed() < LOOK_INTERVAL / 2);
            if !is_new {
                seen.heads = shard.heads(&self.kafka.topic().to_string()).await?;
                seen.at = Some(Instant::now());
            }
            return Ok(seen.heads.clone());
        }
        Ok(Heads::default())
    }

    /// Refuses a receipt whose offset Kafka's log does not have, as one of a topic that was made again. While Kafka is
    /// away, nothing is refused.
    async fn check_offset(&self, receipt: Receipt) -> Result<(), WaitError> {
        let mut ends = self.ends.lock().await;
        let mut end = ends.get(&receipt.partition).copied();
        if end.is_none_or(|end| end <= receipt.offset) {
            let asked = async { self.kafka.fetcher(receipt.partition).await?.latest_offset().await };
            end = asked.await.ok();
            ends.extend(end.map(|end| (receipt.partition, end)));
        }
        match end {
            Some(end) if end <= receipt.offset => Err(WaitError::Foreign(format!(
                "kafka's log of partition {} ends at {end} and does not have it; a topic that was made again has other \
                 receipts",
                receipt.partition
            ))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_two_numbers() {
        let receipt = Receipt {
            partition: Partition::new(3),
            offset: Offset::new(57),
        };
        assert_eq!(Receipt::parse("3:57"), Ok(receipt));
        let too_large = format!("0:{}0", i64::MAX);
        for text in [
            "",
            ":",
            "3",
            "3:",
            ":57",
            "+3:57",
            "3:-1",
            "3:57:1",
            " 3:57",
            "a:b",
            "2147483648:0",
            &too_large,
        ] {
            assert!(Receipt::parse(text).is_err(), "{text}");
        }
    }
}
