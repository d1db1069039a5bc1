//! The admin port: whether the process lives, whether it is ready and why not, and its metrics.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::{Method, StatusCode};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Answer, answer};

/// Probes and scrapers come one by one; this leaves room for people.
const CONNECTIONS_MAX: u32 = 64;

/// Nothing here takes long.
const GRACE: Duration = Duration::from_millis(200);

/// The checks that readiness consists of. Clones share them.
#[derive(Clone, Default)]
pub struct Health(Arc<Mutex<BTreeMap<String, Result<(), String>>>>);

impl Health {
    /// Not ready until every one of these checks has been set.
    pub fn awaiting<const N: usize>(names: [&str; N]) -> Health {
        let health = Health::default();
        names.into_iter().for_each(|name| health.expect(name));
        health
    }

    /// Adds a check that is still to be set.
    pub fn expect(&self, name: &str) {
        let mut checks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        checks.insert(name.to_string(), Err("starting".to_string()));
    }

    /// Sets a check, and logs it if that is a change.
    pub fn set(&self, name: &str, now: Result<(), String>) {
        let mut checks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if checks.get(name) == Some(&now) {
            return;
        }
        let was_ok = checks.get(name).is_some_and(Result::is_ok);
        match &now {
            Ok(()) => tracing::info!(check = name, "ready"),
            Err(reason) if was_ok => tracing::warn!(check = name, %reason, "not ready any more"),
            Err(reason) => tracing::warn!(check = name, %reason, "not ready yet"),
        }
        checks.insert(name.to_string(), now);
    }

    /// Whether all checks hold, and each with its reason, a line each.
    fn readiness(&self) -> (bool, String) {
        let checks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for (name, check) in checks.iter() {
            let _ = match check {
                Ok(()) => writeln!(text, "{name}: ok"),
                Err(reason) => writeln!(text, "{name}: {reason}"),
            };
        }
        (checks.values().all(Result::is_ok), text)
    }
}

/// Serves `/livez`, `/readyz` and `/metrics` until `stop` is cancelled.
pub async fn serve(
    listener: TcpListener,
    health: Health,
    metrics: Registry,
    stop: CancellationToken,
) {
    let metrics = Arc::new(metrics);
    super::serve(listener, CONNECTIONS_MAX, stop, GRACE, move |request| {
        let answer = route(request.method(), request.uri().path(), &health, &metrics);
        async move { answer }
    })
    .await;
}

fn route(method: &Method, path: &str, health: &Health, metrics: &Registry) -> Answer {
    if method != Method::GET && method != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_string());
    }
    match path {
        "/livez" => text(StatusCode::OK, "ok\n".to_string()),
        "/readyz" => match health.readiness() {
            (true, reasons) => text(StatusCode::OK, reasons),
            (false, reasons) => text(StatusCode::SERVICE_UNAVAILABLE, reasons),
        },
        "/metrics" => {
            let mut page = String::new();
            // Writing to a String cannot fail.
            let _ = prometheus_client::encoding::text::encode(&mut page, metrics);
            answer(
                StatusCode::OK,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                page,
            )
        }
        _ => text(
            StatusCode::NOT_FOUND,
            "here are /livez, /readyz and /metrics\n".to_string(),
        ),
    }
}

fn text(status: StatusCode, body: String) -> Answer {
    answer(status, "text/plain; charset=utf-8", body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_is_all_checks_with_their_reasons() {
        let health = Health::awaiting(["kafka", "schema"]);
        let unready = "kafka: starting\nschema: starting\n";
        assert_eq!(health.readiness(), (false, unready.to_string()));
        health.set("kafka", Ok(()));
        health.set("schema", Err("no table".to_string()));
        let half = "kafka: ok\nschema: no table\n";
        assert_eq!(health.readiness(), (false, half.to_string()));
        health.set("schema", Ok(()));
        assert_eq!(
            health.readiness(),
            (true, "kafka: ok\nschema: ok\n".to_string())
        );
    }
}
