//! The plain report: how many serve and solve events each site has on each day.

use std::fmt::Write as _;

use chrono::{DateTime, NaiveDate};
use klickhouse::{FromSql as _, KlickhouseError, Type, Value};
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::counts::expressions::{DAY_SECONDS, SERVED, SOLVED, event_number};
use super::counts::site_condition;
use super::watermarks::{CompleteThrough, Freshness};
use super::{Error, Shard, unexpected};
use crate::statistics::{Moment, Query, RangeChoice};

pub use crate::statistics::ROWS_MAX;

/// Sites that one report may name, four times as many as a key may have: 800 kB of SQL.
pub const SITE_IDS_MAX: usize = 20_000;

/// Rows that ClickHouse sends at once. The driver makes about 64 bytes of each of its four values and
/// queues up to 32 blocks, so this is 16 MiB at worst; with ClickHouse's own 65,409 it would be 512.
const BLOCK_ROWS: usize = 2_048;

/// Reserves memory for this number of rows more; false if there is none.
pub type ReserveRows<'a> = dyn Fn(usize) -> bool + Send + Sync + 'a;

/// The days and sites of a report; without a bound, all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    /// Only these sites; empty means all.
    pub site_ids: Vec<Uuid>,
    /// The first day (UTC).
    pub from: Option<NaiveDate>,
    /// The day after the last one (UTC).
    pub to: Option<NaiveDate>,
}

/// One day of one site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, klickhouse::Row)]
pub struct ReportRow {
    /// UTC.
    #[serde(serialize_with = "as_text")]
    #[klickhouse(rename = "day", deserialize_with = "read_day", serialize_with = "write_day")]
    pub date: NaiveDate,
    pub site_id: Uuid,
    pub served: u64,
    pub solved: u64,
}

/// A whole report, by day and then by site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// One row for each day and site with any event.
    #[serde(rename = "counters")]
    pub rows: Vec<ReportRow>,
    /// Every event that was confirmed before is in it.
    #[serde(flatten)]
    pub freshness: Freshness,
}

/// The reasons why a report fails.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReportError {
    /// More than [`ROWS_MAX`] rows match.
    #[error("the report has more than {ROWS_MAX} rows; narrow it by site_id, from or to")]
    TooManyRows,
    /// More than [`SITE_IDS_MAX`] sites are named; how many.
    #[error("the report names {0} sites and may name {SITE_IDS_MAX}; ask for all sites, or for some at a time")]
    TooManySites(usize),
    /// The process has no memory for its rows.
    #[error("the report has more rows than there is memory for")]
    OutOfMemory,
    #[error(transparent)]
    Shard(#[from] Error),
}

impl Filter {
    /// The sites and days of a plain question; `None` of one that asks for more.
    pub fn of(query: &Query) -> Option<Filter> {
        let date = |bound| match bound {
            Some(Moment::Date(date)) => Some(date),
            Some(Moment::Instant(_)) | None => None,
        };
        match query.range {
            RangeChoice::Bounds { from, to } if query.is_plain() => Some(Filter {
                site_ids: query.site_ids.clone(),
                from: date(from),
                to: date(to),
            }),
            _ => None,
        }
    }

    /// The query, in the shape that the projection `days` answers. Days are numbers here and become text in Rust,
    /// because ClickHouse's `toDate` wraps around after 2149.
    fn sql(&self) -> String {
        let day = event_number(DAY_SECONDS);
        let mut filter = format!("{day} >= {}", self.from.map_or(0, day_number));
        if let Some(to) = self.to {
            let _ = write!(filter, " AND {day} < {}", day_number(to));
        }
        filter += &site_condition(&self.site_ids);
        format!(
            "SELECT toInt64({day}) AS day, site_id, toUInt64({SERVED}) AS served, toUInt64({SOLVED}) AS solved \
             FROM events WHERE {filter} GROUP BY day, site_id HAVING served + solved > 0 \
             LIMIT {} SETTINGS max_block_size = {BLOCK_ROWS}",
            ROWS_MAX + 1
        )
    }
}

/// Refuses a question that names too many sites.
///
/// # Errors
/// [`ReportError::TooManySites`].
pub(super) fn check_site_count(sites: usize) -> Result<(), ReportError> {
    match sites {
        0..=SITE_IDS_MAX => Ok(()),
        sites => Err(ReportError::TooManySites(sites)),
    }
}

