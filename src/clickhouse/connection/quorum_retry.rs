//! Sends an insert into a replicated table again, while another one is not on enough replicas yet.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::clickhouse::error::Error;

/// The code of a table whose replicas do not have the insert before.
const UNSATISFIED_QUORUM: i32 = 286;

/// For another insert to be on its replicas, which takes some 30 ms; past it a replica is away or far behind,
/// or many others write.
pub(crate) const RESEND_MAX: Duration = Duration::from_secs(5);

/// Between tries, less or more up to half of it by chance.
const RESEND_WAIT: Duration = Duration::from_millis(30);

/// A replicated table takes one insert at a time of all that write to it (`insert_quorum_parallel`). It refuses the
/// others, and keeps nothing of them, until enough replicas have that one.
pub(crate) struct QuorumRetry(Instant);

impl QuorumRetry {
    /// Resends from now on, for [`RESEND_MAX`].
    pub fn new() -> QuorumRetry {
        QuorumRetry(Instant::now())
    }

    /// Whether to send again an insert that was answered like this. Waits before it says so.
    pub async fn wait_to_resend(&self, answer: &Result<(), Error>) -> bool {
        let is_refused = has_code(answer, UNSATISFIED_QUORUM) && self.0.elapsed() < RESEND_MAX;
        if is_refused {
            sleep(RESEND_WAIT.mul_f64(0.5 + fastrand::f64())).await;
        }
        is_refused
    }
}

pub(crate) fn has_code<T>(answer: &Result<T, Error>, with_code: i32) -> bool {
    matches!(answer, Err(Error::Server { code, .. }) if *code == with_code)
}
