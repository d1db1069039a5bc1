//! Answers to questions about challenges: what each shard has counted, put together.

use std::collections::BTreeSet;

use futures_util::future::try_join_all;
use klickhouse::UnitValue;

use super::counts::expressions::{DAY_SECONDS, RETRIES, SERVED, SOLVED, event_number};
use super::counts::{Column, CountedRow, Counting, Starts, site_condition};
use super::report::{ReportError, ReserveRows};
use super::report_basis::ReportBasis;
use super::report_pool::ReportConnection;
use super::{Cluster, Error, Shard, unexpected, watermarks};
use crate::statistics::{
    Answer, AnswerError, Buckets, By, Compared, CountRow, Counts, Interval, Needs, Query, ROWS_MAX, Range, Resolved,
    SolveTimes, Zone,
};

/// Buckets of a range that are listed whether they have events or not. Of more, those are listed that have some.
const LISTED_BUCKETS_MAX: usize = 10_000;

/// Buckets of one question: each is a number in the SQL, and may be a row of the answer.
const BUCKETS_MAX: usize = 200_000;

/// Rows of a plain report that take the memory of one row of counts.
const PLAIN_ROWS: usize = size_of::<CountRow>().div_ceil(size_of::<super::ReportRow>());

/// Memory of one bucket of solve times, as a part of a plain row: (u16, u64) is 16 bytes of 40.
const SOLVE_TIMES_OF_A_PLAIN_ROW: usize = 2;

impl Cluster {
    /// Answers a question. Calls `reserve_rows` before it takes memory for more rows.
    ///
    /// # Errors
    /// As [`Cluster::report`].
    pub async fn answer(&self, query: &Query, reserve_rows: &ReserveRows<'_>) -> Result<Answer, ReportError> {
        super::report::check_site_count(query.site_ids.len())?;
        let asked = self.iter().map(Asked::connect);
        let asked = try_join_all(asked).await?;
        let throughs: Vec<_> = asked.iter().map(|asked| asked.basis.complete_through).collect();
        let through = watermarks::combine(&throughs).complete_through;
        let through = through.map(|through| through.timestamp_micros());
        let now = asked.iter().map(|asked| asked.basis.now_micros).max().unwrap_or(0);
        let resolved = query.resolve(now, through);

        let (starts, gaps) = self::starts(query, resolved.range, &asked).await?;
        let range = Side {
            starts,
            gaps,
            by_site: query.by == By::Site,
            range: resolved.range,
        };
        let rows = count(&asked, query, &resolved, &range, reserve_rows).await?;
        let compared = match resolved.comparison {
            None => None,
            Some(sides) => {
                let sum = |range| Side {
                    starts: Starts::All,
                    gaps: BTreeSet::new(),
                    by_site: false,
                    range,
                };
                let is_cut = sides.current != resolved.range;
                let current = match is_cut {
                    true => Some(count(&asked, query, &resolved, &sum(sides.current), reserve_rows).await?),
                    false => None,
                };
                let previous = count(&asked, query, &resolved, &sum(sides.previous), reserve_rows).await?;
                Some(Compared { current, previous })
            }
        };
        for Asked { shard, connection, .. } in asked {
            shard.reports.put(connection);
        }
        let query = query.clone();
        // To sort a million rows takes a tenth of a second, in which others want to be answered.
        let answer = tokio::task::spawn_blocking(move || query.answer(&resolved, rows, compared, through)).await;
        let answer = answer.map_err(|_| unexpected("the counts of a report"))?;
        let answer = answer.map_err(|AnswerError::TooManyRows| ReportError::TooManyRows)?;
        // Buckets without an event, and those that are not whole, take memory too.
        match reserve_rows((answer.listed_buckets() * size_of::<i64>()).div_ceil(size_of::<super::ReportRow>())) {
            true => Ok(answer),
            false => Err(ReportError::OutOfMemory),
        }
    }
}

/// A shard that is asked.
struct Asked<'a> {
    shard: &'a Shard,
    connection: ReportConnection,
    basis: ReportBasis,
}

/// A range that is counted, and its buckets.
struct Side {
    starts: Starts,
    /// Those of the starts that are of no bucket: what is counted there was stored since the buckets were listed.
    gaps: BTreeSet<i64>,
    by_site: bool,
    range: Range,
}

