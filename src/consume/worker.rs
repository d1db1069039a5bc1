//! One partition from Kafka into ClickHouse: fetch, make a batch, insert it, read the head, and again.
//!
//! Whatever fails, the worker drops both connections, waits, and starts again at the head that the table has. It keeps
//! nothing that the table does not know but the generation of a burnt token.

use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use chrono::Utc;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::batch::{Batch, ROWS_MAX, next_batch};
use super::dead_letter_budget::DeadLetterBudget;
use super::decision::{Attempt, GENERATIONS_MAX, InsertOutcome, Next, Reason};
use super::lag::LagTracker;
use super::limits::Limits;
use super::metrics::Metrics;
use super::metrics::batch_stats::BatchStats;
use super::metrics::labels::PartitionLabel;
use super::session::Session;
use super::watermark::{WatermarkTracker, Watermarks};
use super::window_age::WindowAge;
use crate::backoff::Backoff;
use crate::clickhouse::{Action, Error, Head, Insert, Shard, TopicRecord};
use crate::http::admin_port::Health;
use crate::kafka::{Kafka, quota_advice};
use crate::rules::Window;
use crate::telemetry::log_once::LogCount;
use crate::topic_partition::{Offset, Partition, TopicPartition};

/// After this time an insert without an answer makes its partition unready. The worker waits for the answer all the
/// same.
const SLOW: Duration = Duration::from_secs(5);

/// Between readings of the head while there are no new records, so that readiness includes ClickHouse.
const IDLE_READ_INTERVAL: Duration = Duration::from_secs(2);

/// Fetches in a row that may bring nothing although the log goes on, before that counts as a failure.
const EMPTY_FETCHES_MAX: u32 = 20;

/// For one wait that a broker asks for. It asks for a minute at most, unless its windows for quotas were changed.
const THROTTLED_MAX: Duration = Duration::from_secs(60);

/// Between log lines about bad records of one partition.
const DEAD_LETTERS_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// After failures.
const RETRY: Backoff = Backoff {
    first: Duration::from_millis(200),
    longest: Duration::from_secs(5),
};

/// After another consumer of the partition was faster. That one does the work meanwhile; if it ends, the partition
/// waits this long for the next.
const YIELD: Backoff = Backoff {
    first: Duration::from_millis(100),
    longest: Duration::from_secs(1),
};

/// The consumer of one partition.
pub struct Worker {
    topic_partition: TopicPartition,
    kafka: Kafka,
    shard: Shard,
    health: Health,
    metrics: Metrics,
    stop: CancellationToken,
    insert_interval: Duration,
    window: Window,
    window_age: WindowAge,
    watermark: WatermarkTracker,
    lag: LagTracker,
    dead_letter_budget: DeadLetterBudget,
    dead_letters_log: LogCount,
    /// The head whose token was burnt, and the generation that comes next.
    burnt: Option<(Offset, u32)>,
    next_insert: Instant,
    failures: u32,
    /// How often in a row another consumer was faster.
    times_overtaken: u32,
    /// The head that this worker saw last; a lower one means that the table has lost rows.
    last_head: Offset,
    /// The head of the last insert, if another consumer was faster.
    overtaken_at: Option<Offset>,
    limits: Limits,
    /// The name of its check in `/readyz`.
    check: String,
}

/// What all workers of a shard share.
pub struct Shared {
    pub kafka: Kafka,
    pub shard: Shard,
    /// Readiness; each worker sets the check of its partition.
    pub health: Health,
    pub metrics: Metrics,
    /// Ends the workers, after the insert in hand.
    pub stop: CancellationToken,
    /// Shortest time between two inserts into one partition that is not behind.
    pub insert_interval: Duration,
    /// What migrate recorded of the topic.
    pub topic_record: TopicRecord,
    /// Takes the watermarks of all workers.
    pub watermarks: Watermarks,
    /// Bounds the memory of all workers together.
    pub limits: Limits,
}

/// What an insert holds while others wait for it.
struct InsertPermit {
    _rows: OwnedSemaphorePermit,
    _alone: Option<OwnedMutexGuard<()>>,
}

enum SessionEnd {
    /// The process is to stop.
    Stopped,
    /// Another consumer of this partition was faster.
    Overtaken,
}

