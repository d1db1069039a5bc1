//! Watermarks: how far each partition is complete, as consumers record it in the table `claims`, and how far a report
//! is.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};

use super::connection::settings::{INSERT_EACH, supported};
use super::{Connection, Error, ShardId, quote};
use crate::topic_partition::{LogName, Partition};

/// Every event of a partition that was confirmed before a moment is in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watermark {
    pub log: LogName,
    pub partition: Partition,
    /// The moment, by ClickHouse's clock, in milliseconds since 1970.
    pub through_millis: i64,
}

/// The newest watermark of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, klickhouse::Row)]
pub struct NewestWatermark {
    pub partition: Partition,
    /// In milliseconds since 1970, as the next one.
    pub through_millis: i64,
    /// ClickHouse's clock when this was read.
    pub clock_millis: i64,
}

impl NewestWatermark {
    /// How old it is; 0 if ClickHouse's clock was set back.
    pub fn age(self) -> Duration {
        let millis = self.clock_millis.saturating_sub(self.through_millis);
        Duration::from_millis(millis.max(0).unsigned_abs())
    }
}

/// How far a set of partitions is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompleteThrough {
    /// No partition is consumed.
    NoPartitions,
    /// A partition was never read to its end.
    Unknown,
    /// Every event that was confirmed before this moment is in the table, in milliseconds since 1970.
    Millis(i64),
}

impl fmt::Display for CompleteThrough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompleteThrough::NoPartitions => f.write_str("any moment"),
            CompleteThrough::Unknown => f.write_str("no moment that is known"),
            CompleteThrough::Millis(millis) => {
                let moment = DateTime::from_timestamp_millis(*millis).unwrap_or_default();
                f.write_str(&moment.to_rfc3339_opts(SecondsFormat::Secs, true))
            }
        }
    }
}

impl CompleteThrough {
    /// Whether every event that was confirmed before a moment is in the table.
    pub fn reaches(self, millis: i64) -> bool {
        match self {
            CompleteThrough::NoPartitions => true,
            CompleteThrough::Unknown => false,
            CompleteThrough::Millis(through_millis) => through_millis >= millis,
        }
    }

    /// How far both sets are complete.
    fn and(self, other: CompleteThrough) -> CompleteThrough {
        match (self, other) {
            (CompleteThrough::NoPartitions, through) | (through, CompleteThrough::NoPartitions) => through,
            (CompleteThrough::Millis(one), CompleteThrough::Millis(other)) => CompleteThrough::Millis(one.min(other)),
            (CompleteThrough::Unknown, _) | (_, CompleteThrough::Unknown) => CompleteThrough::Unknown,
        }
    }
}

/// How far a report is complete.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Freshness {
    /// Every event that was confirmed before this moment of ClickHouse's clock is counted; `None` as long as no
    /// moment can be named.
    #[serde(serialize_with = "as_instant")]
    pub complete_through: Option<DateTime<Utc>>,
}

impl Freshness {
    /// Of microseconds since 1970.
    pub fn of_micros(complete_through: Option<i64>) -> Freshness {
        Freshness {
            complete_through: complete_through.and_then(DateTime::from_timestamp_micros),
        }
    }

    /// The moment as every report has it, such as `2001-01-01T00:00:00.000Z`.
    pub fn complete_through_text(&self) -> Option<String> {
        self.complete_through.as_ref().map(instant_text)
    }
}

