//! The admin port: whether the process lives, whether it is ready and why not, and its metrics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, StatusCode};
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::limits::{Limits, Timeouts};
use super::metrics::ConnectionMetrics;
use super::response::{Response, respond};
use super::server::{Server, Shared};
use crate::resource_pool::Pool;
pub use crate::telemetry::health::Health;
use crate::telemetry::process_metrics;
use crate::terminal::escape;

/// Probes and scrapers come one by one; this leaves room for people.
const LIMITS: Limits = Limits {
    connections_max: 64,
    address_connections_max: None,
    head_bytes_max: 16 << 10,
    timeouts: Timeouts {
        head: Duration::from_secs(30),
        idle: Duration::from_secs(75),
    },
};

/// For the connections of [`LIMITS`] and their responses.
const MEMORY_BYTES_MAX: usize = 16 << 20;

/// For requests in flight; none of them takes long.
const GRACE: Duration = Duration::from_millis(200);

/// Kubernetes sets it in every container.
const KUBERNETES_VARIABLE: &str = "KUBERNETES_SERVICE_HOST";

/// Warns of an admin port that other machines reach: it has no TLS and asks for no key. In a pod it must be reached by
/// kubelets and Prometheus, and network policies keep others out.
pub fn warn_if_exposed(address: SocketAddr) {
    let is_pod = std::env::var_os(KUBERNETES_VARIABLE).is_some();
    if !address.ip().to_canonical().is_loopback() && !is_pod {
        tracing::warn!(
            %address,
            "other machines may reach the admin port, which asks for no key; keep others than probes and scrapers out"
        );
    }
}

/// Serves `/livez`, `/readyz` and `/metrics` until `stop` is cancelled. Adds the checks and the metrics of the process.
pub async fn serve(listener: TcpListener, health: Health, mut metrics: Registry, stop: CancellationToken) {
    metrics.register_collector(Box::new(health.clone()));
    let metrics = Arc::new([metrics, process_metrics::registry()]);
    let shared = Shared {
        memory: Pool::new(MEMORY_BYTES_MAX),
        proxies: Arc::default(),
    };
    Server::new(LIMITS, shared, None, ConnectionMetrics::default(), move |request, _| {
        let response = route(request.method(), request.uri().path(), &health, &*metrics);
        async move { response }
    })
    .serve(listener, stop, GRACE)
    .await;
}

fn route(method: &Method, path: &str, health: &Health, metrics: &[Registry]) -> Response {
    if method != Method::GET && method != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
    }
    match path {
        "/livez" => verdict(health.liveness()),
        "/readyz" => verdict(health.readiness()),
        "/metrics" => {
            let mut page = String::new();
            // Writing to a String cannot fail.
            for registry in metrics {
                let _ = encode_registry(&mut page, registry);
            }
            let _ = encode_eof(&mut page);
            respond(
                StatusCode::OK,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                page,
            )
        }
        _ => text(StatusCode::NOT_FOUND, "here are /livez, /readyz and /metrics\n"),
    }
}

fn verdict((is_healthy, reasons): (bool, String)) -> Response {
    let status = match is_healthy {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    text(status, &reasons)
}

/// Escaped for terminals: the reasons repeat text of servers.
fn text(status: StatusCode, body: &str) -> Response {
    let body = escape::page(body).into_owned();
    respond(status, "text/plain; charset=utf-8", body)
}
