//! Metrics of keys.

use std::fmt;
use std::sync::Arc;

use chrono::Utc;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::{Keyring, State};

/// Keys that have a series of their own, the first ones of the file. One is some 75 bytes of each scrape and a series
/// in Prometheus for each pod, so that all 10,000 keys of a file would be more than everything else there is.
pub const KEY_SERIES_MAX: usize = 1_000;

pub struct KeyMetrics(pub Arc<Keyring>);

impl fmt::Debug for KeyMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("keys")
    }
}

impl Collector for KeyMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (keys, now) = (self.0.all(), Utc::now());
        let help = "Keys of the file in force, by state.";
        let mut states = encoder.encode_descriptor("keys", help, None, MetricType::Gauge)?;
        for state in State::ALL {
            let count = keys.iter().filter(|key| key.entry().state(now) == state);
            let gauge = ConstGauge::new(count.count() as i64);
            gauge.encode(states.encode_family(&[("state", state.name())])?)?;
        }
        let help = "Moment when a request or message last came with the key, since 1970; 0 if none has come to this \
                    process.";
        let name = "key_last_used_timestamp";
        let unit = Some(&Unit::Seconds);
        let mut used = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for key in keys.iter().take(KEY_SERIES_MAX) {
            let gauge = ConstGauge::new(key.last_used());
            gauge.encode(used.encode_family(&[("key", key.id())])?)?;
        }
        Ok(())
    }
}
