//! The schema, changed by one process at a time: under a lock, with a note before and after each statement.

use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::time::{Instant, sleep};

use super::lock::under_lock;
use super::output::print_line;
use super::plan::{Migration, newest_version, plan};
use super::tables;
use crate::clickhouse::lock::{Lock, Step};
use crate::clickhouse::schema::files::{ADD_COMPATIBLE_SINCE, CREATE_MIGRATIONS, FILES};
use crate::clickhouse::schema::projections::is_materializing;
use crate::clickhouse::{Connection, Shard};

/// Between readings of mutations, and how long one may go without progress.
const MUTATION_READ_INTERVAL: Duration = Duration::from_secs(1);
const MUTATION_STALLED_MAX: Duration = Duration::from_secs(600);

/// Creates the database if it is missing, and applies pending migrations if some were planned. Returns whether anything
/// was done.
///
/// # Errors
/// The server is away or refuses a statement, or what is applied does not fit the files.
pub async fn migrate(shard: &Shard, database_missing: bool, is_planned: bool) -> anyhow::Result<bool> {
    if database_missing {
        shard
            .create_database()
            .await
            .with_context(|| format!("cannot make database {}", shard.database()))?;
        print_line(format_args!("made database {}", shard.database()));
    }
    let connection = shard.connect().await?;
    if is_planned {
        under_lock(shard, &connection, async |lock| {
            apply_pending(shard, &connection, lock).await
        })
        .await?;
    }
    Ok(database_missing || is_planned)
}

async fn apply_pending(shard: &Shard, connection: &Connection, lock: &Lock) -> anyhow::Result<()> {
    shard.run_ddl(connection, CREATE_MIGRATIONS).await?;
    shard.run_ddl(connection, ADD_COMPATIBLE_SINCE).await?;
    // The last owner of the lock may have done some of it.
    let applied = connection.migrations().await?;
    let existing = tables::check(shard).await?;
    existing
        .recreate_lost(shard, connection, newest_version(&applied))
        .await?;
    for migration in plan(FILES, &applied)? {
        apply(shard, connection, lock, &migration)
            .await
            .with_context(|| format!("cannot apply {}", migration.name))?;
        print_line(format_args!("applied {}", migration.name));
    }
    Ok(())
}

/// If it is killed anywhere in here, the next process does the same again: a statement can run twice, and is recorded
/// once.
async fn apply(shard: &Shard, connection: &Connection, lock: &Lock, migration: &Migration) -> anyhow::Result<()> {
    await_mutations(connection).await?;
    if let Some(table) = &migration.rewrites {
        let bytes = connection.table_bytes(table).await?;
        print_line(format_args!("{}: {}", migration.name, rewrite_cost(table, bytes)));
    }
    lock.record(connection, &Step::Begin(&migration.name)).await?;
    shard.run_ddl(connection, &migration.sql).await?;
    await_mutations(connection).await?;
    // Checked before it is recorded: `IF NOT EXISTS` leaves a table that another program made meanwhile.
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

/// The cost of rewriting a table, for a line.
pub fn rewrite_cost(table: &str, bytes: u64) -> String {
    let megabytes = bytes / 1_000_000;
    format!("rewrites table {table}, {megabytes} MB, and needs as much free space again")
}

/// Waits until no mutation changes rows, whichever process started it.
async fn await_mutations(connection: &Connection) -> anyhow::Result<()> {
    let mut last = Vec::new();
    let mut moved = Instant::now();
    loop {
        let mut running = connection.running_mutations().await?;
        running.retain(|mutation| !is_materializing(&mutation.command));
        let Some(first) = running.first() else {
            return Ok(());
        };
        if running != last {
            print_line(format_args!(
                "waiting for a mutation of {}: {} parts to do",
                first.table, first.parts_to_do
            ));
            moved = Instant::now();
        } else if moved.elapsed() > MUTATION_STALLED_MAX {
            let (table, command, failure) = (&first.table, &first.command, &first.failure);
            bail!(
                "the mutation `{command}` of {table} has made no progress for {} s: {failure}; fix that or end it with \
                 KILL MUTATION",
                MUTATION_STALLED_MAX.as_secs()
            );
        }
        last = running;
        sleep(MUTATION_READ_INTERVAL).await;
    }
}