impl Worker {
    /// A worker for one partition.
    pub fn new(partition: Partition, shared: &Shared) -> Worker {
        let check = format!("partition {partition}");
        shared.health.add_loop(&check);
        shared.limits.add_worker();
        let window_records = shared.topic_record.repeat_window_records;
        Worker {
            topic_partition: TopicPartition {
                log: shared.topic_record.log.clone(),
                partition,
            },
            kafka: shared.kafka.clone(),
            shard: shared.shard.clone(),
            health: shared.health.clone(),
            metrics: shared.metrics.clone(),
            stop: shared.stop.clone(),
            insert_interval: shared.insert_interval,
            window: Window::new(window_records),
            window_age: WindowAge::new(window_records),
            watermark: WatermarkTracker::new(shared.watermarks.clone()),
            lag: LagTracker::new(partition, shared.metrics.clone()),
            dead_letter_budget: DeadLetterBudget::new(Instant::now()),
            dead_letters_log: LogCount::new(DEAD_LETTERS_LOG_INTERVAL),
            burnt: None,
            next_insert: Instant::now(),
            failures: 0,
            times_overtaken: 0,
            last_head: Offset::ZERO,
            overtaken_at: None,
            limits: shared.limits.clone(),
            check,
        }
    }

    /// Works until the process is to stop, and waits for a server that is away.
    pub async fn run(mut self) {
        while !self.stop.is_cancelled() {
            match self.run_session().await {
                Ok(SessionEnd::Stopped) => return,
                Ok(SessionEnd::Overtaken) => {
                    self.metrics.heads_moved.inc();
                    let wait = YIELD.wait(self.times_overtaken);
                    self.times_overtaken += 1;
                    tokio::select! {
                        () = self.stop.cancelled() => return,
                        () = sleep(wait) => {}
                    }
                }
                Err(err) => {
                    self.watermark.forget_end();
                    let reason = format!("{err:#}");
                    tracing::debug!(partition = self.topic_partition.partition.get(), %reason, "trying again");
                    self.health.record_failure(&self.check, reason);
                    let wait = RETRY.wait(self.failures);
                    self.failures += 1;
                    tokio::select! {
                        () = self.stop.cancelled() => return,
                        () = self.wait_and_read_lag(wait) => {}
                    }
                }
            }
        }
    }

    /// Opening and fetching only read, so they may be cancelled; an insert always runs to its end.
    async fn run_session(&mut self) -> anyhow::Result<SessionEnd> {
        let stop = self.stop.clone();
        let mut session = tokio::select! {
            () = stop.cancelled() => return Ok(SessionEnd::Stopped),
            session = Session::open(&self.kafka, &self.shard, self.topic_partition.partition) => session?,
        };
        if session.topic_partition != self.topic_partition {
            self.switch_log(session.topic_partition.clone());
        }
        match self.overtaken_at.take() {
            Some(head) if head == session.head => bail!(
                "clickhouse refused an insert of {} although its head is still {head}; is one with another token \
                 running there?",
                self.topic_partition,
            ),
            // Another consumer has stored the rows, so this partition is consumed.
            Some(_) => self.set_ready(),
            None => {}
        }
        if session.head < self.last_head {
            tracing::warn!(
                partition = self.topic_partition.partition.get(),
                from = self.last_head.get(),
                to = session.head.get(),
                "the table has lost rows"
            );
        }
        loop {
            let _permit = tokio::select! {
                () = stop.cancelled() => return Ok(SessionEnd::Stopped),
                permit = self.collect_rows(&mut session) => permit?,
            };
            let batch = next_batch(
                session.head,
                session.last_arrival_millis,
                &session.pending,
                &self.window,
                self.dead_letter_budget.refill(Instant::now()),
            );
            if !self.store(&mut session, batch).await? {
                return Ok(SessionEnd::Overtaken);
            }
        }
    }

    /// Forgets what is known of the former log of a topic that was recreated.
    fn switch_log(&mut self, topic_partition: TopicPartition) {
        let TopicPartition { log, partition } = &topic_partition;
        tracing::info!(partition = partition.get(), from = %self.topic_partition.log, to = %log, "the topic was recreated");
        self.topic_partition = topic_partition;
        self.window = Window::new(self.window.records());
        self.window_age = WindowAge::new(self.window.records());
        self.watermark.reset();
        self.burnt = None;
        self.last_head = Offset::ZERO;
        self.overtaken_at = None;
    }

    /// Waits until there are rows to insert, and the interval is over, and the rows may be inserted.
    async fn collect_rows(&mut self, session: &mut Session) -> anyhow::Result<InsertPermit> {
        self.load_window(session).await?;
        self.advance_watermark(session).await;
        if !session.has_pending() && !session.is_behind() {
            sleep_until(self.next_insert).await;
        }
        self.fetch_rows(session).await?;
        let permit = async {
            // First, so that a worker that has its rows waits for nothing else.
            let alone = match session.is_replicated {
                true => Some(self.shard.lock_inserts().await),
                false => None,
            };
            let rows = self.limits.acquire_rows(session.pending.rows.len()).await;
            anyhow::Ok(InsertPermit {
                _rows: rows.context("no more inserts")?,
                _alone: alone,
            })
        };
        self.warn_if_slow("waits for the inserts of other partitions", permit)
            .await
    }

