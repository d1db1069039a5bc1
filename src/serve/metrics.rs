//! What `captcha serve` counts.

use std::time::Duration;

use hyper::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::problem::Problem;
use super::rejection::{Reason, Refused};
use super::report::queue::Refusal;
use super::request::Route;
use crate::kafka::ProduceOutcome;

/// Statuses that an answer may have.
const STATUSES: [u16; 18] = [
    101, 200, 204, 400, 401, 403, 404, 405, 408, 413, 415, 421, 422, 426, 429, 500, 501, 503,
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

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfReason {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfResult {
    result: &'static str,
}

const CONFIRMED: OfResult = OfResult { result: "ok" };
const FAILED: OfResult = OfResult { result: "failed" };

/// Handles to the metrics.
pub struct Metrics {
    requests: Family<Answered, Counter>,
    request_seconds: Family<OfRoute, Histogram>,
    messages: Family<OfStatus, Counter>,
    /// Open streams.
    pub streams_open: Gauge,
    /// Events that Kafka confirmed.
    pub events_accepted: Counter,
    events_refused: Family<OfReason, Counter>,
    reports_refused: Family<OfReason, Counter>,
    produce_seconds: Family<OfResult, Histogram>,
}

impl Metrics {
    /// New metrics, rendered with a registry. Every combination of labels is there from the start.
    pub fn register(registry: &mut Registry) -> Metrics {
        let metrics = Metrics {
            requests: Family::default(),
            // 1 ms to 8 s.
            request_seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 14))),
            messages: Family::default(),
            streams_open: Gauge::default(),
            events_accepted: Counter::default(),
            events_refused: Family::default(),
            reports_refused: Family::default(),
            // 0.5 ms to 4 s, when a request is given up.
            produce_seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.0005, 2.0, 14))),
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
        for reason in Reason::ALL.map(Reason::name) {
            drop(metrics.events_refused.get_or_create(&OfReason { reason }));
        }
        for reason in Refusal::NAMES {
            drop(metrics.reports_refused.get_or_create(&OfReason { reason }));
        }
        for result in [CONFIRMED, FAILED] {
            drop(metrics.produce_seconds.get_or_create(&result));
        }
        registry.register(
            "stream_messages",
            "Answered WebSocket messages",
            metrics.messages.clone(),
        );
        registry.register("streams_open", "Open WebSocket streams", metrics.streams_open.clone());
        registry.register("http_requests", "Answered requests", metrics.requests.clone());
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
            "events_rejected",
            "Events that were not accepted, by reason: all of their body or message, which is one if nobody got to \
             count them. Dry runs are left out, and what its sender gave up",
            metrics.events_refused.clone(),
        );
        registry.register(
            "reports_rejected",
            "Reports that were not given because too many wanted one, by reason",
            metrics.reports_refused.clone(),
        );
        registry.register_with_unit(
            "produce_duration",
            "Time from handing a Produce request to a broker to Kafka's answer, connecting included; failed if not all \
             of it was confirmed",
            Unit::Seconds,
            metrics.produce_seconds.clone(),
        );
        metrics
    }

    /// Events were not accepted.
    pub fn refused(&self, refused: &Refused) {
        if let Some((reason, events)) = refused.counted() {
            let reason = reason.name();
            let counter = self.events_refused.get_or_create(&OfReason { reason });
            counter.inc_by(events);
        }
    }

    /// There was no report.
    pub fn no_report(&self, problem: &Problem) {
        if let Problem::ReportRefused(refusal, _) = problem {
            let reason = refusal.name();
            self.reports_refused.get_or_create(&OfReason { reason }).inc();
        }
    }

    /// Where a producer tells of its requests.
    pub fn of_produce(&self) -> impl Fn(&ProduceOutcome) + Send + Sync + 'static {
        let of = |result| self.produce_seconds.get_or_create_owned(result);
        let (confirmed, failed) = (of(&CONFIRMED), of(&FAILED));
        move |requested| {
            let seconds = if requested.is_confirmed { &confirmed } else { &failed };
            seconds.observe(requested.elapsed.as_secs_f64());
        }
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