fn instant_text(instant: &DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn as_instant<S: Serializer>(instant: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
    match instant {
        Some(instant) => serializer.serialize_str(&instant_text(instant)),
        None => serializer.serialize_none(),
    }
}

/// The partitions of one log, and their newest watermarks.
#[derive(Debug, Default, PartialEq, Eq)]
struct LogProgress {
    /// The number of partitions as `migrate` recorded it; 0 if the topic is retired.
    recorded: i32,
    /// The number of partitions as consumers recorded it, which may be newer.
    claimed: i32,
    /// The newest watermark of each partition.
    through_millis: BTreeMap<Partition, i64>,
}

/// A row of [`WATERMARKS`].
#[derive(klickhouse::Row)]
pub(super) struct ProgressRow {
    log: String,
    pub partition: Partition,
    pub millis: i64,
    partitions: i32,
}

/// The newest watermarks, and the topics that they are of. A negative partition marks a row of `topics`, which is about
/// a whole log.
pub(super) const WATERMARKS: &str = "SELECT argMax(log, revision) AS log, toInt32(-1) AS partition, \
     toInt64(0) AS millis, argMax(partitions, revision) AS partitions FROM topics GROUP BY topic \
     UNION ALL SELECT log, partition, toUnixTimestamp64Milli(max(through)), \
     max(partitions) FROM claims GROUP BY log, partition";

impl Connection {
    /// ClickHouse's clock, in milliseconds since 1970.
    ///
    /// # Errors
    /// No answer.
    pub async fn clock_millis(&self) -> Result<i64, Error> {
        self.query_value("SELECT toUnixTimestamp64Milli(now64(3))").await
    }

    /// Records watermarks. `partitions` is the number of partitions of the topic, read after all of these moments. If a
    /// watermark is lost, the consumer records a newer one a second later.
    ///
    /// # Errors
    /// No answer, or no right to.
    pub async fn record_watermarks(&self, partitions: i32, watermarks: &[Watermark]) -> Result<(), Error> {
        let row = |watermark: &Watermark| {
            format!(
                "({}, {}, {})",
                quote(watermark.log.as_str()),
                watermark.partition,
                watermark.through_millis
            )
        };
        let rows: Vec<String> = watermarks.iter().map(row).collect();
        let settings = supported(INSERT_EACH, self.version);
        self.execute(&format!(
            "INSERT INTO claims (log, partition, through, partitions) \
             SELECT log, partition, fromUnixTimestamp64Milli(millis), {partitions} \
             FROM values('log String, partition Int32, millis Int64', {}) SETTINGS {settings}",
            rows.join(", ")
        ))
        .await
    }

    /// The newest watermark of a log; `None` if consumers never recorded one.
    ///
    /// # Errors
    /// No answer, or the tables are not there.
    pub async fn newest_watermark(&self, log: &LogName) -> Result<Option<NewestWatermark>, Error> {
        let sql = format!(
            "SELECT partition, toUnixTimestamp64Milli(through) AS through_millis, \
             toUnixTimestamp64Milli(now64(3)) AS clock_millis \
             FROM claims WHERE log = {} ORDER BY through DESC LIMIT 1",
            quote(log.as_str())
        );
        self.query_opt(&sql).await
    }

    /// How far the partitions of a shard are complete. Call it before the events are counted.
    ///
    /// # Errors
    /// No answer, or the tables are not there.
    pub async fn complete_through(&self, shard: ShardId) -> Result<CompleteThrough, Error> {
        Ok(complete_through(self.query_rows(WATERMARKS).await?, shard))
    }
}

/// How far the partitions of a shard are complete, by the rows of [`WATERMARKS`].
pub(super) fn complete_through(rows: Vec<ProgressRow>, shard: ShardId) -> CompleteThrough {
    let mut logs: BTreeMap<String, LogProgress> = BTreeMap::new();
    for row in rows {
        let log = logs.entry(row.log).or_default();
        if row.partition < Partition::new(0) {
            log.recorded = row.partitions;
        } else {
            log.claimed = log.claimed.max(row.partitions);
            log.through_millis.insert(row.partition, row.millis);
        }
    }
    slowest(logs.values(), shard)
}

/// The slowest of all partitions of a shard, of all logs that are still consumed.
fn slowest<'a>(logs: impl Iterator<Item = &'a LogProgress>, shard: ShardId) -> CompleteThrough {
    let mut slowest = CompleteThrough::NoPartitions;
    for log in logs.filter(|log| log.recorded > 0) {
        let partitions = 0..log.recorded.max(log.claimed);
        for partition in Partition::range(partitions).filter(|partition| shard.holds(*partition)) {
            let through = log.through_millis.get(&partition);
            slowest = slowest.and(through.map_or(CompleteThrough::Unknown, |millis| CompleteThrough::Millis(*millis)));
        }
    }
    slowest
}

