//! A gauge that is read when somebody looks.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

/// A gauge that is read when somebody looks.
pub struct GaugeFn<F> {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    read: F,
}

impl<F: Fn() -> usize + Send + Sync + 'static> GaugeFn<F> {
    /// Renders what `read` says with a registry. The help is a sentence with its full stop.
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
        let level = ConstGauge::new((self.read)() as i64);
        let (name, help, unit) = (self.name, self.help, self.unit.as_ref());
        level.encode(encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?)
    }
}
