//! The statements that make the schema: the migration files, and the two tables of `migrate` itself.

/// A migration file that is built into the binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MigrationFile {
    /// `V<number>__<what_it_does>.sql`.
    pub name: &'static str,
    /// One statement.
    pub sql: &'static str,
    /// A captcha that knows this schema version, or a newer one, can work with the schema that the file makes. Its
    /// own number if the file takes away what older ones need, else that of the file before.
    pub compatible_since: u32,
}

macro_rules! files {
    ($($name:literal since $since:literal),* $(,)?) => {
        &[$(MigrationFile {
            name: $name,
            sql: include_str!(concat!("../../../migrations/", $name)),
            compatible_since: $since,
        }),*]
    };
}

/// All migrations, in order.
pub const FILES: &[MigrationFile] = files![
    "V1__create_events.sql" since 1,
    "V2__create_dead_letters.sql" since 1,
    "V3__create_topics.sql" since 1,
    "V4__recode_events.sql" since 1,
    "V5__create_claims.sql" since 5,
    "V6__name_logs.sql" since 6,
    "V7__place_shards.sql" since 6,
    "V8__judge_events.sql" since 6,
    "V9__aggregate_reports.sql" since 6,
];

/// The newest schema version that this binary knows: the number of the last file.
pub const VERSION: u32 = FILES.len() as u32;

/// The oldest schema version that has everything `serve`, `consume` and `report` ask for.
pub const NEEDED: u32 = 9;

const _: () = assert!(NEEDED <= VERSION);

/// Makes the table that records migrations.
pub const CREATE_MIGRATIONS: &str = "CREATE TABLE IF NOT EXISTS migrations (version UInt32, name String, \
     checksum String, applied_at DateTime64(3, 'UTC') DEFAULT now64(3), \
     compatible_since UInt32 DEFAULT version) ENGINE = MergeTree ORDER BY version \
     SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, \
     fsync_part_directory = 1";

/// Adds the column that a table lacks which an older captcha made.
pub const ADD_COMPATIBLE_SINCE: &str =
    "ALTER TABLE migrations ADD COLUMN IF NOT EXISTS compatible_since UInt32 DEFAULT version";

/// Makes the table of terms and steps.
pub const CREATE_MIGRATION_LOG: &str = "CREATE TABLE IF NOT EXISTS migration_log (term UInt64, \
     at DateTime64(6, 'UTC') DEFAULT now64(6), owner String, \
     step LowCardinality(String), name String) ENGINE = MergeTree ORDER BY (term, at) \
     SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, \
     fsync_part_directory = 1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_compatible_with_themselves() {
        for (number, file) in (1..).zip(FILES) {
            assert!((1..=number).contains(&file.compatible_since), "{}", file.name);
        }
    }
}
