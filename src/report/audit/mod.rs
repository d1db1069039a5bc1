//! `captcha report audit`: compares the records that Kafka still has with the rows in ClickHouse.

mod findings;
mod page;

use self::findings::{AuditedPartition, Findings};
use self::page::page;
use crate::clickhouse::{self, ArrivalDays, Cluster, Connection, PartitionAudit, Row, Shard, TopicRecord};
use crate::kafka::{self, Kafka, PartitionConsumer, Record};
use crate::terminal::{print, print_progress};
use crate::topic_partition::{Offset, Partition, TopicPartition};

/// Bytes of one fetch.
const FETCH_BYTES_MAX: i32 = 4 << 20;

/// Records that are compared with one query, for which ClickHouse reads every offset of the partition.
const COMPARED_AT_ONCE: usize = 200_000;

/// Fetches in a row that may bring nothing before Kafka's end.
const EMPTY_FETCHES_MAX: u32 = 20;

/// Compare what Kafka still has with the rows in ClickHouse
///
/// The exit code is 3 if anything is wrong.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    #[command(flatten)]
    span: ArrivalDays,

    /// `table` is for people, `json` for programs
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Table)]
    format: Format,

    #[command(flatten)]
    kafka: kafka::Args,

    #[command(flatten)]
    clickhouse: clickhouse::Args,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Table,
    Json,
}

/// The audit found damage; its exit code differs from that of an audit that failed.
#[derive(Debug, thiserror::Error)]
#[error("the audit found damage in {0} places; docs/exactly-once.md says what each kind means")]
pub struct Damage(u64);

/// Audits, and writes the result to stdout.
///
/// # Errors
/// A server is away, the schema is not there, or [`Damage`].
pub async fn run(args: Args) -> anyhow::Result<()> {
    let kafka = Kafka::new(args.kafka)?;
    let cluster = Cluster::new(args.clickhouse)?;
    let findings = audit(&kafka, &cluster, &args.span).await?;
    let page = match args.format {
        Format::Json => serde_json::to_string(&findings)?,
        Format::Table => page(&findings),
    };
    print(&(page + "\n"));
    match findings.damage {
        0 => Ok(()),
        damage => Err(Damage(damage).into()),
    }
}

async fn audit(kafka: &Kafka, cluster: &Cluster, span: &ArrivalDays) -> anyhow::Result<Findings> {
    let mut partitions = Vec::new();
    for shard in cluster.iter() {
        partitions.extend(audit_shard(kafka, shard, span).await?);
    }
    Ok(Findings::new(kafka.topic().as_str(), partitions))
}

async fn audit_shard(kafka: &Kafka, shard: &Shard, span: &ArrivalDays) -> anyhow::Result<Vec<AuditedPartition>> {
    let topic = kafka.topic().as_str();
    let (connection, topic_record) = shard.connect_for_topic(topic).await?;
    print_progress("reading what ClickHouse stores ...");
    let held = connection
        .audit(&topic_record.log, topic_record.repeat_window_records, span)
        .await?;
    let count = kafka.partition_count().await?;
    let stored_count = held.last().map_or(0, |last| last.partition.get() + 1);
    let mut partitions = Vec::new();
    for partition in Partition::range(0..count.max(stored_count)) {
        let rows = held.iter().find(|held| held.partition == partition);
        let rows = rows.copied().unwrap_or(PartitionAudit {
            partition,
            ..PartitionAudit::default()
        });
        let mut audited = AuditedPartition::new(&topic_record.log, &rows);
        if !shard.id().holds(partition) {
            // Rows of another shard's partition are in that shard too.
            audited.overlaps += audited.events + audited.repeats + audited.dead_letters + audited.gaps;
            partitions.extend((audited.overlaps > 0).then_some(audited));
            continue;
        }
        if partition.get() < count {
            print_progress(&format!("comparing partition {partition} of {count} ..."));
            compare(kafka, &connection, &topic_record, &rows, &mut audited).await?;
        } else {
            audited.beyond_log = audited.head.get().max(0) as u64;
        }
        partitions.push(audited);
    }
    // Of the logs before the topic was recreated, Kafka has nothing any more.
    for log in connection.former_logs(topic, &topic_record.log).await? {
        let held = connection.audit(&log, topic_record.repeat_window_records, span);
        partitions.extend(held.await?.iter().map(|held| AuditedPartition::new(&log, held)));
    }
    Ok(partitions)
}

/// Compares each record that Kafka still holds with its row.
async fn compare(
    kafka: &Kafka,
    connection: &Connection,
    topic_record: &TopicRecord,
    held: &PartitionAudit,
    audited: &mut AuditedPartition,
) -> anyhow::Result<()> {
    let mut log = kafka.partition_consumer(held.partition, held.first).await?;
    anyhow::ensure!(
        topic_record.matches_id(log.topic_id()),
        "topic {} was deleted and made again, so there is nothing to compare; see `captcha migrate --topic-recreated`",
        kafka.topic()
    );
    let (first, next) = log.offset_range().await?;
    audited.set_kafka_range(first, next);
    log.skip_to(first);
    let topic_partition = TopicPartition {
        log: topic_record.log.clone(),
        partition: held.partition,
    };
    let end = held.next.min(next);
    while log.position() < end {
        let from = log.position();
        let records = fetch_to_compare(&mut log, end).await?;
        let rows = connection.rows_between(&topic_partition, from, log.position()).await?;
        for record in records.iter().filter(|record| record.offset < end) {
            // A record without a row is a hole, which is counted already, or was dropped on purpose.
            if let Some(row) = rows.get(&record.offset) {
                audited.compared += 1;
                audited.differing += u64::from(!matches_record(record, row));
            }
        }
    }
    Ok(())
}

fn matches_record(record: &Record, row: &Row) -> bool {
    row.matches_record(record.timestamps_millis(), record.value.as_deref())
}

/// Fetches until there is enough to compare, or all.
async fn fetch_to_compare(log: &mut PartitionConsumer, end: Offset) -> anyhow::Result<Vec<Record>> {
    let mut records = Vec::new();
    let mut empty_fetches = 0;
    while log.position() < end && records.len() < COMPARED_AT_ONCE {
        let before = log.position();
        records.extend(log.fetch(FETCH_BYTES_MAX).await?);
        empty_fetches = if log.position() > before { 0 } else { empty_fetches + 1 };
        anyhow::ensure!(
            empty_fetches < EMPTY_FETCHES_MAX,
            "kafka has records beyond {before} and does not hand them out"
        );
    }
    Ok(records)
}
