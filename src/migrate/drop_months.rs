//! `captcha migrate drop-months`: what arrived long ago goes, and no head goes back.

use std::time::Duration;

use anyhow::bail;

use super::lock::under_lock;
use super::wait::{self, WaitArgs};
use super::{head, say};
use crate::clickhouse::lock::{Lock, Step};
use crate::clickhouse::{self, Cluster, Connection, DroppedRange, Month, Shard, StoredMonth};

/// What the clock that dates what arrives, Kafka's or that of `captcha serve`, and ClickHouse's may differ.
const CLOCKS_DIFFER_MAX: Duration = Duration::from_secs(3_600);

/// Drop what arrived before a month, whole months of the table at once; reports count it no more
///
/// Nothing else is to delete from the table: this command first writes how far each partition had come, so that
/// consumers go on where they are and the audit knows what is missing on purpose. Consumers may run meanwhile. Killed at
/// any moment, the next one goes on.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Drop what arrived in Kafka before this month, UTC; reports have the day that an event names, which may be another
    #[arg(long, value_name = "YYYY-MM")]
    before: Month,

    /// Show what would be dropped, and do nothing
    #[arg(long)]
    dry_run: bool,

    /// Drop also what is among the last --dedup-window-records of a partition: an event of that time that is sent again
    /// is counted again
    #[arg(long)]
    forget_repeats: bool,

    #[command(flatten)]
    wait: WaitArgs,

    #[command(flatten)]
    clickhouse: clickhouse::Args,
}

/// Drops months of all shards, or shows them.
///
/// # Errors
/// A server is away or refuses, or the months are not ripe.
pub async fn run(args: &Args) -> anyhow::Result<()> {
    wait::until_done(&args.wait, async || drop_months(args).await).await
}

async fn drop_months(args: &Args) -> anyhow::Result<()> {
    let cluster = Cluster::new(args.clickhouse.clone())?;
    let mut looked_at = Vec::new();
    for shard in cluster.iter() {
        let connection = shard.connect_to_schema().await?;
        // All of them before the first one drops anything.
        let months = look(shard, &connection, args).await?;
        looked_at.push((shard, connection, months));
    }
    let mut dropped = false;
    for (shard, connection, months) in &looked_at {
        head(shard);
        dropped |= match args.dry_run || months.is_empty() {
            true => show(months),
            false => drop_from(shard, connection, args).await?,
        };
    }
    if !dropped {
        say(format_args!("nothing to do: no month before {} has rows", args.before));
    }
    Ok(())
}

/// The months that are to go, if they are ripe.
async fn look(shard: &Shard, connection: &Connection, args: &Args) -> anyhow::Result<Vec<StoredMonth>> {
    connection.check_events_table().await?;
    connection.check_row_policies_of_all_tables().await?;
    let (before, begin_millis) = (args.before, args.before.begin().timestamp_millis());
    if connection.clock_millis().await? < begin_millis {
        bail!("cannot drop what arrives before {before}: that is not over yet; name a month that has begun");
    }
    let months = connection.months_before(before).await?;
    if months.is_empty() {
        return Ok(months);
    }
    let wanted_millis = begin_millis + CLOCKS_DIFFER_MAX.as_millis() as i64;
    let through = connection.complete_through(shard.id()).await?;
    if !through.reaches(wanted_millis) {
        bail!(
            "cannot drop what arrived before {before}: what clickhouse at {} has is complete through {through}, and must be \
             through {before} and {} s; let captcha consume catch up, or retire topics that nobody consumes",
            shard.addresses(),
            CLOCKS_DIFFER_MAX.as_secs()
        );
    }
    if !args.forget_repeats {
        for stored in &months {
            refuse_windows(&connection.dropped_ranges(stored.month).await?, stored.month)?;
        }
    }
    Ok(months)
}

fn refuse_windows(missing: &[DroppedRange], month: Month) -> anyhow::Result<()> {
    for missing in missing {
        if let Some(begin) = missing.window_begin() {
            bail!(
                "cannot drop {month}: events of {}:{} that are sent again are looked for from offset {begin} on \
                 (--dedup-window-records {}), and up to {} would go; name an earlier month, or --forget-repeats",
                missing.topic_partition.log,
                missing.topic_partition.partition,
                missing.repeat_window_records,
                missing.last
            );
        }
    }
    Ok(())
}

fn show(months: &[StoredMonth]) -> bool {
    for stored in months {
        say(format_args!("would drop {}", described(stored)));
    }
    !months.is_empty()
}

/// Drops what is still there; whether that was anything.
async fn drop_from(shard: &Shard, connection: &Connection, args: &Args) -> anyhow::Result<bool> {
    under_lock(shard, connection, async |lock| {
        // Consumers go on, and another one may have had the lock before.
        let months = look(shard, connection, args).await?;
        for stored in &months {
            drop_month(connection, lock, stored).await?;
        }
        Ok(!months.is_empty())
    })
    .await
}

async fn drop_month(connection: &Connection, lock: &Lock, stored: &StoredMonth) -> anyhow::Result<()> {
    let step = format!("to drop {}", stored.month);
    // Also says whether these are still the tables that were looked at, and not those of a backup that was put back.
    lock.record(connection, &Step::Begin(&step)).await?;
    // Looked at again, because a record may have come since that is dated back.
    for missing in connection.dropped_ranges(stored.month).await? {
        connection.record_mark(&missing).await?;
    }
    connection.drop_month(stored.month).await?;
    lock.record(connection, &Step::Done(&step)).await?;
    say(format_args!("dropped {}", described(stored)));
    Ok(())
}

fn described(stored: &StoredMonth) -> String {
    let StoredMonth { month, rows, bytes } = stored;
    format!("{month}: {rows} rows, {} MB", bytes.div_ceil(1_000_000))
}
