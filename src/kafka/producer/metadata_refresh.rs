//! Looks up which broker leads which partition, and changes the routes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::routing::{Routes, SenderHandle};
use super::sender::BrokerSender;
use crate::kafka::client::Kafka;
use crate::kafka::leader_reachability::Reachability;
use crate::kafka::protocol::metadata::MetadataResponse;
use crate::topic_partition::Partition;

/// Between two look-ups, which also serve readiness.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// Until the next look-up after a sender asked for one, or while no leader was tried yet.
const REFRESH_SOON: Duration = Duration::from_millis(25);

/// Look-ups after the start that come soon, until a leader was reached or was not: as long as that may take.
const FIRST_REFRESHES_MAX: u32 = 200;

/// Look-ups in a row that must find fewer partitions than before until they are believed: a broker that is behind the
/// others may not know the new ones yet, and the records of one key must not change their partition twice.
const FEWER_PARTITIONS_MIN: u32 = 10;

/// Whether the topic can be written to, as far as is known without writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProducerStatus {
    /// Or none was tried yet.
    LeadersReachable,
    /// Their partitions take nothing.
    SomeLeadersUnreachable(String),
    /// Leaders move, so this may pass within a moment.
    NoLeaderReachable(String),
    /// No broker says who leads.
    NoMetadata(String),
}

pub(super) struct MetadataRefresh {
    kafka: Kafka,
    routes: Arc<Routes>,
    /// Look-ups in a row that found fewer partitions.
    fewer_partitions: u32,
}

impl MetadataRefresh {
    pub fn new(kafka: Kafka, routes: Arc<Routes>) -> MetadataRefresh {
        MetadataRefresh {
            kafka,
            routes,
            fewer_partitions: 0,
        }
    }

    /// Runs until it is aborted.
    pub async fn run(mut self, report: impl Fn(ProducerStatus) + Send) {
        let mut topic = self.kafka.metadata_client();
        let mut first_refreshes = 0..FIRST_REFRESHES_MAX;
        loop {
            match topic.metadata().await {
                Ok(metadata) => {
                    self.apply(&metadata);
                    let senders = self.routes.senders().unwrap_or_default();
                    let addresses = senders.iter().map(|sender| &*sender.address);
                    match self.kafka.leaders.reachability(addresses) {
                        Reachability::Unknown if first_refreshes.next().is_some() => {
                            sleep(REFRESH_SOON).await;
                            continue;
                        }
                        Reachability::Unknown | Reachability::All => report(ProducerStatus::LeadersReachable),
                        Reachability::Partial(reasons) => report(ProducerStatus::SomeLeadersUnreachable(reasons)),
                        Reachability::None(reasons) => report(ProducerStatus::NoLeaderReachable(reasons)),
                    }
                    first_refreshes = 0..0;
                }
                Err(err) => {
                    self.kafka.prefer_next_address();
                    let reason = format!("{err:#}");
                    if self.routes.senders().is_err() {
                        self.routes.set_senders(Err(reason.as_str().into()));
                    }
                    report(ProducerStatus::NoMetadata(reason));
                }
            }
            tokio::select! {
                () = sleep(REFRESH_INTERVAL) => {}
                () = self.routes.refresh_requested() => {
                    // The broker that was asked may be behind the others.
                    self.kafka.prefer_next_address();
                    topic = self.kafka.metadata_client();
                    sleep(REFRESH_SOON).await;
                }
            }
        }
    }

    /// Routes each partition to the sender of its leader. Senders that run are kept.
    fn apply(&mut self, metadata: &MetadataResponse) {
        let known = self.routes.senders().unwrap_or_default();
        let (before, count) = (known.len(), metadata.partitions.len());
        self.fewer_partitions = if before > count { self.fewer_partitions + 1 } else { 0 };
        if before > count && self.fewer_partitions < FEWER_PARTITIONS_MIN {
            return;
        }
        let addresses: Vec<_> = known.iter().map(|sender| &*sender.address).collect();
        let wanted = leader_addresses(metadata, &addresses);
        // A sender ends early only if our own code panics in it. Without a new one its partitions would fail for ever.
        let all_run = known.iter().all(|sender| !sender.jobs.is_closed());
        if wanted.is_empty() || (wanted == addresses && all_run) {
            return;
        }
        if before != count && before != 0 {
            tracing::warn!(from = before, to = count, "the number of partitions changed");
        }
        let mut senders: HashMap<&str, SenderHandle> = HashMap::new();
        for sender in known.iter().filter(|sender| !sender.jobs.is_closed()) {
            senders.insert(&sender.address, sender.clone());
        }
        for address in &wanted {
            let spawn = || BrokerSender::spawn(&self.kafka, address, Arc::downgrade(&self.routes));
            senders.entry(address).or_insert_with(spawn);
        }
        let senders = wanted.iter().map(|address| senders[address].clone());
        self.routes.set_senders(Ok(senders.collect()));
    }
}

