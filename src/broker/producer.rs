//! Records in, receipts out, once they are on all in-sync replicas.
//!
//! ```text
//! send() --> one lane for each partition --> produce, one request in flight --> Kafka
//!   ^            (what gathers meanwhile is the next request)                     |
//!   +------------------------------ offsets --------------------------------------+
//! ```
//! Batches need no timer: they grow by themselves with the load. What waits is bounded in bytes, how
//! long it waits in time, and a lane that failed connects anew with a fresh client.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rskafka::client::partition::Compression;
use rskafka::record::Record;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::partition::Partition;
use super::partitioner::partition_for;
use super::{Broker, nodelay};

/// Until [`Producer::send`] says that Kafka did not confirm. The contract promises an answer within 5 s.
const CONFIRM_TIMEOUT: Duration = Duration::from_millis(4_500);

/// Between two log lines about one partition whose reasons for failing change.
const TELL_INTERVAL: Duration = Duration::from_secs(10);

/// For one request to Kafka, connecting included; shorter than [`CONFIRM_TIMEOUT`], so that the reason
/// of a failure reaches those who wait for it.
const PRODUCE_TIMEOUT: Duration = Duration::from_secs(4);

/// Bytes of one request. Kafka's default limit for a batch is 1,048,588 bytes.
const REQUEST_BYTES_MAX: usize = 900_000;

/// What a record costs beside its key and value: in Kafka's format 32 bytes, in memory about 100 more.
const RECORD_OVERHEAD_BYTES: usize = 128;

/// Between looks at the topic, which also serve readiness.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Looks in a row that must find fewer partitions than before until that is believed: a broker that is behind
/// the others may not know of new ones yet, and a repeat must not change its partition twice.
const FEWER_LOOKS: u32 = 10;

/// A record to be written.
#[derive(Debug)]
pub struct Outgoing {
    /// Decides the partition.
    pub key: String,
    /// The value.
    pub value: String,
}

/// Where a record came to lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Partition.
    pub partition: i32,
    /// Offset in it.
    pub offset: i64,
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

/// The lanes, once the number of partitions is known; until then why it is not.
type Lanes = Result<Arc<[mpsc::UnboundedSender<Job>]>, Arc<str>>;

type Wait = oneshot::Receiver<Result<Vec<i64>, Arc<str>>>;

