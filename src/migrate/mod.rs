//! `captcha migrate`: makes the topic and the schema what this binary needs, and says what it did.

mod clocks;
mod drop_months;
mod lock;
mod plan;
mod schema;
mod tables;
mod topic;
mod topic_record;
mod wait;

use anyhow::{Context as _, bail};

use self::plan::{Migration, plan};
use self::tables::There;
use self::topic::TopicArgs;
use self::topic_record::Desired;
use self::wait::WaitArgs;
use crate::clickhouse::schema::files::{FILES, VERSION};
use crate::clickhouse::schema::history::{AppliedMigration, incompatibility};
use crate::clickhouse::{self, Cluster, EmptyReplica, Identifier, Shard, ShardId, TopicRecord};
use crate::kafka::{self, Kafka};
use crate::terminal::{escape, print};

/// Make the ClickHouse schema and the Kafka topic what this captcha needs
#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    other: Option<Other>,

    /// Show what would be done, and do nothing
    #[arg(long, conflicts_with = "status")]
    dry_run: bool,

    /// Show which migrations are applied and how the topic is made, and do nothing
    #[arg(long)]
    status: bool,

    /// The same event sent again within the next RECORDS records of its partition is counted once. Kept in
    /// ClickHouse and fixed from then on. Costs `captcha consume` up to 27 bytes of memory for each record and
    /// partition [default for a new topic: 1000000]
    #[arg(long, env = "CAPTCHA_DEDUP_WINDOW_RECORDS", value_name = "RECORDS", value_parser = clap::value_parser!(i64).range(1..=100_000_000))]
    dedup_window_records: Option<i64>,

    /// The topic was deleted and made again: consume it from its beginning, beside what is stored of the old one.
    /// Refused unless Kafka's id of the topic is another one than before
    #[arg(long, conflicts_with = "status")]
    topic_recreated: bool,

    /// Nobody consumes the topic any more: the report's complete_through does not wait for it. What is stored of it
    /// stays
    #[arg(long, conflicts_with_all = ["topic_recreated", "dry_run", "status"])]
    retire_topic: bool,

    /// Make tables that are the same on all replicas of a ClickHouse cluster, each of which is in --clickhouse-addr, and
    /// has the macros `shard` and `replica`. The name is a part of their path in Keeper [default: tables of one server]
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

/// What is done to the tables without making them.
#[derive(Debug, clap::Subcommand)]
enum Other {
    DropMonths(drop_months::Args),
}

/// Does what is to be done, or shows it.
///
/// # Errors
/// A server is away or refuses, the topic is not fit for events, or migrations are not what was applied.
pub async fn run(args: Args) -> anyhow::Result<()> {
    match &args.other {
        Some(Other::DropMonths(args)) => drop_months::run(args).await,
        None => wait::until_done(&args.wait, async || migrate(&args).await).await,
    }
}

async fn migrate(args: &Args) -> anyhow::Result<()> {
    let cluster = Cluster::new(args.clickhouse.clone())?.replicated(args.clickhouse_cluster.clone());
    let kafka = Kafka::new(args.kafka.clone())?;
    if args.status {
        for shard in cluster.iter() {
            let found = Found::look(shard, &kafka).await?;
            head(shard);
            show_status(found.applied.as_deref().unwrap_or_default());
        }
        topic::show(&kafka).await;
        return Ok(());
    }
    let mut filled = false;
    for shard in cluster.iter() {
        // Before anything is made: a name alone proves nothing.
        tables::check(shard).await?;
        filled |= fill_empty_replicas(shard, args.dry_run).await?;
    }
    let mut all = Vec::new();
    for shard in cluster.iter() {
        all.push(Found::look(shard, &kafka).await?);
    }
    if args.retire_topic {
        return retire(&kafka, &all).await;
    }
    let plans = all.iter().map(Found::plan);
    let plans: Vec<_> = plans.collect::<anyhow::Result<_>>()?;

    // Before anything is made: what is wished may contradict what is known.
    let state = kafka.topic_state().await?;
    let known = || all.iter().filter_map(|found| found.facts.as_ref());
    let desired = Desired {
        topic_id: state.as_ref().map(|state| state.id),
        partitions: state.as_ref().map_or(1, |state| state.partitions),
        // A shard that is new, or was forgotten by a migrate that was killed, follows the others.
        dedup_window_records: args
            .dedup_window_records
            .or_else(|| known().map(|facts| facts.repeat_window_records).next()),
        recreated: args.topic_recreated,
        ..Desired::default()
    };
    for found in &all {
        found.wanted(&kafka, desired)?;
    }

    let recorded = known().map(|facts| facts.partitions).max();
    let recorded = recorded.filter(|partitions| *partitions > 0);
    let topic_done = topic::migrate(&args.topic, &kafka, state, recorded, args.dry_run).await?;
    if let Some(state) = &topic_done.state {
        clocks::warn(&kafka, state, &cluster).await?;
    }
    let desired = Desired {
        topic_id: topic_done.state.map(|state| state.id),
        partitions: topic_done.partitions,
        ..desired
    };
    let mut done = topic_done.made | filled;
    for (found, todo) in all.iter().zip(&plans) {
        head(found.shard);
        done |= found.migrate(&kafka, todo, desired, args.dry_run).await?;
    }
    if !done {
        say(format_args!("nothing to do: schema version {VERSION}"));
    }
    Ok(())
}

/// What a shard has already.
struct Found<'a> {
    shard: &'a Shard,
    /// The recorded migrations; `None` while there is no database.
    applied: Option<Vec<AppliedMigration>>,
    /// What is recorded of the topic; nothing while the schema is older than that, or not there.
    facts: Option<TopicRecord>,
    /// The tables.
    there: There,
}

