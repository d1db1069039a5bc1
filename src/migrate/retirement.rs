//! Retiring a topic that nobody consumes any more, and resuming it.

use std::time::Duration;

use anyhow::bail;

use super::output::{print_line, print_shard};
use super::shard_state::ShardState;
use super::topic_record::Desired;
use crate::clickhouse::TopicRecord;
use crate::kafka::Kafka;

/// A topic with a younger watermark is consumed. Consumers write one a second, of a moment some seconds before, and
/// up to an insert interval older (`--insert-interval-ms`, 300 unless it is given, 60,000 at most).
const WATERMARK_AGE_MIN: Duration = Duration::from_secs(60);

/// Whether the topic is to be retired, or resumed.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct RetirementArgs {
    /// Nobody consumes the topic any more: the report's complete_through does not wait for it. Its stored rows stay.
    /// Refused while consumers still record watermarks of it, also with --wait
    #[arg(long, conflicts_with_all = ["topic_recreated", "dry_run", "status"])]
    retire_topic: bool,

    /// With --retire-topic: retire it although consumers recorded watermarks of it within the last 60 s. Reports then
    /// do not wait for what these consumers have yet to store
    #[arg(long, requires = "retire_topic")]
    force: bool,

    /// The topic was retired: consume it again, from where the stored rows end. Without this, a retired topic is
    /// refused, also with --wait
    #[arg(long, conflicts_with_all = ["retire_topic", "status"])]
    resume_topic: bool,
}

impl RetirementArgs {
    pub fn is_to_retire(&self) -> bool {
        self.retire_topic
    }

    pub fn is_to_resume(&self) -> bool {
        self.resume_topic
    }

    /// Checks that a topic which is to be resumed is retired, in one shard at least: a migrate that was killed has
    /// resumed it in some of them.
    ///
    /// # Errors
    /// It is not.
    pub fn check<'a>(&self, kafka: &Kafka, records: impl Iterator<Item = &'a TopicRecord>) -> anyhow::Result<()> {
        let mut records = records;
        if self.resume_topic && !records.any(TopicRecord::is_retired) {
            bail!("topic {} is not retired; leave --resume-topic out", kafka.topic());
        }
        Ok(())
    }
}

/// Retires the topic in all shards.
///
/// # Errors
/// ClickHouse is away, the topic is not recorded, or consumers still record watermarks of it.
pub async fn retire(args: &RetirementArgs, kafka: &Kafka, states: &[ShardState<'_>]) -> anyhow::Result<()> {
    // Of all shards before the first one is changed.
    for state in states.iter().filter(|_| !args.force) {
        refuse_if_consumed(kafka, state).await?;
    }
    for state in states {
        state.shard.connect_to_schema().await?;
        print_shard(state.shard);
        if !state.record_topic(kafka, Desired::default(), false).await? {
            print_line(format_args!("topic {} is retired already", kafka.topic()));
        }
    }
    Ok(())
}

async fn refuse_if_consumed(kafka: &Kafka, state: &ShardState<'_>) -> anyhow::Result<()> {
    let Some(record) = state.record.as_ref().filter(|record| !record.is_retired()) else {
        return Ok(());
    };
    let connection = state.shard.connect_to_schema().await?;
    let newest = connection.newest_watermark(&record.log).await?;
    if let Some(newest) = newest.filter(|newest| newest.age() < WATERMARK_AGE_MIN) {
        bail!(
            "topic {} is still consumed: the watermark of {}:{} in clickhouse at {} is {} s old; stop each `captcha \
             consume` of the topic and try again {} s later, or give --force if none of them runs any more",
            kafka.topic(),
            record.log,
            newest.partition,
            state.shard.addresses(),
            newest.age().as_secs(),
            WATERMARK_AGE_MIN.as_secs()
        );
    }
    Ok(())
}

/// Prints whether the topic is retired.
pub fn print_status(kafka: &Kafka, record: Option<&TopicRecord>) {
    if record.is_some_and(TopicRecord::is_retired) {
        print_line(format_args!(
            "topic {}  retired; `captcha migrate --resume-topic` takes it up again",
            kafka.topic()
        ));
    }
}
