//! The lock of the schema: one process at a time, by compare-and-swap in the table `migration_log`, which also records
//! which statements began and ended.
//!
//! A term is the time of one holder. It begins with the row `lock`, which only one process can insert. Signs of life
//! follow, and a row before and after each statement; the server refuses them once a later term has begun. A term ends
//! with the row `unlock`, or with silence.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::connection::QUERY_TIMEOUT;
use super::connection::settings::{INSERT_EACH, supported};
use super::insert_if_absent::InsertIfAbsent;
use super::shard::CONNECT_TIMEOUT;
use super::{Action, Connection, Error, Shard, quote};

/// Between signs of life of a holder.
const ALIVE_INTERVAL: Duration = Duration::from_secs(2);

/// After this time without one, by ClickHouse's clock, a holder counts as dead.
pub const SILENCE_MAX: Duration = Duration::from_secs(12);

// A holder that has to connect again for a sign of life is in time.
const _: () = {
    let sign_of_life = ALIVE_INTERVAL.as_millis() + CONNECT_TIMEOUT.as_millis() + QUERY_TIMEOUT.as_millis();
    assert!(sign_of_life < SILENCE_MAX.as_millis());
};

/// The newest term, and its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// 0 before the first.
    pub term: u64,
    /// The process that holds it: host, process id and a random number.
    pub owner: String,
    /// The time since the last sign of life.
    pub silence: Duration,
    /// Whether the holder released it.
    pub is_released: bool,
    /// The file whose statement began in this term and did not end.
    pub unfinished: Option<String>,
}

impl Lease {
    fn before_the_first() -> Lease {
        Lease {
            term: 0,
            owner: String::new(),
            silence: Duration::ZERO,
            is_released: true,
            unfinished: None,
        }
    }

    /// Whether another process may acquire the lock.
    pub fn is_free(&self) -> bool {
        self.is_released || self.silence > SILENCE_MAX
    }
}

/// A row of the query of [`Connection::lease`].
#[derive(klickhouse::Row)]
struct LeaseRow {
    term: u64,
    holder: String,
    silence_millis: i64,
    is_released: u8,
    unfinished: String,
}

impl LeaseRow {
    fn into_lease(self) -> Lease {
        Lease {
            term: self.term,
            owner: self.holder,
            silence: Duration::from_millis(self.silence_millis.max(0) as u64),
            is_released: self.is_released == 1,
            unfinished: (!self.unfinished.is_empty()).then_some(self.unfinished),
        }
    }
}

/// The right to change the schema. Signs of life go on until it is dropped.
pub struct Lock {
    term: u64,
    owner: String,
    _keep_alive: AbortOnDropHandle<()>,
}

impl Lock {
    /// Records a step, unless another process has acquired the lock since.
    ///
    /// # Errors
    /// No answer, or another process has the lock.
    pub async fn record(&self, connection: &Connection, step: &Step<'_>) -> Result<(), Error> {
        connection.log_step(self.term, &self.owner, step).await
    }
}

/// A step of a holder, as the column `step` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// A sign of life.
    Alive,
    /// The statement of this file begins.
    Begin(&'a str),
    /// The statement of this file has ended well.
    Done(&'a str),
    /// The holder releases the lock.
    Unlock,
}

impl Step<'_> {
    fn columns(&self) -> (&'static str, &str) {
        match self {
            Step::Alive => ("alive", ""),
            Step::Begin(name) => ("begin", name),
            Step::Done(name) => ("done", name),
            Step::Unlock => ("unlock", ""),
        }
    }
}

impl Shard {
    /// Acquires the lock as the term after one that [is free](Lease::is_free); `None` if another process was faster.
    ///
    /// # Errors
    /// No answer.
    pub async fn acquire_lock(&self, after: &Lease, owner: &str) -> Result<Option<Lock>, Error> {
        let connection = self.connect().await?;
        let term = after.term + 1;
        connection
            .insert_if_absent(&InsertIfAbsent {
                table: "migration_log (term, owner, step)",
                values: format!("{term}, {}, 'lock'", quote(owner)),
                exists: format!("FROM migration_log WHERE term >= {term} AND step = 'lock'"),
                token: format!("lock:{term}"),
            })
            .await?;
        let newest = connection.lease().await?;
        if (newest.term, newest.owner.as_str()) != (term, owner) {
            return Ok(None);
        }
        let keep_alive = tokio::spawn(keep_alive(self.clone(), term, owner.to_string()));
        Ok(Some(Lock {
            term,
            owner: owner.to_string(),
            _keep_alive: AbortOnDropHandle::new(keep_alive),
        }))
    }
}

/// Records signs of life until it is aborted. If the lock is lost, the next [`Lock::record`] fails.
async fn keep_alive(shard: Shard, term: u64, owner: String) {
    loop {
        if let Ok(connection) = shard.connect().await {
            while connection.log_step(term, &owner, &Step::Alive).await.is_ok() {
                sleep(ALIVE_INTERVAL).await;
            }
        }
        sleep(ALIVE_INTERVAL).await;
    }
}

impl Connection {
    /// Reads the newest term.
    ///
    /// # Errors
    /// No answer, or the table does not exist.
    pub async fn lease(&self) -> Result<Lease, Error> {
        let lease = self
            .query_opt(
                "SELECT term, any(owner) AS holder, \
                 toInt64(toUnixTimestamp64Milli(now64(3)) - toUnixTimestamp64Milli(max(at))) AS silence_millis, \
                 toUInt8(countIf(step = 'unlock') > 0) AS is_released, \
                 arrayFirst(begun -> NOT has(groupArrayIf(name, step = 'done'), begun), \
                 groupArrayIf(name, step = 'begin')) AS unfinished \
                 FROM migration_log WHERE term = (SELECT max(term) FROM migration_log) GROUP BY term",
            )
            .await?;
        Ok(lease.map_or_else(Lease::before_the_first, LeaseRow::into_lease))
    }

    async fn log_step(&self, term: u64, owner: &str, step: &Step<'_>) -> Result<(), Error> {
        let (step, name) = step.columns();
        let settings = supported(INSERT_EACH, self.version);
        let written = self
            .execute(&format!(
                "INSERT INTO migration_log (term, owner, step, name) SELECT {term}, {}, '{step}', {} \
                 WHERE throwIf((SELECT max(term) FROM migration_log) != {term}, 'lock taken') = 0 \
                 SETTINGS {settings}",
                quote(owner),
                quote(name)
            ))
            .await;
        written.map_err(|err| match err.action() == Action::HeadMoved {
            true => self.connection_error("says that another migrate has taken the lock; run it again"),
            false => err,
        })
    }
}
