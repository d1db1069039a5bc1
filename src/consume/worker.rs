//! One partition from Kafka into ClickHouse: fetch, cut, insert, look at the head, and again.
//!
//! Whatever fails, the worker drops both connections, waits, and begins anew with the head that the
//! table has. It keeps nothing that the table does not know but the generation of a burnt token.

use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use chrono::Utc;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::batch::{Batch, ROWS_MAX, cut};
use super::dead_letter_budget::Allowance;
use super::decision::{Answer, Attempt, GENERATIONS_MAX, Step, Why};
use super::dedup::Memory;
use super::limits::Bounds;
use super::metrics::batch_stats::Tally;
use super::metrics::lag::Lag;
use super::metrics::{Metrics, Owned};
use super::session::Session;
use super::watermark::{WatermarkTracker, Watermarks};
use crate::clickhouse::{Action, Insert, Shard, TopicRecord};
use crate::http::admin_port::Health;
use crate::kafka::{Kafka, quota_advice};
use crate::topic_partition::TopicPartition;

/// After which an insert that is not answered makes its partition unready. It is waited for all the same.
const SLOW: Duration = Duration::from_secs(5);

/// Without new records, how often the head is asked for, so that readiness knows of ClickHouse.
const IDLE_LOOK: Duration = Duration::from_secs(2);

/// Fetches that may bring nothing although the log goes on, before that is called a failure.
const FETCHES_IN_VAIN_MAX: u32 = 20;

/// For one wait that a broker asks for. It asks for a minute at most, unless its windows for quotas were changed.
const THROTTLED_MAX: Duration = Duration::from_secs(60);

/// Between log lines about bad records of one partition.
const TELL_INTERVAL: Duration = Duration::from_secs(60);

/// First and longest wait after a failure; each is twice the one before, less up to half of it by chance.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LONGEST: Duration = Duration::from_secs(5);

/// First and longest wait of a worker that somebody else was faster than. The other one does the work meanwhile; if it
/// ends, the partition waits this long for the next.
const YIELD_FIRST: Duration = Duration::from_millis(100);
const YIELD_LONGEST: Duration = Duration::from_secs(1);

/// The consumer of one partition.
pub struct Worker {
    number: i32,
    topic_partition: TopicPartition,
    kafka: Kafka,
    shard: Shard,
    health: Health,
    metrics: Metrics,
    stop: CancellationToken,
    insert_interval: Duration,
    memory: Memory,
    claimer: WatermarkTracker,
    lag: Lag,
    allowance: Allowance,
    /// The head whose token was burnt, and the generation that comes next.
    burnt: Option<(i64, u32)>,
    next_insert: Instant,
    failures: u32,
    /// How often in a row somebody else was faster.
    losses: u32,
    /// The head that this worker saw last; a lower one means that the table has lost rows.
    last_head: i64,
    /// The head of the last insert, if somebody else was faster.
    lost_at: Option<i64>,
    /// Bad records since they were last told of, and when that may be again.
    untold_bad: u64,
    next_tell: Instant,
    bounds: Bounds,
    /// The name of its check in `/readyz`.
    check: String,
}

/// What all workers of a process share.
pub struct Shared {
    /// Kafka.
    pub kafka: Kafka,
    /// ClickHouse.
    pub shard: Shard,
    /// Readiness; each worker sets the check of its partition.
    pub health: Health,
    /// Metrics.
    pub metrics: Metrics,
    /// Ends the workers, after the insert in hand.
    pub stop: CancellationToken,
    /// Shortest time between two inserts into one partition that is not behind.
    pub insert_interval: Duration,
    /// What migrate recorded of the topic.
    pub facts: TopicRecord,
    /// Takes the claims of all workers.
    pub claims: Watermarks,
    /// What bounds the memory of all workers together.
    pub bounds: Bounds,
}

/// What other partitions have to wait for while an insert goes on.
struct Share {
    _rows: OwnedSemaphorePermit,
    _alone: Option<OwnedMutexGuard<()>>,
}

/// How a session ended.
enum End {
    /// The process is to stop.
    Stop,
    /// Somebody else is consuming this partition too, and was faster.
    Overtaken,
}

