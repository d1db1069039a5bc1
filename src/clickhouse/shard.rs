//! One shard: connects to the first of its replicas that answers, and checks the schema there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use chrono::Utc;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::args::{Args, ShardId};
use super::connection::query_limits::QueryLimits;
use super::connection::{Connection, QUERY_TIMEOUT};
use super::error::Error;
use super::error_codes::Action;
use super::report_pool::ReportPool;
use super::schema::history::incompatibility;
use super::sql::Identifier;
use super::topics::TopicRecord;
use crate::tls::{Password, Secret, Tls};

/// To connect and to log in, for each address. A server on the same network answers in milliseconds.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The contract: `GET /v1/report` answers 503 within this time while ClickHouse is away.
const REPORT_TIMEOUT: Duration = Duration::from_secs(10);

const _: () = assert!(CONNECT_TIMEOUT.as_millis() + QUERY_TIMEOUT.as_millis() < REPORT_TIMEOUT.as_millis());

/// One shard of ClickHouse as configured. It keeps connections for reports alone: each other call makes a new one.
#[derive(Debug, Clone)]
pub struct Shard {
    pub(super) addresses: Vec<String>,
    id: ShardId,
    pub(super) database: Identifier,
    user: String,
    password: Option<Password>,
    tls: Option<Tls>,
    /// The cluster whose replicas have the same tables, if one is named.
    pub(super) cluster: Option<Identifier>,
    /// Held during an insert into tables of several replicas; clones share it.
    pub(super) inserting: Arc<Mutex<()>>,
    /// As [`Shard::connect_to_schema`] found it last; clones share it.
    schema_version: Arc<AtomicU32>,
    /// Connections for reports; clones share them.
    pub(super) reports: Arc<ReportPool>,
    /// Of each question of a report.
    pub(super) report_limits: QueryLimits,
}

impl Shard {
    /// Checks what can be checked without a connection.
    ///
    /// # Errors
    /// A file of a password or of certificates cannot be read, or is not what it should be.
    pub(super) fn new(args: &Args, addresses: Vec<String>, id: ShardId) -> anyhow::Result<Shard> {
        let client = args.clickhouse_client_certificate_file.clone();
        let tls = args.clickhouse_tls.then(|| Tls {
            ca_file: args.clickhouse_ca_file.clone(),
            client: client.zip(args.clickhouse_client_key_file.clone()),
        });
        let file = args.clickhouse_password_file.clone().map(Password::File);
        let given = args.clickhouse_password.clone().map(Password::Given);
        let shard = Shard {
            addresses,
            id,
            database: args.clickhouse_database.clone(),
            user: args.clickhouse_user.clone(),
            password: file.or(given),
            tls,
            cluster: None,
            inserting: Arc::default(),
            schema_version: Arc::default(),
            reports: Arc::default(),
            report_limits: QueryLimits::default(),
        };
        shard.password()?;
        if let Some(tls) = &shard.tls {
            tls.check().context("clickhouse")?;
        }
        Ok(shard)
    }

    /// The addresses as given, for messages.
    pub fn addresses(&self) -> String {
        self.addresses.join(",")
    }

    pub fn id(&self) -> ShardId {
        self.id
    }

    /// The newest migration that it had when [`Shard::connect_to_schema`] looked last; 0 before that, and without any.
    pub fn schema_version(&self) -> u32 {
        self.schema_version.load(Ordering::Relaxed)
    }

    pub fn database(&self) -> &Identifier {
        &self.database
    }

    /// Connects to the first address that answers and enters the database.
    ///
    /// # Errors
    /// No address answers, the login is refused, or the database does not exist
    /// ([`Action::SchemaMissing`]). Takes at most 3 seconds for each address and 6 more.
    pub async fn connect(&self) -> Result<Connection, Error> {
        let connection = self.connect_without_database().await?;
        connection.use_database(&self.database).await?;
        Ok(connection)
    }

    /// The same as [`Shard::connect`], at one of its addresses.
    ///
    /// # Errors
    /// As [`Shard::connect`].
    pub async fn connect_to_replica(&self, address: &str) -> Result<Connection, Error> {
        let connection = self.connect_to_address(address).await?;
        connection.use_database(&self.database).await?;
        Ok(connection)
    }

