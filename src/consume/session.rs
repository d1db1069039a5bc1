//! The two connections of a worker, and where they stand.

use anyhow::{Context as _, bail};

use super::batch::{Pending, is_made_of};
use crate::broker::{Broker, FetchError, Fetched, Partition};
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
    /// What follows the head.
    pub pending: Pending,
    /// Bytes that the next fetch asks for at most: few after a transaction marker, because more may be near
    /// and each would spoil a whole answer.
    limit: i32,
    /// The end of Kafka's log when it was last heard of.
    end: i64,
}

impl Session {
    /// Connects to both, reads the head and checks that Kafka's log is the one that the table was made of.
    ///
    /// # Errors
    /// One of them is away, there are no tables, or the log is another one.
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
            pending: Pending::default(),
            limit: i32::MAX,
            end: 0,
        };
        session.go_on_at(head);
        if let Some(head) = head {
            session.check_log(&head).await?;
        }
        Ok(session)
    }

    /// The record before the head must be the one that its row was made of. What Kafka does not have any
    /// more cannot be compared.
    async fn check_log(&self, head: &Head) -> anyhow::Result<()> {
        let before = head.next - 1;
        let fetched = match self.partition.fetch(before, Partition::ONE_BATCH).await {
            Ok(fetched) => fetched,
            // The first fetch of what follows tells which of its two reasons this has.
            Err(FetchError::OutOfRange | FetchError::Marker) => return Ok(()),
            Err(FetchError::Failed(err)) => return Err(err),
        };
        let Fetched { records, end } = fetched;
        let Some(record) = records.first().filter(|record| record.offset == before) else {
            return Ok(());
        };
        let row = self.store.last_row(&self.place, head).await?;
        if row.is_none_or(|row| is_made_of(&row, record)) {
            return Ok(());
        }
        let Place { topic, partition } = &self.place;
        bail!(
            "kafka's log of {topic}:{partition}, which ends at {end}, has another record at {before} than clickhouse: {MADE_ANEW}"
        )
    }

    /// Fetches once, about `bytes_max` bytes, and says whether that led on.
    ///
    /// # Errors
    /// Kafka is away, or its log is not the one that was consumed.
    pub async fn fetch(&mut self, bytes_max: i32) -> anyhow::Result<bool> {
        let from = self.pending.reached;
        let limit = self.limit.min(bytes_max);
        match self.partition.fetch(from, limit).await {
            Ok(Fetched { records, end }) => {
                self.limit = limit.saturating_mul(2).max(LIMIT_AFTER_BATCH);
                self.pending.extend(records);
                self.end = end;
            }
            Err(FetchError::OutOfRange) => self.skip_to_start().await?,
            // One batch at a time up to the marker, and past it.
            Err(FetchError::Marker) if limit > Partition::ONE_BATCH => {
                self.limit = Partition::ONE_BATCH;
                return Ok(true);
            }
            Err(FetchError::Marker) => self.pending.reached += 1,
            Err(FetchError::Failed(err)) => return Err(err),
        }
        Ok(self.pending.reached > from)
    }

    /// The log does not have the offset that comes next. If it begins later, retention was faster than we,
    /// and what is missing becomes a gap; if it ends earlier, it is another log than the one that was
    /// consumed.
    async fn skip_to_start(&mut self) -> anyhow::Result<()> {
        let Place { topic, partition } = &self.place;
        let next = self.pending.reached;
        let (start, end) = self.partition.range().await?;
        if start == next {
            bail!("kafka's log of {topic}:{partition} begins at {next} and does not have it");
        }
        if end < next || start < next {
            bail!(
                "kafka's log of {topic}:{partition} has the offsets {start} to {end}, but {next} comes next: {MADE_ANEW}"
            );
        }
        tracing::warn!(
            partition,
            from = next,
            to = start,
            "kafka dropped records before they were consumed"
        );
        self.pending.reached = start;
        self.end = end;
        Ok(())
    }

    /// Takes a head for true and forgets the records below it.
    pub fn go_on_at(&mut self, head: Option<Head>) {
        self.head = head.map_or(0, |head| head.next);
        self.last_arrival_millis = head.map(|head| head.arrival_millis);
        self.pending.go_on_at(self.head);
    }

    /// Whether anything is to be stored.
    pub fn has_pending(&self) -> bool {
        self.pending.reached > self.head
    }

    /// Whether Kafka has more than was fetched.
    pub fn is_behind(&self) -> bool {
        self.pending.reached < self.end
    }

    /// Records in Kafka that are not in ClickHouse yet.
    pub fn lag_records(&self) -> i64 {
        (self.end - self.head).max(0)
    }
}

/// Bytes that are asked for after one batch came through alone.
const LIMIT_AFTER_BATCH: i32 = 4 << 10;

/// What is to be done about another log.
const MADE_ANEW: &str =
    "the topic was made anew; consume it under another name or into another database";
