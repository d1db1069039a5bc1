//! The way to one broker, for all partitions that it leads: one request in flight, and what gathers meanwhile is the next.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::Context as _;
use rskafka::messenger::Messenger;
use rskafka::protocol::error::Error as ProtocolError;
use tokio::io::BufStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::routing::{Requested, Switch};
use crate::kafka::client::Kafka;
use crate::kafka::connect::{Wire, millis, raise_quota};
use crate::kafka::error_codes::explain_code;
use crate::kafka::protocol::produce::{Arrived, Produce, Produced};
use crate::kafka::transient::silent;

/// For one request to Kafka, connecting included; shorter than senders wait, so that the reason of a failure
/// reaches them.
const PRODUCE_TIMEOUT: Duration = Duration::from_secs(4);

/// How long the leader may wait for in-sync replicas, in milliseconds. Shorter still: a partition whose replicas
/// hang is told apart, and the others of the same request are confirmed.
const REPLICAS_WAIT_MS: i32 = 3_500;

/// Bytes of one partition in a request. Kafka's default limit for a batch is 1,048,588 bytes.
pub(crate) const BATCH_BYTES_MAX: usize = 900_000;

/// Bytes of one request. Kafka's default limit is 100 MiB; this is what one partition may get and some more, so that
/// none has to wait long for the others.
const REQUEST_BYTES_MAX: usize = 4 << 20;

/// Bytes of an answer: some dozens for each partition.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// So large a request leaves in one piece, with its length before it.
const WRITE_BYTES: usize = 64 << 10;
const READ_BYTES: usize = 4 << 10;

/// Since when a partition may have been failing for its records to be sent again, while its leader moves. After that
/// senders are told at once.
const PATIENCE: Duration = Duration::from_secs(3);

/// Before records are sent again: the first time, and at most.
const AGAIN_AFTER: Duration = Duration::from_millis(50);
const AGAIN_AFTER_MAX: Duration = Duration::from_millis(500);

/// Between tries to connect while nobody sends anything.
const RECONNECT_AFTER: Duration = Duration::from_secs(1);

/// Less time than this until a sender gives up is not worth another try: it would not get to know the reason.
const LAST_WORD: Duration = Duration::from_millis(500);

/// Records of one sender for one partition.
pub(crate) struct Job {
    pub partition: i32,
    pub arrived: Arrived,
    /// Memory and wire cost.
    pub bytes: usize,
    pub deadline: Instant,
    /// How often they were sent.
    pub tries: u32,
    /// For the offset of the first record, or the reason why there is none.
    pub reply: oneshot::Sender<Result<i64, Arc<str>>>,
    /// The bytes' share of what may wait; free again when the job is answered or dropped.
    pub _permit: OwnedSemaphorePermit,
}

/// Where jobs for the partitions of one broker go.
#[derive(Clone)]
pub(crate) struct Lane {
    /// Of the broker.
    pub address: Arc<str>,
    pub jobs: mpsc::UnboundedSender<Job>,
}

impl Lane {
    /// Starts in the background; ends when its last handle is dropped and everything that was queued has been
    /// answered.
    pub fn start(broker: &Kafka, address: &str, switch: Weak<Switch>) -> Lane {
        let (jobs, queue) = mpsc::unbounded_channel();
        let address: Arc<str> = address.into();
        let runner = Runner {
            broker: broker.clone(),
            address: Arc::clone(&address),
            switch,
        };
        tokio::spawn(runner.run(queue));
        Lane { address, jobs }
    }
}

type Connection = Messenger<BufStream<Wire>>;

/// Jobs of one partition in one request.
#[derive(Default)]
struct Batch {
    jobs: Vec<Job>,
    bytes: usize,
}

impl Batch {
    fn arrived(&self) -> Vec<&Arrived> {
        self.jobs.iter().map(|job| &job.arrived).collect()
    }

    fn records(&self) -> usize {
        self.jobs.iter().map(|job| job.arrived.records.len()).sum()
    }
}

