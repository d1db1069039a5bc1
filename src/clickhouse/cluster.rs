//! Several shards, each with the rows of some partitions, and one report of all of them.

use futures_util::future::try_join_all;

use super::report::{ROWS_MAX, ReserveRows, SITE_IDS_MAX};
use super::{Args, Error, Filter, Identifier, QueryLimits, Report, ReportError, ReportRow, Shard, ShardId, watermarks};

/// All of ClickHouse: one shard, mostly.
#[derive(Debug, Clone)]
pub struct Cluster(Vec<Shard>);

impl Cluster {
    /// Checks what can be checked without a connection.
    ///
    /// # Errors
    /// A file of a password or of certificates cannot be read, or is not what it should be.
    pub fn new(args: Args) -> anyhow::Result<Cluster> {
        let of = args.clickhouse_addr.0.len() as i32;
        let shard = |(index, addresses): (i32, Vec<String>)| Shard::new(&args, addresses, ShardId { index, of });
        let shards = (0..).zip(args.clickhouse_addr.0.clone()).map(shard);
        Ok(Cluster(shards.collect::<anyhow::Result<_>>()?))
    }

    /// Tables that are made from now on exist on all replicas of this cluster.
    pub fn replicated(mut self, cluster: Option<Identifier>) -> Cluster {
        for shard in &mut self.0 {
            shard.cluster = cluster.clone();
        }
        self
    }

    /// Each question of a report is bounded by these limits from now on, on each shard.
    pub fn with_report_limits(mut self, limits: QueryLimits) -> Cluster {
        for shard in &mut self.0 {
            shard.report_limits = limits;
        }
        self
    }

    /// The shards, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Shard> {
        self.0.iter()
    }

    /// The addresses as given, for messages.
    pub fn addresses(&self) -> String {
        let each: Vec<String> = self.iter().map(Shard::addresses).collect();
        each.join(";")
    }

    /// How far this process's clock is ahead of ClickHouse's, in milliseconds, give or take half the time of an answer:
    /// of the first shard that answers.
    ///
    /// # Errors
    /// No shard answers.
    pub async fn clock_ahead_millis(&self) -> Result<i64, Error> {
        let mut last = Error::Connection("no clickhouse address".to_string());
        for shard in self.iter() {
            match shard.clock_ahead_millis().await {
                Ok(millis) => return Ok(millis),
                Err(err) => last = err,
            }
        }
        Err(last)
    }

    /// Counts the events that a filter selects, each event once.
    ///
    /// # Errors
    /// A shard does not answer, or has no schema that fits; [`ReportError::TooManyRows`] rather than a part of the
    /// answer, and [`ReportError::TooManySites`].
    pub async fn report(&self, filter: &Filter, reserve_rows: &ReserveRows<'_>) -> Result<Report, ReportError> {
        if filter.site_ids.len() > SITE_IDS_MAX {
            return Err(ReportError::TooManySites(filter.site_ids.len()));
        }
        let answers = self.iter().map(|shard| shard.report_rows(filter, reserve_rows));
        let (rows, through): (Vec<_>, Vec<_>) = try_join_all(answers).await?.into_iter().unzip();
        // Sorting a million takes a tenth of a second, in which others want to be answered.
        let merged = tokio::task::spawn_blocking(move || merge(rows)).await;
        let rows = merged.map_err(|_| Error::Connection("the report was not sorted".to_string()))?;
        if rows.len() > ROWS_MAX {
            return Err(ReportError::TooManyRows);
        }
        Ok(Report {
            rows,
            freshness: watermarks::combine(&through),
        })
    }
}

/// One row for each day and site, by day and then by site.
fn merge(shards: Vec<Vec<ReportRow>>) -> Vec<ReportRow> {
    let mut all = shards.into_iter().reduce(|mut all, more| {
        all.extend(more);
        all
    });
    let mut all = all.take().unwrap_or_default();
    // The order of a UUID's bytes is the order of its text; ClickHouse's own order is another.
    all.sort_unstable_by_key(|report_row| (report_row.date, report_row.site_id));
    all.dedup_by(|next, kept| {
        let same = (next.date, next.site_id) == (kept.date, kept.site_id);
        if same {
            kept.served += next.served;
            kept.solved += next.solved;
        }
        same
    });
    all
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn counts_of_a_day_and_a_site_are_added_up() {
        let report_row = |date: &str, site_id, served, solved| ReportRow {
            date: date.parse().unwrap(),
            site_id,
            served,
            solved,
        };
        let (one, two) = (Uuid::nil(), Uuid::max());
        let merged = merge(vec![
            vec![report_row("2001-01-02", one, 1, 2), report_row("2001-01-01", two, 3, 0)],
            vec![],
            vec![
                report_row("2001-01-01", one, 7, 0),
                report_row("2001-01-02", one, 10, 20),
            ],
        ]);
        assert_eq!(
            merged,
            [
                report_row("2001-01-01", one, 7, 0),
                report_row("2001-01-01", two, 3, 0),
                report_row("2001-01-02", one, 11, 22),
            ]
        );
    }
}