    /// Fetches until there is all that Kafka has, or as much as may be held.
    async fn fetch_rows(&mut self, session: &mut Session) -> anyhow::Result<()> {
        let mut next_read = Instant::now() + IDLE_READ_INTERVAL;
        let mut empty_fetches = 0;
        loop {
            let pending = &session.pending;
            let is_full = pending.rows.len() >= ROWS_MAX || pending.bytes() >= self.limits.pending_bytes();
            if is_full || (session.has_pending() && !session.is_behind()) {
                return Ok(());
            }
            let has_advanced = session.fetch(self.limits.fetch_bytes()).await?;
            self.lag.record(session);
            if session.throttled().is_zero() {
                self.advance_watermark(session).await;
            }
            if has_advanced {
                continue;
            }
            if session.is_behind() && session.has_pending() {
                return Ok(());
            }
            if !session.throttled().is_zero() {
                self.wait_for_quota(session).await;
                continue;
            }
            if session.is_behind() {
                empty_fetches += 1;
                if empty_fetches == EMPTY_FETCHES_MAX {
                    bail!(
                        "kafka has records of {} beyond {} and does not hand them out; is a transaction open there?",
                        self.topic_partition,
                        session.head
                    );
                }
                continue;
            }
            self.set_ready();
            if next_read <= Instant::now() {
                self.read_head(session).await?;
                next_read = Instant::now() + IDLE_READ_INTERVAL;
            }
        }
    }

    /// Waits as long as the broker throttles.
    async fn wait_for_quota(&self, session: &Session) {
        let throttled = session.throttled();
        self.metrics.throttled.inc_by(throttled.as_secs_f64());
        let reason = format!(
            "kafka throttles captcha, now for {:.1} s, with {} records of {} to come; {}",
            throttled.as_secs_f64(),
            session.lag_records(),
            self.topic_partition,
            quota_advice("consumer_byte_rate")
        );
        if session.is_behind() {
            self.health.record_failure(&self.check, reason);
        } else {
            self.health.set(&self.check, Ok(()));
        }
        sleep(throttled.min(THROTTLED_MAX)).await;
    }

    /// Waits before the next session, and reads meanwhile how many records Kafka has: it may be ClickHouse that is
    /// away.
    async fn wait_and_read_lag(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let reading = self.lag.read(&self.kafka, self.last_head);
        if let Ok(Err(err)) = timeout_at(until, reading).await {
            let reason = format!("{err:#}");
            tracing::debug!(partition = self.topic_partition.partition.get(), %reason, "cannot read the lag");
        }
        sleep_until(until).await;
    }

    async fn advance_watermark(&mut self, session: &Session) {
        if let Some(through_millis) = self.watermark.advance(session).await {
            let gauge = self.metrics.complete_through.get_or_create(&self.label());
            gauge.set(through_millis as f64 / 1e3);
        }
    }

    fn label(&self) -> PartitionLabel {
        PartitionLabel {
            partition: self.topic_partition.partition.get(),
        }
    }

    /// Asks ClickHouse for the head although there is nothing to store.
    async fn read_head(&mut self, session: &mut Session) -> anyhow::Result<()> {
        let head = session.clickhouse.head(&self.topic_partition).await?;
        let now = head.map_or(Offset::ZERO, |head| head.next);
        if now < session.head {
            bail!(
                "the table has lost rows of {}: its head went from {} to {now}",
                self.topic_partition,
                session.head
            );
        }
        if now > session.head {
            self.metrics.heads_moved.inc();
            session.clickhouse.check_row_policies().await?;
            session.resume_at(head);
            self.load_window(session).await?;
        }
        Ok(())
    }

    /// Reads the events below the head that the window lacks.
    async fn load_window(&mut self, session: &Session) -> anyhow::Result<()> {
        self.last_head = session.head;
        if let Some(arrival_millis) = session.last_arrival_millis {
            let millis = self.window_age.record(session.head, arrival_millis);
            let gauge = self.metrics.dedup_window.get_or_create(&self.label());
            gauge.set(millis as f64 / 1e3);
        }
        session.load(&mut self.window).await
    }

