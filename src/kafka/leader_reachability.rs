//! Which leaders can be reached, at the addresses that Kafka advertises for them. Kafka may answer at the configured
//! address, and advertise others that lead nowhere.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::protocol::metadata::MetadataResponse;
use crate::telemetry::log_once::Change;

/// In one line; a cluster may have many brokers, which all fail for the same reason.
const REASONS_MAX: usize = 3;

/// The outcome of the last attempt to connect to each leader, shared by clones. As a collector: a gauge per leader.
#[derive(Debug, Clone, Default)]
pub struct LeaderReachability(Arc<Mutex<Attempts>>);

/// By address; the reason if the attempt failed.
type Attempts = BTreeMap<String, Option<String>>;

#[derive(Debug, PartialEq, Eq)]
pub enum Reachability {
    /// No connection was tried yet.
    Unknown,
    /// No attempt failed.
    All,
    /// With the reasons of the others.
    Partial(String),
    /// With the reasons.
    None(String),
}

impl LeaderReachability {
    /// Records an attempt to connect, and logs it if its outcome differs from that of the last one.
    pub fn record<T>(&self, leader: &str, outcome: &anyhow::Result<T>) {
        let reason = outcome.as_ref().err().map(|err| format!("{err:#}"));
        let before = self.0.lock().insert(leader.to_string(), reason.clone());
        let failed_before = before.is_some_and(|before| before.is_some());
        match (Change::between(failed_before, reason.is_some()), reason) {
            (Some(Change::Began), Some(reason)) => tracing::warn!(leader, %reason, "a leader cannot be reached"),
            (Some(Change::Ended), _) => tracing::info!(leader, "a leader is reached again"),
            _ => {}
        }
    }

    /// Forgets brokers that are gone, and those that cannot be reached and lead no partition any more.
    pub fn retain_leaders(&self, metadata: &MetadataResponse) {
        let leading = metadata.partitions.iter().map(|partition| partition.leader);
        let leading: HashSet<i32> = leading.collect();
        let brokers = metadata.brokers.iter();
        let brokers: BTreeMap<&str, bool> = brokers
            .map(|(id, address)| (address.as_str(), leading.contains(id)))
            .collect();
        self.0.lock().retain(|address, failed| {
            let leads = brokers.get(address.as_str());
            leads.is_some_and(|leads| *leads || failed.is_none())
        });
    }

    /// Which of these leaders can be reached.
    pub fn reachability<'a>(&self, leaders: impl IntoIterator<Item = &'a str>) -> Reachability {
        let leaders: HashSet<&str> = leaders.into_iter().collect();
        let attempts = self.0.lock();
        let known = attempts.iter().filter(|(leader, _)| leaders.contains(leader.as_str()));
        let known: Vec<_> = known.map(|(_, failed)| failed.as_deref()).collect();
        let reasons: Vec<&str> = known.iter().flatten().copied().collect();
        match (known.len(), reasons.len()) {
            (0, _) => Reachability::Unknown,
            (_, 0) => Reachability::All,
            (_, failed) if failed == leaders.len() => Reachability::None(one_line(&reasons)),
            _ => Reachability::Partial(one_line(&reasons)),
        }
    }
}

fn one_line(reasons: &[&str]) -> String {
    let mut line = reasons[..reasons.len().min(REASONS_MAX)].join("; ");
    if reasons.len() > REASONS_MAX {
        line.push_str(&format!("; and {} more", reasons.len() - REASONS_MAX));
    }
    line
}

impl Collector for LeaderReachability {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let attempts = self.0.lock().clone();
        let help = "1 if a leader of partitions was reached when it was tried last, at the address that Kafka gives \
                    for it, else 0.";
        let mut metric = encoder.encode_descriptor("leader_reachable", help, None, MetricType::Gauge)?;
        for (leader, failed) in &attempts {
            let level = ConstGauge::new(i64::from(failed.is_none()));
            level.encode(metric.encode_family(&[("leader", leader.as_str())])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::protocol::metadata::PartitionMetadata;
    use crate::topic_partition::Partition;
    use anyhow::anyhow;

    #[test]
    fn all_some_or_none_can_be_reached() {
        let leaders = LeaderReachability::default();
        assert_eq!(leaders.reachability(["a", "b", "a"]), Reachability::Unknown);
        leaders.record("a", &Ok(()));
        assert_eq!(leaders.reachability(["a", "b"]), Reachability::All);
        leaders.record("b", &Err::<(), _>(anyhow!("no b")));
        assert_eq!(
            leaders.reachability(["a", "b"]),
            Reachability::Partial("no b".to_string())
        );
        assert_eq!(leaders.reachability(["b"]), Reachability::None("no b".to_string()));
        leaders.record("a", &Err::<(), _>(anyhow!("no a")));
        assert_eq!(
            leaders.reachability(["a", "b"]),
            Reachability::None("no a; no b".to_string())
        );
        for more in ["c", "d", "e"] {
            leaders.record(more, &Err::<(), _>(anyhow!("no {more}")));
        }
        let all = leaders.reachability(["a", "b", "c", "d", "e"]);
        assert_eq!(all, Reachability::None("no a; no b; no c; and 2 more".to_string()));
    }

    #[test]
    fn a_broker_that_cannot_be_reached_and_leads_nothing_is_forgotten() {
        let leaders = LeaderReachability::default();
        leaders.record("reached", &Ok(()));
        leaders.record("gone", &Ok(()));
        for leader in ["leads", "follows"] {
            leaders.record(leader, &Err::<(), _>(anyhow!("no")));
        }
        leaders.retain_leaders(&MetadataResponse {
            brokers: [(1, "reached"), (2, "leads"), (3, "follows")]
                .map(|(id, address)| (id, address.to_string()))
                .into(),
            partitions: vec![PartitionMetadata {
                partition: Partition::new(0),
                leader: 2,
                replicas: 1,
            }],
            ..MetadataResponse::default()
        });
        let kept: Vec<_> = leaders.0.lock().keys().cloned().collect();
        assert_eq!(kept, ["leads", "reached"]);
    }
}