/// Why records were not taken, and whether another try may help.
struct Failure {
    reason: String,
    may_pass: bool,
}

struct Runner {
    broker: Kafka,
    address: Arc<str>,
    /// Weak, because it has the handle of this lane.
    switch: Weak<Switch>,
}

impl Runner {
    async fn run(self, mut jobs: mpsc::UnboundedReceiver<Job>) {
        // Before there is anything to send, so that the first who sends need not wait for it.
        let mut connection = self.connect().await.ok();
        let mut next = None;
        let mut throttled_until = Instant::now();
        loop {
            let first = match next.take() {
                Some(job) => Some(job),
                None => self.next_job(&mut jobs, &mut connection).await,
            };
            let Some(first) = first else {
                return;
            };
            let batches = gather(first, &mut jobs, &mut next);
            if batches.is_empty() {
                continue;
            }
            let began = Instant::now();
            let producing = self.produce(&mut connection, &batches);
            let produced = timeout(PRODUCE_TIMEOUT, producing).await;
            let produced = produced.unwrap_or_else(|_| Err(self.unanswered(began < throttled_until)));
            if let Ok(Produced { throttle_ms, .. }) = &produced {
                throttled_until = Instant::now() + millis(*throttle_ms);
            }
            if let Some(switch) = self.switch.upgrade() {
                switch.requested(&requested(began.elapsed(), &batches, &produced));
            }
            self.settle(batches, produced);
        }
    }

    /// Why no answer came in time: a broker that throttles a writer takes what is sent, and answers, and then does not
    /// listen for a while.
    fn unanswered(&self, is_throttled: bool) -> anyhow::Error {
        match is_throttled {
            true => anyhow::anyhow!(
                "kafka at {} throttles captcha and did not listen for {} s; {}",
                self.address,
                PRODUCE_TIMEOUT.as_secs(),
                raise_quota("producer_byte_rate")
            ),
            false => silent(&self.address, PRODUCE_TIMEOUT),
        }
    }

    /// Waits for a job, and connects meanwhile if it is not connected, so that it is known whether the leader can be
    /// reached before somebody wants to send.
    async fn next_job(
        &self,
        jobs: &mut mpsc::UnboundedReceiver<Job>,
        connection: &mut Option<Connection>,
    ) -> Option<Job> {
        while connection.is_none() {
            let connect = async {
                sleep(RECONNECT_AFTER).await;
                self.connect().await.ok()
            };
            tokio::select! {
                biased;
                job = jobs.recv() => return job,
                connected = connect => *connection = connected,
            }
        }
        jobs.recv().await
    }

    async fn connect(&self) -> anyhow::Result<Connection> {
        let buffered = |wire| BufStream::with_capacity(READ_BYTES, WRITE_BYTES, wire);
        let connector = &self.broker.connector;
        let connected = connector
            .messenger_over(&self.address, ANSWER_BYTES_MAX, buffered)
            .await;
        self.broker.leaders.tried(&self.address, &connected);
        connected
    }

    async fn produce(
        &self,
        connection: &mut Option<Connection>,
        batches: &BTreeMap<i32, Batch>,
    ) -> anyhow::Result<Produced> {
        // Taken out, so that a cancelled or failed call leaves none behind and the next one connects anew.
        let connected = match connection.take() {
            Some(connected) => connected,
            None => self.connect().await?,
        };
        let produce = Produce {
            topic: self.broker.topic().as_str(),
            batches: batches.iter().map(|(at, batch)| (*at, batch.arrived())).collect(),
            wait_ms: REPLICAS_WAIT_MS,
            bytes: batches.values().map(|batch| batch.bytes).sum(),
        };
        let produced = connected.request(produce).await;
        let produced =
            produced.with_context(|| format!("kafka at {} did not confirm; look at its log", self.address))?;
        *connection = Some(connected);
        Ok(produced)
    }

