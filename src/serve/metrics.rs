//! What `captcha serve` counts.

use std::time::Duration;

use hyper::StatusCode;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::request::Route;

/// Statuses that an answer may have.
const STATUSES: [u16; 17] = [
    101, 200, 204, 400, 401, 403, 404, 405, 408, 413, 415, 422, 426, 429, 500, 501, 503,
];

/// Those of a message in a stream.
const MESSAGE_STATUSES: [u16; 9] = [200, 400, 401, 403, 413, 422, 429, 500, 503];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRoute {
    route: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfStatus {
    status: u16,
}

/// Handles to the metrics.
pub struct Metrics {
    requests: Family<Answered, Counter>,
    request_seconds: Family<OfRoute, Histogram>,
    messages: Family<OfStatus, Counter>,
    /// Open streams.
    pub streams_open: Gauge,
    /// Events that Kafka confirmed.
    pub events_accepted: Counter,
    /// Bodies that hold no events.
    pub bodies_refused: Counter,
}

impl Metrics {
    /// New metrics, rendered with a registry. Every combination of labels is there from the start.
    pub fn register(registry: &mut Registry) -> Metrics {
        let metrics = Metrics {
            requests: Family::default(),
            // 1 ms to 8 s.
            request_seconds: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.001, 2.0, 14))
            }),
            messages: Family::default(),
            streams_open: Gauge::default(),
            events_accepted: Counter::default(),
            bodies_refused: Counter::default(),
        };
        for route in Route::NAMES {
            drop(metrics.request_seconds.get_or_create(&OfRoute { route }));
            for status in STATUSES {
                drop(metrics.requests.get_or_create(&Answered { route, status }));
            }
        }
        for status in MESSAGE_STATUSES {
            drop(metrics.messages.get_or_create(&OfStatus { status }));
        }
        registry.register(
            "stream_messages",
            "Answered WebSocket messages",
            metrics.messages.clone(),
        );
        registry.register(
            "streams_open",
            "Open WebSocket streams",
            metrics.streams_open.clone(),
        );
        registry.register(
            "http_requests",
            "Answered requests",
            metrics.requests.clone(),
        );
        registry.register_with_unit(
            "http_request_duration",
            "Time from the head of a request to its answer",
            Unit::Seconds,
            metrics.request_seconds.clone(),
        );
        registry.register(
            "events_accepted",
            "Events that Kafka confirmed",
            metrics.events_accepted.clone(),
        );
        registry.register(
            "bodies_refused",
            "Request bodies that hold no events",
            metrics.bodies_refused.clone(),
        );
        metrics
    }

    /// A message of a stream was answered.
    pub fn message_answered(&self, status: StatusCode) {
        let status = status.as_u16();
        self.messages.get_or_create(&OfStatus { status }).inc();
    }

    /// A request was answered.
    pub fn answered(&self, route: Route, status: StatusCode, elapsed: Duration) {
        let route = route.name();
        let labels = Answered {
            route,
            status: status.as_u16(),
        };
        self.requests.get_or_create(&labels).inc();
        let seconds = self.request_seconds.get_or_create(&OfRoute { route });
        seconds.observe(elapsed.as_secs_f64());
    }
}

/// A gauge that is read when somebody looks.
pub struct Level<F> {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    read: F,
}

impl<F: Fn() -> usize + Send + Sync + 'static> Level<F> {
    /// Renders what `read` says with a registry. The help is a sentence with its full stop.
    pub fn register(
        registry: &mut Registry,
        name: &'static str,
        help: &'static str,
        unit: Option<Unit>,
        read: F,
    ) {
        registry.register_collector(Box::new(Level {
            name,
            help,
            unit,
            read,
        }));
    }
}

impl<F> std::fmt::Debug for Level<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl<F: Fn() -> usize + Send + Sync + 'static> Collector for Level<F> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let level = ConstGauge::new((self.read)() as i64);
        let (name, help, unit) = (self.name, self.help, self.unit.as_ref());
        level.encode(encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?)
    }
}
