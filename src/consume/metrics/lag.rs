//! How old the first record is that ClickHouse lacks of each partition. The lag grows while nothing moves.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::Utc;
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::labels::PartitionLabel;
use crate::topic_partition::Partition;

/// The lag of all partitions that this process owns. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct LagCollector(Arc<Mutex<Arrivals>>);

/// When the first record arrived that ClickHouse lacks, in milliseconds since 1970; `None` if it lacks none.
type Arrivals = BTreeMap<Partition, Option<i64>>;

impl LagCollector {
    /// Sets when the first record of a partition arrived that ClickHouse lacks; `None` if it lacks none.
    pub fn set_first(&self, partition: Partition, first_arrival_millis: Option<i64>) {
        self.0.lock().insert(partition, first_arrival_millis);
    }

    /// Sets that ClickHouse lacks a record of a partition, since now unless it was known before.
    pub fn start_unless_known(&self, partition: Partition, now_millis: i64) {
        self.0.lock().entry(partition).or_default().get_or_insert(now_millis);
    }

    /// Whether anything is known of a partition.
    pub fn has(&self, partition: Partition) -> bool {
        self.0.lock().contains_key(&partition)
    }

    /// The lag of each partition in seconds; 0 for records of the future.
    fn seconds(&self, now_millis: i64) -> Vec<(Partition, f64)> {
        let seconds = |first_arrival_millis: Option<i64>| {
            let since = first_arrival_millis.map_or(0, |first| now_millis.saturating_sub(first));
            since.max(0) as f64 / 1e3
        };
        let arrivals = self.0.lock();
        arrivals
            .iter()
            .map(|(partition, first)| (*partition, seconds(*first)))
            .collect()
    }
}

impl Collector for LagCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let all = self.seconds(Utc::now().timestamp_millis());
        if all.is_empty() {
            return Ok(());
        }
        let mut encoder = encoder.encode_descriptor(
            "lag",
            "How long ago the first record arrived in Kafka that is not in ClickHouse, by this process's clock against \
             the record's timestamp; 0 if there is none. A partition has the metric once its head was read.",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        for (partition, seconds) in all {
            let label = PartitionLabel {
                partition: partition.get(),
            };
            encoder.encode_family(&label)?.encode_gauge(&seconds)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_by_itself_until_nothing_is_lacking() {
        let collector = LagCollector::default();
        let seconds = |now| -> Vec<(i32, f64)> {
            let seconds = collector.seconds(now).into_iter();
            seconds.map(|(partition, seconds)| (partition.get(), seconds)).collect()
        };
        assert!(!collector.has(Partition::new(3)) && collector.seconds(9_000).is_empty());
        collector.set_first(Partition::new(3), Some(1_000));
        collector.set_first(Partition::new(4), None);
        assert_eq!(seconds(1_500), [(3, 0.5), (4, 0.0)]);
        assert_eq!(seconds(61_000), [(3, 60.0), (4, 0.0)]);
        assert_eq!(seconds(0), [(3, 0.0), (4, 0.0)], "from the future");
        collector.set_first(Partition::new(3), None);
        assert_eq!(seconds(70_000), [(3, 0.0), (4, 0.0)]);
        // Behind an open transaction the arrival is not visible.
        collector.start_unless_known(Partition::new(4), 70_000);
        collector.start_unless_known(Partition::new(4), 71_000);
        assert_eq!(seconds(72_000), [(3, 0.0), (4, 2.0)]);
        assert!(collector.has(Partition::new(4)));
    }
}
