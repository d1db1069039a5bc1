//! Which migrations are pending: a pure function of the files and of what is recorded.

use sha2::{Digest as _, Sha256};

use crate::clickhouse::schema::files::MigrationFile;
use crate::clickhouse::schema::history::AppliedMigration;

/// A migration file with a valid name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    pub version: u32,
    pub name: String,
    /// SHA-256 of its content with `\n` line endings, in hexadecimal.
    pub checksum: String,
    pub sql: String,
    /// The oldest captcha that can work with the schema that it makes, as in its [`MigrationFile`].
    pub compatible_since: u32,
    /// The table whose data it rewrites, if it does.
    pub rewrites: Option<String>,
}

/// Why nothing can be done before a person corrects it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("migration {0} is misnamed; expected V<number>__<what_it_does>.sql")]
    Misnamed(String),
    #[error("migration {0} has the number of another one")]
    Repeated(String),
    #[error("migration V{0} is missing between others")]
    Gap(u32),
    #[error(
        "migration {0} is applied, but this captcha does not have it; use one that is at least as new as the schema"
    )]
    Missing(String),
    #[error(
        "migration {0} differs from the one that was applied; a migration that was applied never changes, write a new \
         one"
    )]
    Divergent(String),
    #[error("migration {0} is not applied, but a later one is")]
    OutOfOrder(String),
}

/// The pending migrations, in order.
///
/// # Errors
/// The first fault of the files or of what is recorded, by name.
pub fn plan(files: &[MigrationFile], applied: &[AppliedMigration]) -> Result<Vec<Migration>, PlanError> {
    let migrations = read(files)?;
    for record in applied {
        let Some(migration) = migrations.iter().find(|m| m.version == record.version) else {
            return Err(PlanError::Missing(record.name.clone()));
        };
        if (&migration.checksum, &migration.name) != (&record.checksum, &record.name) {
            return Err(PlanError::Divergent(record.name.clone()));
        }
    }
    let newest = newest_version(applied);
    let is_applied = |m: &Migration| applied.iter().any(|record| record.version == m.version);
    let pending: Vec<Migration> = migrations.into_iter().filter(|m| !is_applied(m)).collect();
    match pending.first() {
        Some(first) if first.version < newest => Err(PlanError::OutOfOrder(first.name.clone())),
        _ => Ok(pending),
    }
}

/// The newest migration that is recorded; 0 before the first.
pub fn newest_version(applied: &[AppliedMigration]) -> u32 {
    let versions = applied.iter().map(|record| record.version);
    versions.max().unwrap_or(0)
}

fn read(files: &[MigrationFile]) -> Result<Vec<Migration>, PlanError> {
    let mut migrations: Vec<Migration> = Vec::with_capacity(files.len());
    for file in files {
        let version = version(file.name).ok_or_else(|| PlanError::Misnamed(file.name.to_string()))?;
        if migrations.iter().any(|m| m.version == version) {
            return Err(PlanError::Repeated(file.name.to_string()));
        }
        migrations.push(Migration {
            version,
            name: file.name.to_string(),
            checksum: checksum(file.sql),
            sql: file.sql.to_string(),
            compatible_since: file.compatible_since,
            rewrites: rewrites(file.sql),
        });
    }
    migrations.sort_by_key(|m| m.version);
    for (expected, migration) in (1..).zip(&migrations) {
        if migration.version != expected {
            return Err(PlanError::Gap(expected));
        }
    }
    Ok(migrations)
}

/// The number in `V<number>__<what_it_does>.sql`, without leading zeros.
fn version(name: &str) -> Option<u32> {
    let (number, what) = name.strip_prefix('V')?.strip_suffix(".sql")?.split_once("__")?;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let named = !what.is_empty() && what.chars().all(plain);
    let numbered = number.starts_with(|c: char| ('1'..='9').contains(&c)) && number.chars().all(|c| c.is_ascii_digit());
    (named && numbered).then(|| number.parse().ok()).flatten()
}

/// The table whose stored data a statement rewrites, which takes time and space by the size of the table. What
/// changes only how later parts are written, such as a codec, does not.
fn rewrites(sql: &str) -> Option<String> {
    let lines = sql.lines().map(|line| line.split("--").next().unwrap_or_default());
    let text = lines.collect::<Vec<_>>().join(" ");
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words: Vec<&str> = text.split(|c| !is_word(c)).filter(|word| !word.is_empty()).collect();
    let upper: Vec<String> = words.iter().map(|word| word.to_ascii_uppercase()).collect();
    let upper: Vec<&str> = upper.iter().map(String::as_str).collect();
    match upper[..] {
        ["ALTER", "TABLE", _, ref commands @ ..] if is_mutation(commands) => {}
        ["OPTIMIZE" | "INSERT", "TABLE" | "INTO", ..] => {}
        _ => return None,
    }
    words.get(2).map(ToString::to_string)
}

/// Whether commands of an ALTER TABLE are ones that ClickHouse carries out as a mutation.
fn is_mutation(commands: &[&str]) -> bool {
    /// What may follow the name of a column whose type stays.
    const TYPE_STAYS: [&str; 11] = [
        "CODEC",
        "COMMENT",
        "REMOVE",
        "MODIFY",
        "RESET",
        "DEFAULT",
        "MATERIALIZED",
        "ALIAS",
        "TTL",
        "FIRST",
        "AFTER",
    ];
    commands.windows(4).any(|words| match words {
        ["MODIFY", "COLUMN", _, next] => !TYPE_STAYS.contains(next),
        _ => false,
    }) || commands.windows(2).any(|words| {
        matches!(
            words,
            ["DELETE", "WHERE"]
                | ["DROP" | "RENAME" | "CLEAR", "COLUMN" | "INDEX" | "PROJECTION"]
                | ["MATERIALIZE", _]
                | ["UPDATE", _]
        )
    })
}

