//! Readiness and liveness: checks that hold, that fail or failed only a moment ago, and loops that turn.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

/// How long a check that held must go on failing until it is not ready. A server that restarts, or one retry that
/// succeeds, is not worth taking a process out of service.
const FAILURE_LASTS: Duration = Duration::from_secs(3);

/// How long one of the process's own loops may go without setting its check. All that a loop waits for has a limit, the
/// longest two minutes for reading a dedup window; a loop that takes longer hangs or has ended.
const TURN_MAX: Duration = Duration::from_secs(300);

/// The checks that readiness consists of, and the loops that set them. Clones share them. As a collector it renders
/// whether each check holds.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    checks: BTreeMap<String, Check>,
    /// When each loop last set its check, to whatever state.
    turns: BTreeMap<String, Instant>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Check {
    Ok,
    /// It holds, and may not hold for long.
    Warned(String),
    /// It held, and has been failing since, but not for long.
    Failing {
        since: Instant,
        reason: String,
    },
    /// Not ready, and that was logged.
    Bad(String),
}

/// A change of a check that is worth a log line.
#[derive(Debug, PartialEq, Eq)]
enum Transition {
    Ready,
    Warned,
    WarningGone,
    NotReadyAnyMore,
    NotReadyYet,
}

impl Health {
    /// With these checks, none of which is ready before it is set.
    pub fn new(names: impl IntoIterator<Item = impl AsRef<str>>) -> Health {
        let health = Health::default();
        names.into_iter().for_each(|name| health.add_check(name.as_ref()));
        health
    }

    /// Adds a check that is not ready before it is set.
    pub fn add_check(&self, name: &str) {
        let mut state = self.0.lock();
        state.checks.insert(name.to_string(), Check::starting());
    }

    /// Adds a check that a loop sets at each turn: the process is alive only as long as the loop goes on doing so.
    pub fn add_loop(&self, name: &str) {
        self.add_check(name);
        let mut state = self.0.lock();
        state.turns.insert(name.to_string(), Instant::now());
    }

    /// Whether all loops turn, and a line for each that does not.
    pub(crate) fn liveness(&self) -> (bool, String) {
        self.liveness_at(Instant::now())
    }

    fn liveness_at(&self, now: Instant) -> (bool, String) {
        let state = self.0.lock();
        let mut text = String::new();
        for (name, last) in &state.turns {
            let silent = now.saturating_duration_since(*last);
            if silent > TURN_MAX {
                let _ = writeln!(text, "{name}: its loop hangs, for {} s", silent.as_secs());
            }
        }
        match text.is_empty() {
            true => (true, "ok\n".to_string()),
            false => (false, text),
        }
    }

    /// Sets a check, and logs it if that is a change.
    pub fn set(&self, name: &str, now: Result<(), String>) {
        self.change(name, |check| match now {
            Ok(()) => check.set_ok(),
            Err(reason) => check.set_bad(reason),
        });
    }

    /// Sets a check that holds, with a warning.
    pub fn set_warning(&self, name: &str, reason: String) {
        self.change(name, |check| check.set_warned(reason));
    }

    /// Records that something failed and will be tried again. A check that held becomes not ready when this goes on for
    /// [`FAILURE_LASTS`].
    pub fn record_failure(&self, name: &str, reason: String) {
        let now = Instant::now();
        self.change(name, |check| check.record_failure(reason, now));
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Check) -> Option<Transition>) {
        let mut state = self.0.lock();
        if let Some(turn) = state.turns.get_mut(name) {
            *turn = Instant::now();
        }
        let check = state.checks.entry(name.to_string()).or_insert_with(Check::starting);
        let transition = change(check);
        log_transition(name, check, transition);
    }

    /// Whether all checks hold, and a line for each with its reason.
    pub(crate) fn readiness(&self) -> (bool, String) {
        let mut state = self.0.lock();
        let checks = &mut state.checks;
        let now = Instant::now();
        let mut text = String::new();
        for (name, check) in checks.iter_mut() {
            let transition = check.expire(now);
            log_transition(name, check, transition);
            let _ = match check {
                Check::Ok => writeln!(text, "{name}: ok"),
                Check::Warned(reason) => writeln!(text, "{name}: ok; warning: {reason}"),
                Check::Failing { reason, .. } => {
                    writeln!(text, "{name}: ok; tried again after: {reason}")
                }
                Check::Bad(reason) => writeln!(text, "{name}: {reason}"),
            };
        }
        (checks.values().all(Check::is_ready), text)
    }
}