    /// Connects, and makes sure that the schema is one that this captcha can work with.
    ///
    /// # Errors
    /// As [`Shard::connect`]; [`Error::Schema`] says what is lacking.
    pub async fn connect_to_schema(&self) -> Result<Connection, Error> {
        let (addresses, database) = (self.addresses(), self.database());
        let no_tables = || {
            Error::Schema(format!(
                "clickhouse at {addresses} has no tables in database {database}; run `captcha migrate`"
            ))
        };
        let connection = match self.connect().await {
            Err(err) if err.action() == Action::SchemaMissing => return Err(no_tables()),
            other => other?,
        };
        let applied = connection.migrations().await?;
        let version = applied.iter().map(|record| record.version).max();
        self.schema_version.store(version.unwrap_or(0), Ordering::Relaxed);
        if applied.is_empty() {
            connection.check_row_policies_of_all_tables().await?;
            return Err(no_tables());
        }
        if let Some(reason) = incompatibility(&applied) {
            return Err(Error::Schema(format!(
                "database {database} of clickhouse at {addresses} has {reason}"
            )));
        }
        let (recorded, configured) = (connection.recorded_shards().await?, self.id);
        match recorded.iter().find(|recorded| **recorded != configured) {
            None => Ok(connection),
            Some(recorded) => Err(Error::Schema(format!(
                "clickhouse at {addresses} is {recorded}, and --clickhouse-addr has it as {configured}; \
                 give all shards, in their order, `;` between them"
            ))),
        }
    }

    /// Connects for a topic that `captcha migrate` has recorded.
    ///
    /// # Errors
    /// As [`Shard::connect_to_schema`]; also [`Error::Schema`] if the topic is not recorded, or retired.
    pub async fn connect_for_topic(&self, topic: &str) -> Result<(Connection, TopicRecord), Error> {
        let connection = self.connect_to_schema().await?;
        match connection.topic_record(topic).await? {
            Some(facts) if !facts.is_retired() => Ok((connection, facts)),
            Some(_) => Err(Error::Schema(format!(
                "topic {topic} is retired in clickhouse; see --kafka-topic, or let `captcha migrate --resume-topic` take \
                 it up again"
            ))),
            None => {
                connection.check_row_policies_of_all_tables().await?;
                Err(Error::Schema(format!(
                    "topic {topic} is not recorded in clickhouse; run `captcha migrate`"
                )))
            }
        }
    }

    /// Connects without entering the database, which may not be there yet.
    ///
    /// # Errors
    /// As [`Shard::connect`], without the database.
    pub async fn connect_without_database(&self) -> Result<Connection, Error> {
        let mut last = Error::Connection("no clickhouse address".to_string());
        for address in &self.addresses {
            match self.connect_to_address(address).await {
                Ok(connection) => return Ok(connection),
                Err(err) => last = err,
            }
        }
        Err(last)
    }

    pub(super) async fn clock_ahead_millis(&self) -> Result<i64, Error> {
        let connection = self.connect_without_database().await?;
        let before = Utc::now().timestamp_millis();
        let theirs = connection.clock_millis().await?;
        let after = Utc::now().timestamp_millis();
        Ok(before + (after - before) / 2 - theirs)
    }

    pub(super) async fn connect_to_address(&self, address: &str) -> Result<Connection, Error> {
        let password = self
            .password()
            .map_err(|err| Error::Configuration(format!("{err:#}")))?;
        let open = Connection::open(
            address,
            self.tls.as_ref(),
            &self.user,
            password.reveal(),
            self.database.as_str(),
        );
        timeout(CONNECT_TIMEOUT, open).await.unwrap_or_else(|_| {
            Err(Error::Connection(format!(
                "clickhouse at {address} did not answer within {} s; see whether it is overloaded, and \
                 --clickhouse-addr: the port of the native protocol (9000), not that of HTTP (8123)",
                CONNECT_TIMEOUT.as_secs()
            )))
        })
    }

    fn password(&self) -> anyhow::Result<Secret> {
        match &self.password {
            Some(password) => password.read().context("clickhouse"),
            None => Ok(Secret::default()),
        }
    }
}
