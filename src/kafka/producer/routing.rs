//! Routes: the sender to the leader of each partition.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc, watch};

use super::failing::FailingPartitions;
use super::job::ProduceJob;
use super::outcome::ProduceOutcome;

/// The queue of a `BrokerSender`. The sender ends when its last handle is dropped and its queue is empty.
#[derive(Clone)]
pub(super) struct SenderHandle {
    /// Of the broker.
    pub address: Arc<str>,
    pub jobs: mpsc::UnboundedSender<ProduceJob>,
}

/// The sender for each partition, by its number; until they are known, the reason.
pub(super) type Senders = Result<Arc<[SenderHandle]>, Arc<str>>;

/// What senders share with each other and with `MetadataRefresh`.
pub(super) struct Routes {
    senders: watch::Sender<Senders>,
    refresh: Notify,
    observe: Box<dyn Fn(&ProduceOutcome) + Send + Sync>,
    pub failing: FailingPartitions,
}

impl Routes {
    /// Without senders. `observe` gets the outcome of each produce request.
    pub fn new(observe: Box<dyn Fn(&ProduceOutcome) + Send + Sync>) -> Routes {
        Routes {
            senders: watch::Sender::new(Err("not connected to kafka yet".into())),
            refresh: Notify::new(),
            observe,
            failing: FailingPartitions::default(),
        }
    }

    /// The senders, now and after each change.
    pub fn subscribe(&self) -> watch::Receiver<Senders> {
        self.senders.subscribe()
    }

    pub fn senders(&self) -> Senders {
        self.senders.borrow().clone()
    }

    pub fn set_senders(&self, senders: Senders) {
        drop(self.senders.send_replace(senders));
    }

    /// Hands a job to the sender of its partition; returns it if there is none.
    pub fn dispatch(&self, job: ProduceJob) -> Result<(), ProduceJob> {
        let sender = match self.senders().ok().as_deref() {
            Some(senders) => senders.get(job.partition.index()).cloned(),
            None => None,
        };
        match sender {
            Some(sender) => sender.jobs.send(job).map_err(|refused| refused.0),
            None => Err(job),
        }
    }

    pub fn observe(&self, outcome: &ProduceOutcome) {
        (self.observe)(outcome);
    }

    /// Asks for the leaders to be looked up now.
    pub fn request_refresh(&self) {
        self.refresh.notify_one();
    }

    pub async fn refresh_requested(&self) {
        self.refresh.notified().await;
    }
}
