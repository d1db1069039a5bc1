//! The schema, changed by one at a time: under a lock, with a note before and after each statement.

use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::time::{Instant, sleep};

use super::plan::{Migration, plan};
use super::say;
use crate::store::lock::{CREATE_LOG, Lock, SILENCE_MAX, Step, Term};
use crate::store::schema::{CREATE_HISTORY, FILES, MEND_HISTORY};
use crate::store::{Connection, Store};

/// Between looks at a lock that somebody else has.
const LOCK_LOOK: Duration = Duration::from_millis(500);

/// For a lock of somebody who gives signs of life: a few statements that rewrite large tables.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(3_600);

/// Between looks at mutations, and how long one may go without getting on.
const MUTATION_LOOK: Duration = Duration::from_secs(1);
const MUTATION_STANDSTILL_MAX: Duration = Duration::from_secs(600);

/// Applies what is not applied yet, if there was anything when that was planned, and says whether there was.
///
/// # Errors
/// The server is away or refuses a statement, or what is applied does not fit the files.
pub async fn migrate(
    store: &Store,
    database_missing: bool,
    is_planned: bool,
) -> anyhow::Result<bool> {
    if database_missing {
        store
            .create_database()
            .await
            .with_context(|| format!("cannot make database {}", store.database()))?;
        say(format_args!("made database {}", store.database()))?;
    }
    let connection = store.connect().await?;
    if is_planned {
        apply_all(store, &connection).await?;
    }
    let lost = connection.lost_tables().await?;
    if !lost.is_empty() {
        bail!(
            "database {} has lost {}, which migrations made; restore them from a backup, or drop the database to begin anew",
            store.database(),
            lost.join(", ")
        );
    }
    Ok(database_missing || is_planned)
}

async fn apply_all(store: &Store, connection: &Connection) -> anyhow::Result<()> {
    store.define(connection, CREATE_LOG).await?;
    let lock = take_lock(store, connection).await?;
    let done = apply_each(store, connection, &lock).await;
    // Also after a failure, so that the next one need not wait; if this fails too, it has to.
    let unlocked = lock.note(connection, &Step::Unlock).await;
    done?;
    unlocked?;
    Ok(())
}

async fn apply_each(store: &Store, connection: &Connection, lock: &Lock) -> anyhow::Result<()> {
    store.define(connection, CREATE_HISTORY).await?;
    store.define(connection, MEND_HISTORY).await?;
    // Whoever had the lock before may have done some of it.
    for migration in plan(FILES, &connection.applied().await?)? {
        apply(store, connection, lock, &migration)
            .await
            .with_context(|| format!("cannot apply {}", migration.name))?;
        say(format_args!("applied {}", migration.name))?;
    }
    Ok(())
}

/// Killed anywhere in here, the next one does the same again: a statement can run twice, and is recorded once.
async fn apply(
    store: &Store,
    connection: &Connection,
    lock: &Lock,
    migration: &Migration,
) -> anyhow::Result<()> {
    await_mutations(connection).await?;
    if let Some(table) = &migration.rewrites {
        let bytes = connection.table_bytes(table).await?;
        say(format_args!(
            "{}: {}",
            migration.name,
            rewriting(table, bytes)
        ))?;
    }
    lock.note(connection, &Step::Begin(&migration.name)).await?;
    store.define(connection, &migration.sql).await?;
    await_mutations(connection).await?;
    connection
        .record_migration(
            migration.version,
            &migration.name,
            &migration.checksum,
            migration.compatible_since,
        )
        .await?;
    lock.note(connection, &Step::Done(&migration.name)).await?;
    Ok(())
}

/// What it costs to rewrite a table.
pub fn rewriting(table: &str, bytes: u64) -> String {
    let megabytes = bytes / 1_000_000;
    format!("rewrites table {table}, {megabytes} MB, and needs as much free space again")
}

async fn take_lock(store: &Store, connection: &Connection) -> anyhow::Result<Lock> {
    let owner = owner();
    let mut began = Instant::now();
    let mut waited_for = None;
    loop {
        let term = connection.term().await?;
        if term.is_free() {
            if let Some(lock) = store.lock(&term, &owner).await? {
                tell_of(&term)?;
                return Ok(lock);
            }
        } else if waited_for.as_ref() != Some(&term.owner) {
            say(format_args!(
                "waiting for {}, which is migrating",
                term.owner
            ))?;
            waited_for = Some(term.owner);
            began = Instant::now();
        } else if began.elapsed() > LOCK_WAIT_MAX {
            bail!(
                "{} has been migrating for more than {} s; see what it waits for",
                term.owner,
                LOCK_WAIT_MAX.as_secs()
            );
        }
        sleep(LOCK_LOOK).await;
    }
}

/// Says what was left behind by one that did not end well.
fn tell_of(before: &Term) -> anyhow::Result<()> {
    if before.is_over {
        return Ok(());
    }
    let owner = &before.owner;
    match &before.unfinished {
        Some(name) => say(format_args!(
            "{owner} began {name} and was not heard of for {} s; going on from there",
            SILENCE_MAX.as_secs()
        )),
        None => say(format_args!(
            "{owner} was not heard of for {} s; going on in its place",
            SILENCE_MAX.as_secs()
        )),
    }
}

/// A name for this process that no other has.
fn owner() -> String {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    format!("{host}/{}/{:08x}", std::process::id(), fastrand::u32(..))
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
            ))?;
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
