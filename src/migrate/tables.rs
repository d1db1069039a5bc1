//! The tables that exist before anything is made: those that are not as captcha makes them, and lost ones.

use anyhow::bail;

use super::output::print_line;
use super::plan::newest_version;
use crate::clickhouse::schema::files::{FILES, NEEDED, VERSION};
use crate::clickhouse::{Connection, DeclaredTable, FoundTable, ReplicaTables, Shard, declared};

/// Differences of one table in an error line.
const DIFFERENCES_MAX: usize = 4;

/// Tables that can be recreated whatever was in them: a view, and watermarks, which consumers write again.
const DERIVED: [&str; 2] = ["dead_letters", "claims"];

/// The tables of a shard.
#[derive(Debug, Default)]
pub struct ExistingTables {
    /// Tables that migrations made and that are lost, all of which may be recreated.
    pub lost: Vec<&'static DeclaredTable>,
    /// Whether tables have replicas on several servers.
    pub is_replicated: bool,
}

/// Reads the tables of a shard, and refuses those that are not as captcha makes them.
///
/// # Errors
/// No answer, such a table, or a lost one whose rows cannot be made again.
pub async fn check(shard: &Shard) -> anyhow::Result<ExistingTables> {
    let all = shard.tables().await?;
    // First those of migrate itself, which have what to expect of the others.
    for tables in &all {
        refuse_foreign(shard, tables, None)?;
    }
    let recorded = all.iter().find(|tables| tables.get("migrations").is_some());
    let version = match recorded {
        Some(tables) => newest_version(&shard.connect_to_replica(&tables.address).await?.migrations().await?),
        None => 0,
    };
    if version > VERSION {
        // A newer captcha made them; the plan has the error.
        return Ok(ExistingTables::default());
    }
    check_all(shard, &all, version)
}

/// The same, after the migrations up to a version ran.
///
/// # Errors
/// As [`check`].
pub async fn check_at(shard: &Shard, version: u32) -> anyhow::Result<ExistingTables> {
    check_all(shard, &shard.tables().await?, version)
}

fn check_all(shard: &Shard, all: &[ReplicaTables], version: u32) -> anyhow::Result<ExistingTables> {
    // A replica without any of them is still to be filled.
    let filled: Vec<&ReplicaTables> = all.iter().filter(|tables| !tables.tables.is_empty()).collect();
    let mut lost = Vec::new();
    for tables in &filled {
        refuse_foreign(shard, tables, Some(version))?;
        let is_lost = |known: &&DeclaredTable| {
            let is_made = known.versions.first().is_some_and(|made| *made <= version);
            is_made && tables.get(known.name).is_none()
        };
        lost.extend(declared().iter().filter(is_lost));
    }
    let irreplaceable = lost.iter().filter(|known| !DERIVED.contains(&known.name));
    let irreplaceable: Vec<_> = irreplaceable.map(|known| known.name).collect();
    if !irreplaceable.is_empty() && !is_unused(&filled, version) {
        bail!(
            "database {} of clickhouse at {} has lost {}, which migrations made; restore them from a backup, or drop \
             the database to start over",
            shard.database(),
            shard.addresses(),
            irreplaceable.join(", ")
        );
    }
    let mut tables = filled.iter().flat_map(|tables| &tables.tables);
    Ok(ExistingTables {
        is_replicated: tables.any(FoundTable::is_replicated),
        lost,
    })
}

/// Whether nothing was ever stored: those tables that consumers write and that are left have no rows. If none is left,
/// only a schema that was never complete proves it.
fn is_unused(filled: &[&ReplicaTables], version: u32) -> bool {
    let written = ["events", "topics", "claims"];
    let all = filled.iter().flat_map(|tables| &tables.tables);
    let mut left = all.filter(|table| written.contains(&table.name.as_str())).peekable();
    match left.peek() {
        None => version < NEEDED,
        Some(_) => left.all(|table| table.rows() == Some(0)),
    }
}

/// Checks all tables, or those of migrate itself while no version is known.
fn refuse_foreign(shard: &Shard, tables: &ReplicaTables, version: Option<u32>) -> anyhow::Result<()> {
    let database = shard.database().to_string();
    let mut foreign = Vec::new();
    let own = |known: &&DeclaredTable| version.is_some() || known.versions.is_empty();
    for known in declared().iter().filter(own) {
        let Some(found) = tables.get(known.name) else {
            continue;
        };
        let mut differences = known.differences(found, &database, version.unwrap_or(0));
        if shard.is_cluster() && found.engine.ends_with("MergeTree") && !found.is_replicated() {
            differences.push("it is not replicated, and --clickhouse-cluster is given".to_string());
        }
        if !differences.is_empty() {
            foreign.push(format!("{} ({})", known.name, summary(&differences)));
        }
    }
    match foreign.len() {
        0 => Ok(()),
        _ => bail!(
            "database {database} of clickhouse at {} has tables that are not as captcha makes them: {}; rename them \
             or change them back, or name another --clickhouse-database",
            tables.address,
            foreign.join(", ")
        ),
    }
}

fn summary(differences: &[String]) -> String {
    let shown = differences.len().min(DIFFERENCES_MAX);
    let more = match differences.len() - shown {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    differences[..shown].join(", ") + &more
}

impl ExistingTables {
    /// Recreates lost tables, by the migrations up to a version that made and changed them.
    ///
    /// # Errors
    /// No answer, or the server refuses.
    pub async fn recreate_lost(&self, shard: &Shard, connection: &Connection, version: u32) -> anyhow::Result<()> {
        for known in &self.lost {
            let applied = FILES.iter().take(version as usize);
            for (file, _) in applied.zip(1..).filter(|(_, number)| known.versions.contains(number)) {
                shard.run_ddl(connection, file.sql).await?;
            }
            print_line(format_args!("made {} again: {}", known.name, self.reason_for(known)));
        }
        Ok(())
    }

    /// Why nothing is missing once a lost table is recreated.
    pub fn reason_for(&self, known: &DeclaredTable) -> &'static str {
        match DERIVED.contains(&known.name) {
            true => "it was lost, and what it had follows from the others",
            false => "it was lost, and nothing was ever stored",
        }
    }
}
