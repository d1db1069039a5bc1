//! The schema, changed by one at a time: under a lock, with a note before and after each statement.

use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::time::{Instant, sleep};

use super::lock::under_lock;
use super::plan::{Migration, plan};
use super::{say, tables, version};
use crate::clickhouse::lock::{Lock, Step};
use crate::clickhouse::schema::files::{ADD_COMPATIBLE_SINCE, CREATE_MIGRATIONS, FILES};
use crate::clickhouse::{Connection, Shard};

/// Between looks at mutations, and how long one may go without getting on.
const MUTATION_LOOK: Duration = Duration::from_secs(1);
const MUTATION_STANDSTILL_MAX: Duration = Duration::from_secs(600);

/// Applies what is not applied yet, if there was anything when that was planned, and says whether there was.
///
/// # Errors
/// The server is away or refuses a statement, or what is applied does not fit the files.
pub async fn migrate(shard: &Shard, database_missing: bool, is_planned: bool) -> anyhow::Result<bool> {
    if database_missing {
        shard
            .create_database()
            .await
            .with_context(|| format!("cannot make database {}", shard.database()))?;
        say(format_args!("made database {}", shard.database()));
    }
    let connection = shard.connect().await?;
    if is_planned {
        under_lock(shard, &connection, async |lock| {
            apply_each(shard, &connection, lock).await
        })
        .await?;
    }
    Ok(database_missing || is_planned)
}

async fn apply_each(shard: &Shard, connection: &Connection, lock: &Lock) -> anyhow::Result<()> {
    shard.run_ddl(connection, CREATE_MIGRATIONS).await?;
    shard.run_ddl(connection, ADD_COMPATIBLE_SINCE).await?;
    // Whoever had the lock before may have done some of it.
    let applied = connection.migrations().await?;
    let there = tables::check(shard).await?;
    there.make_again(shard, connection, version(&applied)).await?;
    for migration in plan(FILES, &applied)? {
        apply(shard, connection, lock, &migration)
            .await
            .with_context(|| format!("cannot apply {}", migration.name))?;
        say(format_args!("applied {}", migration.name));
    }
    Ok(())
}

/// Killed anywhere in here, the next one does the same again: a statement can run twice, and is recorded once.
async fn apply(shard: &Shard, connection: &Connection, lock: &Lock, migration: &Migration) -> anyhow::Result<()> {
    await_mutations(connection).await?;
    if let Some(table) = &migration.rewrites {
        let bytes = connection.table_bytes(table).await?;
        say(format_args!("{}: {}", migration.name, rewriting(table, bytes)));
    }
    lock.record(connection, &Step::Begin(&migration.name)).await?;
    shard.run_ddl(connection, &migration.sql).await?;
    await_mutations(connection).await?;
    // Recorded is only what is there: `IF NOT EXISTS` leaves what somebody else made meanwhile.
    tables::check_at(shard, migration.version).await?;
    connection
        .record_migration(
            migration.version,
            &migration.name,
            &migration.checksum,
            migration.compatible_since,
        )
        .await?;
    lock.record(connection, &Step::Done(&migration.name)).await?;
    Ok(())
}

/// What it costs to rewrite a table.
pub fn rewriting(table: &str, bytes: u64) -> String {
    let megabytes = bytes / 1_000_000;
    format!("rewrites table {table}, {megabytes} MB, and needs as much free space again")
}

/// Waits until nothing rewrites a table, whoever began that.
async fn await_mutations(connection: &Connection) -> anyhow::Result<()> {
    let mut last = Vec::new();
    let mut moved = Instant::now();
    loop {
        let running = connection.running_mutations().await?;
        let Some(first) = running.first() else {
            return Ok(());
        };
        if running != last {
            say(format_args!(
                "waiting for a mutation of {}: {} parts to do",
                first.table, first.parts_to_do
            ));
            moved = Instant::now();
        } else if moved.elapsed() > MUTATION_STANDSTILL_MAX {
            let (table, command, failure) = (&first.table, &first.command, &first.failure);
            bail!(
                "the mutation `{command}` of {table} has not got on for {} s: {failure}; mend that or end it with KILL MUTATION",
                MUTATION_STANDSTILL_MAX.as_secs()
            );
        }
        last = running;
        sleep(MUTATION_LOOK).await;
    }
}
