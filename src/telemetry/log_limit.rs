//! The same warning again and again: the first lines of each minute are written, the others are counted.

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Warnings or errors of one callsite that are written in a minute: those of a few partitions that lose their broker at
/// once.
const LINES_MAX: u32 = 20;

/// After this time a line has how many were suppressed, and as many may be written again.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

static CALLSITES: LazyLock<Mutex<Callsites>> = LazyLock::new(Mutex::default);

static SUPPRESSED: LazyLock<Counter> = LazyLock::new(Counter::default);

/// Lines of this minute, by the place in the code that they come from.
type Callsites = HashMap<Identifier, Callsite>;

#[derive(Debug)]
struct Callsite {
    message: String,
    written: u32,
    suppressed: u64,
}

/// Lets through no more warnings and errors than a person reads.
pub struct LogLimit;

impl<S: Subscriber> Layer<S> for LogLimit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        *event.metadata().level() > Level::WARN || admit(event)
    }
}

fn admit(event: &Event<'_>) -> bool {
    // Before the lock: a value that is logged may log.
    let mut message = Message::default();
    event.record(&mut message);
    let mut callsites = CALLSITES.lock();
    let callsite = callsites.entry(event.metadata().callsite());
    let callsite = callsite.or_insert_with(|| Callsite {
        message: message.0,
        written: 0,
        suppressed: 0,
    });
    let is_written = callsite.written < LINES_MAX;
    match is_written {
        true => callsite.written += 1,
        false => {
            callsite.suppressed += 1;
            SUPPRESSED.inc();
        }
    }
    is_written
}

/// The message of an event.
#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

/// Logs once a minute how many lines were suppressed, of each callsite. Does not end.
pub async fn log_suppressed_each_minute() {
    loop {
        tokio::time::sleep(LOG_INTERVAL).await;
        log_suppressed();
    }
}

/// Logs how many lines were suppressed so far, of each callsite.
pub fn log_suppressed() {
    let callsites = std::mem::take(&mut *CALLSITES.lock());
    for callsite in callsites.into_values().filter(|callsite| callsite.suppressed > 0) {
        tracing::warn!(
            count = callsite.suppressed,
            like = callsite.message,
            "lines were left out of the log"
        );
    }
}

/// Adds the count of suppressed lines to a registry.
pub fn register(registry: &mut Registry) {
    registry.register(
        "captcha_log_lines_suppressed",
        "Warnings and errors that were counted and not logged, because there were many like them",
        SUPPRESSED.clone(),
    );
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use tracing_subscriber::layer::SubscriberExt as _;

    /// Keeps the messages that pass, and the counts that they have.
    #[derive(Clone, Default)]
    struct Passed(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Passed {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut text = String::new();
            event.record(&mut |field: &Field, value: &dyn fmt::Debug| {
                text += &format!("{}={value:?} ", field.name());
            });
            self.0.lock().push(text);
        }
    }

    #[test]
    fn a_flood_is_counted_and_has_one_line_more() {
        let passed = Passed::default();
        let subscriber = tracing_subscriber::registry().with(LogLimit).with(passed.clone());
        let flood = || {
            for number in 0..1_000 {
                tracing::warn!(number, "again");
                tracing::info!(number, "of requests");
            }
        };
        tracing::subscriber::with_default(subscriber, || {
            flood();
            log_suppressed();
            flood();
        });
        let passed = passed.0.lock();
        let count = |text: &str| passed.iter().filter(|line| line.contains(text)).count();
        assert_eq!(count("of requests"), 2_000);
        assert_eq!(count("message=again"), 2 * LINES_MAX as usize);
        assert_eq!(count("left out of the log"), 1);
        assert_eq!(count("count=980 like=\"again\""), 1, "{passed:?}");
    }
}
