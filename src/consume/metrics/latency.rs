//! How long records wait to be stored, as a histogram that takes many equal ones at once.
//!
//! The library's histogram takes one at a time, for 30 to 70 ns each. Of 800,000 records a second, hundreds of which arrived
//! within the same millisecond, that would be 3 % of a processor.

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::histogram::exponential_buckets;
use prometheus_client::registry::Unit;

/// Clones share it.
#[derive(Debug, Clone)]
pub struct Waits(Arc<Mutex<Seen>>);

#[derive(Debug)]
struct Seen {
    sum_seconds: f64,
    count: u64,
    /// Upper bounds in seconds, and how many are in each bucket alone.
    buckets: Vec<(f64, u64)>,
}

/// 8 ms to 9 h: a record may wait out an outage.
fn bounds_seconds() -> impl Iterator<Item = f64> {
    exponential_buckets(0.008, 2.0, 23)
}

impl Waits {
    /// Nothing was seen yet.
    pub fn new() -> Waits {
        let bounds = bounds_seconds().chain([f64::INFINITY]);
        Waits(Arc::new(Mutex::new(Seen {
            sum_seconds: 0.0,
            count: 0,
            buckets: bounds.map(|bound| (bound, 0)).collect(),
        })))
    }

    /// So many records waited so many milliseconds.
    pub fn observe(&self, waits_millis: impl Iterator<Item = (u64, u64)>) {
        let mut seen = self.0.lock();
        for (millis, count) in waits_millis {
            let seconds = millis as f64 / 1e3;
            seen.sum_seconds += seconds * count as f64;
            seen.count += count;
            let bucket = seen.buckets.iter_mut().find(|(bound, _)| seconds <= *bound);
            if let Some((_, within)) = bucket {
                *within += count;
            }
        }
    }
}

impl Collector for Waits {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let seen = self.0.lock();
        encoder
            .encode_descriptor(
                "end_to_end_duration",
                "Time from a record's arrival in Kafka, its timestamp, to the head that confirms its row, by this \
                 process's clock: wrong by as much as that differs from the sender's, but never below 0. Gaps do not count.",
                Some(&Unit::Seconds),
                MetricType::Histogram,
            )?
            .encode_histogram::<NoLabelSet>(seen.sum_seconds, seen.count, &seen.buckets, None)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::metrics::histogram::Histogram;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn many_at_once_are_as_many_one_by_one() {
        let (waits, library) = (Waits::new(), Histogram::new(bounds_seconds()));
        let mut registries = [Registry::default(), Registry::default()];
        registries[0].register_collector(Box::new(waits.clone()));
        let (name, unit) = ("end_to_end_duration", Unit::Seconds);
        registries[1].register_with_unit(name, "", unit, library.clone());
        let seen = [(0, 3), (8, 2), (9, 500), (50, 1), (3_600_000, 7), (1 << 40, 2)];
        waits.observe(seen.into_iter());
        for (millis, count) in seen {
            (0..count).for_each(|_| library.observe(millis as f64 / 1e3));
        }
        let [ours, theirs] = registries.map(|registry| {
            let mut page = String::new();
            encode(&mut page, &registry).unwrap();
            let samples = page.lines().filter(|line| !line.starts_with("# HELP"));
            // The order of additions shows in the last digits of a sum.
            let samples = samples.filter(|line| !line.contains("_sum "));
            samples.map(str::to_string).collect::<Vec<_>>()
        });
        assert!(ours.len() > 24, "{ours:?}");
        assert_eq!(ours, theirs);
        let sum_millis: u64 = seen.iter().map(|(millis, count)| millis * count).sum();
        let sum_seconds = waits.0.lock().sum_seconds;
        assert!((sum_seconds - sum_millis as f64 / 1e3).abs() < 1.0);
    }
}