/// How far shards are complete together.
pub(crate) fn combine(shards: &[CompleteThrough]) -> Freshness {
    let all = shards.iter().copied();
    let complete_through = match all.fold(CompleteThrough::NoPartitions, CompleteThrough::and) {
        CompleteThrough::Millis(millis) => DateTime::from_timestamp_millis(millis),
        CompleteThrough::NoPartitions | CompleteThrough::Unknown => None,
    };
    Freshness { complete_through }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(recorded: i32, claimed: i32, through: &[(i32, i64)]) -> LogProgress {
        LogProgress {
            recorded,
            claimed,
            through_millis: through
                .iter()
                .map(|(partition, millis)| (Partition::new(*partition), *millis))
                .collect(),
        }
    }

    const ALL: ShardId = ShardId { index: 0, of: 1 };

    #[test]
    fn the_slowest_partition_decides() {
        let one = [log(2, 2, &[(0, 7), (1, 5)])];
        assert_eq!(slowest(one.iter(), ALL), CompleteThrough::Millis(5));
        let two = [log(1, 1, &[(0, 9)]), log(2, 2, &[(0, 7), (1, 8)])];
        assert_eq!(slowest(two.iter(), ALL), CompleteThrough::Millis(7));
    }

    #[test]
    fn a_partition_without_a_watermark_leaves_it_open() {
        assert_eq!(slowest([].iter(), ALL), CompleteThrough::NoPartitions);
        // In the second one, consumers know of a partition that migrate has not recorded yet.
        for open in [log(2, 2, &[(0, 7)]), log(1, 2, &[(0, 7)]), log(2, 1, &[(0, 7)])] {
            assert_eq!(slowest([open].iter(), ALL), CompleteThrough::Unknown);
        }
    }

    #[test]
    fn a_shard_answers_for_its_own_partitions() {
        let shard = |index| ShardId { index, of: 2 };
        let logs = [log(3, 3, &[(0, 7), (2, 9)])];
        assert_eq!(slowest(logs.iter(), shard(0)), CompleteThrough::Millis(7));
        assert_eq!(slowest(logs.iter(), shard(1)), CompleteThrough::Unknown);
        assert_eq!(
            slowest([log(1, 1, &[])].iter(), shard(1)),
            CompleteThrough::NoPartitions
        );
    }

    #[test]
    fn shards_are_as_fresh_as_the_slowest() {
        let through = |shards: &[CompleteThrough]| {
            let instant = combine(shards).complete_through;
            instant.map(|instant| instant.timestamp_millis())
        };
        let (five, seven) = (CompleteThrough::Millis(5), CompleteThrough::Millis(7));
        assert_eq!(through(&[seven, five, CompleteThrough::NoPartitions]), Some(5));
        assert_eq!(through(&[seven, CompleteThrough::Unknown]), None);
        assert_eq!(through(&[CompleteThrough::NoPartitions]), None);
    }

    #[test]
    fn a_watermark_is_as_old_as_clickhouses_clock_says() {
        let age = |through_millis| {
            let newest = NewestWatermark {
                partition: Partition::new(0),
                through_millis,
                clock_millis: 5_000,
            };
            newest.age()
        };
        assert_eq!(age(2_000), Duration::from_secs(3));
        assert_eq!(age(9_000), Duration::ZERO, "the clock was set back");
    }

    #[test]
    fn logs_that_are_not_consumed_any_more_do_not_count() {
        let logs = [log(0, 4, &[(0, 1)]), log(1, 1, &[(0, 9)])];
        assert_eq!(slowest(logs.iter(), ALL), CompleteThrough::Millis(9));
    }
}