    /// Answers the jobs of each partition, or sends them again.
    fn settle(&self, batches: BTreeMap<i32, Batch>, produced: anyhow::Result<Produced>) {
        let (produced, failed) = match produced {
            Ok(Produced { partitions, .. }) => (partitions.into_iter().collect(), None),
            Err(err) => (BTreeMap::new(), Some(format!("{err:#}"))),
        };
        for (partition, Batch { jobs, .. }) in batches {
            match (produced.get(&partition), &failed) {
                (Some(Ok(taken)), _) => self.confirm(partition, jobs, taken.offset),
                (Some(Err(error)), _) => self.fail(partition, jobs, self.refused(partition, *error)),
                (None, failed) => {
                    let reason = failed
                        .clone()
                        .unwrap_or_else(|| format!("kafka at {} says nothing of a partition", self.address));
                    let may_pass = true;
                    self.fail(partition, jobs, Failure { reason, may_pass });
                }
            }
        }
    }

    fn refused(&self, partition: i32, error: ProtocolError) -> Failure {
        let (address, topic) = (&self.address, self.broker.topic());
        let why = explain_code(error, None);
        Failure {
            reason: format!("kafka at {address} did not take records of {topic}:{partition}: {why}"),
            may_pass: matches!(
                error,
                ProtocolError::NotLeaderOrFollower | ProtocolError::LeaderNotAvailable
            ),
        }
    }

    /// Gives each job the offset of its first record. Whoever stopped waiting does not mind.
    fn confirm(&self, partition: i32, jobs: Vec<Job>, mut offset: i64) {
        if let Some(switch) = self.switch.upgrade() {
            switch.confirmed(partition);
        }
        for job in jobs {
            let count = job.arrived.records.len() as i64;
            let _ = job.reply.send(Ok(offset));
            offset += count;
        }
    }

    fn fail(&self, partition: i32, jobs: Vec<Job>, failure: Failure) {
        let Some(switch) = self.switch.upgrade() else {
            return;
        };
        let now = Instant::now();
        let since = switch.failing_since(partition);
        let pause = AGAIN_AFTER * 2_u32.pow(jobs.iter().map(|job| job.tries).max().unwrap_or(0).min(8));
        let pause = pause.min(AGAIN_AFTER_MAX);
        let is_early = failure.may_pass && now - since < PATIENCE;
        let (again, over): (Vec<_>, Vec<_>) = jobs
            .into_iter()
            .partition(|job| is_early && now + pause + LAST_WORD < job.deadline);
        let reason: Arc<str> = failure.reason.into();
        if !over.is_empty() {
            switch.tell(partition, &reason);
        }
        for job in over {
            let _ = job.reply.send(Err(Arc::clone(&reason)));
        }
        if !again.is_empty() {
            switch.look_again();
            tokio::spawn(send_again(again, reason, pause, self.switch.clone()));
        }
    }
}

/// How it went.
fn requested(elapsed: Duration, batches: &BTreeMap<i32, Batch>, produced: &anyhow::Result<Produced>) -> Requested {
    let mut requested = Requested {
        elapsed,
        is_confirmed: false,
        timestamps_refused: 0,
        timestamp_type: None,
    };
    let Ok(Produced { partitions, .. }) = produced else {
        return requested;
    };
    let mut confirmed = 0;
    for (at, answer) in partitions {
        match (answer, batches.get(at)) {
            (Ok(taken), Some(_)) => {
                confirmed += 1;
                requested.timestamp_type = Some(taken.timestamp_type);
            }
            (Err(ProtocolError::InvalidTimestamp), Some(batch)) => {
                requested.timestamps_refused += batch.records();
            }
            _ => {}
        }
    }
    requested.is_confirmed = confirmed == batches.len();
    requested
}

/// By the way that leads to the partition's leader then.
async fn send_again(jobs: Vec<Job>, reason: Arc<str>, pause: Duration, switch: Weak<Switch>) {
    sleep(pause).await;
    let Some(switch) = switch.upgrade() else {
        return;
    };
    for mut job in jobs {
        job.tries += 1;
        if let Err(job) = switch.send(job) {
            let _ = job.reply.send(Err(Arc::clone(&reason)));
        }
    }
}

