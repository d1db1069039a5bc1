//! What one shard has, and what is missing of what this binary needs.

use anyhow::{Context as _, bail};

use super::output::print_line;
use super::plan::{Migration, plan};
use super::tables::ExistingTables;
use super::topic_record::Desired;
use super::{projections, schema, tables, topic_record};
use crate::clickhouse::schema::files::FILES;
use crate::clickhouse::schema::history::{AppliedMigration, incompatibility};
use crate::clickhouse::{self, Shard, TopicRecord};
use crate::kafka::Kafka;

pub struct ShardState<'a> {
    pub shard: &'a Shard,
    /// The recorded migrations; `None` while there is no database.
    pub applied: Option<Vec<AppliedMigration>>,
    /// What is recorded of the topic; `None` while the schema is older than that, or missing.
    pub record: Option<TopicRecord>,
    existing: ExistingTables,
}

impl<'a> ShardState<'a> {
    pub async fn load(shard: &'a Shard, kafka: &Kafka) -> anyhow::Result<ShardState<'a>> {
        let mut state = ShardState {
            shard,
            applied: None,
            record: None,
            existing: ExistingTables::default(),
        };
        let connection = match shard.connect().await {
            Err(err) if err.action() == clickhouse::Action::SchemaMissing => return Ok(state),
            other => other?,
        };
        connection.check_row_policies_of_all_tables().await?;
        let applied = connection.migrations().await?;
        state.existing = tables::check(shard).await?;
        let is_lost = state.existing.lost.iter().any(|lost| lost.name == "topics");
        if incompatibility(&applied).is_none() && !is_lost {
            state.record = connection.topic_record(kafka.topic().as_str()).await?;
        }
        state.applied = Some(applied);
        Ok(state)
    }

    pub fn plan(&self) -> anyhow::Result<Vec<Migration>> {
        let pending = plan(FILES, self.applied.as_deref().unwrap_or_default())?;
        let is_work = !pending.is_empty() || !self.existing.lost.is_empty();
        if is_work && self.existing.is_replicated && !self.shard.is_cluster() {
            bail!(
                "the tables of clickhouse at {} are replicated; give --clickhouse-cluster, as when they were made",
                self.shard.addresses()
            );
        }
        Ok(pending)
    }

    pub fn next_record(&self, kafka: &Kafka, desired: Desired) -> anyhow::Result<Option<TopicRecord>> {
        let desired = self.with_shard(desired);
        topic_record::next_record(kafka.topic().as_str(), self.record.as_ref(), desired)
            .with_context(|| format!("clickhouse at {}", self.shard.addresses()))
    }

    fn with_shard(&self, desired: Desired) -> Desired {
        Desired {
            shard: self.shard.id(),
            ..desired
        }
    }

    /// Migrates the schema and records the topic, or prints what it would do. Returns whether there was anything to do.
    pub async fn migrate(
        &self,
        kafka: &Kafka,
        pending: &[Migration],
        desired: Desired,
        dry_run: bool,
    ) -> anyhow::Result<bool> {
        let (shard, database_missing) = (self.shard, self.applied.is_none());
        let is_planned = !pending.is_empty() || !self.existing.lost.is_empty();
        let mut done = database_missing || is_planned;
        if dry_run {
            for lost in &self.existing.lost {
                let reason = self.existing.reason_for(lost);
                print_line(format_args!("would make {} again: {reason}", lost.name));
            }
            print_plan(shard, database_missing, pending).await?;
        } else {
            done = schema::migrate(shard, database_missing, is_planned).await?;
        }
        if !dry_run || !database_missing {
            done |= projections::materialize(shard, dry_run).await?;
        }
        // A dry run before the first migration has no table to look into.
        if !dry_run || !is_planned {
            done |= self.record_topic(kafka, desired, dry_run).await?;
        }
        Ok(done)
    }

    pub async fn record_topic(&self, kafka: &Kafka, desired: Desired, dry_run: bool) -> anyhow::Result<bool> {
        let connection = self.shard.connect().await?;
        let topic = kafka.topic().as_str();
        topic_record::record(topic, &connection, self.with_shard(desired), dry_run).await
    }
}

async fn print_plan(shard: &Shard, database_missing: bool, pending: &[Migration]) -> anyhow::Result<()> {
    if database_missing {
        print_line(format_args!("would make database {}", shard.database()));
    }
    for migration in pending {
        print_line(format_args!("would apply {}", migration.name));
        if let Some(table) = migration.rewrites.as_ref().filter(|_| !database_missing) {
            let bytes = shard.connect().await?.table_bytes(table).await?;
            print_line(format_args!("  {}", schema::rewrite_cost(table, bytes)));
        }
    }
    Ok(())
}
