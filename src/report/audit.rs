//! `captcha report audit`: compares what Kafka still holds with what ClickHouse stores, and says what is wrong.

use std::fmt;

use serde::Serialize;

use super::table;
use crate::clickhouse::{self, ArrivalDays, Cluster, Connection, PartitionAudit, Row, Shard, TopicRecord};
use crate::kafka::{self, Kafka, PartitionConsumer, Record};
use crate::terminal::{print, progress};
use crate::topic_partition::{LogName, TopicPartition};

/// Bytes of one fetch.
const FETCH_BYTES_MAX: i32 = 4 << 20;

/// Records that are compared with one question to ClickHouse, which reads every offset of the partition for it.
const COMPARED_AT_ONCE: usize = 200_000;

/// Fetches in a row that may bring nothing before Kafka's end.
const FETCHES_IN_VAIN_MAX: u32 = 20;

/// Compare what Kafka still holds with what ClickHouse stores; exit code 3 if anything is wrong
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

/// The audit found damage; its exit code differs from that of an audit that could not look.
#[derive(Debug)]
pub struct Damage(u64);

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the audit found damage in {} places; docs/exactly-once.md says what each column means",
            self.0
        )
    }
}

impl std::error::Error for Damage {}

/// What is known of one partition of one log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct Line {
    /// The topic, or the name under which it is stored since it was made anew.
    log: LogName,
    partition: i32,
    /// Kafka's log; nothing if Kafka has no such partition.
    kafka_first: Option<i64>,
    kafka_next: Option<i64>,
    /// The offset that ClickHouse needs next.
    head: i64,
    /// Records in Kafka that are not in ClickHouse yet. No damage.
    lag: i64,
    events: u64,
    repeats: u64,
    dead_letters: u64,
    gaps: u64,
    /// Records that are in both and were compared.
    compared: u64,
    /// Damage, from here on.
    holes: u64,
    overlaps: u64,
    counted_twice: u64,
    left_out: u64,
    /// Records whose row was made of something else.
    differing: u64,
    /// Offsets in ClickHouse that Kafka's log has not reached.
    beyond_log: u64,
}

#[derive(Serialize)]
struct Report {
    topic: String,
    partitions: Vec<Line>,
    damage: u64,
}

impl Line {
    fn of(log: &LogName, held: &PartitionAudit) -> Line {
        Line {
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
            ..Line::default()
        }
    }

    fn damage(&self) -> u64 {
        self.holes + self.overlaps + self.counted_twice + self.left_out + self.differing + self.beyond_log
    }

    /// Notes the range of Kafka's log, which was read after the table.
    fn set_log(&mut self, first: i64, next: i64) {
        self.kafka_first = Some(first);
        self.kafka_next = Some(next);
        self.lag = (next - self.head.max(first)).max(0);
        self.beyond_log = (self.head - next).max(0) as u64;
    }
}

/// Looks, and writes what it found to stdout.
///
/// # Errors
/// A server is away, the schema is not there, or [`Damage`].
pub async fn run(args: Args) -> anyhow::Result<()> {
    let kafka = Kafka::new(args.kafka)?;
    let cluster = Cluster::new(args.clickhouse)?;
    let report = audit(&kafka, &cluster, &args.span).await?;
    let page = match args.format {
        Format::Json => serde_json::to_string(&report)?,
        Format::Table => lines(&report),
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
        damage: partitions.iter().map(Line::damage).sum(),
        topic: kafka.topic().to_string(),
        partitions,
    })
}

