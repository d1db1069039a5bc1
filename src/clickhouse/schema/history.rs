//! The table `migrations`: those that ran, and whether this captcha can work with the schema that they made.

use super::files::{FILES, NEEDED, VERSION};
use crate::clickhouse::connection::Connection;
use crate::clickhouse::error::Error;
use crate::clickhouse::error_codes::Action;
use crate::clickhouse::insert_if_absent::InsertIfAbsent;
use crate::clickhouse::sql::quote;

/// A migration as the table `migrations` records it.
#[derive(Debug, Clone, PartialEq, Eq, klickhouse::Row)]
pub struct AppliedMigration {
    /// The number in its name.
    pub version: u32,
    /// The name of its file.
    pub name: String,
    /// SHA-256 of its file with `\n` line endings, in hexadecimal.
    pub checksum: String,
    /// UTC.
    pub applied_at: String,
    /// As [`MigrationFile::compatible_since`](super::files::MigrationFile).
    #[klickhouse(default)]
    pub compatible_since: u32,
}

/// Why this captcha cannot work with a schema, and what to do; `None` if it can.
pub fn incompatibility(applied: &[AppliedMigration]) -> Option<String> {
    let version = applied.iter().map(|record| record.version).max();
    let version = version.unwrap_or(0);
    let lacking: Vec<&str> = (1..=NEEDED)
        .filter(|number| !applied.iter().any(|record| record.version == *number))
        .filter_map(|number| Some(FILES.get(number as usize - 1)?.name))
        .collect();
    if !lacking.is_empty() {
        return Some(format!(
            "schema version {version}, without {}; run `captcha migrate`",
            lacking.join(", ")
        ));
    }
    let newest = applied.iter().map(|record| record.compatible_since).max();
    let since = newest.filter(|since| *since > VERSION)?;
    Some(format!(
        "schema version {version}, made for a captcha that knows version {since}, and this one knows {VERSION}; \
         use a newer captcha"
    ))
}

impl Connection {
    /// The recorded migrations by version; none before the first run.
    ///
    /// # Errors
    /// No answer.
    pub async fn migrations(&self) -> Result<Vec<AppliedMigration>, Error> {
        // A history that an older captcha made has no last column.
        let sql = "SELECT version, name, checksum, toString(applied_at) AS applied_at, COLUMNS('^compatible_since$') \
             FROM migrations ORDER BY version";
        let mut applied: Vec<AppliedMigration> = match self.query_rows(sql).await {
            Err(err) if err.action() == Action::SchemaMissing => return Ok(Vec::new()),
            other => other?,
        };
        for migration in applied.iter_mut().filter(|migration| migration.compatible_since == 0) {
            migration.compatible_since = migration.version;
        }
        Ok(applied)
    }

    /// Records a migration as applied, once.
    ///
    /// # Errors
    /// No answer.
    pub async fn record_migration(
        &self,
        version: u32,
        name: &str,
        checksum: &str,
        compatible_since: u32,
    ) -> Result<(), Error> {
        self.insert_if_absent(&InsertIfAbsent {
            table: "migrations (version, name, checksum, compatible_since)",
            values: format!("{version}, {}, {}, {compatible_since}", quote(name), quote(checksum)),
            exists: format!("FROM migrations WHERE version = {version}"),
            token: format!("migration:{version}"),
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(version: u32, compatible_since: u32) -> AppliedMigration {
        AppliedMigration {
            version,
            name: format!("V{version}__x.sql"),
            checksum: String::new(),
            applied_at: String::new(),
            compatible_since,
        }
    }

    fn up_to(version: u32) -> Vec<AppliedMigration> {
        (1..=version).map(|number| recorded(number, 1)).collect()
    }

    #[test]
    fn what_is_lacking_is_named() {
        let reason = incompatibility(&up_to(NEEDED - 2)).unwrap();
        let last = FILES[NEEDED as usize - 1].name;
        let before = FILES[NEEDED as usize - 2].name;
        assert!(reason.contains(&format!("without {before}, {last}; run")), "{reason}");
        let mut holed = up_to(VERSION);
        holed.remove(1);
        assert!(incompatibility(&holed).unwrap().contains(FILES[1].name));
    }

    #[test]
    fn a_newer_schema_will_do_unless_it_says_otherwise() {
        let mut applied = up_to(VERSION);
        assert_eq!(incompatibility(&applied), None);
        applied.push(recorded(VERSION + 1, VERSION));
        assert_eq!(incompatibility(&applied), None);
        applied.push(recorded(VERSION + 2, VERSION + 2));
        assert!(incompatibility(&applied).unwrap().contains("use a newer captcha"));
        // Another one after it does not take that back.
        applied.push(recorded(VERSION + 3, 1));
        assert!(incompatibility(&applied).is_some());
    }
}
