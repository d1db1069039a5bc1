//! Records in, receipts out, once they are on all in-sync replicas.
//!
//! ```text
//! send() --> one lane for each broker that leads partitions --> produce, one request in flight --> Kafka
//!   ^            (what gathers meanwhile is the next request)                                        |
//!   +------------------------------------------- offsets -------------------------------------------+
//! ```
//! Batches need no timer: they grow by themselves with the load. What waits is bounded in bytes, how
//! long it waits in time, and a lane that failed connects anew. Who leads which partition is looked up once a
//! second, and whenever a lane fails.

pub mod partitioner;
pub mod routing;
pub mod sender;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

use self::partitioner::partition_for;
use self::routing::{Lanes, Requested, Switch};
use self::sender::{BATCH_BYTES_MAX, Job, Lane};
use super::client::Kafka;
use super::leaders::Reach;
use super::protocol::metadata::Described;
use super::protocol::produce::{Arrived, ProducerRecord};

/// Until [`Producer::send`] says that Kafka did not confirm. The contract promises an answer within 5 s.
const CONFIRM_TIMEOUT: Duration = Duration::from_millis(4_500);

/// What a record costs beside its key and value: in Kafka's format 32 bytes, in memory about 100 more.
const RECORD_OVERHEAD_BYTES: usize = 128;

/// Between looks at the topic, which also serve readiness; and when a lane has asked for one.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
const LOOK_SOON: Duration = Duration::from_millis(25);

/// Looks soon after the start, until a leader was reached or not: as long as that may take.
const FIRST_LOOKS: u32 = 200;

/// Looks in a row that must find fewer partitions than before until that is believed: a broker that is behind
/// the others may not know of new ones yet, and a repeat must not change its partition twice.
const FEWER_LOOKS: u32 = 10;

/// Where a record came to lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Partition.
    pub partition: i32,
    /// Offset in it.
    pub offset: i64,
}

/// Whether the topic can be written to, as far as is known without writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Every leader can be reached, or was not tried yet.
    Reached,
    /// Some leaders cannot, and their partitions take nothing.
    PartlyReached(String),
    /// No leader can. They move, so that this may pass within a moment.
    Unreached(String),
    /// No broker tells who leads.
    Away(String),
}

/// Why there are no receipts. Records may be in Kafka all the same; sending them again is safe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendError {
    /// Too much waits for Kafka already; nothing was sent.
    Overloaded,
    /// Kafka did not confirm in time.
    Unconfirmed(Arc<str>),
}

/// Writes to all partitions of the topic.
pub struct Producer {
    lanes: watch::Receiver<Lanes>,
    waiting: Arc<Semaphore>,
    _probe: AbortOnDrop,
}

/// Records for one partition, and the indexes that they had among all.
struct Chunk {
    partition: i32,
    indexes: Vec<usize>,
    records: Vec<ProducerRecord>,
    bytes: usize,
}

impl Chunk {
    fn new(partition: i32) -> Chunk {
        Chunk {
            partition,
            indexes: Vec::new(),
            records: Vec::new(),
            bytes: 0,
        }
    }
}