async fn audit_shard(kafka: &Kafka, shard: &Shard, span: &ArrivalDays) -> anyhow::Result<Vec<Line>> {
    let topic = kafka.topic().as_str();
    let (connection, facts) = shard.connect_for_topic(topic).await?;
    progress("reading what ClickHouse stores ...");
    let held = connection.audit(&facts.log, facts.repeat_window_records, span).await?;
    let count = kafka.partition_count().await?;
    let stored = held.last().map_or(0, |last| last.partition + 1);
    let mut partitions = Vec::new();
    for number in 0..count.max(stored) {
        let found = held.iter().find(|held| held.partition == number);
        let found = found.copied().unwrap_or(PartitionAudit {
            partition: number,
            ..PartitionAudit::default()
        });
        let mut line = Line::of(&facts.log, &found);
        if !shard.id().holds(number) {
            // What does not belong here stands in its own shard too.
            line.overlaps += line.events + line.repeats + line.dead_letters + line.gaps;
            partitions.extend((line.overlaps > 0).then_some(line));
            continue;
        }
        if number < count {
            progress(&format!("comparing partition {number} of {count} ..."));
            compare(kafka, &connection, &facts, &found, &mut line).await?;
        } else {
            line.beyond_log = line.head.max(0) as u64;
        }
        partitions.push(line);
    }
    // Of what a topic held before it was made anew, Kafka has nothing any more.
    for log in connection.former_logs(topic, &facts.log).await? {
        let held = connection.audit(&log, facts.repeat_window_records, span);
        partitions.extend(held.await?.iter().map(|held| Line::of(&log, held)));
    }
    Ok(partitions)
}

/// Compares each record that Kafka still holds with its row.
async fn compare(
    kafka: &Kafka,
    connection: &Connection,
    facts: &TopicRecord,
    held: &PartitionAudit,
    line: &mut Line,
) -> anyhow::Result<()> {
    let mut log = kafka.partition_consumer(held.partition, held.first).await?;
    anyhow::ensure!(
        facts.matches_id(log.topic_id()),
        "topic {} was deleted and made again, so there is nothing to compare; see `captcha migrate --topic-recreated`",
        kafka.topic()
    );
    let (first, next) = log.offset_range().await?;
    line.set_log(first, next);
    log.skip_to(first);
    let topic_partition = TopicPartition {
        log: facts.log.clone(),
        partition: held.partition,
    };
    let end = held.next.min(next);
    while log.position() < end {
        let from = log.position();
        let records = fetch_some(&mut log, end).await?;
        let rows = connection.rows_between(&topic_partition, from, log.position()).await?;
        for record in records.iter().filter(|record| record.offset < end) {
            // One without a row is a hole, which is counted already, or was dropped on purpose.
            if let Some(row) = rows.get(&record.offset) {
                line.compared += 1;
                line.differing += u64::from(!is_origin(record, row));
            }
        }
    }
    Ok(())
}

fn is_origin(record: &Record, row: &Row) -> bool {
    row.matches_record(record.timestamps_millis(), record.value.as_deref())
}

/// Fetches until there is enough to be compared, or all.
async fn fetch_some(log: &mut PartitionConsumer, end: i64) -> anyhow::Result<Vec<Record>> {
    let mut records = Vec::new();
    let mut in_vain = 0;
    while log.position() < end && records.len() < COMPARED_AT_ONCE {
        let before = log.position();
        records.extend(log.fetch(FETCH_BYTES_MAX).await?);
        in_vain = if log.position() > before { 0 } else { in_vain + 1 };
        anyhow::ensure!(
            in_vain < FETCHES_IN_VAIN_MAX,
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

fn lines(report: &Report) -> String {
    let rows = report.partitions.iter().map(|line| {
        let kafka = match line.kafka_first.zip(line.kafka_next) {
            Some((first, next)) => format!("{first}..{next}"),
            None => "none".to_string(),
        };
        let mut cells = vec![line.log.to_string(), line.partition.to_string(), kafka];
        let counts = [
            line.events,
            line.repeats,
            line.dead_letters,
            line.gaps,
            line.compared,
            line.holes,
            line.overlaps,
            line.counted_twice,
            line.left_out,
            line.differing,
            line.beyond_log,
        ];
        cells.extend([line.head, line.lag].map(|offset| offset.to_string()));
        cells.extend(counts.map(|count| count.to_string()));
        cells
    });
    table(&COLUMNS, rows, 3..COLUMNS.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_no_damage_and_offsets_beyond_the_log_are() {
        let held = PartitionAudit {
            next: 10,
            ..PartitionAudit::default()
        };
        let mut line = Line::of(&LogName::new("t"), &held);
        line.set_log(0, 15);
        assert_eq!((line.lag, line.damage()), (5, 0));
        line.set_log(12, 15);
        assert_eq!((line.lag, line.damage()), (3, 0));
        line.set_log(0, 7);
        assert_eq!((line.lag, line.damage()), (0, 3));
    }
}
