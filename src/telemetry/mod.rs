//! Telemetry of a process: log lines, readiness and liveness, metrics of its own.

pub mod gauges;
pub mod health;
pub mod log_limit;
pub mod log_once;
pub mod logging;
pub mod login_refusals;
pub mod process_metrics;
