//! The lock to change the tables: waited for and given back.

use std::time::Duration;

use anyhow::bail;
use tokio::time::{Instant, sleep};

use super::output::print_line;
use crate::clickhouse::lock::{Lease, Lock, SILENCE_MAX, Step};
use crate::clickhouse::schema::files::CREATE_MIGRATION_LOG;
use crate::clickhouse::{Connection, Shard};

/// Between readings of a lock that another process has.
const LOCK_READ_INTERVAL: Duration = Duration::from_millis(500);

/// For a lock whose owner is alive: a few statements that rewrite large tables.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(3_600);

/// Does work that only one process at a time may do.
///
/// # Errors
/// The server is away, another process keeps the lock for an hour, or the work's own.
pub async fn under_lock<T>(
    shard: &Shard,
    connection: &Connection,
    work: impl AsyncFnOnce(&Lock) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    shard.run_ddl(connection, CREATE_MIGRATION_LOG).await?;
    let lock = acquire(shard, connection).await?;
    let done = work(&lock).await;
    // Also after a failure, so that the next one need not wait; if this fails too, it has to.
    let unlocked = lock.record(connection, &Step::Unlock).await;
    let done = done?;
    unlocked?;
    Ok(done)
}

async fn acquire(shard: &Shard, connection: &Connection) -> anyhow::Result<Lock> {
    let owner = owner();
    let mut wait_start = Instant::now();
    let mut waited_for = None;
    loop {
        let lease = connection.lease().await?;
        if lease.is_free() {
            if let Some(lock) = shard.acquire_lock(&lease, &owner).await? {
                print_abandoned(&lease);
                return Ok(lock);
            }
        } else if waited_for.as_ref() != Some(&lease.owner) {
            print_line(format_args!("waiting for {}, which is migrating", lease.owner));
            waited_for = Some(lease.owner);
            wait_start = Instant::now();
        } else if wait_start.elapsed() > LOCK_WAIT_MAX {
            bail!(
                "{} has been migrating for more than {} s; see what it waits for",
                lease.owner,
                LOCK_WAIT_MAX.as_secs()
            );
        }
        sleep(LOCK_READ_INTERVAL).await;
    }
}

/// Prints what an owner left behind that did not give the lock back.
fn print_abandoned(before: &Lease) {
    if before.is_released {
        return;
    }
    let owner = &before.owner;
    match &before.unfinished {
        Some(name) => print_line(format_args!(
            "{owner} began {name} and was not heard of for {} s; taking its place",
            SILENCE_MAX.as_secs()
        )),
        None => print_line(format_args!(
            "{owner} was not heard of for {} s; taking its place",
            SILENCE_MAX.as_secs()
        )),
    }
}

/// A name that no other process has.
fn owner() -> String {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    format!("{host}/{}/{:08x}", std::process::id(), fastrand::u32(..))
}