impl Asked<'_> {
    async fn connect(shard: &Shard) -> Result<Asked<'_>, Error> {
        let (connection, basis) = shard.report_connection().await?;
        Ok(Asked {
            shard,
            connection,
            basis,
        })
    }

    /// The days of UTC on which any event of these sites is dated.
    async fn days_with_events(&self, query: &Query) -> Result<Vec<i64>, Error> {
        let sql = format!(
            "SELECT {} AS day FROM events WHERE 1{} GROUP BY day HAVING {SERVED} + {SOLVED} + {RETRIES} > 0",
            event_number(DAY_SECONDS),
            site_condition(&query.site_ids),
        );
        let mut days = Vec::new();
        self.connection
            .for_each_block(&sql, |block| {
                self.connection.connection.read_rows(block, |UnitValue(day)| {
                    days.push(day);
                    Ok(())
                })
            })
            .await?;
        Ok(days)
    }

    async fn count_rows(
        &self,
        counting: &Counting,
        gaps: &BTreeSet<i64>,
        reserve_rows: &ReserveRows<'_>,
    ) -> Result<Vec<CountRow>, ReportError> {
        let sql = counting.sql();
        let (mut rows, mut read_rows, mut has_memory) = (Vec::new(), 0, true);
        let read = self
            .connection
            .for_each_block(&sql, |block| {
                has_memory = has_memory && reserve_rows(block.rows as usize * PLAIN_ROWS);
                if !has_memory {
                    return Err(unexpected("rows without memory"));
                }
                let mut solve_times = 0;
                self.connection.connection.read_rows(block, |row: CountedRow| {
                    solve_times += row.solve_times.len();
                    read_rows += 1;
                    let row = into_row(row, &counting.starts);
                    rows.extend((!gaps.contains(&row.bucket)).then_some(row));
                    Ok(())
                })?;
                has_memory = solve_times == 0 || reserve_rows(solve_times.div_ceil(SOLVE_TIMES_OF_A_PLAIN_ROW));
                match has_memory {
                    true => Ok(()),
                    false => Err(unexpected("solve times without memory")),
                }
            })
            .await;
        if !has_memory {
            return Err(ReportError::OutOfMemory);
        }
        read?;
        if read_rows > counting.rows_max {
            return Err(ReportError::TooManyRows);
        }
        Ok(rows)
    }
}

