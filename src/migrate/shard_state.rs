//! What one shard has already, and the way from there to what this binary needs.

use anyhow::{Context as _, bail};

use super::output::print_line;
use super::plan::{Migration, plan};
use super::tables::There;
use super::topic_record::Desired;
use super::{schema, tables, topic_record};
use crate::clickhouse::schema::{Applied, FILES, misfit};
use crate::clickhouse::{self, Shard, TopicRecord};
use crate::kafka::Kafka;

/// What a shard has already.
pub struct ShardState<'a> {
    /// Where.
    pub shard: &'a Shard,
    /// The recorded migrations; `None` while there is no database.
    pub applied: Option<Vec<Applied>>,
    /// What is recorded of the topic; nothing while the schema is older than that, or not there.
    pub facts: Option<TopicRecord>,
    /// The tables.
    there: There,
}

impl<'a> ShardState<'a> {
    pub async fn load(shard: &'a Shard, kafka: &Kafka) -> anyhow::Result<ShardState<'a>> {
        let mut found = ShardState {
            shard,
            applied: None,
            facts: None,
            there: There::default(),
        };
        let connection = match shard.connect().await {
            Err(err) if err.action() == clickhouse::Action::SchemaMissing => return Ok(found),
            other => other?,
        };
        connection.verify_visibility_of_all().await?;
        let applied = connection.applied().await?;
        found.there = tables::check(shard).await?;
        let is_lost = found.there.lost.iter().any(|lost| lost.name == "topics");
        if misfit(&applied).is_none() && !is_lost {
            found.facts = connection.topic_record(kafka.topic().as_str()).await?;
        }
        found.applied = Some(applied);
        Ok(found)
    }

    pub fn plan(&self) -> anyhow::Result<Vec<Migration>> {
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

    pub fn wanted(&self, kafka: &Kafka, desired: Desired) -> anyhow::Result<Option<TopicRecord>> {
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
    pub async fn migrate(
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
                print_line(format_args!("would make {} again: {why}", lost.name));
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

    pub async fn record(&self, kafka: &Kafka, desired: Desired, dry_run: bool) -> anyhow::Result<bool> {
        let connection = self.shard.connect().await?;
        let topic = kafka.topic().as_str();
        topic_record::record(topic, &connection, self.placed(desired), dry_run).await
    }
}

async fn show_plan(shard: &Shard, database_missing: bool, todo: &[Migration]) -> anyhow::Result<()> {
    if database_missing {
        print_line(format_args!("would make database {}", shard.database()));
    }
    for migration in todo {
        print_line(format_args!("would apply {}", migration.name));
        if let Some(table) = migration.rewrites.as_ref().filter(|_| !database_missing) {
            let bytes = shard.connect().await?.table_bytes(table).await?;
            print_line(format_args!("  {}", schema::rewriting(table, bytes)));
        }
    }
    Ok(())
}
