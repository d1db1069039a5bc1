//! The audit: whether the table has each offset once, and whether repeats and roles are those of the rules.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use chrono::NaiveDate;

use super::columns::RULES;
use super::retention::MARK_ARRIVAL;
use crate::clickhouse::{Connection, Error, Row, partition_condition, quote};
use crate::statistics::parse_date;
use crate::topic_partition::{LogName, Offset, Partition, TopicPartition};

/// For one query of an audit, which reads and sorts the whole table: 100 million rows take minutes.
const AUDIT_TIMEOUT: Duration = Duration::from_secs(1_800);

/// The days of an audit: it covers the rows that arrived on them, and everything between those rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::Args)]
#[group(skip)]
pub struct ArrivalDays {
    /// Only what arrived from this day on, such as 2001-01-31 (UTC)
    #[arg(long, value_name = "DATE", value_parser = parse_date)]
    from: Option<NaiveDate>,

    /// And before this one
    #[arg(long, value_name = "DATE", value_parser = parse_date)]
    to: Option<NaiveDate>,
}

/// The audit of one partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, klickhouse::Row)]
pub struct PartitionAudit {
    pub partition: Partition,
    /// The first offset that the audit covers.
    pub first: Offset,
    /// One more than the last one.
    pub next: Offset,
    /// Events that reports count.
    pub events: u64,
    /// Events that the window before them has too.
    pub repeats: u64,
    /// Records that are not events.
    pub bad: u64,
    /// Offsets that Kafka did not have.
    pub gaps: u64,
    /// Offsets without a row. Damage.
    pub holes: u64,
    /// Rows that cover an offset which another row covers too. Damage.
    pub overlaps: u64,
    /// Events that are counted although they are repeats. Damage.
    #[klickhouse(skip)]
    pub counted_twice: u64,
    /// Events that are not counted although they are not repeats. Damage.
    #[klickhouse(skip)]
    pub left_out: u64,
    /// Rows whose role or pair is not that of the rules. Damage.
    #[klickhouse(skip)]
    pub wrong_role: u64,
}

impl ArrivalDays {
    /// ` AND ...`, for a query that has rows with an arrival.
    pub(crate) fn condition(&self) -> String {
        let bound = |day: Option<NaiveDate>, sign: &str| match day {
            Some(day) => format!(" AND arrival {sign} toDateTime64('{day} 00:00:00', 3, 'UTC')"),
            None => String::new(),
        };
        bound(self.from, ">=") + &bound(self.to, "<")
    }

    /// The rows of a log that the audit covers. Arrivals are not in the order of offsets, so the days become offsets
    /// first: everything between the first and the last of them must be whole. `covered_from` is the first offset.
    fn rows(&self, log: &LogName) -> String {
        let topic = quote(log.as_str());
        let condition = self.condition();
        format!(
            "(SELECT e.*, low AS covered_from FROM events AS e INNER JOIN (SELECT partition, min(offset - span + 1) AS low, \
             max(offset) AS high FROM events WHERE topic = {topic} AND kind != 'mark'{condition} \
             GROUP BY partition) AS looked USING (partition) \
             WHERE topic = {topic} AND kind != 'mark' AND offset BETWEEN low AND high)"
        )
    }
}

/// A row of the query of [`Connection::audit_repeats`].
#[derive(klickhouse::Row)]
struct RepeatsRow {
    partition: Partition,
    counted_twice: u64,
    left_out: u64,
}

/// A row of the query of [`Connection::audit_roles`].
#[derive(klickhouse::Row)]
struct RolesRow {
    partition: Partition,
    wrong_role: u64,
}

/// A row of the query of [`Connection::marks`].
#[derive(klickhouse::Row)]
struct MarkRow {
    partition: Partition,
    next: Offset,
}

