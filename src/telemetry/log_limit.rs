//! The same warning again and again: the first of each minute are written, the others are counted.

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

/// Warnings or errors of one kind that are written in a minute: those of a few partitions that lose their broker at once.
const LINES_MAX: u32 = 20;

/// After which a line says how many were left out, and as many may be written again.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

static KINDS: LazyLock<Mutex<Kinds>> = LazyLock::new(Mutex::default);

static LEFT_OUT: LazyLock<Counter> = LazyLock::new(Counter::default);

/// Lines of this minute, by the place in the code that they come from.
type Kinds = HashMap<Identifier, Kind>;

#[derive(Debug)]
struct Kind {
    message: String,
    written: u32,
    left_out: u64,
}

/// Lets no more warnings and errors through than a person reads.
pub struct Floods;

impl<S: Subscriber> Layer<S> for Floods {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        *event.metadata().level() > Level::WARN || admit(event)
    }
}

fn admit(event: &Event<'_>) -> bool {
    // Before the lock: what is logged may log.
    let mut message = Message::default();
    event.record(&mut message);
    let mut kinds = KINDS.lock();
    let kind = kinds.entry(event.metadata().callsite());
    let kind = kind.or_insert_with(|| Kind {
        message: message.0,
        written: 0,
        left_out: 0,
    });
    let is_room = kind.written < LINES_MAX;
    match is_room {
        true => kind.written += 1,
        false => {
            kind.left_out += 1;
            LEFT_OUT.inc();
        }
    }
    is_room
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

/// Once a minute says how many lines were left out, of each kind. Does not end.
pub async fn log_each_minute() {
    loop {
        tokio::time::sleep(LOG_INTERVAL).await;
        log_left_out();
    }
}

/// Says how many lines were left out so far, of each kind.
pub fn log_left_out() {
    let kinds = std::mem::take(&mut *KINDS.lock());
    for kind in kinds.into_values().filter(|kind| kind.left_out > 0) {
        tracing::warn!(
            count = kind.left_out,
            like = kind.message,
            "lines were left out of the log"
        );
    }
}

/// Renders how many lines were left out.
pub fn register(registry: &mut Registry) {
    registry.register(
        "captcha_log_lines_suppressed",
        "Warnings and errors that were counted and not logged, because there were many like them",
        LEFT_OUT.clone(),
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
            let mut said = String::new();
            event.record(&mut |field: &Field, value: &dyn fmt::Debug| {
                said += &format!("{}={value:?} ", field.name());
            });
            self.0.lock().push(said);
        }
    }

    #[test]
    fn a_flood_is_counted_and_has_one_line_more() {
        let passed = Passed::default();
        let subscriber = tracing_subscriber::registry().with(Floods).with(passed.clone());
        let flood = || {
            for number in 0..1_000 {
                tracing::warn!(number, "again");
                tracing::info!(number, "of requests");
            }
        };
        tracing::subscriber::with_default(subscriber, || {
            flood();
            log_left_out();
            flood();
        });
        let passed = passed.0.lock();
        let count = |text: &str| passed.iter().filter(|said| said.contains(text)).count();
        assert_eq!(count("of requests"), 2_000);
        assert_eq!(count("message=again"), 2 * LINES_MAX as usize);
        assert_eq!(count("left out of the log"), 1);
        assert_eq!(count("count=980 like=\"again\""), 1, "{passed:?}");
    }
}
