//! Warnings about clocks: which clock decides how long Kafka keeps records, and whether it is right enough.

use std::time::Duration;

use humantime::format_duration;

use super::output::print_line;
use crate::clickhouse::Cluster;
use crate::kafka::{Kafka, TimestampType, TopicState};

/// A retention is short if it is less than this many times the difference of the clocks: that part of it may be
/// missing.
const SHORT_FACTOR: i64 = 10;

/// Warns if other clocks than Kafka's decide how long it keeps the records of the topic.
///
/// # Errors
/// ClickHouse is away.
pub async fn warn(kafka: &Kafka, state: &TopicState, cluster: &Cluster) -> anyhow::Result<()> {
    if state.timestamp_type() == TimestampType::LogAppendTime {
        return Ok(());
    }
    let (addresses, topic) = (kafka.addresses(), kafka.topic());
    print_line(format_args!(
        "warning: topic {topic} has {}={}, so the clocks of its senders decide how long kafka keeps records, and kafka \
         refuses those of a clock that is far off; to let kafka's clock decide: kafka-configs.sh --bootstrap-server \
         {addresses} --alter --entity-type topics --entity-name {topic} --add-config {}={}",
        TimestampType::KEY,
        TimestampType::CreateTime,
        TimestampType::KEY,
        TimestampType::LogAppendTime
    ));
    let ahead_millis = cluster.clock_ahead_millis().await?;
    if let Some(retention_millis) = state.retention_millis()
        && is_short(retention_millis, ahead_millis)
    {
        let text = |millis: i64| format_duration(Duration::from_secs((millis.unsigned_abs() + 500) / 1_000));
        print_line(format_args!(
            "warning: the clock here and that of clickhouse at {} differ by {}, and topic {topic} keeps records for {} \
             (retention.ms={retention_millis}): the records of a sender whose clock is that far behind are \
             deleted that much earlier; set the clocks",
            cluster.addresses(),
            text(ahead_millis),
            text(retention_millis)
        ));
    }
    Ok(())
}

fn is_short(retention_millis: i64, ahead_millis: i64) -> bool {
    retention_millis < ahead_millis.saturating_abs().saturating_mul(SHORT_FACTOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retention_is_short_compared_to_what_clocks_differ() {
        const HOUR: i64 = 3_600_000;
        for (retention, ahead, short) in [
            (168 * HOUR, HOUR, false),
            (168 * HOUR, 17 * HOUR, true),
            (168 * HOUR, -17 * HOUR, true),
            (168 * HOUR, 200, false),
            (1_000, 200, true),
            (i64::MAX, i64::MIN, false),
        ] {
            assert_eq!(is_short(retention, ahead), short, "{retention} {ahead}");
        }
    }
}