impl Collector for Health {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let mut state = self.0.lock();
        let now = Instant::now();
        let help = "1 if a check of /readyz holds, else 0.";
        let mut metric = encoder.encode_descriptor("ready", help, None, MetricType::Gauge)?;
        for (name, check) in &mut state.checks {
            let transition = check.expire(now);
            log_transition(name, check, transition);
            let label = [("check", name.as_str())];
            let value = ConstGauge::new(i64::from(check.is_ready()));
            value.encode(metric.encode_family(&label)?)?;
        }
        Ok(())
    }
}

fn log_transition(name: &str, check: &Check, transition: Option<Transition>) {
    let reason = check.reason();
    match transition {
        None => {}
        Some(Transition::Ready) => tracing::info!(check = name, "ready"),
        Some(Transition::Warned) => tracing::warn!(check = name, %reason, "ready, with a warning"),
        Some(Transition::WarningGone) => tracing::info!(check = name, "ready, without a warning"),
        Some(Transition::NotReadyAnyMore) => tracing::warn!(check = name, %reason, "not ready any more"),
        Some(Transition::NotReadyYet) => tracing::warn!(check = name, %reason, "not ready yet"),
    }
}

impl Check {
    fn starting() -> Check {
        Check::Bad("starting".to_string())
    }

    fn is_ready(&self) -> bool {
        !matches!(self, Check::Bad(_))
    }

    fn reason(&self) -> &str {
        match self {
            Check::Ok => "",
            Check::Warned(reason) | Check::Failing { reason, .. } | Check::Bad(reason) => reason,
        }
    }

    fn set_ok(&mut self) -> Option<Transition> {
        match std::mem::replace(self, Check::Ok) {
            Check::Bad(_) => Some(Transition::Ready),
            Check::Warned(_) => Some(Transition::WarningGone),
            Check::Ok | Check::Failing { .. } => None,
        }
    }

    fn set_warned(&mut self, reason: String) -> Option<Transition> {
        let is_known = matches!(self, Check::Warned(before) if is_same(before, &reason));
        *self = Check::Warned(reason);
        (!is_known).then_some(Transition::Warned)
    }

    fn set_bad(&mut self, reason: String) -> Option<Transition> {
        let transition = match self {
            Check::Bad(before) if is_same(before, &reason) => None,
            Check::Bad(_) => Some(Transition::NotReadyYet),
            Check::Ok | Check::Warned(_) | Check::Failing { .. } => Some(Transition::NotReadyAnyMore),
        };
        *self = Check::Bad(reason);
        transition
    }

    fn record_failure(&mut self, reason: String, now: Instant) -> Option<Transition> {
        let since = match self {
            Check::Ok | Check::Warned(_) => now,
            Check::Failing { since, .. } => *since,
            Check::Bad(_) => return self.set_bad(reason),
        };
        *self = Check::Failing { since, reason };
        self.expire(now)
    }

    /// Makes a failure that lasts not ready, although nothing was tried meanwhile.
    fn expire(&mut self, now: Instant) -> Option<Transition> {
        match self {
            Check::Failing { since, reason } if now.duration_since(*since) >= FAILURE_LASTS => {
                let reason = std::mem::take(reason);
                self.set_bad(reason)
            }
            _ => None,
        }
    }
}

/// Whether two reasons differ at most in numbers: sizes and counts change from one try to the next.
fn is_same(one: &str, other: &str) -> bool {
    without_digits(one).eq(without_digits(other))
}

