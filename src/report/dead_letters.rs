//! `captcha report dead-letters`: the records that are not events, for people, and for a program that sends them again.

use std::iter;

use anyhow::Context as _;
use chrono::{DateTime, SecondsFormat};
use serde::Serialize;

use super::table::{cut, cut_table};
use crate::clickhouse::{self, ArrivalDays, Cluster, DeadLetter};
use crate::kafka::TopicArgs;
use crate::terminal::{print, print_progress, stdout_columns};
use crate::topic_partition::{LogName, Offset, Partition};

/// Rows of a table unless --limit is given; people read no more.
const TABLE_ROWS: u64 = 100;

/// Characters of a record that are looked at for the one line that a table shows of it; more than a terminal has.
const SHOWN_CHARS: usize = 1_000;

/// Before the record, which is on the line below its row.
const INDENT: &str = "  ";

/// Show the records in Kafka that are not events, and why
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    #[command(flatten)]
    span: ArrivalDays,

    /// Show at most COUNT records [default: 100 in a table, all as ndjson]
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,

    /// `table` is for people and cuts what is long, `ndjson` has a JSON object a line, with the whole reason and the
    /// whole record: `raw`, or `raw_hex` if it is not UTF-8
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Table)]
    format: Format,

    #[command(flatten)]
    topic: TopicArgs,

    #[command(flatten)]
    clickhouse: clickhouse::Args,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Table,
    Ndjson,
}

/// A dead letter as a line of JSON.
#[derive(Serialize)]
struct JsonLine<'a> {
    log: &'a LogName,
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
            log: &letter.log,
            partition: letter.partition,
            offset: letter.offset,
            arrival: arrival(letter, SecondsFormat::Millis),
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
        Format::Table => TABLE_ROWS,
        Format::Ndjson => i64::MAX as u64,
    });
    let mut rows = Vec::new();
    let mut failed = Ok(());
    let mut remaining = limit;
    let mut add = |letter: DeadLetter| {
        remaining -= 1;
        let is_open = match args.format {
            Format::Table => {
                rows.push(Row::new(&letter));
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
    if args.format == Format::Table {
        if rows.is_empty() {
            print_progress("no dead letters");
        }
        print(&table_page(rows, stdout_columns()));
    }
    Ok(())
}

fn json_line(letter: &DeadLetter) -> serde_json::Result<String> {
    Ok(serde_json::to_string(&JsonLine::new(letter))? + "\n")
}

/// A dead letter as a table shows it: little of it, because a table may have many.
struct Row {
    cells: [String; 3],
    /// The beginning of the record.
    raw: String,
}

impl Row {
    fn new(letter: &DeadLetter) -> Row {
        let DeadLetter {
            log, partition, offset, ..
        } = letter;
        let record = format!("{log}:{partition}:{offset}");
        // A character has at most 4 bytes.
        let raw = &letter.raw[..letter.raw.len().min(4 * SHOWN_CHARS)];
        Row {
            cells: [record, arrival(letter, SecondsFormat::Secs), letter.reason.clone()],
            raw: String::from_utf8_lossy(raw).chars().take(SHOWN_CHARS).collect(),
        }
    }
}

/// A line for each letter, and the beginning of its record on the line below, in this many columns of a terminal.
fn table_page(rows: Vec<Row>, columns: u16) -> String {
    let (cells, raws): (Vec<_>, Vec<_>) = rows.into_iter().map(|row| (row.cells.to_vec(), row.raw)).unzip();
    let header = ["record", "arrival", "reason"];
    let lines = cut_table(&header, cells.into_iter(), 0..0, columns);
    // The header has nothing below it.
    let raws = iter::once(String::new()).chain(raws);
    let with_record = |(line, raw): (String, String)| match raw.is_empty() {
        true => format!("{line}\n"),
        false => format!("{line}\n{INDENT}{}\n", cut(raw, columns - INDENT.len() as u16)),
    };
    lines.into_iter().zip(raws).map(with_record).collect()
}

fn arrival(letter: &DeadLetter, precision: SecondsFormat) -> String {
    let time = DateTime::from_timestamp_millis(letter.arrival_millis).unwrap_or_default();
    time.to_rfc3339_opts(precision, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(reason: &str, raw: &[u8]) -> DeadLetter {
        DeadLetter {
            log: LogName::new("captcha@2"),
            partition: Partition::new(1),
            offset: Offset::new(2),
            arrival_millis: 1_000,
            reason: reason.to_string(),
            raw: raw.to_vec(),
        }
    }

    #[test]
    fn a_line_has_the_whole_record_and_the_whole_reason() {
        let line = |raw| serde_json::to_string(&JsonLine::new(&letter("because", raw))).unwrap();
        assert_eq!(
            line(b"{\"a\"\n"),
            concat!(
                r#"{"log":"captcha@2","partition":1,"offset":2,"arrival":"1970-01-01T00:00:01.000Z","#,
                r#""reason":"because","raw":"{\"a\"\n"}"#
            )
        );
        assert!(line(b"\xff\x00").ends_with(r#""raw_hex":"ff00"}"#));
        let long = "x".repeat(1_000);
        let line = serde_json::to_string(&JsonLine::new(&letter(&long, long.as_bytes()))).unwrap();
        assert!(line.contains(&format!(r#""reason":"{long}","raw":"{long}""#)), "{line}");
    }

    fn page(letters: &[DeadLetter], columns: u16) -> String {
        table_page(letters.iter().map(Row::new).collect(), columns)
    }

    #[test]
    fn a_table_shows_the_beginning_of_each_record_below_its_row() {
        let letters = [letter("because", b"\"a\"\nb\x1b"), letter("no value", b"")];
        assert_eq!(
            page(&letters, 80),
            concat!(
                "record         arrival               reason\n",
                "captcha@2:1:2  1970-01-01T00:00:01Z  because\n",
                "  \"a\"\\nb\\u001b\n",
                "captcha@2:1:2  1970-01-01T00:00:01Z  no value\n",
            )
        );
        assert_eq!(page(&[], 80), "record  arrival  reason\n");
    }

    #[test]
    fn a_table_fits_a_terminal() {
        for columns in [80, 100] {
            let long = |one: &str| letter(&one.repeat(3_000), one.repeat(9_000).as_bytes());
            let page = page(&["x", "\u{65e5}", "\u{ff}", "\n"].map(long), columns);
            let width = |line: &str| line.chars().map(|c| 1 + usize::from(c == '\u{65e5}')).sum::<usize>();
            let lines: Vec<_> = page.lines().collect();
            assert_eq!(lines.len(), 9, "{page}");
            for line in &lines[1..] {
                // There may be half the space that a wide character takes.
                assert!([0, 1].contains(&(usize::from(columns) - width(line))), "{line}");
                assert!(line.ends_with("..."), "{line}");
            }
        }
    }
}
