//! The clock of this process, which dates events unless Kafka does: its difference from ClickHouse's, and whether Kafka
//! accepts its dates.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures_util::future::join;
use humantime::format_duration;
use parking_lot::{Mutex, MutexGuard};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::clickhouse::Cluster;
use crate::http::admin_port::Health;
use crate::kafka::{ProduceOutcome, TimestampType};

/// The name of its check in `/readyz`.
pub const CHECK: &str = "clock";

/// Between two comparisons with ClickHouse's clock, each of them a connection and a small query.
const COMPARE_INTERVAL: Duration = Duration::from_secs(15);

/// Between two updates of the check.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The largest difference of the two clocks without a warning, in milliseconds. Clocks that are set over the network
/// differ by some milliseconds; Kafka refuses dates that are an hour ahead.
const AHEAD_MILLIS_MAX: u64 = 60_000;

/// How long this process is unready once Kafka has refused its dates. A process that is not ready gets no requests, so
/// only time makes it try again.
const REFUSED_FOR: Duration = Duration::from_secs(30);

const ADVICE: &str = "set the clock that is wrong, or let kafka date events: `captcha migrate` says how";

/// The clock of this process. Clones share its state.
#[derive(Clone)]
pub struct Clock {
    ahead: Gauge<f64, AtomicU64>,
    refused: Counter,
    state: Arc<Mutex<State>>,
}

/// The state of the clock.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// How far it is ahead of ClickHouse's.
    ahead_millis: Option<i64>,
    /// Whether Kafka or this process dates events, from Kafka's responses.
    timestamp_type: Option<TimestampType>,
    /// When Kafka refused dates last, unless it has confirmed events since.
    refused: Option<Instant>,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Fits,
    Warning(String),
    Refused(String),
}

impl Clock {
    /// A clock of unknown state, whose metrics are rendered with a registry.
    pub fn register(registry: &mut Registry) -> Clock {
        let clock = Clock {
            ahead: Gauge::default(),
            refused: Counter::default(),
            state: Arc::default(),
        };
        clock.ahead.set(f64::NAN);
        registry.register_with_unit(
            "clock_ahead",
            "How far this process's clock is ahead of ClickHouse's; NaN until ClickHouse has answered",
            Unit::Seconds,
            clock.ahead.clone(),
        );
        registry.register(
            "timestamps_rejected",
            "Events that Kafka refused for their timestamp, which is this process's clock",
            clock.refused.clone(),
        );
        clock
    }

    /// Records what the response to a Produce request says about dates.
    pub fn record(&self, outcome: &ProduceOutcome) {
        let mut state = self.state();
        if outcome.timestamps_refused > 0 {
            self.refused.inc_by(outcome.timestamps_refused as u64);
            state.refused = Some(Instant::now());
            state.timestamp_type = Some(TimestampType::CreateTime);
        }
        // One broker of several may have a wrong clock: what the others confirm is worth being ready for.
        if let Some(timestamp_type) = outcome.timestamp_type {
            state.refused = None;
            state.timestamp_type = Some(timestamp_type);
        }
    }

    /// Compares the clocks and updates the check until the process stops. While ClickHouse is away nothing is compared,
    /// and nothing else changes.
    pub async fn watch(self, cluster: Cluster, health: Health, stop: CancellationToken) {
        let compare = async {
            loop {
                if let Ok(ahead_millis) = cluster.clock_ahead_millis().await {
                    self.ahead.set(ahead_millis as f64 / 1e3);
                    self.state().ahead_millis = Some(ahead_millis);
                }
                sleep(COMPARE_INTERVAL).await;
            }
        };
        let check = async {
            loop {
                let state = *self.state();
                match state.verdict(Instant::now()) {
                    Verdict::Fits => health.set(CHECK, Ok(())),
                    Verdict::Warning(reason) => health.set_warning(CHECK, reason),
                    Verdict::Refused(reason) => health.record_failure(CHECK, reason),
                }
                sleep(CHECK_INTERVAL).await;
            }
        };
        stop.run_until_cancelled(join(compare, check)).await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of it is whole.
        self.state.lock()
    }
}

