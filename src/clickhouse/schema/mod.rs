//! The schema: the migrations that are built in, those that are recorded, and whether this captcha can work with them.

pub mod declared;
pub mod row_policies;
pub mod tables;

use klickhouse::Value;

use super::connection::{text, unexpected};
use super::insert_if_absent::RowOnce;
use super::{Action, Connection, Error, quote};

/// A migration file that is built into the binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct File {
    /// Its name, `V<number>__<what_it_does>.sql`.
    pub name: &'static str,
    /// Its one statement.
    pub sql: &'static str,
    /// A captcha that knows this schema version, or a newer one, can work with the schema that the file makes. Its
    /// own number if the file takes away what older ones need, else that of the file before.
    pub compatible_since: u32,
}

macro_rules! files {
    ($($name:literal since $since:literal),* $(,)?) => {
        &[$(File {
            name: $name,
            sql: include_str!(concat!("../../../migrations/", $name)),
            compatible_since: $since,
        }),*]
    };
}

/// All migrations, in order.
pub const FILES: &[File] = files![
    "V1__create_events.sql" since 1,
    "V2__create_dead_letters.sql" since 1,
    "V3__create_topics.sql" since 1,
    "V4__recode_events.sql" since 1,
    "V5__create_claims.sql" since 5,
    "V6__name_logs.sql" since 6,
    "V7__place_shards.sql" since 6,
];

/// The newest schema version that this binary knows: the number of the last file.
pub const VERSION: u32 = FILES.len() as u32;

/// The oldest schema version that has everything `serve`, `consume` and `report` ask for.
pub const NEEDED: u32 = 7;

const _: () = assert!(NEEDED <= VERSION);

/// Makes the table that records migrations.
pub const CREATE_HISTORY: &str = "CREATE TABLE IF NOT EXISTS migrations (version UInt32, name String, checksum String, \
     applied_at DateTime64(3, 'UTC') DEFAULT now64(3), \
     compatible_since UInt32 DEFAULT version) ENGINE = MergeTree ORDER BY version \
     SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, \
     fsync_part_directory = 1";

/// Adds what the table lacks if an older captcha made it.
pub const MEND_HISTORY: &str =
    "ALTER TABLE migrations ADD COLUMN IF NOT EXISTS compatible_since UInt32 DEFAULT version";

/// A migration as the table `migrations` records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The number in its name.
    pub version: u32,
    /// The name of its file.
    pub name: String,
    /// SHA-256 of its file with `\n` line endings, in hexadecimal.
    pub checksum: String,
    /// When, UTC.
    pub applied_at: String,
    /// Who can work with it, as [`File::compatible_since`].
    pub compatible_since: u32,
}

/// Why this captcha cannot work with a schema, and what to do; `None` if it can.
pub fn misfit(applied: &[Applied]) -> Option<String> {
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
    pub async fn applied(&self) -> Result<Vec<Applied>, Error> {
        // A history that an older captcha made has no last column.
        let sql = "SELECT version, name, checksum, toString(applied_at), COLUMNS('^compatible_since$') \
             FROM migrations ORDER BY version";
        let rows = match self.rows(sql).await {
            Err(err) if err.action() == Action::SchemaMissing => return Ok(Vec::new()),
            other => other?,
        };
        rows.iter()
            .map(|row| applied(row).ok_or_else(|| unexpected("the migrations")))
            .collect()
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
        self.insert_once(&RowOnce {
            table: "migrations (version, name, checksum, compatible_since)",
            values: format!("{version}, {}, {}, {compatible_since}", quote(name), quote(checksum)),
            is_there: format!("FROM migrations WHERE version = {version}"),
            token: format!("migration:{version}"),
        })
        .await
    }

    /// Mutations that rewrite tables of the database and have not ended.
    ///
    /// # Errors
    /// No answer.
    pub async fn running_mutations(&self) -> Result<Vec<Mutation>, Error> {
        let sql = "SELECT table, command, toInt64(parts_to_do), latest_fail_reason FROM system.mutations \
             WHERE database = currentDatabase() AND NOT is_done ORDER BY create_time";
        let rows = self.rows(sql).await?;
        rows.iter()
            .map(|row| mutation(row).ok_or_else(|| unexpected("the mutations")))
            .collect()
    }

    /// Bytes of a table on disk; 0 if it is not there.
    ///
    /// # Errors
    /// No answer.
    pub async fn table_bytes(&self, table: &str) -> Result<u64, Error> {
        let sql = format!(
            "SELECT toUInt64(sum(bytes_on_disk)) FROM system.parts \
             WHERE database = currentDatabase() AND active AND table = {}",
            quote(table)
        );
        match self.rows(&sql).await?.first().map(Vec::as_slice) {
            Some([Value::UInt64(bytes)]) => Ok(*bytes),
            _ => Err(unexpected("the size of a table")),
        }
    }
}

/// A rewriting of a table that goes on in the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutation {
    /// The table.
    pub table: String,
    /// What is done to it.
    pub command: String,
    /// Parts that are not rewritten yet.
    pub parts_to_do: i64,
    /// Why it does not come on; mostly empty.
    pub failure: String,
}

fn applied(row: &[Value]) -> Option<Applied> {
    let [
        Value::UInt32(version),
        name,
        checksum,
        applied_at,
        compatible_since @ ..,
    ] = row
    else {
        return None;
    };
    Some(Applied {
        version: *version,
        name: text(name)?,
        checksum: text(checksum)?,
        applied_at: text(applied_at)?,
        compatible_since: match compatible_since {
            [] => *version,
            [Value::UInt32(since)] => *since,
            _ => return None,
        },
    })
}

fn mutation(row: &[Value]) -> Option<Mutation> {
    let [table, command, Value::Int64(parts_to_do), failure] = row else {
        return None;
    };
    Some(Mutation {
        table: text(table)?,
        command: text(command)?,
        parts_to_do: *parts_to_do,
        failure: text(failure)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(version: u32, compatible_since: u32) -> Applied {
        Applied {
            version,
            name: format!("V{version}__x.sql"),
            checksum: String::new(),
            applied_at: String::new(),
            compatible_since,
        }
    }

    fn up_to(version: u32) -> Vec<Applied> {
        (1..=version).map(|number| recorded(number, 1)).collect()
    }

    #[test]
    fn what_is_lacking_is_named() {
        let reason = misfit(&up_to(NEEDED - 2)).unwrap();
        let last = FILES[NEEDED as usize - 1].name;
        let before = FILES[NEEDED as usize - 2].name;
        assert!(reason.contains(&format!("without {before}, {last}; run")), "{reason}");
        let mut holed = up_to(VERSION);
        holed.remove(1);
        assert!(misfit(&holed).unwrap().contains(FILES[1].name));
    }

    #[test]
    fn a_newer_schema_will_do_unless_it_says_otherwise() {
        let mut applied = up_to(VERSION);
        assert_eq!(misfit(&applied), None);
        applied.push(recorded(VERSION + 1, VERSION));
        assert_eq!(misfit(&applied), None);
        applied.push(recorded(VERSION + 2, VERSION + 2));
        assert!(misfit(&applied).unwrap().contains("use a newer captcha"));
        // Another one after it does not take that back.
        applied.push(recorded(VERSION + 3, 1));
        assert!(misfit(&applied).is_some());
    }

    #[test]
    fn files_are_compatible_with_themselves() {
        for (number, file) in (1..).zip(FILES) {
            assert!((1..=number).contains(&file.compatible_since), "{}", file.name);
        }
    }
}
