//! The first query of each report: how far the table is complete, and whether this user sees all of it.

use std::time::Duration;

use super::connection::QUERY_TIMEOUT;
use super::connection::query_limits::GrantedSettings;
use super::report_pool::ReportConnection;
use super::watermarks::{CompleteThrough, ProgressRow, WATERMARKS, complete_through};
use super::{Connection, Error, Shard, ShardId};
use crate::topic_partition::Partition;

/// For the first answer on a connection that was kept: a server that does not give it is away or frozen, and time is
/// left to ask another one.
const KEPT_TIMEOUT: Duration = Duration::from_secs(2);

/// In place of a partition: the rows of the parts of `events`, and those of them that the user counts.
const PARTS: i32 = -2;
const VISIBLE: i32 = -3;

/// And the clock, and each month.
const NOW: i32 = -4;
const MONTH: i32 = -5;

/// The facts that a report relies on. They are asked before the events are counted, on the same connection.
#[derive(Debug, Clone)]
pub(super) struct ReportBasis {
    /// Everything before this moment is in the table.
    pub complete_through: CompleteThrough,
    /// By ClickHouse's clock.
    pub now_micros: i64,
    /// The months of arrival that are stored, as `toYYYYMM` has them.
    pub months: Vec<u32>,
}

/// Watermarks and rows. The settings are of one subquery alone: the others read what is confirmed on a replica.
fn sql() -> String {
    format!(
        "{WATERMARKS} UNION ALL SELECT '', toInt32({PARTS}), toInt64(sum(rows)), toInt32(0) FROM system.parts \
         WHERE database = currentDatabase() AND active AND table = 'events' \
         UNION ALL SELECT '', toInt32({VISIBLE}), number, toInt32(0) FROM (SELECT toInt64(count()) AS number \
         FROM events SETTINGS apply_deleted_mask = 0, select_sequential_consistency = 0) \
         UNION ALL SELECT '', toInt32({NOW}), toUnixTimestamp64Micro(now64(6)), toInt32(0) \
         UNION ALL SELECT DISTINCT '', toInt32({MONTH}), toInt64(toUInt32OrZero(partition)), toInt32(0) \
         FROM system.parts WHERE database = currentDatabase() AND active AND table = 'events'"
    )
}

impl Connection {
    /// How far a shard is complete, with the proof that this user sees every row of its events.
    ///
    /// # Errors
    /// No answer within `limit`, and 6 s for each query more where rows are stored meanwhile; [`Error::Hidden`].
    async fn report_basis(
        &self,
        shard: ShardId,
        settings: &GrantedSettings,
        limit: Duration,
    ) -> Result<ReportBasis, Error> {
        let (mut progress, mut parts, mut visible) = (Vec::new(), None, None);
        let (mut now_micros, mut months) = (0, Vec::new());
        self.for_each_block_with(&sql(), settings, limit, |block| {
            self.read_rows(block, |row: ProgressRow| {
                match row.partition {
                    number if number == Partition::new(PARTS) => parts = Some(row.millis),
                    number if number == Partition::new(VISIBLE) => visible = Some(row.millis),
                    number if number == Partition::new(NOW) => now_micros = row.millis,
                    number if number == Partition::new(MONTH) => months.extend(u32::try_from(row.millis)),
                    _ => progress.push(row),
                }
                Ok(())
            })
        })
        .await?;
        // The two were not counted at one moment. If they differ, rows may be hidden, or were stored meanwhile.
        if parts.is_none() || parts != visible {
            self.check_row_policies().await?;
        }
        Ok(ReportBasis {
            complete_through: complete_through(progress, shard),
            now_micros,
            months,
        })
    }
}

impl Shard {
    /// A connection for one report, and what the report relies on. Give it back after the answer.
    ///
    /// # Errors
    /// As [`Shard::connect_to_schema`]; [`Error::Hidden`].
    pub(super) async fn report_connection(&self) -> Result<(ReportConnection, ReportBasis), Error> {
        if let Some(kept) = self.reports.take() {
            let basis = kept
                .connection
                .report_basis(self.id(), &kept.settings, KEPT_TIMEOUT)
                .await;
            match basis {
                Ok(basis) => return Ok((kept, basis)),
                Err(hidden @ Error::Hidden(_)) => return Err(hidden),
                // The server went away, or its tables changed: a new connection says what it is.
                Err(_) => self.reports.clear(),
            }
        }
        let new = self.new_report_connection().await?;
        let basis = new
            .connection
            .report_basis(self.id(), &new.settings, QUERY_TIMEOUT)
            .await?;
        Ok((new, basis))
    }

    /// A connection that was not kept.
    ///
    /// # Errors
    /// As [`Shard::connect_to_schema`].
    pub(super) async fn new_report_connection(&self) -> Result<ReportConnection, Error> {
        let connection = self.connect_to_schema().await?;
        let settings = connection.granted_settings(&self.report_limits).await?;
        let limit = Duration::from_secs(self.report_limits.seconds);
        Ok(ReportConnection::new(connection, settings, limit))
    }
}
