//! Months of arrival, by which `events` is partitioned, and how to drop old ones without moving a head back.
//!
//! A row of the kind `mark` says that rows at its offset, or below it, may be missing on purpose. It is written before
//! a month is dropped, into the month 1970-01, which never is. A partition whose last row is dropped keeps its head by
//! it, and the arrival of that row, which the mark has as its `time`: gaps after a head get the arrival of the row
//! before it, and two consumers, one of which knows the row and one the mark, must not differ.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Datelike as _, NaiveDate};

use crate::clickhouse::insert_if_absent::InsertIfAbsent;
use crate::clickhouse::{Connection, Error, partition_condition, quote, unexpected};
use crate::topic_partition::{LogName, Offset, Partition, TopicPartition};

/// For a query that reads every row of a month.
const READ_MONTH_TIMEOUT: Duration = Duration::from_secs(600);

/// To drop one month: files are removed, and merges of that month are waited for.
const DROP_TIMEOUT: Duration = Duration::from_secs(600);

/// Arrival of every mark, and of records without a timestamp.
pub(crate) const MARK_ARRIVAL_MILLIS: i64 = 0;

/// [`MARK_ARRIVAL_MILLIS`] in SQL; with it a query for marks reads one month and not all.
pub(crate) const MARK_ARRIVAL: &str = "fromUnixTimestamp64Milli(toInt64(0), 'UTC')";

/// The month of marks, as `toYYYYMM` has it. Records without a timestamp are in it too.
const MARKS: u32 = 197_001;

/// A month, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month {
    first_day: NaiveDate,
}

impl FromStr for Month {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let day = (text.len() == "2001-01".len())
            .then(|| format!("{text}-01").parse::<NaiveDate>().ok())
            .flatten();
        match day {
            Some(first_day) if (1970..=2200).contains(&first_day.year()) => Ok(Month { first_day }),
            _ => Err("expected YYYY-MM from 1970-01 to 2200-12, such as 2001-01".to_string()),
        }
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first_day.format("%Y-%m"))
    }
}

impl Month {
    /// The first moment of the month.
    pub fn begin(self) -> DateTime<chrono::Utc> {
        self.first_day.and_time(chrono::NaiveTime::MIN).and_utc()
    }

    /// As `toYYYYMM` has it.
    fn number(self) -> u32 {
        self.first_day.year().unsigned_abs() * 100 + self.first_day.month()
    }

    fn from_number(number: u32) -> Option<Month> {
        let year = i32::try_from(number / 100).ok()?;
        let first_day = NaiveDate::from_ymd_opt(year, number % 100, 1)?;
        Some(Month { first_day })
    }
}

/// The rows of one month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredMonth {
    /// The month in which they arrived.
    pub month: Month,
    pub rows: u64,
    /// Bytes on disk.
    pub bytes: u64,
}

/// The rows of a partition that go with a month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedRange {
    pub topic_partition: TopicPartition,
    /// The largest offset that would go.
    pub last: Offset,
    /// The arrival of its row.
    pub last_arrival_millis: i64,
    pub next: Offset,
    /// Records before the head among which events that are sent again are looked for; 0 of a log that was followed by
    /// another.
    pub repeat_window_records: i64,
}

impl DroppedRange {
    /// The first offset of the repeat window, if something of it would go.
    pub fn window_begin(&self) -> Option<Offset> {
        let begin = (self.next - self.repeat_window_records).max(Offset::ZERO);
        (self.last >= begin).then_some(begin)
    }
}

/// A row of the query of [`Connection::months_before`].
#[derive(klickhouse::Row)]
struct MonthRow {
    month: u32,
    held: u64,
    bytes: u64,
}

impl MonthRow {
    fn into_month(self) -> Option<StoredMonth> {
        let month = Month::from_number(self.month)?;
        Some(StoredMonth {
            month,
            rows: self.held,
            bytes: self.bytes,
        })
    }
}

/// A row of the query of [`Connection::dropped_ranges`].
#[derive(klickhouse::Row)]
struct DroppedRangeRow {
    log: String,
    partition: Partition,
    last_offset: Offset,
    last_arrival_millis: i64,
    head: Offset,
    window_records: i64,
}

impl DroppedRangeRow {
    fn into_range(self) -> DroppedRange {
        DroppedRange {
            topic_partition: TopicPartition {
                log: LogName::new(&self.log),
                partition: self.partition,
            },
            last: self.last_offset,
            last_arrival_millis: self.last_arrival_millis,
            next: self.head,
            repeat_window_records: self.window_records,
        }
    }
}

impl Connection {
    /// The months before this one that have rows, except the month of the marks.
    ///
    /// # Errors
    /// No answer, or no right to read `system.parts`.
    pub async fn months_before(&self, before: Month) -> Result<Vec<StoredMonth>, Error> {
        let sql = format!(
            "SELECT toUInt32OrZero(partition) AS month, toUInt64(sum(rows)) AS held, \
             toUInt64(sum(bytes_on_disk)) AS bytes \
             FROM system.parts WHERE database = currentDatabase() AND table = 'events' AND active \
             GROUP BY month HAVING held > 0 AND month > {MARKS} AND month < {} ORDER BY month",
            before.number()
        );
        let rows = self.query_rows::<MonthRow>(&sql).await?;
        let months = rows.into_iter().map(MonthRow::into_month).collect::<Option<_>>();
        months.ok_or_else(|| unexpected("the months of events"))
    }

