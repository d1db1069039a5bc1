//! Drains the queue of a sender: what has gathered there becomes one request, with one batch for each partition.

use std::collections::BTreeMap;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::job::ProduceJob;
use crate::kafka::protocol::produce::RecordGroup;
use crate::topic_partition::Partition;

/// Of one partition in a request. Kafka's default limit for a batch is 1,048,588 bytes.
pub(super) const BATCH_BYTES_MAX: usize = 900_000;

/// Of one request. Kafka's default limit is 100 MiB. This is enough for a few full partitions, and so little that no
/// partition waits long for the others.
const REQUEST_BYTES_MAX: usize = 4 << 20;

const _: () = assert!(BATCH_BYTES_MAX < REQUEST_BYTES_MAX, "a full batch must fit a request");

/// The jobs of one partition in one request.
#[derive(Default)]
pub(super) struct Batch {
    pub jobs: Vec<ProduceJob>,
    pub cost_bytes: usize,
}

impl Batch {
    pub fn record_groups(&self) -> Vec<RecordGroup<'_>> {
        let groups = self.jobs.iter().map(|job| RecordGroup {
            timestamp_millis: job.timestamp_millis,
            records: &job.records,
        });
        groups.collect()
    }

    pub fn record_count(&self) -> usize {
        self.jobs.iter().map(|job| job.records.len()).sum()
    }
}

/// The first job and those behind it in the queue, up to one request. Leaves out jobs that nobody waits for any more.
/// The first job that does not fit goes to `next`.
pub(super) fn drain(
    first: ProduceJob,
    queue: &mut mpsc::UnboundedReceiver<ProduceJob>,
    next: &mut Option<ProduceJob>,
) -> BTreeMap<Partition, Batch> {
    let now = Instant::now();
    let mut batches = BTreeMap::<Partition, Batch>::new();
    let mut request_bytes = 0;
    let mut candidate = Some(first);
    while let Some(job) = candidate.take() {
        if job.deadline > now && !job.reply.is_closed() {
            let batch = batches.entry(job.partition).or_default();
            let fits = batch.cost_bytes + job.cost_bytes <= BATCH_BYTES_MAX || batch.jobs.is_empty();
            if !fits || request_bytes + job.cost_bytes > REQUEST_BYTES_MAX.max(job.cost_bytes) {
                *next = Some(job);
                break;
            }
            request_bytes += job.cost_bytes;
            batch.cost_bytes += job.cost_bytes;
            batch.jobs.push(job);
        }
        candidate = queue.try_recv().ok();
    }
    batches.retain(|_, batch| !batch.jobs.is_empty());
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic_partition::Offset;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::sync::{Semaphore, oneshot};

    type Reply = oneshot::Receiver<Result<Offset, Arc<str>>>;

    fn new_job(partition: Partition, cost_bytes: usize) -> (ProduceJob, Reply) {
        let (reply, replied) = oneshot::channel();
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let job = ProduceJob {
            partition,
            timestamp_millis: 0,
            records: Vec::new(),
            cost_bytes,
            deadline: Instant::now() + Duration::from_secs(9),
            retries: 0,
            reply,
            _permit: permit,
        };
        (job, replied)
    }

    /// Partitions and bytes of each request that is made of these.
    fn requests(wanted: &[(i32, usize)]) -> Vec<Vec<(i32, usize)>> {
        let (sender, mut jobs) = mpsc::unbounded_channel();
        let mut replies = Vec::new();
        for (partition, bytes) in wanted {
            let (job, reply) = new_job(Partition::new(*partition), *bytes);
            assert!(sender.send(job).is_ok());
            replies.push(reply);
        }
        let mut requests = Vec::new();
        let mut next = None;
        while let Some(first) = next.take().or_else(|| jobs.try_recv().ok()) {
            let batches = drain(first, &mut jobs, &mut next);
            let bytes = batches.iter().map(|(at, batch)| (at.get(), batch.cost_bytes));
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
    fn jobs_that_nobody_waits_for_are_left_out() {
        let (sender, mut jobs) = mpsc::unbounded_channel();
        let (first, gone) = new_job(Partition::new(0), 1);
        drop(gone);
        let (mut late, _reply) = new_job(Partition::new(1), 1);
        late.deadline = Instant::now();
        let (kept, _reply) = new_job(Partition::new(2), 1);
        assert!(sender.send(late).is_ok() && sender.send(kept).is_ok());
        let batches = drain(first, &mut jobs, &mut None);
        assert_eq!(batches.keys().collect::<Vec<_>>(), [&Partition::new(2)]);
    }
}
