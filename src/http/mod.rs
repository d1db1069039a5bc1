//! HTTP servers on hyper: listeners, connections with limits of memory and time, and an orderly end.

pub mod accept;
pub mod admin_port;
mod body;
mod connection;
mod limits;
mod listener;
mod metrics;
mod proxy_protocol;
mod response;
mod server;
pub mod trusted_proxies;
pub mod websocket;

pub use self::body::Body;
pub use self::connection::Peer;
pub use self::limits::{Limits, Timeouts, connections_within_limit};
pub use self::listener::{bind, parse_listen};
pub use self::metrics::ConnectionMetrics;
pub use self::response::{Response, compressed, drop_content, json_line, respond};
pub use self::server::{Server, Shared};
pub use crate::telemetry::gauges::GaugeFn;
pub use crate::tls::client_certificate::{CertificateName, ClientCertificate};