impl State {
    fn verdict(&self, now: Instant) -> Verdict {
        let difference = self.difference();
        if self.refused.is_some_and(|at| now - at < REFUSED_FOR) {
            let difference = difference.unwrap_or_else(|| match self.ahead_millis {
                Some(_) => "this clock agrees with clickhouse's".to_string(),
                None => "clickhouse's clock is not known".to_string(),
            });
            return Verdict::Refused(format!(
                "kafka refuses the dates of events, error 32 (InvalidTimestamp): {difference}; {ADVICE}"
            ));
        }
        let is_kafkas = self.timestamp_type == Some(TimestampType::LogAppendTime);
        match difference.filter(|_| !is_kafkas) {
            None => Verdict::Fits,
            Some(difference) => Verdict::Warning(format!(
                "{difference}, so kafka may refuse what it dates, or drop it early; {ADVICE}"
            )),
        }
    }

    /// The difference of the clocks, if it is worth a warning.
    fn difference(&self) -> Option<String> {
        let ahead_millis = self.ahead_millis?;
        let apart_millis = ahead_millis.unsigned_abs();
        let side = if ahead_millis > 0 { "ahead of" } else { "behind" };
        (apart_millis > AHEAD_MILLIS_MAX).then(|| {
            let apart = format_duration(Duration::from_secs(apart_millis / 1_000));
            format!("this clock is {apart} {side} clickhouse's")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> Clock {
        Clock::register(&mut Registry::default())
    }

    fn outcome(timestamps_refused: usize, timestamp_type: Option<TimestampType>) -> ProduceOutcome {
        ProduceOutcome {
            elapsed: Duration::ZERO,
            is_confirmed: timestamps_refused == 0,
            timestamps_refused,
            timestamp_type,
        }
    }

    #[test]
    fn a_difference_is_a_warning_unless_kafka_dates() {
        let own = Some(TimestampType::CreateTime);
        let kafkas = Some(TimestampType::LogAppendTime);
        for (ahead_millis, timestamp_type, warned) in [
            (None, own, None),
            (Some(60_000), own, None),
            (Some(-61_000), own, Some("this clock is 1m 1s behind clickhouse's, so")),
            (
                Some(7_200_000),
                None,
                Some("this clock is 2h ahead of clickhouse's, so"),
            ),
            (Some(7_200_000), kafkas, None),
            (Some(i64::MIN), kafkas, None),
        ] {
            let state = State {
                ahead_millis,
                timestamp_type,
                refused: None,
            };
            match (state.verdict(Instant::now()), warned) {
                (Verdict::Fits, None) => {}
                (Verdict::Warning(text), Some(start)) => assert!(text.starts_with(start), "{text}"),
                (verdict, _) => panic!("{state:?}: {verdict:?}"),
            }
        }
    }

    #[test]
    fn refused_dates_count_until_others_are_taken_or_for_a_while() {
        let clock = clock();
        let is_refused = |after| {
            let verdict = clock.state().verdict(Instant::now() + after);
            matches!(verdict, Verdict::Refused(_))
        };
        clock.record(&outcome(3, None));
        assert!(is_refused(Duration::ZERO) && !is_refused(REFUSED_FOR));
        clock.record(&outcome(0, None));
        assert!(is_refused(Duration::ZERO), "nothing was answered");
        clock.record(&outcome(0, Some(TimestampType::CreateTime)));
        assert!(!is_refused(Duration::ZERO));
        clock.record(&outcome(2, Some(TimestampType::CreateTime)));
        assert!(!is_refused(Duration::ZERO), "some were taken");
        assert_eq!(clock.refused.get(), 5);
    }
}