/// What `sha256sum` prints for the file, on every platform: `\r\n` counts as `\n`.
fn checksum(sql: &str) -> String {
    hex::encode(Sha256::digest(sql.replace("\r\n", "\n")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clickhouse::schema::files;

    const ONE: MigrationFile = MigrationFile {
        name: "V1__one.sql",
        sql: "SELECT 1\n",
        compatible_since: 1,
    };
    const TWO: MigrationFile = MigrationFile {
        name: "V2__two.sql",
        sql: "SELECT 2\n",
        compatible_since: 1,
    };
    const THREE: MigrationFile = MigrationFile {
        name: "V3__three.sql",
        sql: "SELECT 3\n",
        compatible_since: 1,
    };

    fn applied(file: MigrationFile) -> AppliedMigration {
        AppliedMigration {
            version: version(file.name).unwrap(),
            name: file.name.to_string(),
            checksum: checksum(file.sql),
            applied_at: String::new(),
            compatible_since: file.compatible_since,
        }
    }

    #[test]
    fn what_rewrites_data_is_known() {
        for sql in [
            "-- why\nALTER TABLE events UPDATE repeat = 0 WHERE 1",
            "ALTER TABLE events DELETE WHERE kind = 'bad'",
            "alter table events\n    MATERIALIZE PROJECTION hourly",
            "ALTER TABLE events MATERIALIZE COLUMN x",
            "ALTER TABLE events MODIFY COLUMN span Int32 CODEC(ZSTD(1))",
            "ALTER TABLE events ADD COLUMN x UInt8, DROP COLUMN y",
            "OPTIMIZE TABLE events FINAL",
            "INSERT INTO events SELECT * FROM old",
        ] {
            assert_eq!(rewrites(sql).as_deref(), Some("events"), "{sql}");
        }
        for sql in [
            "CREATE TABLE IF NOT EXISTS events (x UInt8) ENGINE = MergeTree ORDER BY x",
            "ALTER TABLE events MODIFY COLUMN time CODEC(ZSTD(1))",
            "ALTER TABLE events ADD COLUMN IF NOT EXISTS x UInt8 DEFAULT 1 -- UPDATE x",
            "ALTER TABLE events MODIFY SETTING fsync_after_insert = 1",
            "DROP VIEW IF EXISTS dead_letters",
        ] {
            assert_eq!(rewrites(sql), None, "{sql}");
        }
        let rewriting = plan(files::FILES, &[]).unwrap();
        assert!(rewriting.iter().all(|migration| migration.rewrites.is_none()));
    }

    fn names(files: &[MigrationFile], records: &[AppliedMigration]) -> Result<Vec<String>, PlanError> {
        plan(files, records).map(|todo| todo.into_iter().map(|m| m.name).collect())
    }

    #[test]
    fn what_is_not_applied_is_planned_in_order() {
        let files = [THREE, ONE, TWO];
        assert_eq!(
            names(&files, &[]).unwrap(),
            ["V1__one.sql", "V2__two.sql", "V3__three.sql"]
        );
        assert_eq!(
            names(&files, &[applied(ONE)]).unwrap(),
            ["V2__two.sql", "V3__three.sql"]
        );
        let all = [applied(TWO), applied(ONE), applied(THREE)];
        assert_eq!(names(&files, &all).unwrap(), Vec::<String>::new());
        assert_eq!(names(&[], &[]).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn the_built_in_files_are_in_order_and_end_with_the_version() {
        let all = plan(files::FILES, &[]).unwrap();
        assert_eq!(all.last().unwrap().version, files::VERSION);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let renamed = MigrationFile {
            name: "V1__uno.sql",
            ..ONE
        };
        let changed = MigrationFile {
            sql: "SELECT 1 \n",
            ..ONE
        };
        for (files, records, error) in [
            (
                vec![changed],
                vec![applied(ONE)],
                PlanError::Divergent("V1__one.sql".into()),
            ),
            (
                vec![renamed],
                vec![applied(ONE)],
                PlanError::Divergent("V1__one.sql".into()),
            ),
            (
                vec![ONE],
                vec![applied(ONE), applied(TWO)],
                PlanError::Missing("V2__two.sql".into()),
            ),
            (vec![ONE, renamed], vec![], PlanError::Repeated("V1__uno.sql".into())),
            (vec![ONE, THREE], vec![], PlanError::Gap(2)),
            (vec![TWO], vec![], PlanError::Gap(1)),
            (
                vec![ONE, TWO],
                vec![applied(TWO)],
                PlanError::OutOfOrder("V1__one.sql".into()),
            ),
        ] {
            assert_eq!(plan(&files, &records), Err(error));
        }
    }

    #[test]
    fn misnamed_files_are_refused() {
        for name in [
            "",
            "V1.sql",
            "V1__.sql",
            "V__one.sql",
            "v1__one.sql",
            "V01__one.sql",
            "V0__one.sql",
            "V1_one.sql",
            "V1__One.sql",
            "V1__one",
            "V1__one.sql.bak",
            "V-1__one.sql",
            "V99999999999__one.sql",
            "1__one.sql",
        ] {
            let file = MigrationFile {
                name,
                sql: "",
                compatible_since: 1,
            };
            assert_eq!(plan(&[file], &[]), Err(PlanError::Misnamed(name.into())), "{name}");
        }
    }

    #[test]
    fn the_checksum_is_that_of_sha256sum_whatever_the_line_endings() {
        assert_eq!(checksum("SELECT 1\r\n"), checksum("SELECT 1\n"));
        assert_ne!(checksum("SELECT 1\n"), checksum("SELECT 1"));
        // printf abc | sha256sum
        assert_eq!(
            checksum("abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