/// Records of one caller for one partition.
struct Job {
    records: Vec<Record>,
    count: usize,
    bytes: usize,
    deadline: Instant,
    reply: oneshot::Sender<Result<Vec<i64>, Arc<str>>>,
    /// The bytes' share of what may wait; free again when the job is answered or dropped.
    _permit: OwnedSemaphorePermit,
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Producer {
    /// Starts in the background, whether Kafka is there or not. `report` is told about once a second
    /// whether the topic can be reached, or why not. Records that wait for Kafka may together cost
    /// `waiting_bytes_max`; past it senders are told to come back later.
    pub fn start(
        broker: Broker,
        waiting_bytes_max: u32,
        report: impl Fn(Result<(), String>) + Send + 'static,
    ) -> Producer {
        let (lanes, watched) = watch::channel(Err(Arc::from("not connected to kafka yet")));
        Producer {
            lanes: watched,
            waiting: Arc::new(Semaphore::new(waiting_bytes_max as usize)),
            _probe: AbortOnDrop(tokio::spawn(probe(broker, lanes, report))),
        }
    }

    /// Writes records and waits until all of them are on all in-sync replicas. The receipts are in the
    /// order of the records. Cancelling it does not take back what was sent.
    ///
    /// # Errors
    /// [`SendError`], after 4.5 seconds at most.
    pub async fn send(
        &self,
        records: Vec<Outgoing>,
        arrival: DateTime<Utc>,
    ) -> Result<Vec<Receipt>, SendError> {
        let deadline = Instant::now() + CONFIRM_TIMEOUT;
        let lanes = self.lanes(deadline).await?;
        let count = records.len();
        let mut jobs = Vec::new();
        for (partition, indexes, chunk) in chunks(records, lanes.len(), arrival) {
            jobs.push((partition, indexes, self.admit(chunk, deadline)?));
        }
        let mut waits = Vec::new();
        for (partition, indexes, (job, wait)) in jobs {
            lanes[partition]
                .send(job)
                .map_err(|_| SendError::Unconfirmed("the producer has ended".into()))?;
            waits.push((partition, indexes, wait));
        }
        let mut receipts = vec![None; count];
        for (partition, indexes, wait) in waits {
            let offsets = match timeout_at(deadline, wait).await {
                Ok(Ok(answer)) => answer.map_err(SendError::Unconfirmed)?,
                // A lane drops a job without an answer only when its deadline has passed.
                Ok(Err(_)) | Err(_) => return Err(late()),
            };
            for (index, offset) in indexes.into_iter().zip(offsets) {
                receipts[index] = Some(Receipt {
                    partition: partition as i32,
                    offset,
                });
            }
        }
        receipts.into_iter().collect::<Option<_>>().ok_or_else(late)
    }

    /// Takes the records' share of what may wait.
    fn admit(&self, records: Vec<Record>, deadline: Instant) -> Result<(Job, Wait), SendError> {
        let bytes = records.iter().map(cost).sum();
        let permit = u32::try_from(bytes)
            .ok()
            .and_then(|bytes| self.waiting.clone().try_acquire_many_owned(bytes).ok())
            .ok_or(SendError::Overloaded)?;
        let (reply, wait) = oneshot::channel();
        let job = Job {
            count: records.len(),
            records,
            bytes,
            deadline,
            reply,
            _permit: permit,
        };
        Ok((job, wait))
    }

    async fn lanes(
        &self,
        deadline: Instant,
    ) -> Result<Arc<[mpsc::UnboundedSender<Job>]>, SendError> {
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

fn late() -> SendError {
    SendError::Unconfirmed("kafka did not confirm in time".into())
}

/// Memory and wire cost of a record, in bytes.
fn cost(record: &Record) -> usize {
    record.approximate_size() + RECORD_OVERHEAD_BYTES
}

/// Records by partition, cut into requests, each with the indexes that its records had.
fn chunks(
    records: Vec<Outgoing>,
    partitions: usize,
    arrival: DateTime<Utc>,
) -> Vec<(usize, Vec<usize>, Vec<Record>)> {
    let mut finished = Vec::new();
    let mut open = vec![(0, Vec::new(), Vec::new()); partitions];
    for (index, Outgoing { key, value }) in records.into_iter().enumerate() {
        let partition = partition_for(key.as_bytes(), partitions as i32) as usize;
        let record = Record {
            key: Some(key.into_bytes()),
            value: Some(value.into_bytes()),
            headers: Default::default(),
            timestamp: arrival,
        };
        let (bytes, indexes, chunk) = &mut open[partition];
        if *bytes + cost(&record) > REQUEST_BYTES_MAX && !chunk.is_empty() {
            finished.push((partition, std::mem::take(indexes), std::mem::take(chunk)));
            *bytes = 0;
        }
        *bytes += cost(&record);
        indexes.push(index);
        chunk.push(record);
    }
    for (partition, (_, indexes, chunk)) in open.into_iter().enumerate() {
        if !chunk.is_empty() {
            finished.push((partition, indexes, chunk));
        }
    }
    finished
}

/// Looks for the topic until it is found, starts the lanes, and goes on looking for readiness' sake.
async fn probe(
    broker: Broker,
    lanes: watch::Sender<Lanes>,
    report: impl Fn(Result<(), String>) + Send,
) {
    let mut client = None;
    let mut fewer = 0;
    loop {
        let found = look(&broker, &mut client).await;
        match found {
            Ok(count) => {
                lanes.send_if_modified(|lanes| fit(lanes, &broker, count, &mut fewer));
                report(Ok(()));
            }
            Err(err) => {
                client = None;
                let reason = format!("{err:#}");
                lanes.send_if_modified(|lanes| {
                    let unknown = lanes.is_err();
                    if unknown {
                        *lanes = Err(reason.as_str().into());
                    }
                    unknown
                });
                report(Err(reason));
            }
        }
        // The driver reconnects silently, with sockets that are slow until this has reached them.
        nodelay::set_everywhere();
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
}

/// Makes as many lanes as there are partitions; those that are there stay. Says whether that changed any.
/// `fewer` counts how often in a row there were fewer partitions than lanes.
fn fit(lanes: &mut Lanes, broker: &Broker, count: i32, fewer: &mut u32) -> bool {
    let known = lanes.as_deref().unwrap_or_default();
    let are_fewer = known.len() > count as usize;
    *fewer = if are_fewer { *fewer + 1 } else { 0 };
    if known.len() == count as usize || (are_fewer && *fewer < FEWER_LOOKS) {
        return false;
    }
    if !known.is_empty() {
        tracing::warn!(
            from = known.len(),
            to = count,
            "the number of partitions changed"
        );
    }
    let lane = |number: i32| match known.get(number as usize) {
        Some(lane) => lane.clone(),
        None => start_lane(broker, number),
    };
    *lanes = Ok((0..count).map(lane).collect());
    true
}

async fn look(
    broker: &Broker,
    client: &mut Option<rskafka::client::Client>,
) -> anyhow::Result<i32> {
    let connected = match client.take() {
        Some(connected) => connected,
        None => broker.connect().await?,
    };
    let count = broker.partitions_known_to(&connected).await?;
    *client = Some(connected);
    Ok(count)
}

fn start_lane(broker: &Broker, partition: i32) -> mpsc::UnboundedSender<Job> {
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(run_lane(broker.clone(), partition, receiver));
    sender
}

/// Ends when the producer is dropped and everything that was queued has been answered.
async fn run_lane(broker: Broker, number: i32, mut jobs: mpsc::UnboundedReceiver<Job>) {
    // Before there is anything to send, so that the first who sends need not wait for it.
    let opened = timeout(PRODUCE_TIMEOUT, broker.partition(number)).await;
    let mut partition = opened.ok().and_then(Result::ok);
    let mut next = None;
    let mut failing = None;
    loop {
        let first = match next.take() {
            Some(job) => Some(job),
            None => jobs.recv().await,
        };
        let Some(first) = first else {
            return;
        };
        let mut batch = unexpired(gather(first, &mut jobs, &mut next));
        if batch.is_empty() {
            continue;
        }
        let records = batch
            .iter_mut()
            .flat_map(|job| std::mem::take(&mut job.records))
            .collect();
        let producing = produce(&broker, number, &mut partition, records);
        let produced = timeout(PRODUCE_TIMEOUT, producing)
            .await
            .unwrap_or_else(|_| Err(broker.silent(PRODUCE_TIMEOUT)));
        log_change(number, &mut failing, produced.as_ref().err());
        answer(batch, produced);
    }
}

/// What was said of a partition that fails, and when.
type Said = Option<(String, Instant)>;

/// Says once that a partition fails, now and then if for another reason, and once that it works again. The readiness
/// of a process does not depend on it: without requests it would never get better.
fn log_change(partition: i32, said: &mut Said, failure: Option<&anyhow::Error>) {
    let Some(failure) = failure else {
        if said.take().is_some() {
            tracing::info!(partition, "kafka confirms again");
        }
        return;
    };
    let reason = format!("{failure:#}");
    let is_news = said
        .as_ref()
        .is_none_or(|(before, when)| *before != reason && when.elapsed() >= TELL_INTERVAL);
    if is_news {
        tracing::warn!(partition, %reason, "kafka does not confirm");
        *said = Some((reason, Instant::now()));
    }
}

/// Gives each job the offsets of its records, or the reason why there are none. Whoever stopped waiting
/// does not mind.
fn answer(batch: Vec<Job>, produced: anyhow::Result<Vec<i64>>) {
    match produced {
        Ok(offsets) => {
            let mut offsets = offsets.into_iter();
            for job in batch {
                let own = offsets.by_ref().take(job.count).collect();
                let _ = job.reply.send(Ok(own));
            }
        }
        Err(err) => {
            let reason: Arc<str> = format!("{err:#}").into();
            for job in batch {
                let _ = job.reply.send(Err(Arc::clone(&reason)));
            }
        }
    }
}

/// The first job and what has gathered behind it, up to one request.
fn gather(first: Job, jobs: &mut mpsc::UnboundedReceiver<Job>, next: &mut Option<Job>) -> Vec<Job> {
    let mut bytes = first.bytes;
    let mut batch = vec![first];
    while let Ok(job) = jobs.try_recv() {
        if bytes + job.bytes > REQUEST_BYTES_MAX {
            *next = Some(job);
            break;
        }
        bytes += job.bytes;
        batch.push(job);
    }
    batch
}

/// The jobs that somebody still waits for.
fn unexpired(mut batch: Vec<Job>) -> Vec<Job> {
    let now = Instant::now();
    batch.retain(|job| job.deadline > now && !job.reply.is_closed());
    batch
}

async fn produce(
    broker: &Broker,
    number: i32,
    partition: &mut Option<Partition>,
    records: Vec<Record>,
) -> anyhow::Result<Vec<i64>> {
    // Taken out, so that a cancelled or failed call leaves none behind and the next one connects anew.
    let connected = match partition.take() {
        Some(connected) => connected,
        None => broker.partition(number).await?,
    };
    let offsets = connected
        .client()
        .produce(records, Compression::NoCompression)
        .await
        .map_err(|err| connected.failed(err))?;
    *partition = Some(connected);
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(number: usize, bytes: usize) -> Outgoing {
        Outgoing {
            key: format!("00000000-0000-4000-8000-{number:012}"),
            value: "v".repeat(bytes),
        }
    }

    #[test]
    fn chunks_keep_every_record_once_in_its_partition_and_in_order() {
        let records = (0..1_000).map(|number| outgoing(number, 10)).collect();
        let mut seen = Vec::new();
        for (partition, indexes, chunk) in chunks(records, 5, DateTime::UNIX_EPOCH) {
            assert!(indexes.is_sorted());
            assert_eq!(indexes.len(), chunk.len());
            for (index, record) in indexes.iter().zip(&chunk) {
                let key = record.key.as_deref().unwrap();
                assert_eq!(partition_for(key, 5) as usize, partition);
                assert_eq!(key, outgoing(*index, 0).key.as_bytes());
            }
            seen.extend(indexes);
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..1_000).collect::<Vec<_>>());
    }

    #[test]
    fn chunks_fit_one_request_unless_one_record_is_larger() {
        let mut records: Vec<_> = (0..40).map(|number| outgoing(number, 100_000)).collect();
        records.push(outgoing(40, 2_000_000));
        let chunks = chunks(records, 2, DateTime::UNIX_EPOCH);
        for (_, _, chunk) in &chunks {
            let bytes: usize = chunk.iter().map(cost).sum();
            assert!(bytes <= REQUEST_BYTES_MAX || chunk.len() == 1, "{bytes}");
        }
        assert_eq!(
            chunks
                .iter()
                .map(|(_, _, chunk)| chunk.len())
                .sum::<usize>(),
            41
        );
    }
}
