//! Connections for reports, which are kept for the next ones: a new one takes seven round trips before its first
//! question.
//!
//! A new connection checks the schema and the shard, and another one takes its place a minute later, which checks them
//! again. Each report asks whether its answer will be whole (`report_basis.rs`).

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use klickhouse::block::Block;
use parking_lot::Mutex;

use super::connection::query_limits::GrantedSettings;
use super::{Connection, Error};

/// Connections of a shard that are kept unused: as many as reports are asked for at once.
const IDLE_MAX: usize = 4;

/// How long one is kept unused. A page that is open asks more often, and no load balancer closes one earlier.
const IDLE_TIME_MAX: Duration = Duration::from_secs(20);

/// How long one is used. Then a new one reads the password again, resolves names, prefers the first replica, and checks
/// the schema: it takes 5 ms, once a minute.
const AGE_MAX: Duration = Duration::from_secs(60);

/// Between two looks for connections that are too old.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The idle connections of one shard. Clones of the shard share it.
#[derive(Default)]
pub(super) struct ReportPool(Mutex<Idle>);

#[derive(Default)]
struct Idle {
    /// The one that was used last is at the end.
    connections: Vec<ReportConnection>,
    is_swept: bool,
}

/// A connection to a schema that fits.
pub(super) struct ReportConnection {
    pub connection: Connection,
    /// The limits of a question, as far as this user may set them.
    pub settings: GrantedSettings,
    /// The time of a question.
    limit: Duration,
    opened: Instant,
    used: Instant,
}

/// Bytes of SQL that every ClickHouse takes. More are announced, because its own limit (`max_query_size`, 256 KiB by
/// default) is reached by 6,500 sites.
const SHORT_SQL_BYTES: usize = 16 << 10;

/// For the server's own word that its time is over, past the limit of a question.
const ANSWER_TIME: Duration = Duration::from_secs(1);

impl ReportConnection {
    pub fn new(connection: Connection, settings: GrantedSettings, limit: Duration) -> ReportConnection {
        let now = Instant::now();
        ReportConnection {
            connection,
            settings,
            limit,
            opened: now,
            used: now,
        }
    }

    /// Hands over the blocks of the answer to a question, within the limits of questions.
    pub async fn for_each_block(
        &self,
        sql: &str,
        on_block: impl FnMut(Block) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let settings = match sql.len() > SHORT_SQL_BYTES {
            true => &self.settings.with_sql_bytes(sql.len()),
            false => &self.settings,
        };
        tracing::debug!(%sql, "counting");
        let limit = self.limit + ANSWER_TIME;
        self.connection
            .for_each_block_with(sql, settings, limit, on_block)
            .await
    }

    fn is_fit(&self, now: Instant) -> bool {
        self.connection.is_open() && now - self.used < IDLE_TIME_MAX && now - self.opened < AGE_MAX
    }
}

impl fmt::Debug for ReportPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let idle = self.0.lock().connections.len();
        f.debug_struct("ReportPool").field("idle", &idle).finish()
    }
}

impl ReportPool {
    /// The connection that was used last, if one is fit.
    pub fn take(&self) -> Option<ReportConnection> {
        let mut idle = self.0.lock();
        idle.connections.retain(|kept| kept.is_fit(Instant::now()));
        idle.connections.pop()
    }

    /// Closes all: one of them failed, so that the others may lead to the same server.
    pub fn clear(&self) {
        self.0.lock().connections.clear();
    }

    /// Keeps a connection whose last answer came to its end. One with an error, or with an answer that was not read, is
    /// dropped in place of this, and so closed.
    pub fn put(self: &Arc<Self>, mut connection: ReportConnection) {
        connection.used = Instant::now();
        let mut idle = self.0.lock();
        if idle.connections.len() < IDLE_MAX {
            idle.connections.push(connection);
            if !idle.is_swept {
                idle.is_swept = true;
                tokio::spawn(sweep(Arc::downgrade(self)));
            }
        }
    }
}

/// Closes connections that nobody uses, until none is left.
async fn sweep(pool: Weak<ReportPool>) {
    loop {
        tokio::time::sleep(SWEEP_INTERVAL).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut idle = pool.0.lock();
        idle.connections.retain(|kept| kept.is_fit(Instant::now()));
        if idle.connections.is_empty() {
            idle.is_swept = false;
            return;
        }
    }
}
