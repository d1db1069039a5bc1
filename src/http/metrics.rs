//! Metrics of connections: how many are open, and why others were closed.

use std::collections::HashMap;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::telemetry::gauges::GaugeGuard;

/// Between two log lines that say how many connections were refused.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Why this server closed or refused a connection that its client wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// A request head did not come in time.
    HeadTimeout,
    /// No request came for too long.
    Idle,
    /// The client read too little of all responses.
    NotReading,
    /// The client read too little of one response, though it reads others.
    ResponseUnread,
    /// There was no memory for the connection, or for what its client does not read.
    NoMemory,
    /// The connection broke in the middle of a request, or what came was not HTTP.
    Broken,
    /// All connections are taken.
    TooMany,
    /// The client's address has its share of the connections.
    Address,
    /// The TLS handshake failed.
    NoTls,
    /// A proxy did not name its client.
    NoClient,
}

impl CloseReason {
    const ALL: [CloseReason; 10] = [
        CloseReason::HeadTimeout,
        CloseReason::Idle,
        CloseReason::NotReading,
        CloseReason::ResponseUnread,
        CloseReason::NoMemory,
        CloseReason::Broken,
        CloseReason::TooMany,
        CloseReason::Address,
        CloseReason::NoTls,
        CloseReason::NoClient,
    ];

    /// The value of the label `reason`.
    fn name(self) -> &'static str {
        match self {
            CloseReason::HeadTimeout => "head_late",
            CloseReason::Idle => "idle",
            CloseReason::NotReading => "not_reading",
            CloseReason::ResponseUnread => "response_unread",
            CloseReason::NoMemory => "memory",
            CloseReason::Broken => "broken",
            CloseReason::TooMany => "too_many",
            CloseReason::Address => "address",
            CloseReason::NoTls => "no_tls",
            CloseReason::NoClient => "no_client",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// Metrics of the connections of a listener. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct ConnectionMetrics {
    open: Gauge,
    refused: Family<ReasonLabel, Counter>,
    pub(crate) streams_refused: Counter,
}

impl ConnectionMetrics {
    /// Metrics that are rendered with a registry. Every reason is there from the start.
    pub fn register(registry: &mut Registry) -> ConnectionMetrics {
        let metrics = ConnectionMetrics::default();
        for reason in CloseReason::ALL {
            drop(metrics.refused.get_or_create(&label(reason)));
        }
        registry.register("connections_open", "Open connections", metrics.open.clone());
        registry.register(
            "connections_refused",
            "Connections that were turned away or given up, by reason",
            metrics.refused.clone(),
        );
        registry.register(
            "http2_streams_refused",
            "Requests on HTTP/2 that were refused with REFUSED_STREAM, for want of memory",
            metrics.streams_refused.clone(),
        );
        metrics
    }

    pub(crate) fn open_connection(&self) -> GaugeGuard {
        GaugeGuard::new(self.open.clone())
    }

    pub(crate) fn count_closed(&self, reason: CloseReason) {
        self.refused.get_or_create(&label(reason)).inc();
    }

    /// Logs once a minute how many connections were refused or broke. Does not end.
    pub async fn log_each_minute(self) {
        let mut logged = HashMap::new();
        loop {
            tokio::time::sleep(LOG_INTERVAL).await;
            for (reason, count) in self.refused_since(&mut logged) {
                tracing::info!(reason, count, "connections were refused or broke");
            }
        }
    }

    /// Connections refused since the last call, by reason. Idle ones are left out: most connections end so.
    fn refused_since(&self, logged: &mut HashMap<&'static str, u64>) -> Vec<(&'static str, u64)> {
        let reasons = CloseReason::ALL
            .into_iter()
            .filter(|reason| *reason != CloseReason::Idle);
        let counts = reasons.map(|reason| {
            let count = self.refused.get_or_create(&label(reason)).get();
            let before = logged.insert(reason.name(), count).unwrap_or_default();
            (reason.name(), count - before)
        });
        counts.filter(|(_, count)| *count > 0).collect()
    }
}

fn label(reason: CloseReason) -> ReasonLabel {
    ReasonLabel { reason: reason.name() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_connections_have_one_line_and_idle_ones_none() {
        let (metrics, mut logged) = (ConnectionMetrics::default(), HashMap::new());
        (0..3).for_each(|_| metrics.count_closed(CloseReason::Broken));
        metrics.count_closed(CloseReason::Idle);
        assert_eq!(metrics.refused_since(&mut logged), [("broken", 3)]);
        assert!(metrics.refused_since(&mut logged).is_empty());
        metrics.count_closed(CloseReason::Broken);
        assert_eq!(metrics.refused_since(&mut logged), [("broken", 1)]);
    }
}
