//! Gauges: one that is read when the metrics are, and a guard that counts what is open.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};

/// A gauge that is read whenever the metrics are.
pub struct GaugeFn<F> {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    read: F,
}

impl<F: Fn() -> usize + Send + Sync + 'static> GaugeFn<F> {
    /// Adds the gauge to a registry. `help` is a sentence with its full stop.
    pub fn register(registry: &mut Registry, name: &'static str, help: &'static str, unit: Option<Unit>, read: F) {
        registry.register_collector(Box::new(GaugeFn { name, help, unit, read }));
    }
}

impl<F> std::fmt::Debug for GaugeFn<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl<F: Fn() -> usize + Send + Sync + 'static> Collector for GaugeFn<F> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let value = ConstGauge::new((self.read)() as i64);
        let (name, help, unit) = (self.name, self.help, self.unit.as_ref());
        value.encode(encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?)
    }
}

/// Counts in a gauge from its creation until it is dropped.
#[derive(Debug)]
pub struct GaugeGuard(Gauge);

impl GaugeGuard {
    /// Adds one to the gauge.
    pub fn new(gauge: Gauge) -> GaugeGuard {
        gauge.inc();
        GaugeGuard(gauge)
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}