impl Worker {
    /// A worker for one partition.
    pub fn new(number: i32, shared: &Shared) -> Worker {
        let check = format!("partition {number}");
        shared.health.expect_turns(&check);
        shared.bounds.add_worker();
        Worker {
            number,
            topic_partition: TopicPartition {
                log: shared.facts.log.clone(),
                partition: number,
            },
            kafka: shared.kafka.clone(),
            shard: shared.shard.clone(),
            health: shared.health.clone(),
            metrics: shared.metrics.clone(),
            stop: shared.stop.clone(),
            insert_interval: shared.insert_interval,
            memory: Memory::new(shared.facts.repeat_window_records),
            claimer: WatermarkTracker::new(shared.claims.clone()),
            lag: Lag::new(number, shared.metrics.clone()),
            allowance: Allowance::new(Instant::now()),
            burnt: None,
            next_insert: Instant::now(),
            failures: 0,
            losses: 0,
            last_head: 0,
            lost_at: None,
            untold_bad: 0,
            next_tell: Instant::now(),
            bounds: shared.bounds.clone(),
            check,
        }
    }

    /// Works until the process is to stop. A server that is away is waited for.
    pub async fn run(mut self) {
        while !self.stop.is_cancelled() {
            match self.session().await {
                Ok(End::Stop) => return,
                Ok(End::Overtaken) => {
                    self.metrics.heads_moved.inc();
                    let wait = wait_after(self.losses, YIELD_FIRST, YIELD_LONGEST);
                    self.losses += 1;
                    tokio::select! {
                        () = self.stop.cancelled() => return,
                        () = sleep(wait) => {}
                    }
                }
                Err(err) => {
                    self.claimer.failed();
                    let reason = format!("{err:#}");
                    tracing::debug!(partition = self.number, %reason, "trying again");
                    self.health.failed(&self.check, reason);
                    let wait = wait_after(self.failures, RETRY_FIRST, RETRY_LONGEST);
                    self.failures += 1;
                    tokio::select! {
                        () = self.stop.cancelled() => return,
                        () = self.wait(wait) => {}
                    }
                }
            }
        }
    }

    /// Opening and gathering only read, so they may be cancelled; an insert is always seen to its end.
    async fn session(&mut self) -> anyhow::Result<End> {
        let stop = self.stop.clone();
        let mut session = tokio::select! {
            () = stop.cancelled() => return Ok(End::Stop),
            session = Session::open(&self.kafka, &self.shard, self.number) => session?,
        };
        if session.topic_partition != self.topic_partition {
            self.begin_log(session.topic_partition.clone());
        }
        match self.lost_at.take() {
            Some(head) if head == session.head => bail!(
                "clickhouse refused an insert of {} although its head is still {head}; is one with another token running there?",
                self.name(),
            ),
            // Somebody else has stored the rows: this partition is consumed, if not by us.
            Some(_) => self.is_well(),
            None => {}
        }
        if session.head < self.last_head {
            tracing::warn!(
                partition = self.number,
                from = self.last_head,
                to = session.head,
                "the table has lost rows"
            );
        }
        loop {
            let _share = tokio::select! {
                () = stop.cancelled() => return Ok(End::Stop),
                share = self.gather(&mut session) => share?,
            };
            let batch = cut(
                session.head,
                session.last_arrival_millis,
                &session.pending,
                &self.memory.repeats,
                self.allowance.bytes(Instant::now()),
            );
            if !self.store_batch(&mut session, batch).await? {
                return Ok(End::Overtaken);
            }
        }
    }

    /// The topic was made anew, and what is known of its former log is of no use.
    fn begin_log(&mut self, topic_partition: TopicPartition) {
        tracing::info!(partition = self.number, from = %self.topic_partition.log, to = %topic_partition.log, "the topic was made anew");
        self.topic_partition = topic_partition;
        self.memory.begin_anew();
        self.claimer.begin_anew();
        self.burnt = None;
        self.last_head = 0;
        self.lost_at = None;
    }

    /// Waits until there is something to insert, and it is time to, and its rows may be made.
    async fn gather(&mut self, session: &mut Session) -> anyhow::Result<Share> {
        self.remember(session).await?;
        self.claim(session).await;
        if !session.has_pending() && !session.is_behind() {
            sleep_until(self.next_insert).await;
        }
        self.fill(session).await?;
        let share = async {
            // This first: who has rows waits for nothing.
            let alone = match session.is_replicated {
                true => Some(self.shard.lock_inserts().await),
                false => None,
            };
            let rows = self.bounds.rows(session.pending.rows.len()).await;
            anyhow::Ok(Share {
                _rows: rows.context("no more inserts")?,
                _alone: alone,
            })
        };
        self.patiently("waits for the inserts of other partitions", share).await
    }

