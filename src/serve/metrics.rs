//! The metrics of `captcha serve`.

use std::time::Duration;

use hyper::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::problem::{Problem, Reason};
use super::report::queue::Refusal;
use super::router::Route;
use crate::kafka::ProduceOutcome;

/// Statuses of responses.
const STATUSES: [u16; 18] = [
    101, 200, 204, 400, 401, 403, 404, 405, 408, 413, 415, 421, 422, 426, 429, 500, 501, 503,
];

/// Statuses of replies to messages of a stream.
const MESSAGE_STATUSES: [u16; 9] = [200, 400, 401, 403, 413, 422, 429, 500, 503];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    route: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

const CONFIRMED: ResultLabel = ResultLabel { result: "ok" };
const FAILED: ResultLabel = ResultLabel { result: "failed" };

/// The metrics. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<RouteLabel, Histogram>,
    messages: Family<StatusLabel, Counter>,
    pub streams_open: Gauge,
    pub events_accepted: Counter,
    events_rejected: Family<ReasonLabel, Counter>,
    reports_rejected: Family<ReasonLabel, Counter>,
    produce_seconds: Family<ResultLabel, Histogram>,
}

impl Metrics {
    /// Metrics that are rendered with a registry. Every combination of labels is there from the start.
    pub fn register(registry: &mut Registry) -> Metrics {
        let metrics = Metrics {
            requests: Family::default(),
            // 1 ms to 8 s.
            request_seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 14))),
            messages: Family::default(),
            streams_open: Gauge::default(),
            events_accepted: Counter::default(),
            events_rejected: Family::default(),
            reports_rejected: Family::default(),
            // 0.5 ms to 4 s, when a request is given up.
            produce_seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.0005, 2.0, 14))),
        };
        for route in Route::NAMES {
            drop(metrics.request_seconds.get_or_create(&RouteLabel { route }));
            for status in STATUSES {
                drop(metrics.requests.get_or_create(&RequestLabels { route, status }));
            }
        }
        for status in MESSAGE_STATUSES {
            drop(metrics.messages.get_or_create(&StatusLabel { status }));
        }
        for reason in Reason::ALL.map(Reason::name) {
            drop(metrics.events_rejected.get_or_create(&ReasonLabel { reason }));
        }
        for reason in Refusal::NAMES {
            drop(metrics.reports_rejected.get_or_create(&ReasonLabel { reason }));
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
            "Events that were not accepted, by reason: all of their body or message, which counts as one if they \
             were not parsed. Dry runs are left out, and what its sender gave up",
            metrics.events_rejected.clone(),
        );
        registry.register(
            "reports_rejected",
            "Reports that were not given because too many wanted one, by reason",
            metrics.reports_rejected.clone(),
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

    /// Counts events that a problem keeps out, unless it is not about events.
    pub fn reject_events(&self, reason: Option<Reason>, count: u64) {
        if let Some(reason) = reason {
            let reason = reason.name();
            self.events_rejected
                .get_or_create(&ReasonLabel { reason })
                .inc_by(count);
        }
    }

    /// Counts a report that too many others kept out.
    pub fn reject_report(&self, problem: &Problem) {
        if let Problem::ReportRefused(refusal) = problem {
            let reason = refusal.name();
            self.reports_rejected.get_or_create(&ReasonLabel { reason }).inc();
        }
    }

    /// Records the Produce requests of a producer.
    pub fn produce_observer(&self) -> impl Fn(&ProduceOutcome) + Send + Sync + 'static {
        let histogram = |result| self.produce_seconds.get_or_create_owned(result);
        let (confirmed, failed) = (histogram(&CONFIRMED), histogram(&FAILED));
        move |outcome| {
            let seconds = if outcome.is_confirmed { &confirmed } else { &failed };
            seconds.observe(outcome.elapsed.as_secs_f64());
        }
    }

    /// Counts the reply to a message of a stream.
    pub fn record_message(&self, status: StatusCode) {
        let status = status.as_u16();
        self.messages.get_or_create(&StatusLabel { status }).inc();
    }

    /// Counts the response to a request.
    pub fn record_request(&self, route: Route, status: StatusCode, elapsed: Duration) {
        let route = route.name();
        let labels = RequestLabels {
            route,
            status: status.as_u16(),
        };
        self.requests.get_or_create(&labels).inc();
        let seconds = self.request_seconds.get_or_create(&RouteLabel { route });
        seconds.observe(elapsed.as_secs_f64());
    }
}
