//! The newest servers that the tests were run with, by `make test-servers`. A newer one most likely works; the log
//! names it once, as a possible cause of a fault.

use std::sync::Once;

/// Of ClickHouse, the year and the month.
pub const CLICKHOUSE: (u64, u64) = (26, 9);

/// Of Kafka.
pub const KAFKA: &str = "4.4";

/// A broker does not report its release. It reports the newest `metadata.version` that it knows, which each release has
/// raised: this is that of [`KAFKA`], 4.4-IV2.
pub const KAFKA_METADATA_VERSION: i16 = 33;

/// Logs once a ClickHouse that is newer than the newest tested one.
pub fn log_newer_clickhouse_once(address: &str, major: u64, minor: u64) {
    static LOGGED: Once = Once::new();
    if (major, minor) > CLICKHOUSE {
        LOGGED.call_once(|| {
            let tested = format!("{}.{}", CLICKHOUSE.0, CLICKHOUSE.1);
            tracing::warn!(
                address,
                version = format!("{major}.{minor}"),
                tested,
                "clickhouse is newer than any that this captcha was tested with"
            );
        });
    }
}

/// Logs once a Kafka broker that is newer than the newest tested one.
pub fn log_newer_kafka_once(address: &str, metadata_version: i16) {
    static LOGGED: Once = Once::new();
    if metadata_version > KAFKA_METADATA_VERSION {
        LOGGED.call_once(|| {
            tracing::warn!(
                address,
                metadata_version,
                tested = KAFKA,
                tested_metadata_version = KAFKA_METADATA_VERSION,
                "kafka is newer than any that this captcha was tested with"
            );
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FETCH: &str = include_str!("../dev/fetch.py");
    const README: &str = include_str!("../README.md");

    /// The versions that `dev/fetch.py` knows of a server, in its order.
    fn fetched(table: &str) -> Vec<&'static str> {
        let begin = format!("\n{table} = {{\n");
        let (_, rest) = FETCH.split_once(&begin).expect(table);
        let (entries, _) = rest.split_once("\n}").expect(table);
        let keys = entries
            .lines()
            .filter_map(|line| line.strip_prefix("    \"")?.split('"').next());
        keys.collect()
    }

    #[test]
    fn the_newest_are_those_that_are_fetched() {
        let (major, minor) = CLICKHOUSE;
        let newest = format!("{major}.{minor}");
        assert_eq!(fetched("CLICKHOUSES").last(), Some(&newest.as_str()));
        assert_eq!(fetched("KAFKAS").last(), Some(&KAFKA));
    }

    #[test]
    fn the_oldest_are_the_floors_of_the_readme() {
        let (kafka, clickhouse) = (fetched("KAFKAS")[0], fetched("CLICKHOUSES")[0]);
        let floors = format!("Kafka must be {kafka} or newer, ClickHouse {clickhouse} or newer");
        let readme = README.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(readme.contains(&floors), "{floors}");
    }
}
