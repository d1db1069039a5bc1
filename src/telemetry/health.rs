//! What readiness and liveness consist of: checks that hold, that fail or failed only a moment ago, and loops that turn.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

/// How long something that is tried again must go on failing until that is said. A server that restarts, or
/// one retry that succeeds, is not worth taking a process out of service.
const LASTING: Duration = Duration::from_secs(3);

/// How long one of the process's own loops may go without saying anything of its check. All that a loop waits for has
/// a limit, the longest two minutes for reading a repeat window; a loop that takes longer hangs or has ended.
const TURN: Duration = Duration::from_secs(300);

/// The checks that readiness consists of, and the loops that set them. Clones share them. As a collector it renders, for
/// each check, whether it holds.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    checks: BTreeMap<String, Check>,
    /// When a loop last said something of its check, whatever it was.
    turns: BTreeMap<String, Instant>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Check {
    Ok,
    /// It holds, and may not hold for long.
    Warned(String),
    /// It held, and has been failing since; that is not long yet.
    Failing {
        since: Instant,
        reason: String,
    },
    /// Not ready, and that was said.
    Bad(String),
}

/// What is worth a log line.
#[derive(Debug, PartialEq, Eq)]
enum News {
    Ready,
    Warned,
    NoWarning,
    NotAnyMore,
    NotYet,
}

impl Health {
    /// Not ready until every one of these checks has been set.
    pub fn awaiting(names: impl IntoIterator<Item = impl AsRef<str>>) -> Health {
        let health = Health::default();
        names.into_iter().for_each(|name| health.expect(name.as_ref()));
        health
    }

    /// Adds a check that is still to be set.
    pub fn expect(&self, name: &str) {
        let mut state = self.0.lock();
        state.checks.insert(name.to_string(), Check::starting());
    }

    /// Adds a check that a loop sets at each turn: the process lives only as long as it goes on doing so.
    pub fn expect_turns(&self, name: &str) {
        self.expect(name);
        let mut state = self.0.lock();
        state.turns.insert(name.to_string(), Instant::now());
    }

    /// Whether all loops turn, and which do not.
    pub(crate) fn liveness(&self) -> (bool, String) {
        self.liveness_at(Instant::now())
    }

    fn liveness_at(&self, now: Instant) -> (bool, String) {
        let state = self.0.lock();
        let mut text = String::new();
        for (name, last) in &state.turns {
            let silent = now.saturating_duration_since(*last);
            if silent > TURN {
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
            Ok(()) => check.holds(),
            Err(reason) => check.is_bad(reason),
        });
    }

    /// Sets a check that holds, with something to be said of it.
    pub fn warn(&self, name: &str, reason: String) {
        self.change(name, |check| check.warned(reason));
    }

    /// Says that what a check stands for failed and will be tried again. A check that held is not
    /// ready only when this goes on for [`LASTING`].
    pub fn failed(&self, name: &str, reason: String) {
        let now = Instant::now();
        self.change(name, |check| check.failed(reason, now));
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Check) -> Option<News>) {
        let mut state = self.0.lock();
        if let Some(turn) = state.turns.get_mut(name) {
            *turn = Instant::now();
        }
        let check = state.checks.entry(name.to_string()).or_insert_with(Check::starting);
        let news = change(check);
        tell(name, check, news);
    }

    /// Whether all checks hold, and each with its reason, a line each.
    pub(crate) fn readiness(&self) -> (bool, String) {
        let mut state = self.0.lock();
        let checks = &mut state.checks;
        let now = Instant::now();
        let mut text = String::new();
        for (name, check) in checks.iter_mut() {
            let news = check.looked_at(now);
            tell(name, check, news);
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
            let news = check.looked_at(now);
            tell(name, check, news);
            let label = [("check", name.as_str())];
            let level = ConstGauge::new(i64::from(check.is_ready()));
            level.encode(metric.encode_family(&label)?)?;
        }
        Ok(())
    }
}

