//! The right to change the tables, waited for and given back.

use std::time::Duration;

use anyhow::bail;
use tokio::time::{Instant, sleep};

use super::say;
use crate::clickhouse::lock::{Lease, Lock, SILENCE_MAX, Step};
use crate::clickhouse::schema::files::CREATE_MIGRATION_LOG;
use crate::clickhouse::{Connection, Shard};

/// Between looks at a lock that somebody else has.
const LOCK_LOOK: Duration = Duration::from_millis(500);

/// For a lock of somebody who gives signs of life: a few statements that rewrite large tables.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(3_600);

/// Does work that one process at a time may do.
///
/// # Errors
/// The server is away, somebody else keeps the lock for an hour, or the work's own.
pub async fn under_lock<T>(
    shard: &Shard,
    connection: &Connection,
    work: impl AsyncFnOnce(&Lock) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    shard.run_ddl(connection, CREATE_MIGRATION_LOG).await?;
    let lock = take(shard, connection).await?;
    let done = work(&lock).await;
    // Also after a failure, so that the next one need not wait; if this fails too, it has to.
    let unlocked = lock.record(connection, &Step::Unlock).await;
    let done = done?;
    unlocked?;
    Ok(done)
}

async fn take(shard: &Shard, connection: &Connection) -> anyhow::Result<Lock> {
    let owner = owner();
    let mut began = Instant::now();
    let mut waited_for = None;
    loop {
        let term = connection.lease().await?;
        if term.is_free() {
            if let Some(lock) = shard.acquire_lock(&term, &owner).await? {
                tell_of(&term);
                return Ok(lock);
            }
        } else if waited_for.as_ref() != Some(&term.owner) {
            say(format_args!("waiting for {}, which is migrating", term.owner));
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
fn tell_of(before: &Lease) {
    if before.is_released {
        return;
    }
    let owner = &before.owner;
    match &before.unfinished {
        Some(name) => say(format_args!(
            "{owner} began {name} and was not heard of for {} s; taking its place",
            SILENCE_MAX.as_secs()
        )),
        None => say(format_args!(
            "{owner} was not heard of for {} s; taking its place",
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
