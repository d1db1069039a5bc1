//! The two connections of a worker, and where they stand.

use std::collections::VecDeque;

use anyhow::{Context as _, bail};

use crate::broker::{Broker, FetchError, Fetched, Partition, Record};
use crate::store::{Connection, Head, Place, Store};

/// From opening to the first failure.
pub struct Session {
    /// ClickHouse.
    pub store: Connection,
    /// Kafka.
    partition: Partition,
    place: Place,
    /// The head that was read last.
    pub head: i64,
    /// Arrival of the row before it.
    pub last_arrival_millis: Option<i64>,
    /// Records from the head on that are not stored yet.
    pub pending: VecDeque<Record>,
    /// Whether Kafka has more than was fetched.
    pub behind: bool,
    /// The end of Kafka's log when it was last heard of.
    end: i64,
}

impl Session {
    /// Connects to both and reads the head.
    ///
    /// # Errors
    /// One of them is away, or there are no tables.
    pub async fn open(broker: &Broker, store: &Store, place: &Place) -> anyhow::Result<Session> {
        let store = store.connect().await.context("cannot consume")?;
        let head = store.head(place).await?;
        let partition = broker.partition(place.partition).await?;
        let mut session = Session {
            store,
            partition,
            place: place.clone(),
            head: 0,
            last_arrival_millis: None,
            pending: VecDeque::new(),
            behind: false,
            end: 0,
        };
        session.go_on_at(head);
        Ok(session)
    }

    /// Fetches once and says how many records came.
    ///
    /// # Errors
    /// Kafka is away, or its log is not the one that was consumed.
    pub async fn fetch(&mut self) -> anyhow::Result<usize> {
        let from = self
            .pending
            .back()
            .map_or(self.head, |last| last.offset + 1);
        let fetched = match self.partition.fetch(from).await {
            Ok(fetched) => fetched,
            Err(FetchError::OutOfRange) => self.fetch_from_start(from).await?,
            Err(FetchError::Failed(err)) => return Err(err),
        };
        let count = fetched.records.len();
        self.pending.extend(fetched.records);
        let reached = self.pending.back().map_or(from, |last| last.offset + 1);
        self.behind = reached < fetched.end;
        self.end = fetched.end;
        Ok(count)
    }

    /// The log does not have the offset. If it begins later, retention was faster than we, and what is
    /// missing becomes a gap; if it ends earlier, it is another log than the one that was consumed.
    async fn fetch_from_start(&self, from: i64) -> anyhow::Result<Fetched> {
        let Place { topic, partition } = &self.place;
        let (start, end) = self.partition.range().await?;
        if end < from || start < from {
            bail!(
                "kafka's log of {topic}:{partition} has the offsets {start} to {end}, but {from} comes next: the topic was made anew; \
                 consume it under another name or into another database"
            );
        }
        tracing::warn!(
            partition,
            from,
            to = start,
            "kafka dropped records before they were consumed"
        );
        match self.partition.fetch(start).await {
            Ok(fetched) => Ok(fetched),
            Err(FetchError::OutOfRange) => bail!("kafka's log of {topic}:{partition} moves away"),
            Err(FetchError::Failed(err)) => Err(err),
        }
    }

    /// Takes a head for true and forgets the records below it.
    pub fn go_on_at(&mut self, head: Option<Head>) {
        self.head = head.map_or(0, |head| head.next);
        self.last_arrival_millis = head.map(|head| head.arrival_millis);
        let stored = self
            .pending
            .partition_point(|record| record.offset < self.head);
        self.pending.drain(..stored);
    }

    /// Bytes of the records that are not stored yet.
    pub fn pending_bytes(&self) -> usize {
        self.pending
            .iter()
            .map(|record| record.value.as_ref().map_or(0, Vec::len))
            .sum()
    }

    /// Records in Kafka that are not in ClickHouse yet.
    pub fn lag_records(&self) -> i64 {
        self.end - self.head
    }
}
