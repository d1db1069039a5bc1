//! An insert into a replicated table that is sent again, because another one is not on enough replicas yet.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::clickhouse::error::Error;

/// What a table answers while replicas have not got the insert before.
const UNSATISFIED_QUORUM: i32 = 286;

/// For another insert to be on its replicas, which takes some 30 ms; past it a replica is away or far behind,
/// or many others write.
const TURN_MAX: Duration = Duration::from_secs(5);

/// Between tries, less or more up to half of it by chance.
const TURN_WAIT: Duration = Duration::from_millis(30);

/// An insert's turn: a replicated table takes one at a time of all who write to it (`insert_quorum_parallel`), and refuses
/// others, of which it keeps nothing, until enough replicas have that one.
pub(crate) struct QuorumRetry(Instant);

impl QuorumRetry {
    /// Waits from now on.
    pub fn new() -> QuorumRetry {
        QuorumRetry(Instant::now())
    }

    /// Whether an insert that was answered so is to be sent again; then after a while.
    pub async fn wait_to_resend(&self, answer: &Result<(), Error>) -> bool {
        let comes = has_code(answer, UNSATISFIED_QUORUM) && self.0.elapsed() < TURN_MAX;
        if comes {
            sleep(TURN_WAIT.mul_f64(0.5 + fastrand::f64())).await;
        }
        comes
    }
}

pub(crate) fn has_code<T>(answer: &Result<T, Error>, with_code: i32) -> bool {
    matches!(answer, Err(Error::Server { code, .. }) if *code == with_code)
}
