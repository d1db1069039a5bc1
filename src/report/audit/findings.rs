//! The findings of an audit: of each partition, and the verdict.

use serde::Serialize;

use crate::clickhouse::PartitionAudit;
use crate::topic_partition::{LogName, Offset, Partition};

/// The audit of one partition of one log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct AuditedPartition {
    /// The name of the topic, with a suffix if the topic was recreated.
    pub log: LogName,
    pub partition: Partition,
    /// The range of Kafka's log; `None` if Kafka has no such partition.
    pub kafka_first: Option<Offset>,
    pub kafka_next: Option<Offset>,
    /// The offset that ClickHouse needs next.
    pub head: Offset,
    /// Records in Kafka that are not in ClickHouse yet. Not damage.
    pub lag: i64,
    pub events: u64,
    pub repeats: u64,
    pub dead_letters: u64,
    pub gaps: u64,
    /// Records that are in both and were compared.
    pub compared: u64,
    /// From here on, damage.
    pub holes: u64,
    pub overlaps: u64,
    pub counted_twice: u64,
    pub left_out: u64,
    pub wrong_role: u64,
    /// Records whose row was made of another record.
    pub differing: u64,
    /// Offsets in ClickHouse that Kafka's log has not reached.
    pub beyond_log: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Clean,
    Damage,
}

#[derive(Serialize)]
pub struct Findings {
    pub verdict: Verdict,
    pub topic: String,
    pub partitions: Vec<AuditedPartition>,
    pub damage: u64,
}

impl AuditedPartition {
    pub fn new(log: &LogName, held: &PartitionAudit) -> AuditedPartition {
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
            wrong_role: held.wrong_role,
            ..AuditedPartition::default()
        }
    }

    /// Each kind of damage by its name in JSON, and how often it was found.
    pub fn damages(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let kinds = [
            ("holes", self.holes),
            ("overlaps", self.overlaps),
            ("counted_twice", self.counted_twice),
            ("left_out", self.left_out),
            ("wrong_role", self.wrong_role),
            ("differing", self.differing),
            ("beyond_log", self.beyond_log),
        ];
        kinds.into_iter().filter(|(_, count)| *count > 0)
    }

    pub fn damage(&self) -> u64 {
        self.damages().map(|(_, count)| count).sum()
    }

    /// Sets the range of Kafka's log, which was read after the table.
    pub fn set_kafka_range(&mut self, first: Offset, next: Offset) {
        self.kafka_first = Some(first);
        self.kafka_next = Some(next);
        self.lag = (next - self.head.max(first)).max(0);
        self.beyond_log = (self.head - next).max(0) as u64;
    }
}

impl Findings {
    pub fn new(topic: &str, partitions: Vec<AuditedPartition>) -> Findings {
        let damage = partitions.iter().map(AuditedPartition::damage).sum();
        let verdict = match damage {
            0 => Verdict::Clean,
            _ => Verdict::Damage,
        };
        Findings {
            verdict,
            topic: topic.to_string(),
            partitions,
            damage,
        }
    }

    /// The verdict in one line.
    pub fn verdict_line(&self) -> String {
        let all = &self.partitions;
        let partitions = number(all.len() as u64, "partition");
        match self.verdict {
            Verdict::Clean => {
                let compared = number(all.iter().map(|audited| audited.compared).sum(), "record");
                let lag: i64 = all.iter().map(|audited| audited.lag).sum();
                format!("clean: {partitions}, {compared} compared, {lag} not stored yet")
            }
            Verdict::Damage => {
                let places = number(self.damage, "place");
                let damaged = all.iter().filter(|audited| audited.damage() > 0).count();
                format!("damage: {places} in {damaged} of {partitions}")
            }
        }
    }
}

fn number(count: u64, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
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

    #[test]
    fn json_has_the_verdict_and_the_log_of_each_partition() {
        let audited = AuditedPartition {
            log: LogName::new("captcha@2"),
            kafka_first: Some(Offset::ZERO),
            ..AuditedPartition::default()
        };
        let json = serde_json::to_string(&Findings::new("captcha", vec![audited])).unwrap();
        let wanted =
            r#"{"verdict":"clean","topic":"captcha","partitions":[{"log":"captcha@2","partition":0,"kafka_first":0,"#;
        assert!(json.starts_with(wanted), "{json}");
    }
}