    /// Fetches until there is all that Kafka has, or as much as may be held.
    async fn fill(&mut self, session: &mut Session) -> anyhow::Result<()> {
        let mut next_look = Instant::now() + IDLE_LOOK;
        let mut in_vain = 0;
        loop {
            let pending = &session.pending;
            let full = pending.rows.len() >= ROWS_MAX || pending.bytes() >= self.bounds.pending_bytes();
            if full || (session.has_pending() && !session.is_behind()) {
                return Ok(());
            }
            let led_on = session.fetch(self.bounds.fetch_bytes()).await?;
            self.lag.tell(session);
            if session.throttled().is_zero() {
                self.claim(session).await;
            }
            if led_on {
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
                in_vain += 1;
                if in_vain == FETCHES_IN_VAIN_MAX {
                    bail!(
                        "kafka has records of {} beyond {} and does not hand them out; is a transaction open there?",
                        self.name(),
                        session.head
                    );
                }
                continue;
            }
            self.is_well();
            if next_look <= Instant::now() {
                self.look(session).await?;
                next_look = Instant::now() + IDLE_LOOK;
            }
        }
    }

    /// Waits until the broker listens again.
    async fn wait_for_quota(&self, session: &Session) {
        let throttled = session.throttled();
        self.metrics.throttled.inc_by(throttled.as_secs_f64());
        let reason = format!(
            "kafka throttles captcha, now for {:.1} s, with {} records of {} to come; {}",
            throttled.as_secs_f64(),
            session.lag_records(),
            self.name(),
            quota_advice("consumer_byte_rate")
        );
        if session.is_behind() {
            self.health.failed(&self.check, reason);
        } else {
            self.health.set(&self.check, Ok(()));
        }
        sleep(throttled.min(THROTTLED_MAX)).await;
    }

    /// Waits before it begins anew, and looks meanwhile what gathers in Kafka: it may be ClickHouse that is away.
    async fn wait(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let looking = self.lag.look(&self.kafka, self.last_head);
        if let Ok(Err(err)) = timeout_at(until, looking).await {
            let reason = format!("{err:#}");
            tracing::debug!(partition = self.number, %reason, "cannot tell the lag");
        }
        sleep_until(until).await;
    }

    async fn claim(&mut self, session: &Session) {
        if let Some(through_millis) = self.claimer.step(session).await {
            let gauge = self.metrics.complete_through.get_or_create(&self.owned());
            gauge.set(through_millis as f64 / 1e3);
        }
    }

    fn owned(&self) -> Owned {
        Owned {
            partition: self.number as u32,
        }
    }

    /// Asks ClickHouse for the head although nothing is to be stored.
    async fn look(&mut self, session: &mut Session) -> anyhow::Result<()> {
        let head = session.clickhouse.head(&self.topic_partition).await?;
        let now = head.map_or(0, |head| head.next);
        if now < session.head {
            bail!(
                "the table has lost rows of {}: its head went from {} to {now}",
                self.name(),
                session.head
            );
        }
        if now > session.head {
            self.metrics.heads_moved.inc();
            session.clickhouse.check_row_policies().await?;
            session.go_on_at(head);
            self.remember(session).await?;
        }
        Ok(())
    }

    /// Reads the events below the head that the memory does not have.
    async fn remember(&mut self, session: &Session) -> anyhow::Result<()> {
        self.last_head = session.head;
        if let Some(millis) = self.memory.window_millis(session) {
            let gauge = self.metrics.repeat_window.get_or_create(&self.owned());
            gauge.set(millis as f64 / 1e3);
        }
        self.memory.learn(session).await
    }

