//! The answer to a question: its rows, their totals, and what they are compared with.

mod grid;
mod rows;

use chrono::NaiveDate;
use uuid::Uuid;

use self::grid::Grid;
use super::buckets::{Buckets, Interval};
use super::choice::Choice as _;
use super::counts::{CountRow, Counts};
use super::metrics::{Basis, Metric, Value};
use super::parameters::{By, Fill};
use super::query::{Query, Resolved};

/// Rows that one report may have. More are refused, because an answer is never cut short.
pub const ROWS_MAX: usize = 1_000_000;

/// The reasons why counts make no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// More than [`ROWS_MAX`] rows.
    #[error(
        "the report has more than {ROWS_MAX} rows; narrow it by site_id, from, to or period, or ask for fewer by \
             interval, by=none or top"
    )]
    TooManyRows,
}

/// The counts of both sides of a comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compared {
    /// Of the side of the report, if its range differs from that of the report because both sides are cut.
    pub current: Option<Vec<CountRow>>,
    /// Of the range before.
    pub previous: Vec<CountRow>,
}

impl From<Vec<CountRow>> for Compared {
    fn from(previous: Vec<CountRow>) -> Compared {
        Compared {
            current: None,
            previous,
        }
    }
}

/// A whole answer. Rows with nothing but zeros are not kept, even if they are shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub query: Query,
    pub resolved: Resolved,
    pub complete_through_micros: Option<i64>,
    /// The metrics of each row.
    pub columns: Vec<Metric>,
    /// The sum of all rows.
    pub totals: Counts,
    /// Both sides of the comparison.
    pub compared: Option<(Counts, Counts)>,
    /// The starts of the buckets that are not whole or may get more, in the order of the rows.
    pub partial: Vec<i64>,
    rows: Vec<CountRow>,
    /// What is shown even if it has nothing but zeros.
    grid: Option<Grid>,
}

/// One row of an answer.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// The start of its bucket; `i64::MIN` for everything before an open range ends.
    pub bucket: i64,
    /// `None` for all sites in one, or for those below `top`.
    pub site_id: Option<Uuid>,
    pub counts: &'a Counts,
}

/// A place among the rows of an answer; the first one by default.
#[derive(Debug, Clone, Copy, Default)]
pub struct Position {
    row: usize,
    cell: usize,
}

static ZERO: Counts = Counts::ZERO;

impl Query {
    /// Makes the answer of counts, in any order, of one shard or several.
    ///
    /// # Errors
    /// [`AnswerError::TooManyRows`].
    pub fn answer(
        &self,
        resolved: &Resolved,
        mut rows: Vec<CountRow>,
        compared: Option<Compared>,
        complete_through_micros: Option<i64>,
    ) -> Result<Answer, AnswerError> {
        rows::place(&mut rows, self, resolved);
        rows::merge(&mut rows, self.order);
        let totals = Counts::sum(&rows);
        let basis = Basis {
            served_total: totals.served,
            has_complete_through: complete_through_micros.is_some(),
        };
        let columns = self.columns();
        rows.retain(|row| columns.iter().any(|metric| !metric.value(&row.counts, basis).is_zero()));
        if self.top.is_some() {
            rows::fold_below_top(&mut rows, self);
        }
        let grid = match self.fill {
            Fill::None => None,
            Fill::Zero => Some(Grid::new(self, &rows, resolved, ROWS_MAX).ok_or(AnswerError::TooManyRows)?),
        };
        let compared = resolved.comparison.and(compared).map(|compared| {
            let current = compared.current.map(|rows| Counts::sum(&rows));
            (
                current.unwrap_or_else(|| totals.clone()),
                Counts::sum(&compared.previous),
            )
        });
        let mut answer = Answer {
            query: self.clone(),
            resolved: *resolved,
            complete_through_micros,
            columns,
            totals,
            compared,
            partial: Vec::new(),
            rows,
            grid,
        };
        if answer.row_count() > ROWS_MAX {
            return Err(AnswerError::TooManyRows);
        }
        answer.partial = answer.find_partial();
        Ok(answer)
    }
}

