//! The findings of an audit for people: the verdict first, and lines that fit a terminal.

use super::findings::{AuditedPartition, Findings};
use crate::report::table::table;

/// The verdict, each kind of damage that was found, and what each partition has; narrow enough for a terminal.
pub fn page(findings: &Findings) -> String {
    let tables = [damage_table(findings), offsets_table(findings), rows_table(findings)];
    let tables: Vec<_> = tables.into_iter().flatten().collect();
    format!("{}\n\n{}", findings.verdict_line(), tables.join("\n\n"))
}

fn damage_table(findings: &Findings) -> Option<String> {
    let of_partition = |audited: &AuditedPartition| {
        let row = |(kind, count): (&str, u64)| cells(audited, [kind.to_string(), count.to_string()]);
        audited.damages().map(row).collect::<Vec<_>>()
    };
    let rows: Vec<_> = findings.partitions.iter().flat_map(of_partition).collect();
    let header = ["log", "partition", "damage", "count"];
    (!rows.is_empty()).then(|| table(&header, rows.into_iter(), 3..4))
}

fn offsets_table(findings: &Findings) -> Option<String> {
    let rows = findings.partitions.iter().map(|audited| {
        let kafka = match audited.kafka_first.zip(audited.kafka_next) {
            Some((first, next)) => format!("{first}..{next}"),
            None => "none".to_string(),
        };
        let AuditedPartition {
            head, lag, compared, ..
        } = audited;
        cells(
            audited,
            [kafka, head.to_string(), lag.to_string(), compared.to_string()],
        )
    });
    let header = ["log", "partition", "kafka", "head", "lag", "compared"];
    Some(table(&header, rows, 3..header.len()))
}

fn rows_table(findings: &Findings) -> Option<String> {
    let rows = findings.partitions.iter().map(|audited| {
        let counts = [audited.events, audited.repeats, audited.dead_letters, audited.gaps];
        cells(audited, counts.map(|count| count.to_string()))
    });
    let header = ["log", "partition", "events", "repeats", "dead_letters", "gaps"];
    Some(table(&header, rows, 2..header.len()))
}

/// A row that begins with the log and the partition.
fn cells<const N: usize>(audited: &AuditedPartition, rest: [String; N]) -> Vec<String> {
    let mut cells = vec![audited.log.to_string(), audited.partition.to_string()];
    cells.extend(rest);
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic_partition::{LogName, Offset, Partition};

    fn audited(log: &str, partition: i32) -> AuditedPartition {
        AuditedPartition {
            log: LogName::new(log),
            partition: Partition::new(partition),
            kafka_next: Some(Offset::new(11)),
            kafka_first: Some(Offset::ZERO),
            head: Offset::new(9),
            lag: 2,
            events: 6,
            repeats: 1,
            dead_letters: 2,
            compared: 9,
            ..AuditedPartition::default()
        }
    }

    #[test]
    fn a_page_begins_with_the_verdict() {
        let former = AuditedPartition {
            kafka_first: None,
            kafka_next: None,
            lag: 0,
            compared: 0,
            ..audited("captcha", 0)
        };
        assert_eq!(
            page(&Findings::new("captcha", vec![audited("captcha@2", 0), former.clone()])),
            "\
clean: 2 partitions, 9 records compared, 2 not stored yet

log        partition  kafka  head  lag  compared
captcha@2  0          0..11     9    2         9
captcha    0          none      9    0         0

log        partition  events  repeats  dead_letters  gaps
captcha@2  0               6        1             2     0
captcha    0               6        1             2     0"
        );
        let damaged = AuditedPartition {
            holes: 1,
            beyond_log: 5,
            ..audited("captcha@2", 0)
        };
        let page = page(&Findings::new("captcha", vec![damaged, former]));
        let wanted = "\
damage: 6 places in 1 of 2 partitions

log        partition  damage      count
captcha@2  0          holes           1
captcha@2  0          beyond_log      5

log        partition  kafka";
        assert!(page.starts_with(wanted), "{page}");
    }

    #[test]
    fn a_page_fits_a_terminal() {
        let full = AuditedPartition {
            log: LogName::new("captcha@12"),
            partition: Partition::new(1_000),
            kafka_first: Some(Offset::new(1_234_567_890)),
            kafka_next: Some(Offset::new(1_234_567_890)),
            head: Offset::new(1_234_567_890),
            lag: 1_234_567,
            events: 1_234_567_890,
            repeats: 1_234_567_890,
            dead_letters: 1_234_567_890,
            gaps: 1_234_567_890,
            compared: 1_234_567,
            holes: 1_234_567_890,
            counted_twice: 1_234_567_890,
            ..AuditedPartition::default()
        };
        let clean = AuditedPartition {
            holes: 0,
            counted_twice: 0,
            ..full.clone()
        };
        for audited in [full, clean] {
            let page = page(&Findings::new("captcha", vec![audited; 100]));
            let wide: Vec<_> = page.lines().filter(|line| line.len() > 80).collect();
            assert!(wide.is_empty(), "{wide:#?}");
        }
    }
}
