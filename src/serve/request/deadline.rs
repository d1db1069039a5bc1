//! The deadline of a body: the timeout of its own, or the end of the process.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Makes the deadlines of bodies.
#[derive(Debug)]
pub struct Deadlines {
    timeout: Duration,
    shutdown: Arc<Shutdown>,
}

/// By when a body must have come.
#[derive(Debug)]
pub struct Deadline {
    at: Instant,
    shutdown: Arc<Shutdown>,
}

/// The end of the process, a deadline of all bodies.
#[derive(Debug)]
struct Shutdown {
    stop: CancellationToken,
    /// How long bodies may still take once `stop` is cancelled.
    grace: Duration,
    at: OnceLock<Instant>,
}

impl Deadlines {
    /// Each body has `timeout`, and once `stop` is cancelled at most `grace`.
    pub fn new(timeout: Duration, stop: CancellationToken, grace: Duration) -> Deadlines {
        Deadlines {
            timeout,
            shutdown: Arc::new(Shutdown {
                stop,
                grace,
                at: OnceLock::new(),
            }),
        }
    }

    /// The timeout of one body.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The deadline of a body that begins now.
    pub fn start(&self) -> Deadline {
        Deadline {
            at: Instant::now() + self.timeout,
            shutdown: Arc::clone(&self.shutdown),
        }
    }
}

impl Deadline {
    /// Waits until it has passed.
    pub async fn wait(&self) {
        tokio::select! {
            () = sleep_until(self.at) => {}
            () = self.shutdown.wait() => {}
        }
    }
}

impl Shutdown {
    async fn wait(&self) {
        self.stop.cancelled().await;
        sleep_until(*self.at.get_or_init(|| Instant::now() + self.grace)).await;
    }
}