/// The address of each partition's leader, by partition number; empty if there are no brokers. A partition without a
/// leader keeps the address that it had, or gets any: that broker answers what is wrong.
fn leader_addresses<'a>(metadata: &'a MetadataResponse, known: &[&'a str]) -> Vec<&'a str> {
    let brokers = metadata.brokers.iter();
    let brokers: HashMap<i32, &str> = brokers.map(|(id, address)| (*id, &**address)).collect();
    let partitions = metadata.partitions.iter();
    let leaders: HashMap<Partition, i32> = partitions.map(|found| (found.partition, found.leader)).collect();
    let any = metadata.brokers.first().map(|(_, address)| &**address);
    let address = |partition: Partition| {
        let leader = leaders.get(&partition).and_then(|id| brokers.get(id)).copied();
        leader.or_else(|| known.get(partition.index()).copied()).or(any)
    };
    Partition::range(0..metadata.partitions.len() as i32)
        .map_while(address)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::args::{Args, TopicArgs};
    use crate::kafka::protocol::metadata::PartitionMetadata;

    fn metadata(brokers: &[i32], leaders: &[i32]) -> MetadataResponse {
        let numbered = leaders.iter().enumerate().rev();
        MetadataResponse {
            brokers: brokers.iter().map(|id| (*id, format!("b{id}"))).collect(),
            partitions: numbered
                .map(|(partition, leader)| PartitionMetadata {
                    partition: Partition::new(partition as i32),
                    leader: *leader,
                    replicas: 1,
                })
                .collect(),
            ..MetadataResponse::default()
        }
    }

    #[test]
    fn each_partition_goes_to_its_leader_or_stays_while_there_is_none() {
        let topic = metadata(&[7, 8], &[8, 7, 8]);
        assert_eq!(leader_addresses(&topic, &[]), ["b8", "b7", "b8"]);
        assert_eq!(leader_addresses(&topic, &["b1", "b1", "b1"]), ["b8", "b7", "b8"]);
        let topic = metadata(&[7, 8], &[-1, 7, -1, 9]);
        assert_eq!(leader_addresses(&topic, &["b1", "b8", "b8"]), ["b1", "b7", "b8", "b7"]);
        assert!(leader_addresses(&metadata(&[], &[-1]), &[]).is_empty());
    }

    #[tokio::test]
    async fn senders_stay_unless_leaders_move_and_fewer_partitions_are_believed_late() {
        let args = Args {
            kafka_brokers: Vec::new(),
            topic: TopicArgs {
                kafka_topic: "captcha".parse().unwrap(),
            },
            security: Default::default(),
        };
        let (kafka, routes) = (Kafka::new(args).unwrap(), Arc::new(Routes::new(Box::new(|_| {}))));
        let mut refresh = MetadataRefresh::new(kafka, Arc::clone(&routes));
        let mut apply = |leaders: &[i32]| {
            refresh.apply(&metadata(&[7, 8], leaders));
            routes.senders().unwrap()
        };
        let first = apply(&[7, 8, 7]);
        assert!(first[0].jobs.same_channel(&first[2].jobs), "one sender for one broker");
        assert!(!first[0].jobs.same_channel(&first[1].jobs));
        let moved = apply(&[8, 8, 7]);
        assert!(moved[0].jobs.same_channel(&first[1].jobs), "the sender that was there");
        assert!(moved[2].jobs.same_channel(&first[2].jobs));
        for _ in 1..FEWER_PARTITIONS_MIN {
            assert_eq!(apply(&[8, 8]).len(), 3);
        }
        assert_eq!(apply(&[8, 8]).len(), 2);
        assert_eq!(apply(&[8, 8, 8, 8]).len(), 4);
    }
}