impl Answer {
    /// How many rows are shown.
    pub fn row_count(&self) -> usize {
        match &self.grid {
            None => self.rows.len(),
            Some(grid) => grid.len(),
        }
    }

    /// All rows, as ordered.
    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        let mut position = Position::default();
        std::iter::from_fn(move || self.next_row(&mut position))
    }

    /// The row at a position, which moves to the next one.
    pub fn next_row(&self, position: &mut Position) -> Option<Row<'_>> {
        let kept = self.rows.get(position.row);
        let Some(grid) = &self.grid else {
            position.row += 1;
            return kept.map(row);
        };
        let (bucket, site_id) = grid.cell(position.cell)?;
        position.cell += 1;
        match kept {
            Some(kept) if (kept.bucket, kept.site_id) == (bucket, site_id) => {
                position.row += 1;
                Some(row(kept))
            }
            _ => Some(Row {
                bucket,
                site_id,
                counts: &ZERO,
            }),
        }
    }

    /// What a row or the totals have under a metric.
    pub fn value(&self, metric: Metric, counts: &Counts) -> Value {
        let basis = Basis {
            served_total: self.totals.served,
            has_complete_through: self.complete_through_micros.is_some(),
        };
        metric.value(counts, basis)
    }

    /// What the current and the previous side of the comparison have under a metric.
    pub fn compared_values(&self, metric: Metric) -> Option<[Value; 2]> {
        let (current, previous) = self.compared.as_ref()?;
        Some([current, previous].map(|counts| self.compared_value(metric, counts)))
    }

    /// The newest of its local days, if it is about days with events.
    pub fn newest_day(&self) -> Option<NaiveDate> {
        let newest = self.rows().map(|row| row.bucket).max()?;
        Some(self.query.buckets().date(newest))
    }

    /// What a side of the comparison has under a metric.
    pub fn compared_value(&self, metric: Metric, counts: &Counts) -> Value {
        let basis = Basis {
            served_total: counts.served,
            has_complete_through: true,
        };
        metric.value(counts, basis)
    }

    /// How many starts of buckets it keeps besides those of its rows.
    pub fn listed_buckets(&self) -> usize {
        self.partial.len() + self.grid.as_ref().map_or(0, Grid::bucket_count)
    }

    /// The part of the challenges in all rows that was solved in time; `None` if none was served.
    pub fn solve_rate(&self) -> Option<f64> {
        match self.value(Metric::SolveRate, &self.totals) {
            Value::Rate(rate) => Some(rate),
            _ => None,
        }
    }

    fn find_partial(&self) -> Vec<i64> {
        let buckets = self.query.buckets();
        let mut partial = Vec::new();
        let mut known: Option<(i64, bool)> = None;
        for row in self.rows() {
            let known_whole = known.filter(|(bucket, _)| *bucket == row.bucket);
            let is_whole = known_whole.map_or_else(|| self.is_whole(row.bucket, &buckets), |(_, is_whole)| is_whole);
            known = Some((row.bucket, is_whole));
            if (!is_whole || row.counts.pending > 0) && partial.last() != Some(&row.bucket) {
                partial.push(row.bucket);
            }
        }
        partial
    }

    /// Whether neither `from` nor `to` cuts a bucket, and it ends before `complete_through`.
    fn is_whole(&self, bucket: i64, buckets: &Buckets) -> bool {
        let range = self.resolved.range;
        let end = match self.query.interval {
            Interval::All => range.to.unwrap_or(i64::MAX),
            _ => buckets.end_of(bucket),
        };
        let is_cut = range.from.is_some_and(|from| bucket < from) || range.to.is_some_and(|to| end > to);
        !is_cut && self.complete_through_micros.is_some_and(|through| end <= through)
    }

    /// The names of the columns of a table, in order.
    pub fn header(&self) -> Vec<&'static str> {
        let site_id = (self.query.by == By::Site).then_some("site_id");
        let metrics = self.columns.iter().map(|metric| metric.name());
        ["date", "start"].into_iter().chain(site_id).chain(metrics).collect()
    }
}

fn row(row: &CountRow) -> Row<'_> {
    Row {
        bucket: row.bucket,
        site_id: row.site_id,
        counts: &row.counts,
    }
}

#[cfg(test)]
mod tests;
