//! Which leaders can be reached, at the addresses that Kafka gives for them: it may answer at the one that it was given,
//! and advertise others that lead nowhere.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::protocol::metadata::Described;

/// Reasons in one line; a cluster may have many brokers, and all for the same reason.
const REASONS_MAX: usize = 3;

/// What became of the last try to reach each leader. Clones share it. As a collector it renders whether it was reached.
#[derive(Debug, Clone, Default)]
pub struct Leaders(Arc<Mutex<Tried>>);

/// By address: why it was not reached, if so.
type Tried = BTreeMap<String, Option<String>>;

/// How many of the leaders can be reached.
#[derive(Debug, PartialEq, Eq)]
pub enum Reach {
    /// None was tried yet.
    Unknown,
    /// None that was tried failed.
    All,
    /// Some cannot, for these reasons.
    Some(String),
    /// None can, for these reasons.
    None(String),
}

impl Leaders {
    /// A leader was tried. Said once, when it changes.
    pub fn tried<T>(&self, leader: &str, outcome: &anyhow::Result<T>) {
        let reason = outcome.as_ref().err().map(|err| format!("{err:#}"));
        let before = self.open(|tried| tried.insert(leader.to_string(), reason.clone()));
        let failed_before = before.is_some_and(|before| before.is_some());
        match reason {
            Some(reason) if !failed_before => {
                tracing::warn!(leader, %reason, "a leader cannot be reached");
            }
            None if failed_before => tracing::info!(leader, "a leader is reached again"),
            _ => {}
        }
    }

    /// Forgets those that are gone, and those that cannot be reached and lead nothing any more.
    pub fn keep(&self, described: &Described) {
        let leading = described.partitions.iter().map(|partition| partition.leader);
        let leading: HashSet<i32> = leading.collect();
        let brokers = described.brokers.iter();
        let brokers: BTreeMap<&str, bool> = brokers
            .map(|(id, address)| (address.as_str(), leading.contains(id)))
            .collect();
        self.open(|tried| {
            tried.retain(|address, failed| {
                let leads = brokers.get(address.as_str());
                leads.is_some_and(|leads| *leads || failed.is_none())
            });
        });
    }

    /// How many of these can be reached.
    pub fn reach<'a>(&self, leaders: impl IntoIterator<Item = &'a str>) -> Reach {
        let leaders: HashSet<&str> = leaders.into_iter().collect();
        self.open(|tried| {
            let known = tried.iter().filter(|(leader, _)| leaders.contains(leader.as_str()));
            let known: Vec<_> = known.map(|(_, failed)| failed.as_deref()).collect();
            let reasons: Vec<&str> = known.iter().flatten().copied().collect();
            match (known.len(), reasons.len()) {
                (0, _) => Reach::Unknown,
                (_, 0) => Reach::All,
                (_, failed) if failed == leaders.len() => Reach::None(one_line(&reasons)),
                _ => Reach::Some(one_line(&reasons)),
            }
        })
    }

    fn open<T>(&self, work: impl FnOnce(&mut Tried) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn one_line(reasons: &[&str]) -> String {
    let mut line = reasons[..reasons.len().min(REASONS_MAX)].join("; ");
    if reasons.len() > REASONS_MAX {
        line.push_str(&format!("; and {} more", reasons.len() - REASONS_MAX));
    }
    line
}

impl Collector for Leaders {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let tried = self.open(|tried| tried.clone());
        let help = "1 if a leader of partitions was reached when it was tried last, at the address that Kafka gives for \
                    it, else 0.";
        let mut metric = encoder.encode_descriptor("leader_reachable", help, None, MetricType::Gauge)?;
        for (leader, failed) in &tried {
            let level = ConstGauge::new(i64::from(failed.is_none()));
            level.encode(metric.encode_family(&[("leader", leader.as_str())])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::protocol::metadata::DescribedPartition;
    use anyhow::anyhow;

    #[test]
    fn all_some_or_none_can_be_reached() {
        let leaders = Leaders::default();
        assert_eq!(leaders.reach(["a", "b", "a"]), Reach::Unknown);
        leaders.tried("a", &Ok(()));
        assert_eq!(leaders.reach(["a", "b"]), Reach::All);
        leaders.tried("b", &Err::<(), _>(anyhow!("no b")));
        assert_eq!(leaders.reach(["a", "b"]), Reach::Some("no b".to_string()));
        assert_eq!(leaders.reach(["b"]), Reach::None("no b".to_string()));
        leaders.tried("a", &Err::<(), _>(anyhow!("no a")));
        assert_eq!(leaders.reach(["a", "b"]), Reach::None("no a; no b".to_string()));
        for more in ["c", "d", "e"] {
            leaders.tried(more, &Err::<(), _>(anyhow!("no {more}")));
        }
        let all = leaders.reach(["a", "b", "c", "d", "e"]);
        assert_eq!(all, Reach::None("no a; no b; no c; and 2 more".to_string()));
    }

    #[test]
    fn who_cannot_be_reached_and_leads_nothing_is_forgotten() {
        let leaders = Leaders::default();
        leaders.tried("reached", &Ok(()));
        leaders.tried("gone", &Ok(()));
        for leader in ["leads", "follows"] {
            leaders.tried(leader, &Err::<(), _>(anyhow!("no")));
        }
        leaders.keep(&Described {
            brokers: [(1, "reached"), (2, "leads"), (3, "follows")]
                .map(|(id, address)| (id, address.to_string()))
                .into(),
            partitions: vec![DescribedPartition {
                number: 0,
                leader: 2,
                copies: 1,
            }],
            ..Described::default()
        });
        let kept: Vec<_> = leaders.open(|tried| tried.keys().cloned().collect());
        assert_eq!(kept, ["leads", "reached"]);
    }
}
