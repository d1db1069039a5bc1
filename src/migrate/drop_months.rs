//! `captcha migrate drop-months`: drops what arrived long ago, and keeps every head where it is.

use std::time::Duration;

use anyhow::bail;

use super::lock::under_lock;
use super::output::{print_line, print_shard};
use super::wait::{self, WaitArgs};
use crate::clickhouse::lock::{Lock, Step};
use crate::clickhouse::{self, Cluster, Connection, DroppedRange, Month, Shard, StoredMonth};

/// How far the clock that dates arrivals, Kafka's or that of `captcha serve`, may be from ClickHouse's.
const CLOCK_DIFFERENCE_MAX: Duration = Duration::from_secs(3_600);

/// Drop what arrived before a month, for good
///
/// Reports no longer count it. Whole months of the table are dropped at once. Delete from the table in no other way: this command first writes how far each partition is, so that consumers
/// continue there and the audit knows what is missing on purpose. Consumers may run meanwhile. If the command is
/// killed, run it again.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Drop what arrived in Kafka before this month, UTC; reports have the day that an event names, which may be
    /// another
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

/// Drops months of all shards, or prints them.
///
/// # Errors
/// A server is away or refuses, or the months may not be dropped yet.
pub async fn run(args: &Args) -> anyhow::Result<()> {
    wait::retry_until_done(&args.wait, async || drop_months(args).await).await
}

async fn drop_months(args: &Args) -> anyhow::Result<()> {
    let cluster = Cluster::new(args.clickhouse.clone())?;
    let mut plans = Vec::new();
    for shard in cluster.iter() {
        let connection = shard.connect_to_schema().await?;
        // Of all shards before the first one drops anything.
        let months = months_to_drop(shard, &connection, args).await?;
        plans.push((shard, connection, months));
    }
    let mut dropped = false;
    for (shard, connection, months) in &plans {
        print_shard(shard);
        dropped |= match args.dry_run || months.is_empty() {
            true => print_plan(months),
            false => drop_from(shard, connection, args).await?,
        };
    }
    if !dropped {
        print_line(format_args!("nothing to do: no month before {} has rows", args.before));
    }
    Ok(())
}

/// The months to drop, if they may be dropped now.
async fn months_to_drop(shard: &Shard, connection: &Connection, args: &Args) -> anyhow::Result<Vec<StoredMonth>> {
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
    let wanted_millis = begin_millis + CLOCK_DIFFERENCE_MAX.as_millis() as i64;
    let through = connection.complete_through(shard.id()).await?;
    if !through.reaches(wanted_millis) {
        bail!(
            "cannot drop what arrived before {before}: what clickhouse at {} has is complete through {through}, and \
             must be through {before} and {} s; let captcha consume catch up, or retire topics that nobody consumes",
            shard.addresses(),
            CLOCK_DIFFERENCE_MAX.as_secs()
        );
    }
    if !args.forget_repeats {
        for stored in &months {
            refuse_if_in_window(&connection.dropped_ranges(stored.month).await?, stored.month)?;
        }
    }
    Ok(months)
}

fn refuse_if_in_window(missing: &[DroppedRange], month: Month) -> anyhow::Result<()> {
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

fn print_plan(months: &[StoredMonth]) -> bool {
    for stored in months {
        print_line(format_args!("would drop {}", summary(stored)));
    }
    !months.is_empty()
}

/// Drops the months that are still there. Returns whether there was one.
async fn drop_from(shard: &Shard, connection: &Connection, args: &Args) -> anyhow::Result<bool> {
    under_lock(shard, connection, async |lock| {
        // Once more: consumers run meanwhile, and another process may have had the lock before.
        let months = months_to_drop(shard, connection, args).await?;
        for stored in &months {
            drop_month(connection, lock, stored).await?;
        }
        Ok(!months.is_empty())
    })
    .await
}

async fn drop_month(connection: &Connection, lock: &Lock, stored: &StoredMonth) -> anyhow::Result<()> {
    let step = format!("to drop {}", stored.month);
    // Fails if these are not the tables that were read before, but those of a backup that was restored.
    lock.record(connection, &Step::Begin(&step)).await?;
    // Read again, because a record with an old date may have arrived since.
    for missing in connection.dropped_ranges(stored.month).await? {
        connection.record_mark(&missing).await?;
    }
    connection.drop_month(stored.month).await?;
    lock.record(connection, &Step::Done(&step)).await?;
    print_line(format_args!("dropped {}", summary(stored)));
    Ok(())
}

fn summary(stored: &StoredMonth) -> String {
    let StoredMonth { month, rows, bytes } = stored;
    format!("{month}: {rows} rows, {} MB", bytes.div_ceil(1_000_000))
}