fn tell(name: &str, check: &Check, news: Option<News>) {
    let reason = check.reason();
    match news {
        None => {}
        Some(News::Ready) => tracing::info!(check = name, "ready"),
        Some(News::Warned) => tracing::warn!(check = name, %reason, "ready, with a warning"),
        Some(News::NoWarning) => tracing::info!(check = name, "ready, without a warning"),
        Some(News::NotAnyMore) => tracing::warn!(check = name, %reason, "not ready any more"),
        Some(News::NotYet) => tracing::warn!(check = name, %reason, "not ready yet"),
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

    fn holds(&mut self) -> Option<News> {
        match std::mem::replace(self, Check::Ok) {
            Check::Bad(_) => Some(News::Ready),
            Check::Warned(_) => Some(News::NoWarning),
            Check::Ok | Check::Failing { .. } => None,
        }
    }

    fn warned(&mut self, reason: String) -> Option<News> {
        let is_known = matches!(self, Check::Warned(before) if is_same(before, &reason));
        *self = Check::Warned(reason);
        (!is_known).then_some(News::Warned)
    }

    fn is_bad(&mut self, reason: String) -> Option<News> {
        let news = match self {
            Check::Bad(before) if is_same(before, &reason) => None,
            Check::Bad(_) => Some(News::NotYet),
            Check::Ok | Check::Warned(_) | Check::Failing { .. } => Some(News::NotAnyMore),
        };
        *self = Check::Bad(reason);
        news
    }

    fn failed(&mut self, reason: String, now: Instant) -> Option<News> {
        let since = match self {
            Check::Ok | Check::Warned(_) => now,
            Check::Failing { since, .. } => *since,
            Check::Bad(_) => return self.is_bad(reason),
        };
        *self = Check::Failing { since, reason };
        self.looked_at(now)
    }

    /// Time alone makes a failure last: nothing may be tried for a while.
    fn looked_at(&mut self, now: Instant) -> Option<News> {
        match self {
            Check::Failing { since, reason } if now.duration_since(*since) >= LASTING => {
                let reason = std::mem::take(reason);
                self.is_bad(reason)
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
        let health = Health::awaiting(["kafka", "schema"]);
        let unready = "kafka: starting\nschema: starting\n";
        assert_eq!(health.readiness(), (false, unready.to_string()));
        health.set("kafka", Ok(()));
        health.set("schema", Err("no table".to_string()));
        let half = "kafka: ok\nschema: no table\n";
        assert_eq!(health.readiness(), (false, half.to_string()));
        health.set("schema", Ok(()));
        assert_eq!(health.readiness(), (true, "kafka: ok\nschema: ok\n".to_string()));
        health.failed("kafka", "cut".to_string());
        health.warn("schema", "it is old".to_string());
        let blip = "kafka: ok; tried again after: cut\nschema: ok; warning: it is old\n";
        assert_eq!(health.readiness(), (true, blip.to_string()));
    }

    #[test]
    fn each_check_is_a_metric() {
        let health = Health::awaiting(["kafka", "partition 3"]);
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
        let health = Health::awaiting(["schema"]);
        health.expect_turns("partition 1");
        health.failed("partition 1", "cut".to_string());
        let began = Instant::now();
        let late = began + TURN + Duration::from_secs(1);
        assert_eq!(health.liveness_at(began), (true, "ok\n".to_string()));
        let (lives, text) = health.liveness_at(late);
        assert!(
            !lives && text.starts_with("partition 1: its loop hangs, for 30"),
            "{text}"
        );
        assert!(health.liveness_at(began + TURN / 2).0);
    }

    #[test]
    fn a_failure_counts_when_it_lasts_and_is_told_once() {
        let began = Instant::now();
        let mut check = Check::Ok;
        for millis in [0, 200, 2_999] {
            let now = began + Duration::from_millis(millis);
            assert_eq!(check.failed("0 of 5 MiB".to_string(), now), None);
            assert_eq!((check.looked_at(now), check.is_ready()), (None, true));
        }
        // Although nothing was tried meanwhile.
        let mut now = began + LASTING;
        assert_eq!(check.looked_at(now), Some(News::NotAnyMore));
        for (reason, news) in [
            ("1 of 5 MiB", None),
            ("no table", Some(News::NotYet)),
            ("no table", None),
        ] {
            now += LASTING;
            assert_eq!(check.failed(reason.to_string(), now), news);
            assert_eq!(check.looked_at(now), None);
            assert_eq!((check.is_ready(), check.reason()), (false, reason));
        }
        assert_eq!(check.holds(), Some(News::Ready));
        assert_eq!(check.holds(), None);
    }

    #[test]
    fn a_blip_is_not_told_and_begins_anew() {
        let mut check = Check::Ok;
        let mut now = Instant::now();
        for _ in 0..5 {
            assert_eq!(check.failed("cut".to_string(), now), None);
            now += LASTING - Duration::from_millis(1);
            assert_eq!(check.holds(), None);
            assert!(check.is_ready());
        }
    }

    #[test]
    fn a_warning_is_ready_and_told_once() {
        let health = Health::awaiting(["clock"]);
        health.warn("clock", "2 s ahead".to_string());
        let warned = (true, "clock: ok; warning: 2 s ahead\n".to_string());
        assert_eq!(health.readiness(), warned);
        let mut check = Check::Ok;
        assert_eq!(check.warned("2 s ahead".to_string()), Some(News::Warned));
        assert_eq!(check.warned("3 s ahead".to_string()), None);
        assert_eq!(check.holds(), Some(News::NoWarning));
        assert_eq!(check.holds(), None);
        let now = Instant::now();
        check.warned("3 s ahead".to_string());
        assert_eq!(check.failed("refused".to_string(), now), None);
        assert_eq!(check.looked_at(now + LASTING), Some(News::NotAnyMore));
        assert_eq!(check.warned("3 s ahead".to_string()), Some(News::Warned));
    }

    #[test]
    fn what_never_held_is_not_ready_at_once() {
        let mut check = Check::starting();
        let now = Instant::now();
        assert_eq!(check.failed("no table".to_string(), now), Some(News::NotYet));
        assert_eq!((check.is_ready(), check.reason()), (false, "no table"));
        assert_eq!(check.failed("no table".to_string(), now), None);
        assert_eq!(check.holds(), Some(News::Ready));
    }
}