/// Where the offset of a job's first record comes, and the indexes of its records.
struct Wait {
    partition: i32,
    indexes: Vec<usize>,
    reply: oneshot::Receiver<Result<i64, Arc<str>>>,
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Producer {
    /// Starts in the background, whether Kafka is there or not. `report` is told about once a second
    /// whether the topic can be written to, or why not, and `observe` of each request to a broker how it went. Records that
    /// wait for Kafka may together cost
    /// `waiting_bytes_max`; past it senders are told to come back later.
    pub fn start(
        broker: Kafka,
        waiting_bytes_max: u32,
        report: impl Fn(Status) + Send + 'static,
        observe: impl Fn(&Requested) + Send + Sync + 'static,
    ) -> Producer {
        let switch = Arc::new(Switch::new(Box::new(observe)));
        Producer {
            lanes: switch.watch(),
            waiting: Arc::new(Semaphore::new(waiting_bytes_max as usize)),
            _probe: AbortOnDrop(tokio::spawn(probe(broker, switch, report))),
        }
    }

    /// Writes records and waits until all of them are on all in-sync replicas. The receipts are in the
    /// order of the records. Cancelling it does not take back what was sent.
    ///
    /// # Errors
    /// [`SendError`], after 4.5 seconds at most.
    pub async fn send(&self, records: Vec<ProducerRecord>, arrival: DateTime<Utc>) -> Result<Vec<Receipt>, SendError> {
        let deadline = Instant::now() + CONFIRM_TIMEOUT;
        // Before anything is waited for, so that what waits for Kafka itself is bounded too.
        let mut share = self.share(&records)?;
        let lanes = self.lanes(deadline).await?;
        let count = records.len();
        let mut jobs = Vec::new();
        for chunk in chunks(records, lanes.len()) {
            // The chunks' bytes are those of the records, so that there is enough for each.
            let permit = share.split(chunk.bytes).ok_or(SendError::Overloaded)?;
            jobs.push(job(chunk, arrival.timestamp_millis(), deadline, permit));
        }
        let mut waits = Vec::with_capacity(jobs.len());
        for (job, wait) in jobs {
            lanes[job.partition as usize]
                .jobs
                .send(job)
                .map_err(|_| SendError::Unconfirmed("the producer has ended".into()))?;
            waits.push(wait);
        }
        let receipts = timeout_at(deadline, receipts(waits, count)).await;
        receipts.unwrap_or_else(|_| Err(late()))
    }

    /// Takes the records' share of what may wait.
    fn share(&self, records: &[ProducerRecord]) -> Result<OwnedSemaphorePermit, SendError> {
        let bytes = u32::try_from(records.iter().map(cost).sum::<usize>());
        let share = bytes
            .ok()
            .and_then(|bytes| self.waiting.clone().try_acquire_many_owned(bytes).ok());
        share.ok_or(SendError::Overloaded)
    }

    async fn lanes(&self, deadline: Instant) -> Result<Arc<[Lane]>, SendError> {
        if let Ok(lanes) = &*self.lanes.borrow() {
            return Ok(Arc::clone(lanes));
        }
        let mut lanes = self.lanes.clone();
        // Within the first moments of a process the topic is being looked up; that is worth waiting for.
        let known = timeout_at(deadline, lanes.wait_for(Result::is_ok)).await;
        if let Ok(Ok(lanes)) = known {
            return lanes.clone().map_err(SendError::Unconfirmed);
        }
        let reason = self.lanes.borrow().clone().err();
        Err(reason.map_or_else(late, SendError::Unconfirmed))
    }
}

fn job(chunk: Chunk, millis: i64, deadline: Instant, permit: OwnedSemaphorePermit) -> (Job, Wait) {
    let (reply, replied) = oneshot::channel();
    let records = chunk.records;
    let job = Job {
        partition: chunk.partition,
        arrived: Arrived { millis, records },
        bytes: chunk.bytes,
        deadline,
        tries: 0,
        reply,
        _permit: permit,
    };
    let wait = Wait {
        partition: chunk.partition,
        indexes: chunk.indexes,
        reply: replied,
    };
    (job, wait)
}

fn late() -> SendError {
    SendError::Unconfirmed("kafka did not confirm in time".into())
}

/// The receipts of all records, in their order.
async fn receipts(waits: Vec<Wait>, count: usize) -> Result<Vec<Receipt>, SendError> {
    let mut receipts = vec![None; count];
    for wait in waits {
        // A lane drops a job without an answer only when its deadline has passed.
        let replied = wait.reply.await.map_err(|_| late())?;
        let first = replied.map_err(SendError::Unconfirmed)?;
        for (offset, index) in (first..).zip(wait.indexes) {
            receipts[index] = Some(Receipt {
                partition: wait.partition,
                offset,
            });
        }
    }
    receipts.into_iter().collect::<Option<_>>().ok_or_else(late)
}

/// Memory and wire cost of a record, in bytes.
fn cost(record: &ProducerRecord) -> usize {
    record.key.len() + record.value.len() + RECORD_OVERHEAD_BYTES
}

/// Records by partition, cut so that each fits a request.
fn chunks(records: Vec<ProducerRecord>, partitions: usize) -> Vec<Chunk> {
    // Most requests have one event.
    if let [only] = &records[..] {
        return vec![Chunk {
            partition: partition_for(only.key.as_bytes(), partitions as i32),
            indexes: vec![0],
            bytes: cost(only),
            records,
        }];
    }
    let mut finished = Vec::new();
    let mut open: Vec<_> = (0..partitions as i32).map(Chunk::new).collect();
    for (index, record) in records.into_iter().enumerate() {
        let partition = partition_for(record.key.as_bytes(), partitions as i32);
        let chunk = &mut open[partition as usize];
        let bytes = cost(&record);
        if chunk.bytes + bytes > BATCH_BYTES_MAX && !chunk.records.is_empty() {
            finished.push(std::mem::replace(chunk, Chunk::new(partition)));
        }
        chunk.bytes += bytes;
        chunk.indexes.push(index);
        chunk.records.push(record);
    }
    finished.extend(open.into_iter().filter(|chunk| !chunk.records.is_empty()));
    finished
}

/// Looks who leads which partition, once a second and when a lane asks, for as long as the producer lives.
async fn probe(broker: Kafka, switch: Arc<Switch>, report: impl Fn(Status) + Send) {
    let mut topic = broker.watch_topic();
    let mut fewer = 0;
    let mut first_looks = 0..FIRST_LOOKS;
    loop {
        match topic.described().await {
            Ok(described) => {
                fit(&switch, &broker, &described, &mut fewer);
                let lanes = switch.lanes().unwrap_or_default();
                match broker.leaders.reach(lanes.iter().map(|lane| &*lane.address)) {
                    Reach::Unknown if first_looks.next().is_some() => {
                        sleep(LOOK_SOON).await;
                        continue;
                    }
                    Reach::Unknown | Reach::All => report(Status::Reached),
                    Reach::Some(reason) => report(Status::PartlyReached(reason)),
                    Reach::None(reason) => report(Status::Unreached(reason)),
                }
                first_looks = 0..0;
            }
            Err(err) => {
                broker.prefer_another();
                let reason = format!("{err:#}");
                if switch.lanes().is_err() {
                    switch.set(Err(reason.as_str().into()));
                }
                report(Status::Away(reason));
            }
        }
        tokio::select! {
            () = sleep(LOOK_INTERVAL) => {}
            () = switch.asked_to_look() => {
                // Maybe the broker that was asked is behind the others.
                broker.prefer_another();
                topic = broker.watch_topic();
                sleep(LOOK_SOON).await;
            }
        }
    }
}

/// Leads each partition to its leader. Lanes that are there stay. `fewer` counts how often in a row there were fewer
/// partitions than before.
fn fit(switch: &Arc<Switch>, broker: &Kafka, described: &Described, fewer: &mut u32) {
    let known = switch.lanes().unwrap_or_default();
    let (before, count) = (known.len(), described.partitions.len());
    *fewer = if before > count { *fewer + 1 } else { 0 };
    if before > count && *fewer < FEWER_LOOKS {
        return;
    }
    let addresses: Vec<_> = known.iter().map(|lane| &*lane.address).collect();
    let wanted = leaders(described, &addresses);
    // One has ended only if our own code failed in it; without another, its partitions would be refused for ever.
    let all_run = known.iter().all(|lane| !lane.jobs.is_closed());
    if wanted.is_empty() || (wanted == addresses && all_run) {
        return;
    }
    if before != count && before != 0 {
        tracing::warn!(from = before, to = count, "the number of partitions changed");
    }
    let mut lanes: HashMap<&str, Lane> = HashMap::new();
    for lane in known.iter().filter(|lane| !lane.jobs.is_closed()) {
        lanes.insert(&lane.address, lane.clone());
    }
    for address in &wanted {
        let start = || Lane::start(broker, address, Arc::downgrade(switch));
        lanes.entry(address).or_insert_with(start);
    }
    let lanes = wanted.iter().map(|address| lanes[address].clone());
    switch.set(Ok(lanes.collect()));
}

/// The address of each partition's leader, by number; empty if there is no broker at all. One without a leader stays
/// with the broker that it had, or begins with any: that one will say what is wrong.
fn leaders<'a>(described: &'a Described, known: &[&'a str]) -> Vec<&'a str> {
    let brokers = described.brokers.iter();
    let brokers: HashMap<i32, &str> = brokers.map(|(id, address)| (*id, &**address)).collect();
    let partitions = described.partitions.iter();
    let leaders: HashMap<i32, i32> = partitions.map(|at| (at.number, at.leader)).collect();
    let any = described.brokers.first().map(|(_, address)| &**address);
    let leader = |number: i32| {
        let leader = leaders.get(&number).and_then(|id| brokers.get(id)).copied();
        leader.or_else(|| known.get(number as usize).copied()).or(any)
    };
    (0..described.partitions.len() as i32).map_while(leader).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::protocol::metadata::DescribedPartition;

    fn outgoing(number: usize, bytes: usize) -> ProducerRecord {
        ProducerRecord {
            key: format!("00000000-0000-4000-8000-{number:012}"),
            value: "v".repeat(bytes),
        }
    }

    #[test]
    fn chunks_keep_every_record_once_in_its_partition_and_in_order() {
        for count in [1, 2, 1_000] {
            let records = (0..count).map(|number| outgoing(number, 10)).collect();
            let mut seen = Vec::new();
            for chunk in chunks(records, 5) {
                assert!(chunk.indexes.is_sorted());
                assert_eq!(chunk.bytes, chunk.records.iter().map(cost).sum::<usize>());
                assert_eq!(chunk.indexes.len(), chunk.records.len());
                for (index, record) in chunk.indexes.iter().zip(&chunk.records) {
                    assert_eq!(partition_for(record.key.as_bytes(), 5), chunk.partition);
                    assert_eq!(record.key, outgoing(*index, 0).key);
                }
                seen.extend(chunk.indexes);
            }
            seen.sort_unstable();
            assert_eq!(seen, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn chunks_fit_one_request_unless_one_record_is_larger() {
        let mut records: Vec<_> = (0..40).map(|number| outgoing(number, 100_000)).collect();
        records.push(outgoing(40, 2_000_000));
        let mut count = 0;
        for chunk in chunks(records, 2) {
            let bytes: usize = chunk.records.iter().map(cost).sum();
            assert_eq!(bytes, chunk.bytes);
            assert!(bytes <= BATCH_BYTES_MAX || chunk.records.len() == 1, "{bytes}");
            count += chunk.records.len();
        }
        assert_eq!(count, 41);
    }

    fn described(brokers: &[i32], leaders: &[i32]) -> Described {
        let numbered = leaders.iter().enumerate().rev();
        Described {
            brokers: brokers.iter().map(|id| (*id, format!("b{id}"))).collect(),
            partitions: numbered
                .map(|(number, leader)| DescribedPartition {
                    number: number as i32,
                    leader: *leader,
                    copies: 1,
                })
                .collect(),
            ..Described::default()
        }
    }

    #[test]
    fn each_partition_goes_to_its_leader_or_stays_while_there_is_none() {
        let topic = described(&[7, 8], &[8, 7, 8]);
        assert_eq!(leaders(&topic, &[]), ["b8", "b7", "b8"]);
        assert_eq!(leaders(&topic, &["b1", "b1", "b1"]), ["b8", "b7", "b8"]);
        let topic = described(&[7, 8], &[-1, 7, -1, 9]);
        assert_eq!(leaders(&topic, &["b1", "b8", "b8"]), ["b1", "b7", "b8", "b7"]);
        assert!(leaders(&described(&[], &[-1]), &[]).is_empty());
    }

    #[tokio::test]
    async fn lanes_stay_unless_leaders_move_and_fewer_partitions_are_believed_late() {
        let args = crate::kafka::Args {
            kafka_brokers: Vec::new(),
            topic: crate::kafka::TopicArgs {
                kafka_topic: "captcha".parse().unwrap(),
            },
            security: Default::default(),
        };
        let (broker, switch) = (Kafka::new(args).unwrap(), Arc::new(Switch::new(Box::new(|_| {}))));
        let mut fewer = 0;
        let mut look = |leaders: &[i32]| {
            fit(&switch, &broker, &described(&[7, 8], leaders), &mut fewer);
            switch.lanes().unwrap()
        };
        let first = look(&[7, 8, 7]);
        assert!(first[0].jobs.same_channel(&first[2].jobs), "one lane for one broker");
        assert!(!first[0].jobs.same_channel(&first[1].jobs));
        let moved = look(&[8, 8, 7]);
        assert!(moved[0].jobs.same_channel(&first[1].jobs), "the lane that was there");
        assert!(moved[2].jobs.same_channel(&first[2].jobs));
        for _ in 1..FEWER_LOOKS {
            assert_eq!(look(&[8, 8]).len(), 3);
        }
        assert_eq!(look(&[8, 8]).len(), 2);
        assert_eq!(look(&[8, 8, 8, 8]).len(), 4);
    }
}
