//! `captcha migrate`: makes the topic and the schema what this binary needs, and prints what it did.

mod clocks;
mod drop_months;
mod lock;
mod output;
mod plan;
mod projections;
mod retirement;
mod schema;
mod shard_state;
mod tables;
mod topic;
mod topic_record;
mod wait;

use self::output::{print_line, print_shard};
use self::plan::newest_version;
use self::retirement::RetirementArgs;
use self::shard_state::ShardState;
use self::topic::TopicArgs;
use self::topic_record::Desired;
use self::wait::WaitArgs;
use crate::clickhouse::schema::files::{FILES, VERSION};
use crate::clickhouse::schema::history::AppliedMigration;
use crate::clickhouse::{self, Cluster, EmptyReplica, Identifier, Shard};
use crate::kafka::{self, Kafka};

/// Make or update the ClickHouse schema and the Kafka topic
#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    subcommand: Option<Subcommand>,

    /// Show what would be done, and do nothing
    #[arg(long, conflicts_with = "status")]
    dry_run: bool,

    /// Show which migrations are applied, how many rows have each projection and how the topic is made, and do nothing
    #[arg(long)]
    status: bool,

    /// The same event sent again within the next RECORDS records of its partition is counted once. Kept in
    /// ClickHouse and fixed from then on. Events of a challenge find each other within the same number of records.
    /// Costs `captcha consume` up to 35 bytes of memory for each record and partition, and about 40 more for each
    /// record of a challenge that has more than 32 [default for a new topic: 1000000]
    #[arg(
        long,
        env = "CAPTCHA_DEDUP_WINDOW_RECORDS",
        value_name = "RECORDS",
        value_parser = clap::value_parser!(i64).range(1..=100_000_000)
    )]
    dedup_window_records: Option<i64>,

    /// The topic was deleted and made again: consume it from its beginning, and keep what is stored of the old one.
    /// Refused unless Kafka's id of the topic differs from the recorded one
    #[arg(long, conflicts_with = "status")]
    topic_recreated: bool,

    #[command(flatten)]
    retirement: RetirementArgs,

    /// Make tables that are the same on all replicas of a ClickHouse cluster, each of which is in --clickhouse-addr,
    /// and has the macros `shard` and `replica`. The name is a part of their path in Keeper [default: tables of one
    /// server]
    #[arg(long, env = "CAPTCHA_CLICKHOUSE_CLUSTER", value_name = "NAME")]
    clickhouse_cluster: Option<Identifier>,

    #[command(flatten)]
    wait: WaitArgs,

    #[command(flatten)]
    topic: TopicArgs,

    #[command(flatten)]
    kafka: kafka::Args,

    #[command(flatten)]
    clickhouse: clickhouse::Args,
}

/// Work on tables that exist.
#[derive(Debug, clap::Subcommand)]
enum Subcommand {
    DropMonths(drop_months::Args),
}

/// Does what is to be done, or prints it.
///
/// # Errors
/// A server is away or refuses, the topic is not fit for events, or the migrations differ from those that were applied.
pub async fn run(args: Args) -> anyhow::Result<()> {
    match &args.subcommand {
        Some(Subcommand::DropMonths(args)) => drop_months::run(args).await,
        None => wait::retry_until_done(&args.wait, async || migrate(&args).await).await,
    }
}

async fn migrate(args: &Args) -> anyhow::Result<()> {
    let cluster = Cluster::new(args.clickhouse.clone())?.replicated(args.clickhouse_cluster.clone());
    let kafka = Kafka::new(args.kafka.clone())?;
    if args.status {
        return print_status(&cluster, &kafka).await;
    }
    let mut done = false;
    for shard in cluster.iter() {
        // Before anything is made: a name alone proves nothing.
        tables::check(shard).await?;
        done |= fill_empty_replicas(shard, args.dry_run).await?;
    }
    let mut states = Vec::new();
    for shard in cluster.iter() {
        states.push(ShardState::load(shard, &kafka).await?);
    }
    if args.retirement.is_to_retire() {
        return retirement::retire(&args.retirement, &kafka, &states).await;
    }
    let plans = states.iter().map(ShardState::plan);
    let plans: Vec<_> = plans.collect::<anyhow::Result<_>>()?;

    // Before anything is made: what is desired may contradict what is recorded.
    let topic_state = kafka.topic_state().await?;
    let records = || states.iter().filter_map(|state| state.record.as_ref());
    let desired = Desired {
        topic_id: topic_state.as_ref().map(|topic| topic.id),
        partitions: topic_state.as_ref().map_or(1, |topic| topic.partitions),
        // A shard that is new, or that a migrate did not reach before it was killed, follows the others.
        dedup_window_records: args
            .dedup_window_records
            .or_else(|| records().map(|record| record.repeat_window_records).next()),
        recreated: args.topic_recreated,
        resumed: args.retirement.is_to_resume(),
        ..Desired::default()
    };
    for state in &states {
        state.next_record(&kafka, desired)?;
    }
    args.retirement.check(&kafka, records())?;

    let partitions = records().map(|record| record.partitions).max();
    let partitions = partitions.filter(|partitions| *partitions > 0);
    let topic = topic::migrate(&args.topic, &kafka, topic_state, partitions, args.dry_run).await?;
    if let Some(topic_state) = &topic.state {
        clocks::warn(&kafka, topic_state, &cluster).await?;
    }
    let desired = Desired {
        topic_id: topic.state.map(|topic| topic.id),
        partitions: topic.partitions,
        ..desired
    };
    done |= topic.is_created;
    for (state, pending) in states.iter().zip(&plans) {
        print_shard(state.shard);
        done |= state.migrate(&kafka, pending, desired, args.dry_run).await?;
    }
    if !done {
        print_line(format_args!("nothing to do: schema version {VERSION}"));
    }
    Ok(())
}

/// Comes before everything that reads: a query may reach such a replica. Returns whether there was one.
async fn fill_empty_replicas(shard: &Shard, dry_run: bool) -> anyhow::Result<bool> {
    let empty = shard.fill_empty_replicas(dry_run).await?;
    for EmptyReplica { address, source } in &empty {
        match dry_run {
            true => print_line(format_args!("would make the tables of {address} as {source} has them")),
            false => print_line(format_args!(
                "made the tables of {address} as {source} has them; once it has fetched what they hold, run \
                 SYSTEM RESTART REPLICAS there: an insert may still wait for the lost replica"
            )),
        }
    }
    Ok(!empty.is_empty())
}

async fn print_status(cluster: &Cluster, kafka: &Kafka) -> anyhow::Result<()> {
    for shard in cluster.iter() {
        let state = ShardState::load(shard, kafka).await?;
        print_shard(shard);
        let applied = state.applied.as_deref().unwrap_or_default();
        print_applied(applied);
        if state.applied.is_some() {
            projections::print_status(shard, newest_version(applied)).await?;
        }
        retirement::print_status(kafka, state.record.as_ref());
    }
    topic::print_status(kafka).await;
    Ok(())
}

fn print_applied(applied: &[AppliedMigration]) {
    for file in FILES {
        match applied.iter().find(|record| record.name == file.name) {
            Some(record) => print_line(format_args!("{}  applied {} UTC", file.name, record.applied_at)),
            None => print_line(format_args!("{}  not applied", file.name)),
        }
    }
    let built_in = |record: &&AppliedMigration| FILES.iter().any(|file| file.name == record.name);
    for record in applied.iter().filter(|record| !built_in(record)) {
        print_line(format_args!(
            "{}  applied {} UTC, not in this captcha",
            record.name, record.applied_at
        ));
    }
}
