//! `captcha report audit`: compares the records that Kafka still has with the rows in ClickHouse.

use serde::Serialize;

use super::table::table;
use crate::clickhouse::{self, ArrivalDays, Cluster, Connection, PartitionAudit, Row, Shard, TopicRecord};
use crate::kafka::{self, Kafka, PartitionConsumer, Record};
use crate::terminal::{print, print_progress};
use crate::topic_partition::{LogName, Offset, Partition, TopicPartition};

/// Bytes of one fetch.
const FETCH_BYTES_MAX: i32 = 4 << 20;

/// Records that are compared with one query, for which ClickHouse reads every offset of the partition.
const COMPARED_AT_ONCE: usize = 200_000;

/// Fetches in a row that may bring nothing before Kafka's end.
const EMPTY_FETCHES_MAX: u32 = 20;

/// Compare the records that Kafka still has with the rows in ClickHouse; exit code 3 if anything is wrong
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    #[command(flatten)]
    span: ArrivalDays,

    /// `table` is for people, `json` for programs
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::FoundTable)]
    format: Format,

    #[command(flatten)]
    kafka: kafka::Args,

    #[command(flatten)]
    clickhouse: clickhouse::Args,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    FoundTable,
    Json,
}

/// The audit found damage; its exit code differs from that of an audit that failed.
#[derive(Debug, thiserror::Error)]
#[error("the audit found damage in {0} places; docs/exactly-once.md says what each column means")]
pub struct Damage(u64);

/// The audit of one partition of one log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct AuditedPartition {
    /// The name of the topic, with a suffix if the topic was recreated.
    log: LogName,
    partition: Partition,
    /// The range of Kafka's log; `None` if Kafka has no such partition.
    kafka_first: Option<Offset>,
    kafka_next: Option<Offset>,
    /// The offset that ClickHouse needs next.
    head: Offset,
    /// Records in Kafka that are not in ClickHouse yet. Not damage.
    lag: i64,
    events: u64,
    repeats: u64,
    dead_letters: u64,
    gaps: u64,
    /// Records that are in both and were compared.
    compared: u64,
    /// From here on, damage.
    holes: u64,
    overlaps: u64,
    counted_twice: u64,
    left_out: u64,
    /// Records whose row was made of another record.
    differing: u64,
    /// Offsets in ClickHouse that Kafka's log has not reached.
    beyond_log: u64,
}

#[derive(Serialize)]
struct Report {
    topic: String,
    partitions: Vec<AuditedPartition>,
    damage: u64,
}

impl AuditedPartition {
    fn new(log: &LogName, held: &PartitionAudit) -> AuditedPartition {
        AuditedPartition {
            log: log.clone(),
            partition: held.partition,
            head: held.next,
            events: held.events,
            repeats: held.repeats,
            dead_letters: held.bad,
            gaps: held.gaps,
            holes: held.holes,
            overlaps: held.overlaps,
            counted_twice: held.counted_twice,
            left_out: held.left_out,
            ..AuditedPartition::default()
        }
    }

    fn damage(&self) -> u64 {
        self.holes + self.overlaps + self.counted_twice + self.left_out + self.differing + self.beyond_log
    }

    /// Sets the range of Kafka's log, which was read after the table.
    fn set_kafka_range(&mut self, first: Offset, next: Offset) {
        self.kafka_first = Some(first);
        self.kafka_next = Some(next);
        self.lag = (next - self.head.max(first)).max(0);
        self.beyond_log = (self.head - next).max(0) as u64;
    }
}

/// Audits, and writes the result to stdout.
///
/// # Errors
/// A server is away, the schema is not there, or [`Damage`].
pub async fn run(args: Args) -> anyhow::Result<()> {
    let kafka = Kafka::new(args.kafka)?;
    let cluster = Cluster::new(args.clickhouse)?;
    let report = audit(&kafka, &cluster, &args.span).await?;
    let page = match args.format {
        Format::Json => serde_json::to_string(&report)?,
        Format::FoundTable => table_page(&report),
    };
    print(&(page + "\n"));
    match report.damage {
        0 => Ok(()),
        damage => Err(Damage(damage).into()),
    }
}

async fn audit(kafka: &Kafka, cluster: &Cluster, span: &ArrivalDays) -> anyhow::Result<Report> {
    let mut partitions = Vec::new();
    for shard in cluster.iter() {
        partitions.extend(audit_shard(kafka, shard, span).await?);
    }
    Ok(Report {
        damage: partitions.iter().map(AuditedPartition::damage).sum(),
        topic: kafka.topic().to_string(),
        partitions,
    })
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

const COLUMNS: [&str; 16] = [
    "log",
    "partition",
    "kafka",
    "head",
    "lag",
    "events",
    "repeats",
    "dead_letters",
    "gaps",
    "compared",
    "holes",
    "overlaps",
    "counted_twice",
    "left_out",
    "differing",
    "beyond_log",
];

fn table_page(report: &Report) -> String {
    let rows = report.partitions.iter().map(|audited| {
        let kafka = match audited.kafka_first.zip(audited.kafka_next) {
            Some((first, next)) => format!("{first}..{next}"),
            None => "none".to_string(),
        };
        let mut cells = vec![audited.log.to_string(), audited.partition.to_string(), kafka];
        let counts = [
            audited.events,
            audited.repeats,
            audited.dead_letters,
            audited.gaps,
            audited.compared,
            audited.holes,
            audited.overlaps,
            audited.counted_twice,
            audited.left_out,
            audited.differing,
            audited.beyond_log,
        ];
        cells.extend([audited.head.to_string(), audited.lag.to_string()]);
        cells.extend(counts.map(|count| count.to_string()));
        cells
    });
    table(&COLUMNS, rows, 3..COLUMNS.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_not_damage_and_offsets_beyond_the_log_are() {
        let held = PartitionAudit {
            next: Offset::new(10),
            ..PartitionAudit::default()
        };
        let mut audited = AuditedPartition::new(&LogName::new("t"), &held);
        audited.set_kafka_range(Offset::ZERO, Offset::new(15));
        assert_eq!((audited.lag, audited.damage()), (5, 0));
        audited.set_kafka_range(Offset::new(12), Offset::new(15));
        assert_eq!((audited.lag, audited.damage()), (3, 0));
        audited.set_kafka_range(Offset::ZERO, Offset::new(7));
        assert_eq!((audited.lag, audited.damage()), (0, 3));
    }
}
