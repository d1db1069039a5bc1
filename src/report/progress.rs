//! Progress of a question that takes long.

use std::time::Duration;

use tokio::time::{Instant, interval_at};

use crate::terminal::{clear_status, show_status};

/// Most questions are answered in less; then nothing is shown, and from then on each second.
const SHOWN_AFTER: Duration = Duration::from_secs(1);

/// Shows on the terminal of stderr how long the work takes, until it is done or dropped.
pub async fn with_progress<T>(what: &str, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    let mut line = StatusLine { is_shown: false };
    let began = Instant::now();
    let mut ticks = interval_at(began + SHOWN_AFTER, SHOWN_AFTER);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            _ = ticks.tick() => line.show(&format!("{what}, {} s ...", began.elapsed().as_secs())),
        }
    }
}

/// Removes what is shown when it goes.
struct StatusLine {
    is_shown: bool,
}

impl StatusLine {
    fn show(&mut self, text: &str) {
        self.is_shown = true;
        show_status(text);
    }
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        if self.is_shown {
            clear_status();
        }
    }
}
