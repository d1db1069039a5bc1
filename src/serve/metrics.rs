//! What `captcha serve` counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Route and status of an answered request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Request {
    /// `events`, `report`, `about` or `other`.
    pub route: &'static str,
    /// The status code.
    pub status: u16,
}

/// Handles to the metrics.
pub struct Metrics {
    /// Answered requests.
    pub requests: Family<Request, Counter>,
    /// Time from the head of a request to its answer.
    pub request_seconds: Histogram,
    /// Events that Kafka confirmed.
    pub events_accepted: Counter,
    /// Bodies that hold no events.
    pub bodies_refused: Counter,
}

impl Metrics {
    /// New metrics, and the registry that renders them.
    pub fn new() -> (Metrics, Registry) {
        let metrics = Metrics {
            requests: Family::default(),
            // 1 ms to 8 s.
            request_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            events_accepted: Counter::default(),
            bodies_refused: Counter::default(),
        };
        let mut registry = Registry::with_prefix("captcha");
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
        (metrics, registry)
    }
}