impl Connection {
    /// Audits the rows of a topic, by partition.
    ///
    /// # Errors
    /// No answer, the tables are not there, or rows are hidden.
    pub async fn audit(
        &self,
        log: &LogName,
        repeat_window_records: i64,
        span: &ArrivalDays,
    ) -> Result<Vec<PartitionAudit>, Error> {
        self.check_row_policies().await?;
        let mut marks = self.marks(log).await?;
        let (mut all, repeats, roles) = loop {
            let held = self.audit_offsets(log, &marks, span).await?;
            let repeats = self.audit_repeats(log, repeat_window_records, &marks, span);
            let repeats = repeats.await?;
            let roles = self.audit_roles(log, repeat_window_records, &marks, span).await?;
            // A month that was dropped during the queries would look like a hole.
            let before = std::mem::replace(&mut marks, self.marks(log).await?);
            if marks == before {
                break (held, repeats, roles);
            }
        };
        for held in &mut all {
            if let Some(repeats) = repeats.get(&held.partition) {
                held.counted_twice = repeats.counted_twice;
                held.left_out = repeats.left_out;
            }
            held.wrong_role = roles.get(&held.partition).copied().unwrap_or(0);
        }
        // The last rows of a partition may have been dropped too, or all of them.
        for (partition, marked_next) in marks {
            match all.iter_mut().find(|held| held.partition == partition) {
                Some(held) => held.next = held.next.max(marked_next),
                None => all.push(PartitionAudit {
                    partition,
                    first: marked_next,
                    next: marked_next,
                    ..PartitionAudit::default()
                }),
            }
        }
        all.sort_unstable_by_key(|held| held.partition);
        Ok(all)
    }

    async fn audit_offsets(
        &self,
        log: &LogName,
        marks: &Marks,
        span: &ArrivalDays,
    ) -> Result<Vec<PartitionAudit>, Error> {
        let expected = format!("greatest(reached, {})", marked_next(marks));
        // With a first day, the offset that must be the first is not known.
        let is_known = match span.from {
            None => "1",
            Some(_) => "NOT is_first",
        };
        let sql = format!(
            "SELECT partition, toInt64(min(low)) AS first, toInt64(max(offset) + 1) AS next, \
             toUInt64(countIf(kind = 'event' AND repeat = 0)) AS events, toUInt64(countIf(repeat = 1)) AS repeats, \
             toUInt64(countIf(kind = 'bad')) AS bad, toUInt64(sumIf(span, kind = 'gap')) AS gaps, \
             toUInt64(sumIf(low - {expected}, {is_known} AND low > {expected})) AS holes, \
             toUInt64(countIf(NOT is_first AND low < reached)) AS overlaps \
             FROM (SELECT partition, offset, span, kind, repeat, offset - span + 1 AS low, \
             row_number() OVER log = 1 AS is_first, lagInFrame(offset + 1) OVER log AS reached \
             FROM {} WINDOW log AS (PARTITION BY partition ORDER BY offset \
             ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)) GROUP BY partition ORDER BY partition",
            span.rows(log)
        );
        let mut all = Vec::new();
        self.for_each_row(&sql, AUDIT_TIMEOUT, |row| {
            all.push(row);
            Ok(())
        })
        .await?;
        Ok(all)
    }

    /// By partition: events that are counted although they are repeats, and events that are not counted although they
    /// are not; the latter only where the audit covers the whole window before them.
    async fn audit_repeats(
        &self,
        log: &LogName,
        window: i64,
        marks: &Marks,
        span: &ArrivalDays,
    ) -> Result<HashMap<Partition, RepeatsRow>, Error> {
        let sql = format!(
            "SELECT partition, toUInt64(countIf(again AND repeat = 0)) AS counted_twice, \
             toUInt64(countIf(NOT again AND repeat = 1 AND {})) AS left_out \
             FROM (SELECT partition, offset, repeat, covered_from, \
             row_number() OVER same > 1 AND offset - lagInFrame(offset) OVER same <= {window} AS again \
             FROM {} WHERE kind = 'event' \
             WINDOW same AS (PARTITION BY partition, site_id, type, correlation_id, time ORDER BY offset \
             ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)) GROUP BY partition",
            is_covered(window, marks),
            span.rows(log)
        );
        let mut all = HashMap::new();
        self.for_each_row(&sql, AUDIT_TIMEOUT, |row: RepeatsRow| {
            all.insert(row.partition, row);
            Ok(())
        })
        .await?;
        Ok(all)
    }

