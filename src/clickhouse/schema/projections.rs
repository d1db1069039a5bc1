//! Projections that a migration added to `events`: rows that were stored before lack them until they are materialized,
//! and reports read such rows one by one.

use super::declared::{DeclaredProjection, declared};
use crate::clickhouse::connection::Connection;
use crate::clickhouse::error::Error;

/// The clause that gives rows a projection. It writes files next to those of a part, and changes no row.
const MATERIALIZE: &str = "MATERIALIZE PROJECTION";

/// How many rows have a projection.
#[derive(Debug, Clone, PartialEq, Eq, klickhouse::Row)]
pub struct ProjectionRows {
    pub name: String,
    pub rows: u64,
    /// Of all rows of the table.
    pub of: u64,
}

/// The projections of `events` that a migration after the first one adds, up to a schema version.
fn added_up_to(version: u32) -> impl Iterator<Item = &'static DeclaredProjection> {
    let events = declared().iter().filter(|known| known.name == "events");
    events.flat_map(move |events| {
        let first = events.versions.first().copied().unwrap_or(0);
        let added = events.projections.iter();
        added.filter(move |known| known.since > first && known.since <= version)
    })
}

/// Whether a mutation only gives older rows projections: nothing waits for it.
pub fn is_materializing(command: &str) -> bool {
    command.contains(MATERIALIZE)
}

impl Connection {
    /// Each projection that a migration up to a schema version added, and how many rows of this replica have it. None
    /// if the table has no rows.
    ///
    /// # Errors
    /// No answer.
    pub async fn projection_rows(&self, version: u32) -> Result<Vec<ProjectionRows>, Error> {
        let names: Vec<_> = added_up_to(version).map(|known| known.name).collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        // One reading of the parts, so that merges change no sum.
        let sql = format!(
            "SELECT name, toUInt64(sumIf(part_rows, has(made, name))) AS rows, toUInt64(sum(part_rows)) AS of \
             FROM (SELECT rows AS part_rows, projections AS made FROM system.parts \
             WHERE database = currentDatabase() AND table = 'events' AND active AND rows > 0) \
             ARRAY JOIN {names:?} AS name GROUP BY name ORDER BY name"
        );
        self.query_rows(&sql.replace('"', "'")).await
    }

    /// Lets the server give all rows these projections, on each replica, and does not wait for that.
    ///
    /// # Errors
    /// No answer, or no right to.
    pub async fn materialize_projections(&self, names: &[&str]) -> Result<(), Error> {
        let clauses: Vec<_> = names.iter().map(|name| format!("{MATERIALIZE} {name}")).collect();
        let clauses = clauses.join(", ");
        self.execute(&format!("ALTER TABLE events {clauses} SETTINGS mutations_sync = 0"))
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn projections_of_the_table_itself_are_in_all_rows() {
        let added = |version| added_up_to(version).map(|known| known.name).collect::<Vec<_>>();
        assert_eq!(added(8), Vec::<&str>::new());
        assert_eq!(added(9), ["days", "quarter_hours", "solve_times"]);
    }

    #[test]
    fn other_mutations_are_waited_for() {
        assert!(is_materializing("(MATERIALIZE PROJECTION days)"));
        assert!(!is_materializing("(UPDATE reason = 'x' WHERE 1)"));
    }
}
