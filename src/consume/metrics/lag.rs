//! What Kafka has and ClickHouse lacks: how many records, and since when, which grows while nothing moves.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::Utc;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::{Metrics, Owned};
use crate::clickhouse::clamp_arrival_millis;
use crate::consume::session::Session;
use crate::kafka::Kafka;

/// Tells the lag of one partition.
pub struct Lag {
    partition: u32,
    metrics: Metrics,
}

impl Lag {
    /// Nothing is told before [`Lag::tell`] was called.
    pub fn new(number: i32, metrics: Metrics) -> Lag {
        Lag {
            partition: number as u32,
            metrics,
        }
    }

    /// Tells what a session sees. Of a record that is in Kafka and was not fetched, or is hidden by an open transaction,
    /// nothing is known but that it is there: what was told before stands, or it came now.
    pub fn tell(&self, session: &Session) {
        self.records_are(session.lag_records());
        match session.pending.rows.front() {
            None if session.is_behind() => self.metrics.lags.begin(self.partition, now_millis()),
            first => self.first_is(first.map(|row| row.arrival_millis)),
        }
    }

    /// Looks without a session at what follows the head that was known last, if one was.
    ///
    /// # Errors
    /// Kafka is away, or its log is another one.
    pub async fn look(&self, kafka: &Kafka, head: i64) -> anyhow::Result<()> {
        if !self.metrics.lags.knows(self.partition) {
            return Ok(());
        }
        let (first, end) = kafka.first_record_from(self.partition as i32, head).await?;
        self.records_are((end - head).max(0));
        if let Some(first) = first {
            self.first_is(Some(clamp_arrival_millis(first.timestamp_millis)));
        }
        Ok(())
    }

    fn records_are(&self, records: i64) {
        let Lag { partition, metrics } = self;
        let partition = *partition;
        let gauge = metrics.lag_records.get_or_create(&Owned { partition });
        gauge.set(records);
    }

    fn first_is(&self, first_millis: Option<i64>) {
        self.metrics.lags.note(self.partition, first_millis);
    }
}

fn now_millis() -> i64 {
    Utc::now().timestamp_millis()
}

/// Of all partitions that this process owns. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Lags(Arc<Mutex<Arrivals>>);

/// When the first record arrived that ClickHouse lacks, in milliseconds since 1970; `None` if it lacks none.
type Arrivals = BTreeMap<u32, Option<i64>>;

impl Lags {
    /// The first record of a partition that ClickHouse lacks arrived then, or it lacks none.
    pub fn note(&self, partition: u32, first_millis: Option<i64>) {
        self.open(|arrivals| arrivals.insert(partition, first_millis));
    }

    /// ClickHouse lacks something of a partition, since now unless it was known before.
    fn begin(&self, partition: u32, now_millis: i64) {
        self.open(|arrivals| *arrivals.entry(partition).or_default().get_or_insert(now_millis));
    }

    /// Whether anything was noted of a partition.
    pub fn knows(&self, partition: u32) -> bool {
        self.open(|arrivals| arrivals.contains_key(&partition))
    }

    /// The lag of each partition in seconds; 0 for records of the future.
    fn seconds(&self, now_millis: i64) -> Vec<(u32, f64)> {
        let seconds = |first_millis: Option<i64>| {
            let since = first_millis.map_or(0, |first| now_millis.saturating_sub(first));
            since.max(0) as f64 / 1e3
        };
        self.open(|arrivals| {
            let each = arrivals.iter();
            each.map(|(partition, first)| (*partition, seconds(*first))).collect()
        })
    }

    fn open<T>(&self, work: impl FnOnce(&mut Arrivals) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Collector for Lags {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let all = self.seconds(Utc::now().timestamp_millis());
        if all.is_empty() {
            return Ok(());
        }
        let mut encoder = encoder.encode_descriptor(
            "lag",
            "How long ago the first record arrived in Kafka that is not in ClickHouse, by this process's clock against \
             the record's timestamp; 0 if there is none. A partition is here once its head was read.",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        for (partition, seconds) in all {
            let owned = Owned { partition };
            encoder.encode_family(&owned)?.encode_gauge(&seconds)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_by_itself_until_nothing_is_lacking() {
        let lags = Lags::default();
        assert!(!lags.knows(3) && lags.seconds(9_000).is_empty());
        lags.note(3, Some(1_000));
        lags.note(4, None);
        assert_eq!(lags.seconds(1_500), [(3, 0.5), (4, 0.0)]);
        assert_eq!(lags.seconds(61_000), [(3, 60.0), (4, 0.0)]);
        assert_eq!(lags.seconds(0), [(3, 0.0), (4, 0.0)], "from the future");
        lags.note(3, None);
        assert_eq!(lags.seconds(70_000), [(3, 0.0), (4, 0.0)]);
        // Behind an open transaction nobody sees when.
        lags.begin(4, 70_000);
        lags.begin(4, 71_000);
        assert_eq!(lags.seconds(72_000), [(3, 0.0), (4, 2.0)]);
        assert!(lags.knows(4));
    }
}