fn without_digits(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|c| !c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn readiness_is_all_checks_with_their_reasons() {
        let health = Health::new(["kafka", "schema"]);
        let unready = "kafka: starting\nschema: starting\n";
        assert_eq!(health.readiness(), (false, unready.to_string()));
        health.set("kafka", Ok(()));
        health.set("schema", Err("no table".to_string()));
        let half = "kafka: ok\nschema: no table\n";
        assert_eq!(health.readiness(), (false, half.to_string()));
        health.set("schema", Ok(()));
        assert_eq!(health.readiness(), (true, "kafka: ok\nschema: ok\n".to_string()));
        health.record_failure("kafka", "cut".to_string());
        health.set_warning("schema", "it is old".to_string());
        let blip = "kafka: ok; tried again after: cut\nschema: ok; warning: it is old\n";
        assert_eq!(health.readiness(), (true, blip.to_string()));
    }

    #[test]
    fn each_check_is_a_metric() {
        let health = Health::new(["kafka", "partition 3"]);
        health.set("kafka", Ok(()));
        let mut registry = Registry::with_prefix("captcha");
        registry.register_collector(Box::new(health));
        let mut page = String::new();
        encode(&mut page, &registry).unwrap();
        let samples: Vec<_> = page.lines().filter(|line| !line.starts_with('#')).collect();
        let wanted = [
            "captcha_ready{check=\"kafka\"} 1",
            "captcha_ready{check=\"partition 3\"} 0",
        ];
        assert_eq!(samples, wanted);
    }

    #[test]
    fn a_process_lives_as_long_as_its_loops_turn() {
        let health = Health::new(["schema"]);
        health.add_loop("partition 1");
        health.record_failure("partition 1", "cut".to_string());
        let start = Instant::now();
        let late = start + TURN_MAX + Duration::from_secs(1);
        assert_eq!(health.liveness_at(start), (true, "ok\n".to_string()));
        let (lives, text) = health.liveness_at(late);
        assert!(
            !lives && text.starts_with("partition 1: its loop hangs, for 30"),
            "{text}"
        );
        assert!(health.liveness_at(start + TURN_MAX / 2).0);
    }

    #[test]
    fn a_failure_counts_when_it_lasts_and_is_logged_once() {
        let start = Instant::now();
        let mut check = Check::Ok;
        for millis in [0, 200, 2_999] {
            let now = start + Duration::from_millis(millis);
            assert_eq!(check.record_failure("0 of 5 MiB".to_string(), now), None);
            assert_eq!((check.expire(now), check.is_ready()), (None, true));
        }
        // Although nothing was tried meanwhile.
        let mut now = start + FAILURE_LASTS;
        assert_eq!(check.expire(now), Some(Transition::NotReadyAnyMore));
        for (reason, transition) in [
            ("1 of 5 MiB", None),
            ("no table", Some(Transition::NotReadyYet)),
            ("no table", None),
        ] {
            now += FAILURE_LASTS;
            assert_eq!(check.record_failure(reason.to_string(), now), transition);
            assert_eq!(check.expire(now), None);
            assert_eq!((check.is_ready(), check.reason()), (false, reason));
        }
        assert_eq!(check.set_ok(), Some(Transition::Ready));
        assert_eq!(check.set_ok(), None);
    }

    #[test]
    fn a_blip_is_not_logged_and_starts_again() {
        let mut check = Check::Ok;
        let mut now = Instant::now();
        for _ in 0..5 {
            assert_eq!(check.record_failure("cut".to_string(), now), None);
            now += FAILURE_LASTS - Duration::from_millis(1);
            assert_eq!(check.set_ok(), None);
            assert!(check.is_ready());
        }
    }

    #[test]
    fn a_warning_is_ready_and_logged_once() {
        let health = Health::new(["clock"]);
        health.set_warning("clock", "2 s ahead".to_string());
        let warned = (true, "clock: ok; warning: 2 s ahead\n".to_string());
        assert_eq!(health.readiness(), warned);
        let mut check = Check::Ok;
        assert_eq!(check.set_warned("2 s ahead".to_string()), Some(Transition::Warned));
        assert_eq!(check.set_warned("3 s ahead".to_string()), None);
        assert_eq!(check.set_ok(), Some(Transition::WarningGone));
        assert_eq!(check.set_ok(), None);
        let now = Instant::now();
        check.set_warned("3 s ahead".to_string());
        assert_eq!(check.record_failure("refused".to_string(), now), None);
        assert_eq!(check.expire(now + FAILURE_LASTS), Some(Transition::NotReadyAnyMore));
        assert_eq!(check.set_warned("3 s ahead".to_string()), Some(Transition::Warned));
    }

    #[test]
    fn what_never_held_is_not_ready_at_once() {
        let mut check = Check::starting();
        let now = Instant::now();
        assert_eq!(
            check.record_failure("no table".to_string(), now),
            Some(Transition::NotReadyYet)
        );
        assert_eq!((check.is_ready(), check.reason()), (false, "no table"));
        assert_eq!(check.record_failure("no table".to_string(), now), None);
        assert_eq!(check.set_ok(), Some(Transition::Ready));
    }
}