    /// The rows that go with a month, by partition.
    ///
    /// # Errors
    /// No answer, or the tables are not there.
    pub async fn dropped_ranges(&self, month: Month) -> Result<Vec<DroppedRange>, Error> {
        let sql = format!(
            "SELECT toString(topic) AS log, partition, last_offset, last_arrival_millis, head, \
             toInt64(ifNull(records, 0)) AS window_records FROM (SELECT topic, partition, max(offset) AS last_offset, \
             argMax(toUnixTimestamp64Milli(arrival), offset) AS last_arrival_millis FROM events \
             WHERE toYYYYMM(arrival) = {} GROUP BY topic, partition) AS going \
             INNER JOIN (SELECT topic, partition, max(offset) + 1 AS head FROM events GROUP BY topic, partition) \
             AS heads \
             USING (topic, partition) \
             LEFT JOIN (SELECT argMax(log, revision) AS topic, argMax(repeat_window_records, revision) AS records \
             FROM topics GROUP BY topics.topic) AS consumed USING (topic) \
             ORDER BY topic, partition",
            month.number()
        );
        let mut all = Vec::new();
        self.for_each_row(&sql, READ_MONTH_TIMEOUT, |row: DroppedRangeRow| {
            all.push(row.into_range());
            Ok(())
        })
        .await?;
        Ok(all)
    }

    /// Writes a mark, once: rows of a partition may be missing, up to the last one of the range.
    ///
    /// # Errors
    /// No answer, or no right to.
    pub async fn record_mark(&self, missing: &DroppedRange) -> Result<(), Error> {
        let DroppedRange {
            topic_partition,
            last: offset,
            last_arrival_millis,
            ..
        } = missing;
        let TopicPartition { log, partition } = topic_partition;
        self.insert_if_absent(&InsertIfAbsent {
            table: "events (topic, partition, offset, arrival, kind, time)",
            values: format!(
                "{}, {partition}, {offset}, {MARK_ARRIVAL}, 'mark', \
                 fromUnixTimestamp64Milli(toInt64({last_arrival_millis}), 'UTC')",
                quote(log.as_str())
            ),
            exists: format!(
                "FROM events WHERE {} AND arrival = {MARK_ARRIVAL} AND kind = 'mark' AND offset >= {offset}",
                partition_condition(topic_partition)
            ),
            token: format!("mark:{log}:{partition}:{offset}"),
        })
        .await
    }

    /// The arrival that the mark at an offset has as its `time`; that of marks without one, for a row that arrived in
    /// 1970.
    pub(crate) async fn arrival_of_mark(&self, topic_partition: &TopicPartition, offset: Offset) -> Result<i64, Error> {
        let sql = format!(
            "SELECT toUnixTimestamp64Milli(time) FROM events \
             WHERE {} AND arrival = {MARK_ARRIVAL} AND kind = 'mark' AND offset = {offset} LIMIT 1",
            partition_condition(topic_partition)
        );
        let arrivals = self.query_values(&sql).await?;
        Ok(arrivals.first().copied().unwrap_or(MARK_ARRIVAL_MILLIS))
    }

    /// Drops the rows of a month. Their ranges must be [marked](Connection::record_mark) before.
    ///
    /// # Errors
    /// No answer, or no right to.
    pub async fn drop_month(&self, month: Month) -> Result<(), Error> {
        // By default the server refuses to drop more than 50 GB.
        let sql = format!(
            "ALTER TABLE events DROP PARTITION {} SETTINGS max_partition_size_to_drop = 0",
            month.number()
        );
        self.for_each_block(&sql, DROP_TIMEOUT, |_| Ok(())).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_have_a_year_and_two_digits() {
        let month: Month = "2026-01".parse().unwrap();
        assert_eq!((month.number(), month.to_string()), (202_601, "2026-01".to_string()));
        assert_eq!(Month::from_number(202_601), Some(month));
        assert_eq!(Month::from_number(0), None);
        assert_eq!(month.begin().timestamp(), 1_767_225_600);
        for bad in [
            "",
            "2026",
            "2026-1",
            "2026-13",
            "2026-00",
            "2026-01-01",
            "2026/01",
            "1969-12",
            "2201-01",
            "+026-01",
        ] {
            assert!(bad.parse::<Month>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_window_begins_its_number_of_records_before_the_head() {
        let missing = |last, repeat_window_records| DroppedRange {
            topic_partition: TopicPartition {
                log: LogName::new("t"),
                partition: Partition::new(0),
            },
            last,
            last_arrival_millis: 0,
            next: Offset::new(100),
            repeat_window_records,
        };
        assert_eq!(missing(Offset::new(89), 10).window_begin(), None);
        assert_eq!(missing(Offset::new(90), 10).window_begin(), Some(Offset::new(90)));
        assert_eq!(missing(Offset::ZERO, 1_000).window_begin(), Some(Offset::ZERO));
        assert_eq!(missing(Offset::new(99), 0).window_begin(), None);
    }
}
