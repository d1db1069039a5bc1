//! `captcha migrate`: makes the topic and the schema what this binary needs, and says what it did.

mod facts;
mod plan;
mod schema;
mod topic;

use std::io::Write as _;

use anyhow::Context as _;

use self::facts::Wish;
use self::plan::{Migration, plan};
use self::topic::TopicArgs;
use crate::broker::{self, Broker};
use crate::store::schema::{Applied, FILES, VERSION};
use crate::store::{self, Store, TopicFacts};

/// Make the ClickHouse schema and the Kafka topic what this captcha needs
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Show what would be done, and do nothing
    #[arg(long, conflicts_with = "status")]
    dry_run: bool,

    /// Show which migrations are applied, and do nothing
    #[arg(long)]
    status: bool,

    /// The same event sent again within the next RECORDS records of its partition is counted once. Kept in
    /// ClickHouse and fixed from then on. Costs `captcha consume` up to 27 bytes of memory for each record and
    /// partition [default for a new topic: 1000000]
    #[arg(long, env = "CAPTCHA_REPEAT_WINDOW_RECORDS", value_name = "RECORDS", value_parser = clap::value_parser!(i64).range(1..=100_000_000))]
    repeat_window_records: Option<i64>,

    /// The topic was deleted and made again: consume it from its beginning, beside what is stored of the old one.
    /// Refused unless Kafka's id of the topic is another one than before
    #[arg(long, conflicts_with = "status")]
    topic_made_anew: bool,

    /// Nobody consumes the topic any more: the report's complete_through does not wait for it. What is stored of it
    /// stays
    #[arg(long, conflicts_with_all = ["topic_made_anew", "dry_run", "status"])]
    retire_topic: bool,

    #[command(flatten)]
    topic: TopicArgs,

    #[command(flatten)]
    broker: broker::Args,

    #[command(flatten)]
    store: store::Args,
}

/// Does what is to be done, or shows it.
///
/// # Errors
/// A server is away or refuses, the topic is not fit for events, or migrations are not what was applied.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let store = Store::new(args.store.clone())?;
    let broker = Broker::new(args.broker.clone());
    let applied = applied(&store).await?;
    if args.status {
        return show_status(&applied.unwrap_or_default());
    }
    if args.retire_topic {
        return retire(&broker, &store).await;
    }
    let todo = plan(FILES, applied.as_deref().unwrap_or_default())?;

    // Before anything is made: what is wished may contradict what is known.
    let known = known_facts(&store, broker.topic().as_str()).await?;
    let state = broker.topic_state().await?;
    let wish = Wish {
        topic_id: state.as_ref().map(|state| state.id),
        partitions: state.as_ref().map_or(1, |state| state.partitions),
        repeat_window_records: args.repeat_window_records,
        made_anew: args.topic_made_anew,
    };
    facts::wanted(broker.topic().as_str(), known.as_ref(), wish)?;

    let recorded = known.map(|facts| facts.partitions);
    let recorded = recorded.filter(|partitions| *partitions > 0);
    let topic_done = topic::migrate(&args.topic, &broker, state, recorded, args.dry_run).await?;
    let mut done = topic_done.made;
    if args.dry_run {
        done |= applied.is_none() || !todo.is_empty();
        show_plan(&store, applied.is_none(), &todo).await?;
    } else {
        done |= schema::migrate(&store, applied.is_none(), !todo.is_empty()).await?;
    }
    let wish = Wish {
        topic_id: topic_done.id,
        partitions: topic_done.partitions,
        ..wish
    };
    // Before the first run there is nothing to look into.
    if !args.dry_run || todo.is_empty() {
        let connection = store.connect().await?;
        let topic = broker.topic().as_str();
        done |= facts::record(topic, &connection, wish, args.dry_run).await?;
    }
    if !done {
        say(format_args!("nothing to do: schema version {VERSION}"))?;
    }
    Ok(())
}

/// What is recorded of the topic; nothing while the schema is older than that, or not there.
async fn known_facts(store: &Store, topic: &str) -> anyhow::Result<Option<TopicFacts>> {
    match store.connect_to_schema().await {
        Ok(connection) => Ok(connection.topic_facts(topic).await?),
        Err(store::Error::Schema(_)) => Ok(None),
        Err(err) => Err(err.into()),
    }
}

async fn retire(broker: &Broker, store: &Store) -> anyhow::Result<()> {
    let connection = store.connect_to_schema().await?;
    let topic = broker.topic().as_str();
    if !facts::record(topic, &connection, Wish::default(), false).await? {
        say(format_args!("topic {} is retired already", broker.topic()))?;
    }
    Ok(())
}

/// The recorded migrations; `None` while there is no database.
async fn applied(store: &Store) -> anyhow::Result<Option<Vec<Applied>>> {
    match store.connect().await {
        Ok(connection) => Ok(Some(connection.applied().await?)),
        Err(err) if err.class() == store::Class::SchemaMissing => Ok(None),
        Err(err) => Err(err.into()),
    }
}

fn show_status(applied: &[Applied]) -> anyhow::Result<()> {
    for file in FILES {
        match applied.iter().find(|record| record.name == file.name) {
            Some(record) => say(format_args!(
                "{}  applied {} UTC",
                file.name, record.applied_at
            ))?,
            None => say(format_args!("{}  not applied", file.name))?,
        }
    }
    let built_in = |record: &&Applied| FILES.iter().any(|file| file.name == record.name);
    for record in applied.iter().filter(|record| !built_in(record)) {
        say(format_args!(
            "{}  applied {} UTC, not in this captcha",
            record.name, record.applied_at
        ))?;
    }
    Ok(())
}

async fn show_plan(
    store: &Store,
    database_missing: bool,
    todo: &[Migration],
) -> anyhow::Result<()> {
    if database_missing {
        say(format_args!("would make database {}", store.database()))?;
    }
    for migration in todo {
        say(format_args!("would apply {}", migration.name))?;
        if let Some(table) = migration.rewrites.as_ref().filter(|_| !database_missing) {
            let bytes = store.connect().await?.table_bytes(table).await?;
            say(format_args!("  {}", schema::rewriting(table, bytes)))?;
        }
    }
    Ok(())
}

/// A line on stdout for people.
fn say(line: std::fmt::Arguments<'_>) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{line}").context("cannot write to stdout")
}