    /// Inserts a batch and does what [`decision`](super::decision) says. `false`: another consumer was faster.
    async fn store(&mut self, session: &mut Session, mut batch: Batch) -> anyhow::Result<bool> {
        let attempt = Attempt {
            head: session.head,
            end: batch.end,
            generation: match self.burnt {
                Some((head, generation)) if head == session.head => generation,
                _ => 0,
            },
        };
        let insert = Insert {
            topic_partition: self.topic_partition.clone(),
            head: attempt.head,
            generation: attempt.generation,
            is_replicated: session.is_replicated,
            rows: std::mem::take(&mut batch.rows),
        };
        let stats = BatchStats::new(&insert.rows);
        let stored = insert.stored_condition();
        let token = insert.token();
        let start = Instant::now();
        self.next_insert = start + self.insert_interval;
        let inserting = session.clickhouse.insert(insert);
        let inserted = self.warn_if_slow("waits for clickhouse to answer an insert", inserting);
        let (outcome, failure) = match inserted.await {
            Ok(()) => (InsertOutcome::Ok, None),
            Err(err) if err.action() == Action::HeadMoved => (InsertOutcome::HeadMoved, None),
            Err(err) => (InsertOutcome::Failed, Some(err)),
        };
        let mut next = attempt.after_insert(outcome);
        let mut head = None;
        loop {
            next = match next {
                Next::ReadHead => {
                    head = session.clickhouse.head(&self.topic_partition).await?;
                    attempt.after_head(head.map(|head| head.next))
                }
                Next::Recheck => {
                    // The inserts of other replicas do not show here, and their tokens do not burn.
                    let is_running = session.is_replicated || session.clickhouse.is_inserting(&token).await?;
                    head = session.clickhouse.head(&self.topic_partition).await?;
                    attempt.after_recheck(is_running, head.map(|head| head.next))
                }
                Next::ReadRules => {
                    let has_other_rules = session.clickhouse.has_other_rules(&stored).await?;
                    attempt.after_rules(has_other_rules)
                }
                Next::Confirmed => {
                    self.record_stored(session, batch, &stats, start.elapsed(), head);
                    return Ok(true);
                }
                Next::ChangeToken(generation) => {
                    // Rows that are stored and hidden look like a burnt token, and the next one would store them again.
                    session.clickhouse.check_row_policies().await?;
                    self.metrics.burnt_tokens.inc();
                    tracing::warn!(
                        partition = self.topic_partition.partition.get(),
                        %token,
                        "the server noted this token without its rows; taking the next one"
                    );
                    self.burnt = Some((attempt.head, generation));
                    return Ok(true);
                }
                Next::Overtaken | Next::Restart(Reason::HeadMoved) => {
                    self.overtaken_at = Some(attempt.head);
                    return Ok(false);
                }
                Next::Restart(reason) => return Err(self.restart_error(attempt.head, reason, failure)),
            };
        }
    }

    /// Records a batch that the head has confirmed, and continues at that head.
    fn record_stored(
        &mut self,
        session: &mut Session,
        batch: Batch,
        stats: &BatchStats,
        elapsed: Duration,
        head: Option<Head>,
    ) {
        self.metrics
            .record_insert(stats, elapsed, Utc::now().timestamp_millis());
        self.metrics.dead_letters_truncated.inc_by(batch.truncated);
        self.dead_letter_budget.spend(batch.raw_bytes);
        self.log_dead_letters(stats.bad());
        self.window.record_pending(batch.judged);
        self.window.complete_to(batch.end);
        self.times_overtaken = 0;
        self.set_ready();
        session.resume_at(head);
        self.lag.record(session);
    }

    fn restart_error(&self, head: Offset, reason: Reason, failure: Option<Error>) -> anyhow::Error {
        let name = &self.topic_partition;
        match reason {
            Reason::HeadMoved => anyhow!("the head of {name} moved from {head}"),
            Reason::Failed => {
                let failure = failure.map_or_else(|| anyhow!("no answer"), anyhow::Error::from);
                failure.context(format!("cannot store records of {name}"))
            }
            Reason::StillRunning => anyhow!("an insert of {name} is still running elsewhere"),
            Reason::WentBack => anyhow!("the head of {name} went back from {head}"),
            Reason::TokensSpent => anyhow!(
                "clickhouse answered {GENERATIONS_MAX} inserts of {name} at head {head} without storing a row; look at \
                 clickhouse's log for what dropped them"
            ),
        }
    }

    /// Waits to the end, and makes the partition unready for this reason if that takes long.
    async fn warn_if_slow<T>(&self, reason: &str, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        if let Ok(done) = timeout(SLOW, work.as_mut()).await {
            return done;
        }
        let reason = format!("{reason}, for more than {} s", SLOW.as_secs());
        self.health.set(&self.check, Err(reason));
        work.await
    }

    fn log_dead_letters(&mut self, count: u64) {
        if let Some(count) = self.dead_letters_log.add(count, std::time::Instant::now()) {
            let partition = self.topic_partition.partition.get();
            tracing::warn!(
                partition,
                count,
                "records that are not events went to the view dead_letters"
            );
        }
    }

    /// Sets the check: an insert is confirmed, or there are no rows to insert.
    fn set_ready(&mut self) {
        self.failures = 0;
        self.health.set(&self.check, Ok(()));
    }
}