impl<'a> Found<'a> {
    async fn look(shard: &'a Shard, kafka: &Kafka) -> anyhow::Result<Found<'a>> {
        let mut found = Found {
            shard,
            applied: None,
            facts: None,
            there: There::default(),
        };
        let connection = match shard.connect().await {
            Err(err) if err.action() == clickhouse::Action::SchemaMissing => return Ok(found),
            other => other?,
        };
        connection.check_row_policies_of_all_tables().await?;
        let applied = connection.migrations().await?;
        found.there = tables::check(shard).await?;
        let is_lost = found.there.lost.iter().any(|lost| lost.name == "topics");
        if incompatibility(&applied).is_none() && !is_lost {
            found.facts = connection.topic_record(kafka.topic().as_str()).await?;
        }
        found.applied = Some(applied);
        Ok(found)
    }

    fn plan(&self) -> anyhow::Result<Vec<Migration>> {
        let todo = plan(FILES, self.applied.as_deref().unwrap_or_default())?;
        let is_work = !todo.is_empty() || !self.there.lost.is_empty();
        if is_work && self.there.is_replicated && !self.shard.is_cluster() {
            bail!(
                "the tables of clickhouse at {} are the same on several replicas; give --clickhouse-cluster, as when they were made",
                self.shard.addresses()
            );
        }
        Ok(todo)
    }

    fn wanted(&self, kafka: &Kafka, desired: Desired) -> anyhow::Result<Option<TopicRecord>> {
        let desired = self.placed(desired);
        topic_record::wanted(kafka.topic().as_str(), self.facts.as_ref(), desired)
            .with_context(|| format!("clickhouse at {}", self.shard.addresses()))
    }

    fn placed(&self, desired: Desired) -> Desired {
        Desired {
            shard: self.shard.id(),
            ..desired
        }
    }

    /// Makes the schema and records the topic, or shows it; whether there was anything to do.
    async fn migrate(
        &self,
        kafka: &Kafka,
        todo: &[Migration],
        desired: Desired,
        dry_run: bool,
    ) -> anyhow::Result<bool> {
        let (shard, database_missing) = (self.shard, self.applied.is_none());
        let is_planned = !todo.is_empty() || !self.there.lost.is_empty();
        let mut done = database_missing || is_planned;
        if dry_run {
            for lost in &self.there.lost {
                let why = self.there.why(lost);
                say(format_args!("would make {} again: {why}", lost.name));
            }
            show_plan(shard, database_missing, todo).await?;
        } else {
            done = schema::migrate(shard, database_missing, is_planned).await?;
        }
        // Before the first run there is nothing to look into.
        if !dry_run || !is_planned {
            done |= self.record(kafka, desired, dry_run).await?;
        }
        Ok(done)
    }

    async fn record(&self, kafka: &Kafka, desired: Desired, dry_run: bool) -> anyhow::Result<bool> {
        let connection = self.shard.connect().await?;
        let topic = kafka.topic().as_str();
        topic_record::record(topic, &connection, self.placed(desired), dry_run).await
    }
}

/// Before anything is looked up: a question may come to such a replica. Whether there was one.
async fn fill_empty_replicas(shard: &Shard, dry_run: bool) -> anyhow::Result<bool> {
    let empty = shard.fill_empty_replicas(dry_run).await?;
    for EmptyReplica { address, source } in &empty {
        match dry_run {
            true => say(format_args!("would make the tables of {address} as {source} has them")),
            false => say(format_args!(
                "made the tables of {address} as {source} has them; once it has fetched what they hold, run \
                 SYSTEM RESTART REPLICAS there: an insert may still wait for what it stands for"
            )),
        }
    }
    Ok(!empty.is_empty())
}

async fn retire(kafka: &Kafka, all: &[Found<'_>]) -> anyhow::Result<()> {
    for found in all {
        found.shard.connect_to_schema().await?;
        head(found.shard);
        if !found.record(kafka, Desired::default(), false).await? {
            say(format_args!("topic {} is retired already", kafka.topic()));
        }
    }
    Ok(())
}

fn show_status(applied: &[AppliedMigration]) {
    for file in FILES {
        match applied.iter().find(|record| record.name == file.name) {
            Some(record) => say(format_args!("{}  applied {} UTC", file.name, record.applied_at)),
            None => say(format_args!("{}  not applied", file.name)),
        }
    }
    let built_in = |record: &&AppliedMigration| FILES.iter().any(|file| file.name == record.name);
    for record in applied.iter().filter(|record| !built_in(record)) {
        say(format_args!(
            "{}  applied {} UTC, not in this captcha",
            record.name, record.applied_at
        ));
    }
}

async fn show_plan(shard: &Shard, database_missing: bool, todo: &[Migration]) -> anyhow::Result<()> {
    if database_missing {
        say(format_args!("would make database {}", shard.database()));
    }
    for migration in todo {
        say(format_args!("would apply {}", migration.name));
        if let Some(table) = migration.rewrites.as_ref().filter(|_| !database_missing) {
            let bytes = shard.connect().await?.table_bytes(table).await?;
            say(format_args!("  {}", schema::rewriting(table, bytes)));
        }
    }
    Ok(())
}

/// The newest migration that is recorded; 0 before the first.
fn version(applied: &[AppliedMigration]) -> u32 {
    let versions = applied.iter().map(|record| record.version);
    versions.max().unwrap_or(0)
}

/// Says which shard comes now, where there are several.
fn head(shard: &Shard) {
    match shard.id() {
        ShardId { of: 1, .. } => {}
        id => say(format_args!("{id}, {}:", shard.addresses())),
    }
}

/// A line on stdout for people.
fn say(line: std::fmt::Arguments<'_>) {
    print(&format!("{}\n", escape::line(&line.to_string())));
}
