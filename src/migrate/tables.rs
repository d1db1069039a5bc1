//! What is there before anything is made: tables of captcha's names that are not as captcha makes them, and lost ones.

use anyhow::bail;

use super::{say, version};
use crate::clickhouse::schema::files::{FILES, NEEDED, VERSION};
use crate::clickhouse::{Connection, DeclaredTable, FoundTable, ReplicaTables, Shard, declared};

/// Differences that a line has of one table.
const DIFFERENCES_MAX: usize = 4;

/// Tables that are made again from what is known, whatever they held: nothing, and how far others came.
const DERIVED: [&str; 2] = ["dead_letters", "claims"];

/// What is there.
#[derive(Debug, Default)]
pub struct There {
    /// What migrations made and is lost, all of which may be made again.
    pub lost: Vec<&'static DeclaredTable>,
    /// Whether tables are the same on several servers.
    pub is_replicated: bool,
}

/// Looks at the tables that there are, and refuses those that are not as captcha makes them.
///
/// # Errors
/// No answer, such a table, or a lost one that held what nobody can make again.
pub async fn check(shard: &Shard) -> anyhow::Result<There> {
    let all = shard.tables().await?;
    // First those of migrate itself, which say what to expect of the others.
    for here in &all {
        refuse_foreign(shard, here, None)?;
    }
    let recorded = all.iter().find(|here| here.get("migrations").is_some());
    let version = match recorded {
        Some(here) => version(&shard.connect_to_replica(&here.address).await?.migrations().await?),
        None => 0,
    };
    if version > VERSION {
        // A newer captcha knows what they are, and the plan says so.
        return Ok(There::default());
    }
    check_all(shard, &all, version)
}

/// The same, after the migrations up to a version were run.
///
/// # Errors
/// As [`check`].
pub async fn check_at(shard: &Shard, version: u32) -> anyhow::Result<There> {
    check_all(shard, &shard.tables().await?, version)
}

fn check_all(shard: &Shard, all: &[ReplicaTables], version: u32) -> anyhow::Result<There> {
    // A replica without any of them is one that is to be filled.
    let filled: Vec<&ReplicaTables> = all.iter().filter(|here| !here.tables.is_empty()).collect();
    let mut lost = Vec::new();
    for here in &filled {
        refuse_foreign(shard, here, Some(version))?;
        let is_lost = |known: &&DeclaredTable| {
            let is_made = known.versions.first().is_some_and(|made| *made <= version);
            is_made && here.get(known.name).is_none()
        };
        lost.extend(declared().iter().filter(is_lost));
    }
    let held = lost.iter().filter(|known| !DERIVED.contains(&known.name));
    let held: Vec<_> = held.map(|known| known.name).collect();
    if !held.is_empty() && !is_unused(&filled, version) {
        bail!(
            "database {} of clickhouse at {} has lost {}, which migrations made; restore them from a backup, or drop the \
             database to begin anew",
            shard.database(),
            shard.addresses(),
            held.join(", ")
        );
    }
    let mut tables = filled.iter().flat_map(|here| &here.tables);
    Ok(There {
        is_replicated: tables.any(FoundTable::is_replicated),
        lost,
    })
}

/// Whether nothing was ever stored: what is left of the tables that consumers write has no rows. Where none is left, only
/// a schema that was never whole proves it.
fn is_unused(filled: &[&ReplicaTables], version: u32) -> bool {
    let written = ["events", "topics", "claims"];
    let all = filled.iter().flat_map(|here| &here.tables);
    let mut left = all.filter(|table| written.contains(&table.name.as_str())).peekable();
    match left.peek() {
        None => version < NEEDED,
        Some(_) => left.all(|table| table.rows() == Some(0)),
    }
}

/// Of all tables, or of those of migrate itself while no version is known.
fn refuse_foreign(shard: &Shard, here: &ReplicaTables, version: Option<u32>) -> anyhow::Result<()> {
    let database = shard.database().to_string();
    let mut foreign = Vec::new();
    let own = |known: &&DeclaredTable| version.is_some() || known.versions.is_empty();
    for known in declared().iter().filter(own) {
        let Some(found) = here.get(known.name) else {
            continue;
        };
        let mut differences = known.differences(found, &database, version.unwrap_or(0));
        if shard.is_cluster() && found.engine.ends_with("MergeTree") && !found.is_replicated() {
            differences.push("it is not replicated, and --clickhouse-cluster is given".to_string());
        }
        if !differences.is_empty() {
            foreign.push(format!("{} ({})", known.name, summed_up(&differences)));
        }
    }
    match foreign.len() {
        0 => Ok(()),
        _ => bail!(
            "database {database} of clickhouse at {} has tables that are not as captcha makes them: {}; rename them or change \
             them back, or name another --clickhouse-database",
            here.address,
            foreign.join(", ")
        ),
    }
}

fn summed_up(differences: &[String]) -> String {
    let shown = differences.len().min(DIFFERENCES_MAX);
    let more = match differences.len() - shown {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    differences[..shown].join(", ") + &more
}

impl There {
    /// Makes lost tables again, by the migrations up to a version that made and changed them.
    ///
    /// # Errors
    /// No answer, or the server refuses.
    pub async fn make_again(&self, shard: &Shard, connection: &Connection, version: u32) -> anyhow::Result<()> {
        for known in &self.lost {
            let applied = FILES.iter().take(version as usize);
            for (file, _) in applied.zip(1..).filter(|(_, number)| known.versions.contains(number)) {
                shard.run_ddl(connection, file.sql).await?;
            }
            say(format_args!("made {} again: {}", known.name, self.why(known)));
        }
        Ok(())
    }

    /// Why nothing is missed of a lost table.
    pub fn why(&self, known: &DeclaredTable) -> &'static str {
        match DERIVED.contains(&known.name) {
            true => "it was lost, and what it had follows from the others",
            false => "it was lost, and nothing was ever stored",
        }
    }
}
