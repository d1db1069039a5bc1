//! Whether a user sees every row of a table. A row policy may hide some: a head that is read then is too low, and a
//! report is a part that looks like the whole.
//!
//! The proof compares what the user counts with the rows of the table's parts, which no row policy touches.

use super::declared::declared;
use crate::clickhouse::{Connection, Error, quote};

/// Comparisons before the rows count as hidden. A month may be dropped between two queries, which spoils one
/// comparison.
const COMPARISONS_MAX: u32 = 5;

/// The rows of the parts before and after the user counted, and what the user counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Comparison {
    before: u64,
    visible: u64,
    after: u64,
}

impl Comparison {
    /// The rows of all parts only grow, so a user that sees everything counts a number in between.
    fn is_whole(self) -> bool {
        (self.before..=self.after).contains(&self.visible)
    }
}

impl Connection {
    /// Proves that this user sees every row of `events`.
    ///
    /// # Errors
    /// No answer, no right to read `system.parts`, or [`Error::Hidden`].
    pub async fn check_row_policies(&self) -> Result<(), Error> {
        self.check_row_policies_of("events").await
    }

    /// Proves that this user sees every row of each of captcha's tables that has any.
    ///
    /// # Errors
    /// As [`Connection::check_row_policies`].
    pub async fn check_row_policies_of_all_tables(&self) -> Result<(), Error> {
        let sql = "SELECT DISTINCT table FROM system.parts WHERE database = currentDatabase() AND active";
        let with_rows: Vec<String> = self.query_values(sql).await?;
        for known in declared() {
            if with_rows.iter().any(|table| table == known.name) {
                self.check_row_policies_of(known.name).await?;
            }
        }
        Ok(())
    }

    async fn check_row_policies_of(&self, table: &str) -> Result<(), Error> {
        let mut comparisons = 0;
        loop {
            let before = self.part_rows(table).await?;
            let visible = self.visible_rows(table).await?;
            let after = match visible == before {
                // Most often nothing was stored between the two, and a report need not wait for a third answer.
                true => before,
                false => self.part_rows(table).await?,
            };
            let comparison = Comparison { before, visible, after };
            comparisons += 1;
            if comparison.is_whole() {
                return Ok(());
            }
            if comparisons == COMPARISONS_MAX {
                return Err(self.hidden(table, comparison));
            }
        }
    }

    async fn part_rows(&self, table: &str) -> Result<u64, Error> {
        self.query_value(&format!(
            "SELECT toUInt64(sum(rows)) FROM system.parts \
             WHERE database = currentDatabase() AND active AND table = {}",
            quote(table)
        ))
        .await
    }

    /// Counts all rows of the parts: those that a lightweight DELETE has marked, and on a replica those that wait for a
    /// majority, too.
    async fn visible_rows(&self, table: &str) -> Result<u64, Error> {
        let sql = format!(
            "SELECT toUInt64(count()) FROM {table} \
             SETTINGS apply_deleted_mask = 0, select_sequential_consistency = 0"
        );
        self.query_value(&sql).await
    }

    fn hidden(&self, table: &str, comparison: Comparison) -> Error {
        let (address, user) = (self.address(), self.user());
        let Comparison { before, visible, .. } = comparison;
        Error::Hidden(match visible < before {
            true => format!(
                "clickhouse at {address} shows user {user} {visible} of the {before} rows of {table}: a row policy \
                 hides the others; let the user see all rows (SHOW ROW POLICIES, and <databases> in users.xml)"
            ),
            false => format!(
                "clickhouse at {address} does not show user {user} all parts of {table} in system.parts, so nothing \
                 proves that it shows all rows; grant SHOW TABLES on the database, and look for a row policy on \
                 system.parts"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_between_two_looks_at_the_parts_is_whole() {
        for (before, visible, after, is_whole) in [
            (0, 0, 0, true),
            (40, 40, 40, true),
            (40, 45, 50, true),
            (40, 39, 50, false),
            (40, 0, 40, false),
            (0, 40, 0, false),
        ] {
            let comparison = Comparison { before, visible, after };
            assert_eq!(comparison.is_whole(), is_whole, "{comparison:?}");
        }
    }
}