/// The first job and what has gathered behind it, as far as somebody still waits for it, up to one request.
fn gather(first: Job, jobs: &mut mpsc::UnboundedReceiver<Job>, next: &mut Option<Job>) -> BTreeMap<i32, Batch> {
    let now = Instant::now();
    let mut batches = BTreeMap::<i32, Batch>::new();
    let mut bytes = 0;
    let mut candidate = Some(first);
    while let Some(job) = candidate.take() {
        if job.deadline > now && !job.reply.is_closed() {
            let batch = batches.entry(job.partition).or_default();
            let fits = batch.bytes + job.bytes <= BATCH_BYTES_MAX || batch.jobs.is_empty();
            if !fits || bytes + job.bytes > REQUEST_BYTES_MAX.max(job.bytes) {
                *next = Some(job);
                break;
            }
            bytes += job.bytes;
            batch.bytes += job.bytes;
            batch.jobs.push(job);
        }
        candidate = jobs.try_recv().ok();
    }
    batches.retain(|_, batch| !batch.jobs.is_empty());
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::Semaphore;

    type Reply = oneshot::Receiver<Result<i64, Arc<str>>>;

    fn job(partition: i32, bytes: usize) -> (Job, Reply) {
        let (reply, wait) = oneshot::channel();
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let job = Job {
            partition,
            arrived: Arrived {
                millis: 0,
                records: Vec::new(),
            },
            bytes,
            deadline: Instant::now() + Duration::from_secs(9),
            tries: 0,
            reply,
            _permit: permit,
        };
        (job, wait)
    }

    /// Partitions and bytes of each request that is made of these.
    fn requests(wanted: &[(i32, usize)]) -> Vec<Vec<(i32, usize)>> {
        let (sender, mut jobs) = mpsc::unbounded_channel();
        let mut replies = Vec::new();
        for (partition, bytes) in wanted {
            let (job, reply) = job(*partition, *bytes);
            assert!(sender.send(job).is_ok());
            replies.push(reply);
        }
        let mut requests = Vec::new();
        let mut next = None;
        while let Some(first) = next.take().or_else(|| jobs.try_recv().ok()) {
            let batches = gather(first, &mut jobs, &mut next);
            let bytes = batches.iter().map(|(at, batch)| (*at, batch.bytes));
            requests.push(bytes.collect());
        }
        requests
    }

    #[test]
    fn what_gathers_is_one_request_with_one_batch_for_each_partition() {
        let jobs = [(2, 10), (0, 20), (2, 30), (1, 1)];
        assert_eq!(requests(&jobs), [vec![(0, 20), (1, 1), (2, 40)]]);
    }

    #[test]
    fn a_batch_and_a_request_stay_below_their_limits() {
        let half = BATCH_BYTES_MAX / 2;
        let full = [(0, half), (1, 5), (0, half), (0, 1), (1, 5)];
        let wanted = [vec![(0, 2 * half), (1, 5)], vec![(0, 1), (1, 5)]];
        assert_eq!(requests(&full), wanted);
        let many: Vec<_> = (0..6).map(|at| (at, BATCH_BYTES_MAX)).collect();
        let sizes: Vec<_> = requests(&many).iter().map(Vec::len).collect();
        assert_eq!(sizes, [4, 2]);
        let large = [(0, 2 * REQUEST_BYTES_MAX), (0, 1)];
        assert_eq!(requests(&large).len(), 2, "too large for any request");
    }

    #[test]
    fn who_does_not_wait_any_more_is_left_out() {
        let (sender, mut jobs) = mpsc::unbounded_channel();
        let (first, gone) = job(0, 1);
        drop(gone);
        let (mut late, _reply) = job(1, 1);
        late.deadline = Instant::now();
        let (kept, _reply) = job(2, 1);
        assert!(sender.send(late).is_ok() && sender.send(kept).is_ok());
        let batches = gather(first, &mut jobs, &mut None);
        assert_eq!(batches.keys().collect::<Vec<_>>(), [&2]);
    }
}
