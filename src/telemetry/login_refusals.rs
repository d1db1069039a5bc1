//! Logins that Kafka or ClickHouse refused, counted for the whole process.

use std::sync::LazyLock;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServerLabel {
    server: &'static str,
}

/// The servers that captcha logs in to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginServer {
    Kafka,
    ClickHouse,
}

impl LoginServer {
    const ALL: [LoginServer; 2] = [LoginServer::Kafka, LoginServer::ClickHouse];

    fn label(self) -> ServerLabel {
        let server = match self {
            LoginServer::Kafka => "kafka",
            LoginServer::ClickHouse => "clickhouse",
        };
        ServerLabel { server }
    }
}

/// Of the process, because connections are made in many places, and none of them has other metrics.
static REFUSALS: LazyLock<Family<ServerLabel, Counter>> = LazyLock::new(Family::default);

/// Counts a login that a server refused for its user, password or mechanism.
pub fn record(server: LoginServer) {
    REFUSALS.get_or_create(&server.label()).inc();
}

/// Adds the counters, which begin at 0.
pub(super) fn register(registry: &mut Registry) {
    for server in LoginServer::ALL {
        drop(REFUSALS.get_or_create(&server.label()));
    }
    registry.register(
        "captcha_logins_refused",
        "Logins that a server refused for their user, password or mechanism",
        REFUSALS.clone(),
    );
}