    /// By partition: rows that have a role or a pair although they must not, and events whose role or pair is not what
    /// the rules give from the roles that are stored before it; the latter only where the audit covers the whole window
    /// before them. So one wrong row is one place. It is the query of [`Challenge`](crate::rules::challenge::Challenge):
    /// of each kind the last event matters. Rows of other rules than ours are not judged.
    async fn audit_roles(
        &self,
        log: &LogName,
        window: i64,
        marks: &Marks,
        span: &ArrivalDays,
    ) -> Result<HashMap<Partition, u64>, Error> {
        // Offsets are one more than they are, so that 0 is none.
        let sql = format!(
            "SELECT partition, toUInt64(countIf(is_wrong)) AS wrong_role FROM (SELECT partition, \
             greatest(offset - {window}, 0) AS before, \
             multiIf(type = 'serve', if(serve > before, 'again', 'first'), \
             first.1 > before, if(answered >= first.1, 'again', 'answer'), solve > before, 'again', 'open') AS due, \
             multiIf(due = 'answer', (micros - first.2, first.3), \
             due = 'first' AND open.1 > before, (open.2 - micros, open.3), (toInt64(0), toUInt32(0))) AS due_pair, \
             multiIf(NOT takes_part OR rules = 0, role != '' OR pair != (0, 0), \
             rules = {RULES} AND {}, role != due OR pair != due_pair, 0) AS is_wrong \
             FROM (SELECT partition, offset, type, role, rules, covered_from, kind = 'event' AND repeat = 0 AS takes_part, \
             (solve_after_micros, other_month) AS pair, toUnixTimestamp64Micro(time) AS micros, \
             (offset + 1, micros, toYYYYMM(arrival)) AS half, \
             maxIf(offset + 1, takes_part AND type = 'serve') OVER earlier AS serve, \
             maxIf(offset + 1, takes_part AND type = 'solve') OVER earlier AS solve, \
             maxIf(offset + 1, takes_part AND (role = 'answer' OR role = 'first' AND other_month != 0)) OVER earlier \
             AS answered, \
             maxIf(half, takes_part AND role = 'first') OVER earlier AS first, \
             maxIf(half, takes_part AND role = 'open') OVER earlier AS open FROM {} \
             WINDOW earlier AS (PARTITION BY partition, site_id, correlation_id ORDER BY offset \
             ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING))) GROUP BY partition",
            is_covered(window, marks),
            span.rows(log)
        );
        let mut all = HashMap::new();
        self.for_each_row(&sql, AUDIT_TIMEOUT, |row: RolesRow| {
            all.insert(row.partition, row.wrong_role);
            Ok(())
        })
        .await?;
        Ok(all)
    }

    async fn marks(&self, log: &LogName) -> Result<Marks, Error> {
        let sql = format!(
            "SELECT partition, max(offset) + 1 AS next FROM events \
             WHERE topic = {} AND arrival = {MARK_ARRIVAL} AND kind = 'mark' GROUP BY partition",
            quote(log.as_str())
        );
        let marks = self.query_rows::<MarkRow>(&sql).await?;
        Ok(marks.into_iter().map(|mark| (mark.partition, mark.next)).collect())
    }

    /// The rows at the offsets `from..to` of a partition, by offset, without marks.
    ///
    /// # Errors
    /// No answer, or the tables are not there.
    pub async fn rows_between(
        &self,
        topic_partition: &TopicPartition,
        from: Offset,
        to: Offset,
    ) -> Result<HashMap<Offset, Row>, Error> {
        let condition = format!(
            "{} AND offset >= {from} AND offset < {to}",
            partition_condition(topic_partition)
        );
        let mut rows = HashMap::new();
        self.for_each_stored(&condition, AUDIT_TIMEOUT, |row| {
            rows.insert(row.offset, row);
        })
        .await?;
        Ok(rows)
    }
}

/// By partition, the offset below which rows were dropped on purpose: rows that are missing there are not holes.
type Marks = BTreeMap<Partition, Offset>;

/// Whether the audit covers the whole window before a row.
fn is_covered(window: i64, marks: &Marks) -> String {
    let first = format!("greatest(covered_from, {})", marked_next(marks));
    format!("({first} = 0 OR offset - {window} >= {first})")
}

/// The mark of a row's partition, or 0.
fn marked_next(marks: &Marks) -> String {
    if marks.is_empty() {
        return "0".to_string();
    }
    let numbers = marks.iter().map(|(partition, next)| (partition.get(), next.get()));
    let (partitions, nexts): (Vec<i32>, Vec<i64>) = numbers.unzip();
    format!(
        "transform(toInt64(partition), CAST({partitions:?}, 'Array(Int64)'), CAST({nexts:?}, 'Array(Int64)'), \
         toInt64(0))"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_numbers_in_the_query() {
        let marks = Marks::from([(Partition::new(0), Offset::new(7)), (Partition::new(3), Offset::new(9))]);
        let wanted =
            "transform(toInt64(partition), CAST([0, 3], 'Array(Int64)'), CAST([7, 9], 'Array(Int64)'), toInt64(0))";
        assert_eq!(marked_next(&marks), wanted);
    }
}