    /// Inserts a batch and does what [`step`](super::decision) says. `false`: somebody else was faster.
    async fn store_batch(&mut self, session: &mut Session, mut batch: Batch) -> anyhow::Result<bool> {
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
        let tally = Tally::of(&insert.rows);
        let token = insert.token();
        let began = Instant::now();
        self.next_insert = began + self.insert_interval;
        let inserting = session.clickhouse.insert(insert);
        let inserted = self.patiently("waits for clickhouse to answer an insert", inserting);
        let (answer, failure) = match inserted.await {
            Ok(()) => (Answer::Ok, None),
            Err(err) if err.action() == Action::HeadMoved => (Answer::HeadMoved, None),
            Err(err) => (Answer::Failed, Some(err)),
        };
        let mut step = attempt.answered(answer);
        let mut head = None;
        loop {
            step = match step {
                Step::ReadHead => {
                    head = session.clickhouse.head(&self.topic_partition).await?;
                    attempt.head_is(head.map(|head| head.next))
                }
                Step::LookAgain => {
                    // Of the inserts of other replicas nothing is seen here, and their tokens do not burn.
                    let is_running = session.is_replicated || session.clickhouse.is_inserting(&token).await?;
                    head = session.clickhouse.head(&self.topic_partition).await?;
                    attempt.looked(is_running, head.map(|head| head.next))
                }
                Step::Confirmed => {
                    let now_millis = Utc::now().timestamp_millis();
                    self.metrics.confirmed(&tally, began.elapsed(), now_millis);
                    self.metrics.shortened.inc_by(batch.shortened);
                    self.allowance.spend(batch.raw_bytes);
                    self.tell_of_bad(tally.bad());
                    self.memory.note(batch);
                    self.losses = 0;
                    self.is_well();
                    session.go_on_at(head);
                    self.lag.tell(session);
                    return Ok(true);
                }
                Step::NextToken(generation) => {
                    // Rows that are stored and hidden look like a burnt token, and the next one would store them again.
                    session.clickhouse.check_row_policies().await?;
                    self.metrics.burnt_tokens.inc();
                    tracing::warn!(partition = self.number, %token, "the server noted this token without its rows; taking the next one");
                    self.burnt = Some((attempt.head, generation));
                    return Ok(true);
                }
                Step::Overtaken | Step::BeginAnew(Why::HeadMoved) => {
                    self.lost_at = Some(attempt.head);
                    return Ok(false);
                }
                Step::BeginAnew(Why::Failed) => {
                    let failure = failure.map_or_else(|| anyhow!("no answer"), anyhow::Error::from);
                    return Err(failure.context(format!("cannot store records of {}", self.name())));
                }
                Step::BeginAnew(Why::StillRunning) => {
                    bail!("an insert of {} is still running elsewhere", self.name())
                }
                Step::BeginAnew(Why::WentBack) => {
                    bail!("the head of {} went back from {}", self.name(), attempt.head)
                }
                Step::BeginAnew(Why::TokensSpent) => {
                    bail!(
                        "clickhouse answered {GENERATIONS_MAX} inserts of {} at head {} without storing a row; look at \
                         clickhouse's log for what dropped them",
                        self.name(),
                        attempt.head
                    )
                }
            };
        }
    }

    /// Waits to the end, and says for what if that takes long.
    async fn patiently<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        if let Ok(done) = timeout(SLOW, work.as_mut()).await {
            return done;
        }
        let reason = format!("{what}, for more than {} s", SLOW.as_secs());
        self.health.set(&self.check, Err(reason));
        work.await
    }

    /// Says, now and then, that records are no events.
    fn tell_of_bad(&mut self, count: u64) {
        self.untold_bad += count;
        if self.untold_bad > 0 && self.next_tell <= Instant::now() {
            tracing::warn!(
                partition = self.number,
                count = self.untold_bad,
                "records that are no events went to the view dead_letters"
            );
            self.untold_bad = 0;
            self.next_tell = Instant::now() + TELL_INTERVAL;
        }
    }

    /// Everything that was to be done was done: an insert is confirmed, or there is nothing to insert.
    fn is_well(&mut self) {
        self.failures = 0;
        self.health.set(&self.check, Ok(()));
    }

    fn name(&self) -> String {
        format!("{}:{}", self.topic_partition.log, self.number)
    }
}

/// A wait that doubles with each time before it, less up to half of it by chance.
fn wait_after(times: u32, first: Duration, longest: Duration) -> Duration {
    let doubled = first * 2_u32.pow(times.min(10));
    doubled.min(longest).mul_f64(1.0 - fastrand::f64() / 2.0)
}
