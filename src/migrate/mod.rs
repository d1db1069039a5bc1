//! `captcha migrate`: makes the topic and the schema what this binary needs, and says what it did.

mod plan;
mod topic;

use std::io::Write as _;

use anyhow::{Context as _, bail};
use plan::{Migration, plan};
use topic::TopicArgs;

use crate::broker::{self, Broker};
use crate::store::schema::{self, Applied, TopicFacts};
use crate::store::{self, Connection, Store};

/// N unless it is said otherwise: at 100 events a second for each partition, the last 2 h 46 min.
const REPEAT_WINDOW_RECORDS: i64 = 1_000_000;

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
    let todo = plan(schema::FILES, applied.as_deref().unwrap_or_default())?;

    let topic_done = topic::migrate(&args.topic, &broker, args.dry_run).await?;
    let mut done = topic_done.made;
    if args.dry_run {
        done |= applied.is_none() || !todo.is_empty();
        show_plan(&store, applied.is_none(), &todo)?;
    } else {
        done |= migrate_schema(&store, applied.is_none(), &todo).await?;
        let facts = Facts {
            topic: broker.topic().as_str(),
            partitions: topic_done.partitions,
            repeat_window_records: args.repeat_window_records,
        };
        let connection = store.connect().await?;
        done |= facts.record(&connection).await?;
    }
    if !done {
        say(format_args!(
            "nothing to do: schema version {}",
            schema::VERSION
        ))?;
    }
    Ok(())
}

/// The recorded migrations; `None` while there is no database.
async fn applied(store: &Store) -> anyhow::Result<Option<Vec<Applied>>> {
    match store.connect().await {
        Ok(connection) => Ok(Some(connection.applied().await?)),
        Err(err) if err.is_schema_missing() => Ok(None),
        Err(err) => Err(err.into()),
    }
}

fn show_status(applied: &[Applied]) -> anyhow::Result<()> {
    for file in schema::FILES {
        match applied.iter().find(|record| record.name == file.name) {
            Some(record) => say(format_args!(
                "{}  applied {} UTC",
                file.name, record.applied_at
            ))?,
            None => say(format_args!("{}  not applied", file.name))?,
        }
    }
    let built_in = |record: &&Applied| schema::FILES.iter().any(|file| file.name == record.name);
    for record in applied.iter().filter(|record| !built_in(record)) {
        say(format_args!(
            "{}  applied {} UTC, not in this captcha",
            record.name, record.applied_at
        ))?;
    }
    Ok(())
}

fn show_plan(store: &Store, database_missing: bool, todo: &[Migration]) -> anyhow::Result<()> {
    if database_missing {
        say(format_args!("would make database {}", store.database()))?;
    }
    for migration in todo {
        say(format_args!("would apply {}", migration.name))?;
    }
    Ok(())
}

async fn migrate_schema(
    store: &Store,
    database_missing: bool,
    todo: &[Migration],
) -> anyhow::Result<bool> {
    if database_missing {
        store
            .create_database()
            .await
            .with_context(|| format!("cannot make database {}", store.database()))?;
        say(format_args!("made database {}", store.database()))?;
    }
    let connection = store.connect().await?;
    connection.create_history().await?;
    for migration in todo {
        apply(&connection, migration)
            .await
            .with_context(|| format!("cannot apply {}", migration.name))?;
        say(format_args!("applied {}", migration.name))?;
    }
    // Somebody else may have migrated meanwhile, from other files.
    let left = plan(schema::FILES, &connection.applied().await?)?;
    if let Some(first) = left.first() {
        bail!(
            "{} was applied but is not recorded; run `captcha migrate` again",
            first.name
        );
    }
    let lost = connection.lost_tables().await?;
    if !lost.is_empty() {
        bail!(
            "database {} has lost {}, which migrations made; restore them from a backup, or drop the database to begin anew",
            store.database(),
            lost.join(", ")
        );
    }
    Ok(database_missing || !todo.is_empty())
}

async fn apply(connection: &Connection, migration: &Migration) -> Result<(), store::Error> {
    let Migration {
        version,
        name,
        checksum,
        sql,
    } = migration;
    connection.apply(*version, name, checksum, sql).await
}

/// What is to be recorded of the topic.
struct Facts<'a> {
    topic: &'a str,
    partitions: i32,
    repeat_window_records: Option<i64>,
}

impl Facts<'_> {
    /// Records them unless they are recorded already.
    async fn record(&self, connection: &Connection) -> anyhow::Result<bool> {
        let known = connection.topic_facts(self.topic).await?;
        let kept = known.map_or(REPEAT_WINDOW_RECORDS, |facts| facts.repeat_window_records);
        let wanted = TopicFacts {
            revision: known.map_or(1, |facts| facts.revision + 1),
            partitions: self.partitions,
            repeat_window_records: self.repeat_window_records.unwrap_or(kept),
        };
        if let Some(known) = known {
            if (known.partitions, known.repeat_window_records)
                == (wanted.partitions, wanted.repeat_window_records)
            {
                return Ok(false);
            }
            // A consumer that runs has the recorded one; with another, the table would be by two rules.
            if known.repeat_window_records != wanted.repeat_window_records {
                bail!(
                    "the repeat window of topic {} is fixed at {} records and cannot become {}; leave --repeat-window-records out",
                    self.topic,
                    known.repeat_window_records,
                    wanted.repeat_window_records
                );
            }
        }
        if let Some(known) = known.filter(|known| known.partitions != wanted.partitions) {
            say(format_args!(
                "warning: topic {} went from {} to {} partitions; an event that was sent before and is sent again may be counted twice",
                self.topic, known.partitions, wanted.partitions
            ))?;
        }
        connection.record_topic(self.topic, &wanted).await?;
        let stored = connection.topic_facts(self.topic).await?;
        if stored != Some(wanted) {
            bail!(
                "another migrate recorded topic {} differently at the same time; run `captcha migrate` again",
                self.topic
            );
        }
        say(format_args!(
            "recorded topic {}: {} partitions, repeat window {} records",
            self.topic, wanted.partitions, wanted.repeat_window_records
        ))?;
        Ok(true)
    }
}

/// A line on stdout for people.
fn say(line: std::fmt::Arguments<'_>) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{line}").context("cannot write to stdout")
}