impl Shard {
    /// Counts the events of this shard that a filter selects, each event once, in no order; and says how far it is
    /// complete. Calls `reserve_rows` before it takes memory for more rows.
    ///
    /// # Errors
    /// [`ReportError::OutOfMemory`], [`ReportError::TooManyRows`] or [`Error::Hidden`] rather than a part of the
    /// answer.
    pub(crate) async fn report_rows(
        &self,
        filter: &Filter,
        reserve_rows: &ReserveRows<'_>,
    ) -> Result<(Vec<ReportRow>, CompleteThrough), ReportError> {
        // Asked first: what is claimed now is in the table now, and counted below.
        let (kept, basis) = self.report_connection().await?;
        let mut rows = Vec::new();
        let sql = filter.sql();
        let mut has_memory = true;
        let reading = kept.for_each_block(&sql, |block| {
            has_memory = has_memory && reserve(&mut rows, block.rows as usize, reserve_rows);
            if !has_memory {
                return Err(unexpected("rows without memory"));
            }
            kept.connection.read_rows(block, |row| {
                rows.push(row);
                Ok(())
            })
        });
        let read = reading.await;
        if !has_memory {
            return Err(ReportError::OutOfMemory);
        }
        read?;
        self.reports.put(kept);
        if rows.len() > ROWS_MAX {
            return Err(ReportError::TooManyRows);
        }
        Ok((rows, basis.complete_through))
    }
}

/// Makes the list longer by this number of rows; false if there is no memory for them.
fn reserve(rows: &mut Vec<ReportRow>, more: usize, reserve_rows: &ReserveRows<'_>) -> bool {
    let before = rows.capacity();
    let grown = match rows.len() + more <= before {
        true => before,
        false => (rows.len() + more).max(2 * before),
    };
    let has_memory = reserve_rows(grown - before);
    if has_memory {
        rows.reserve_exact(grown - rows.len());
    }
    has_memory
}

/// A day by its number since 1970-01-01.
fn read_day(column_type: &Type, value: Value) -> klickhouse::Result<NaiveDate> {
    let number = i64::from_sql(column_type, value)?;
    let seconds = number.checked_mul(86_400);
    let day = seconds.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    let day = day.ok_or_else(|| KlickhouseError::DeserializeError(format!("no day has the number {number}")))?;
    Ok(day.date_naive())
}

/// Never used: a derived row is written too.
fn write_day(day: NaiveDate) -> klickhouse::Result<Value> {
    Ok(Value::Int64(day_number(day)))
}

/// Days since 1970-01-01.
fn day_number(date: NaiveDate) -> i64 {
    (date - NaiveDate::default()).num_days()
}

fn as_text<S: Serializer>(date: &NaiveDate, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(date)
}

#[cfg(test)]
mod tests {
    use klickhouse::Row as _;

    use super::*;

    fn date(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn bounds_are_whole_days() {
        let filter = Filter {
            site_ids: vec![Uuid::nil(), Uuid::max()],
            from: Some(date("1970-01-02")),
            to: Some(date("2107-01-01")),
        };
        let sql = filter.sql();
        let day = "intDiv(toUnixTimestamp64Second(time), 86400)";
        assert!(
            sql.contains(&format!("WHERE {day} >= 1 AND {day} < 50038 AND site_id IN")),
            "{sql}"
        );
        assert!(
            sql.contains("site_id IN ('00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff')"),
            "{sql}"
        );
        assert!(!Filter::default().sql().contains("site_id IN"));
    }

    #[test]
    fn days_beyond_the_reach_of_clickhouse_dates_keep_their_date() {
        let row = ReportRow::deserialize_row(vec![
            ("day", &Type::Int64, Value::Int64(day_number(date("2199-12-31")))),
            ("site_id", &Type::Uuid, Value::Uuid(Uuid::nil())),
            ("served", &Type::UInt64, Value::UInt64(2)),
            ("solved", &Type::UInt64, Value::UInt64(1)),
        ]);
        let mut report = Report {
            rows: vec![row.unwrap()],
            freshness: Freshness::default(),
        };
        assert_eq!(
            serde_json::to_string(&report).unwrap(),
            concat!(
                r#"{"counters":[{"date":"2199-12-31","site_id":"00000000-0000-0000-0000-000000000000","#,
                r#""served":2,"solved":1}],"complete_through":null}"#
            )
        );
        report.freshness.complete_through = DateTime::from_timestamp_millis(978_307_200_000);
        let text = serde_json::to_string(&report).unwrap();
        assert!(
            text.ends_with(r#"],"complete_through":"2001-01-01T00:00:00.000Z"}"#),
            "{text}"
        );
    }

    #[test]
    fn a_row_of_another_shape_is_refused() {
        let day = |number| ("day", &Type::Int64, Value::Int64(number));
        for (columns, reason) in [
            (vec![], "missing field day"),
            (vec![day(1)], "missing field site_id"),
            (
                vec![day(i64::MAX)],
                "deserialize error: no day has the number 9223372036854775807",
            ),
            (
                vec![("day", &Type::UInt64, Value::UInt64(1))],
                "deserialize error: unexpected type: UInt64",
            ),
        ] {
            assert_eq!(ReportRow::deserialize_row(columns).unwrap_err().to_string(), reason);
        }
    }
}
