//! `captcha report dead-letters`: the records that are not events, for people, and for a program that sends them again.

use anyhow::Context as _;
use chrono::{DateTime, SecondsFormat};
use serde::Serialize;

use super::table::table;
use crate::clickhouse::{self, ArrivalDays, Cluster, DeadLetter};
use crate::kafka::TopicArgs;
use crate::terminal::print;
use crate::topic_partition::{Offset, Partition};

/// Rows of a table unless --limit is given; people read no more.
const TABLE_ROWS: u64 = 100;

/// Characters of a record that a table shows.
const SHOWN_CHARS: usize = 60;

/// Show the records in Kafka that are not events, and why
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    #[command(flatten)]
    span: ArrivalDays,

    /// Show at most COUNT records [default: 100 in a table, all as ndjson]
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,

    /// `table` is for people, `ndjson` has a JSON object a line, with the whole record: `raw`, or `raw_hex` if it is
    /// not UTF-8
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::FoundTable)]
    format: Format,

    #[command(flatten)]
    topic: TopicArgs,

    #[command(flatten)]
    clickhouse: clickhouse::Args,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    FoundTable,
    Ndjson,
}

/// A dead letter as a line of JSON.
#[derive(Serialize)]
struct JsonLine<'a> {
    partition: Partition,
    offset: Offset,
    arrival: String,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_hex: Option<String>,
}

impl<'a> JsonLine<'a> {
    fn new(letter: &'a DeadLetter) -> JsonLine<'a> {
        let raw = std::str::from_utf8(&letter.raw).ok();
        JsonLine {
            partition: letter.partition,
            offset: letter.offset,
            arrival: arrival(letter),
            reason: &letter.reason,
            raw,
            raw_hex: raw.is_none().then(|| hex::encode(&letter.raw)),
        }
    }
}

/// Asks ClickHouse and writes to stdout.
///
/// # Errors
/// ClickHouse is away, or has no schema.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let cluster = Cluster::new(args.clickhouse)?;
    let limit = args.limit.unwrap_or(match args.format {
        Format::FoundTable => TABLE_ROWS,
        Format::Ndjson => i64::MAX as u64,
    });
    let mut rows = Vec::new();
    let mut failed = Ok(());
    let mut remaining = limit;
    let mut add = |letter: DeadLetter| {
        remaining -= 1;
        let is_open = match args.format {
            Format::FoundTable => {
                rows.push(cells(&letter));
                true
            }
            Format::Ndjson => json_line(&letter).map(|line| print(&line)).unwrap_or_else(|err| {
                failed = Err(err);
                false
            }),
        };
        remaining > 0 && is_open
    };
    let topic = args.topic.name().as_str();
    for shard in cluster.iter() {
        let connection = shard.connect_to_schema().await?;
        let more = connection.dead_letters(topic, &args.span, limit, &mut add);
        if !more.await? {
            break;
        }
    }
    failed.context("cannot write a dead letter as json")?;
    if args.format == Format::FoundTable {
        let header = ["partition", "offset", "arrival", "reason", "record"];
        print(&format!("{}\n", table(&header, rows.into_iter(), 0..2)));
    }
    Ok(())
}

fn json_line(letter: &DeadLetter) -> serde_json::Result<String> {
    Ok(serde_json::to_string(&JsonLine::new(letter))? + "\n")
}

fn cells(letter: &DeadLetter) -> Vec<String> {
    let text = String::from_utf8_lossy(&letter.raw);
    let mut shown: String = text.chars().take(SHOWN_CHARS).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push_str("...");
    }
    vec![
        letter.partition.to_string(),
        letter.offset.to_string(),
        arrival(letter),
        letter.reason.clone(),
        shown,
    ]
}

fn arrival(letter: &DeadLetter) -> String {
    let time = DateTime::from_timestamp_millis(letter.arrival_millis).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(raw: &[u8]) -> DeadLetter {
        DeadLetter {
            partition: Partition::new(1),
            offset: Offset::new(2),
            arrival_millis: 1_000,
            reason: "because".to_string(),
            raw: raw.to_vec(),
        }
    }

    #[test]
    fn a_line_has_the_whole_record() {
        let line = |raw| serde_json::to_string(&JsonLine::new(&letter(raw))).unwrap();
        assert_eq!(
            line(b"{\"a\"\n"),
            r#"{"partition":1,"offset":2,"arrival":"1970-01-01T00:00:01.000Z","reason":"because","raw":"{\"a\"\n"}"#
        );
        assert!(line(b"\xff\x00").ends_with(r#""raw_hex":"ff00"}"#));
    }

    #[test]
    fn a_table_shows_a_part_on_one_line() {
        let shown = |raw: &[u8]| {
            let record = cells(&letter(raw)).pop().unwrap();
            table(&["record"], [vec![record]].into_iter(), 0..0).replace("record\n", "")
        };
        assert_eq!(shown(b"\"a\"\nb\x1b"), "\"a\"\\nb\\u001b");
        assert_eq!(shown(&[b'x'; 61]), "x".repeat(60) + "...");
        assert_eq!(shown(&[b'x'; 60]), "x".repeat(60));
    }
}