/// Where the buckets of a question begin.
async fn starts(query: &Query, range: Range, asked: &[Asked<'_>]) -> Result<(Starts, BTreeSet<i64>), ReportError> {
    let is_utc = query.zone == Zone::default();
    match query.interval {
        Interval::All => return Ok((Starts::All, BTreeSet::new())),
        Interval::Day if is_utc => return Ok((Starts::Days, BTreeSet::new())),
        _ => {}
    }
    let buckets = query.buckets();
    if let Some((from, to)) = range.from.zip(range.to)
        && let Some(starts) = buckets.between(from, to, LISTED_BUCKETS_MAX)
    {
        return Ok((Starts::List(starts), BTreeSet::new()));
    }
    let days = asked.iter().map(|asked| asked.days_with_events(query));
    let days = try_join_all(days).await?.concat();
    let starts = within(buckets.covering_days(&days), range, &buckets);
    match starts.len() {
        0..=BUCKETS_MAX => {
            let (starts, gaps) = with_gaps(starts, &buckets);
            Ok((Starts::List(starts), gaps))
        }
        _ => Err(ReportError::TooManyRows),
    }
}

/// The starts, and those of the gaps before, between and after their buckets.
fn with_gaps(starts: Vec<i64>, buckets: &Buckets) -> (Vec<i64>, BTreeSet<i64>) {
    let (mut all, mut gaps) = (Vec::new(), BTreeSet::new());
    let mut end = 0;
    for start in starts {
        if start > end {
            all.push(end);
            gaps.insert(end);
        }
        all.push(start);
        end = buckets.end_of(start);
    }
    if !all.is_empty() {
        all.push(end);
        gaps.insert(end);
    }
    (all, gaps)
}

/// The starts of those buckets that are not wholly outside of the range.
fn within(mut starts: Vec<i64>, range: Range, buckets: &Buckets) -> Vec<i64> {
    starts.retain(|start| range.to.is_none_or(|to| *start < to));
    starts.retain(|start| range.from.is_none_or(|from| buckets.end_of(*start) > from));
    starts
}

/// Counts one range on each shard.
async fn count(
    asked: &[Asked<'_>],
    query: &Query,
    resolved: &Resolved,
    side: &Side,
    reserve_rows: &ReserveRows<'_>,
) -> Result<Vec<CountRow>, ReportError> {
    if matches!(&side.starts, Starts::List(starts) if starts.is_empty()) {
        return Ok(Vec::new());
    }
    let counted = asked.iter().map(async |asked| {
        let counting = Counting {
            site_ids: query.site_ids.clone(),
            by_site: side.by_site,
            from: side.range.from,
            to: side.range.to,
            starts: side.starts.clone(),
            columns: columns(query.needs()),
            limit_seconds: query.solve_within.micros() / 1_000_000,
            pending_from: resolved.pending_from,
            months: asked.basis.months.clone(),
            rows_max: ROWS_MAX,
        };
        asked.count_rows(&counting, &side.gaps, reserve_rows).await
    });
    let mut counted = try_join_all(counted).await?.into_iter();
    let mut rows = counted.next().unwrap_or_default();
    rows.extend(counted.flatten());
    Ok(rows)
}

/// The columns that are asked of ClickHouse.
fn columns(needs: Needs) -> BTreeSet<Column> {
    let groups: [(bool, &[Column]); 8] = [
        (true, &[Column::Served, Column::Solved]),
        (needs.retries, &[Column::Retries]),
        (needs.challenges, &[Column::Challenges]),
        (needs.solved_again, &[Column::SolvedAgain]),
        (needs.open_solves, &[Column::OpenSolves, Column::OpenSolvesAnswered]),
        (
            needs.pairs,
            &[Column::Pairs, Column::PairsWithin, Column::PairsBeforeServe],
        ),
        (needs.pending, &[Column::Pending]),
        (needs.solve_times, &[Column::SolveTimes]),
    ];
    let needed = groups.into_iter().filter(|(is_needed, _)| *is_needed);
    needed.flat_map(|(_, columns)| columns).copied().collect()
}

fn into_row(row: CountedRow, starts: &Starts) -> CountRow {
    let count = |column| row.count(column);
    let counts = Counts {
        served: count(Column::Served),
        solved: count(Column::Solved),
        retries: count(Column::Retries),
        challenges: count(Column::Challenges),
        solved_again: count(Column::SolvedAgain),
        open_solves: count(Column::OpenSolves),
        open_solves_answered: count(Column::OpenSolvesAnswered),
        pairs: count(Column::Pairs),
        pairs_within: count(Column::PairsWithin),
        pairs_before_serve: count(Column::PairsBeforeServe),
        pending: count(Column::Pending),
        solve_times: SolveTimes::NONE,
    };
    let bucket = match starts {
        Starts::All | Starts::Days => row.bucket,
        Starts::List(starts) => {
            let after = starts.partition_point(|start| *start <= row.bucket);
            starts.get(after.saturating_sub(1)).copied().unwrap_or(row.bucket)
        }
    };
    CountRow {
        bucket,
        site_id: Some(row.site_id),
        counts: Counts {
            solve_times: SolveTimes::from_counts(row.solve_times),
            ..counts
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_row_is_of_the_bucket_with_its_instant() {
        let starts = Starts::List(vec![0, 1_000, 3_000]);
        for (instant, start) in [(0, 0), (900, 0), (1_000, 1_000), (2_999, 1_000), (4_000, 3_000)] {
            let row = CountedRow {
                bucket: instant,
                site_id: Uuid::max(),
                ..CountedRow::default()
            };
            assert_eq!(into_row(row, &starts).bucket, start, "{instant}");
        }
    }

    #[test]
    fn what_is_between_listed_buckets_is_of_no_bucket() {
        let buckets = Buckets::new(Interval::Day, Zone::default(), chrono::Weekday::Mon);
        let day = 86_400_000_000;
        let (starts, gaps) = with_gaps(buckets.covering_days(&[1, 2, 5]), &buckets);
        assert_eq!(starts, [0, 1, 2, 3, 5, 6].map(|number| number * day));
        assert_eq!(gaps, [0, 3, 6].map(|number| number * day).into());
        assert_eq!(with_gaps(Vec::new(), &buckets), (Vec::new(), BTreeSet::new()));
    }

    #[test]
    fn buckets_beside_the_range_are_left_out() {
        let buckets = Buckets::new(Interval::Day, Zone::default(), chrono::Weekday::Mon);
        let day = 86_400_000_000;
        let starts = buckets.covering_days(&[1, 2, 5, 9]);
        let range = |from, to| Range { from, to };
        assert_eq!(
            within(starts.clone(), range(Some(3 * day - 1), Some(9 * day)), &buckets),
            [2 * day, 5 * day]
        );
        assert_eq!(within(starts, range(None, None), &buckets).len(), 4);
    }
}
