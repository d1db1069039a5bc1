//! Which schema version ClickHouse has, for who looks at the metrics.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::clickhouse::Shard;

/// Between looks for migrations that were applied meanwhile. Each is a connection and some small questions.
const LOOK_INTERVAL: Duration = Duration::from_secs(15);

/// The version of the shard that has the oldest; 0 while one of them is not known, or there is none.
pub fn oldest(shards: &[Shard]) -> u32 {
    let versions = shards.iter().map(Shard::schema_version);
    versions.min().unwrap_or(0)
}

/// Looks at a shard again and again, which notes its version, until the process is to stop.
pub async fn watch(shard: Shard, stop: CancellationToken) {
    let look = async {
        loop {
            sleep(LOOK_INTERVAL).await;
            // What is wrong with it is the workers' to say.
            let _ = shard.connect_to_schema().await;
        }
    };
    stop.run_until_cancelled(look).await;
}
