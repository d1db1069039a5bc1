//! The schema version that ClickHouse has, as a metric.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::clickhouse::Shard;

/// Between readings of the version, which a migration may have changed. Each is a connection and some small queries.
const READ_INTERVAL: Duration = Duration::from_secs(15);

/// The version of the shard that has the oldest; 0 while one of them is not known, or if there is none.
pub fn oldest(shards: &[Shard]) -> u32 {
    let versions = shards.iter().map(Shard::schema_version);
    versions.min().unwrap_or(0)
}

/// Connects to a shard again and again, which keeps its version, until the process is to stop.
pub async fn watch(shard: Shard, stop: CancellationToken) {
    let read = async {
        loop {
            sleep(READ_INTERVAL).await;
            // The checks of the workers have the reason if this fails.
            let _ = shard.connect_to_schema().await;
        }
    };
    stop.run_until_cancelled(read).await;
}
