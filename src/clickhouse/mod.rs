//! The noun ClickHouse: connections that end in bounded time, and everything that is asked of the tables.

mod cluster;
pub mod connection;
mod error_codes;
pub mod events;
mod insert_if_absent;
pub mod lock;
mod replication;
mod report;
pub mod schema;
mod topics;
mod watermarks;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use chrono::Utc;
use tokio::sync::Mutex;
use tokio::time::timeout;

pub use self::cluster::{Addresses, Cluster, ShardId};
pub use self::connection::{Connection, Error};
pub use self::error_codes::Action;
pub use self::events::audit::{Held, Span};
pub use self::events::dead_letters::DeadLetter;
pub use self::events::insert::{Insert, RAW_BYTES_LEAST, RAW_BYTES_MAX, Row, RowKind, arrival_millis, kept_raw};
pub use self::events::read::Head;
pub use self::events::retention::{DroppedRange, Month, StoredMonth};
pub use self::replication::Empty;
pub use self::report::{Filter, Freshness, Report, ReportError, ReportRow, SITE_IDS_MAX};
pub use self::schema::declared::{Declared, declared};
pub use self::schema::tables::{Table, Tables};
pub use self::topics::TopicRecord;
pub use self::watermarks::Watermark;
use crate::tls::{Password, Secret, Tls};

/// To connect and to log in, for each address. A server on the same network answers in milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Where ClickHouse is and who asks.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "ClickHouse")]
pub struct Args {
    /// ClickHouse, native protocol: host:port, `,` between replicas of the same data, `;` between shards: Kafka
    /// partition P is in shard P modulo their number, which is fixed by the first migration
    #[arg(
        long,
        env = "CAPTCHA_CLICKHOUSE_ADDR",
        value_name = "HOST:PORT,...;...",
        default_value = "127.0.0.1:9000"
    )]
    clickhouse_addr: Addresses,

    /// Database of the tables
    #[arg(
        long,
        env = "CAPTCHA_CLICKHOUSE_DATABASE",
        value_name = "NAME",
        default_value = "captcha"
    )]
    clickhouse_database: Identifier,

    /// User
    #[arg(
        long,
        env = "CAPTCHA_CLICKHOUSE_USER",
        value_name = "NAME",
        default_value = "default",
        value_parser = clap::builder::NonEmptyStringValueParser::new()
    )]
    clickhouse_user: String,

    /// Password [default: empty]; better in a file
    #[arg(
        long,
        env = "CAPTCHA_CLICKHOUSE_PASSWORD",
        value_name = "PASSWORD",
        hide_env_values = true,
        conflicts_with = "clickhouse_password_file"
    )]
    clickhouse_password: Option<Secret>,

    /// File that holds the password, read again for each connection; a final line break is not part of it
    #[arg(long, env = "CAPTCHA_CLICKHOUSE_PASSWORD_FILE", value_name = "FILE")]
    clickhouse_password_file: Option<PathBuf>,

    /// Connect with TLS; the port is another then, often 9440
    #[arg(long, env = "CAPTCHA_CLICKHOUSE_TLS")]
    clickhouse_tls: bool,

    /// Authorities that may sign the server's certificate, PEM [default: the system's]
    #[arg(
        long,
        env = "CAPTCHA_CLICKHOUSE_CA_FILE",
        value_name = "FILE",
        requires = "clickhouse_tls"
    )]
    clickhouse_ca_file: Option<PathBuf>,

    /// Our own certificate chain for a server that asks for one, PEM
    #[arg(
        long,
        env = "CAPTCHA_CLICKHOUSE_CLIENT_CERTIFICATE_FILE",
        value_name = "FILE",
        requires_all = ["clickhouse_tls", "clickhouse_client_key_file"]
    )]
    clickhouse_client_certificate_file: Option<PathBuf>,

    /// Its private key, PEM; read again for each connection, as the certificates are
    #[arg(
        long,
        env = "CAPTCHA_CLICKHOUSE_CLIENT_KEY_FILE",
        value_name = "FILE",
        requires = "clickhouse_client_certificate_file"
    )]
    clickhouse_client_key_file: Option<PathBuf>,
}

/// A name that needs no quoting in SQL: letters, digits and `_`, not a digit first, at most 64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identifier(String);

impl FromStr for Identifier {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let fits = (1..=64).contains(&text.len()) && !text.starts_with(|c: char| c.is_ascii_digit());
        if fits && text.chars().all(plain) {
            Ok(Identifier(text.to_string()))
        } else {
            Err("expected 1 to 64 letters, digits or _, not a digit first".to_string())
        }
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One shard of ClickHouse as configured; connects anew whenever it is asked to.
#[derive(Debug, Clone)]
pub struct Shard {
    addresses: Vec<String>,
    id: ShardId,
    database: Identifier,
    user: String,
    password: Option<Password>,
    tls: Option<Tls>,
    /// Whose replicas have the same tables.
    cluster: Option<Identifier>,
    /// Held during an insert into tables of several replicas; clones share it.
    inserting: Arc<Mutex<()>>,
    /// As last seen; clones share it.
    schema_version: Arc<AtomicU32>,
}

impl Shard {
    /// Checks what can be checked without a connection.
    ///
    /// # Errors
    /// A file of a password or of certificates cannot be read, or is not what it should be.
    fn new(args: &Args, addresses: Vec<String>, id: ShardId) -> anyhow::Result<Shard> {
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

    /// Which shard it is.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// The newest migration that it had when [`Shard::connect_to_schema`] looked last; 0 before that, and without any.
    pub fn schema_version(&self) -> u32 {
        self.schema_version.load(Ordering::Relaxed)
    }

    /// The database as given.
    pub fn database(&self) -> &Identifier {
        &self.database
    }

    /// Connects to the first address that answers and enters the database.
    ///
    /// # Errors
    /// No address answers, the login is refused, or there is no such database
    /// ([`Action::SchemaMissing`]). Takes at most 3 seconds for each address and 6 more.
    pub async fn connect(&self) -> Result<Connection, Error> {
        let connection = self.connect_outside().await?;
        connection.enter(&self.database).await?;
        Ok(connection)
    }

    /// The same at one of its addresses.
    ///
    /// # Errors
    /// As [`Shard::connect`].
    pub async fn connect_at(&self, address: &str) -> Result<Connection, Error> {
        let connection = self.connect_to(address).await?;
        connection.enter(&self.database).await?;
        Ok(connection)
    }

    /// Connects, and makes sure that the schema is one that this captcha can work with.
    ///
    /// # Errors
    /// As [`Shard::connect`]; [`Error::Schema`] says what is lacking.
    pub async fn connect_to_schema(&self) -> Result<Connection, Error> {
        let (addresses, database) = (self.addresses(), self.database());
        let nothing = || {
            Error::Schema(format!(
                "clickhouse at {addresses} has no tables in database {database}; run `captcha migrate`"
            ))
        };
        let connection = match self.connect().await {
            Err(err) if err.action() == Action::SchemaMissing => return Err(nothing()),
            other => other?,
        };
        let applied = connection.applied().await?;
        let version = applied.iter().map(|record| record.version).max();
        self.schema_version.store(version.unwrap_or(0), Ordering::Relaxed);
        if applied.is_empty() {
            connection.verify_visibility_of_all().await?;
            return Err(nothing());
        }
        if let Some(reason) = schema::misfit(&applied) {
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
    /// As [`Shard::connect_to_schema`]; [`Error::Schema`] too if the topic is not recorded, or retired.
    pub async fn connect_for(&self, topic: &str) -> Result<(Connection, TopicRecord), Error> {
        let connection = self.connect_to_schema().await?;
        match connection.topic_record(topic).await? {
            Some(facts) if facts.partitions > 0 => Ok((connection, facts)),
            Some(_) => Err(Error::Schema(format!(
                "topic {topic} is retired in clickhouse; run `captcha migrate` to take it up again"
            ))),
            None => {
                connection.verify_visibility_of_all().await?;
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
    pub async fn connect_outside(&self) -> Result<Connection, Error> {
        let mut last = Error::Connection("no clickhouse address".to_string());
        for address in &self.addresses {
            match self.connect_to(address).await {
                Ok(connection) => return Ok(connection),
                Err(err) => last = err,
            }
        }
        Err(last)
    }

    async fn clock_ahead_millis(&self) -> Result<i64, Error> {
        let connection = self.connect_outside().await?;
        let before = Utc::now().timestamp_millis();
        let theirs = connection.now_millis().await?;
        let after = Utc::now().timestamp_millis();
        Ok(before + (after - before) / 2 - theirs)
    }

    async fn connect_to(&self, address: &str) -> Result<Connection, Error> {
        let password = self
            .password()
            .map_err(|err| Error::Configuration(format!("{err:#}")))?;
        let open = Connection::open(
            address,
            self.tls.as_ref(),
            &self.user,
            password.reveal(),
            &self.database.0,
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

/// A string literal.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_need_no_quoting() {
        assert!("captcha_2".parse::<Identifier>().is_ok());
        for bad in ["", "2captcha", "a-b", "a b", "a`b", "ä", &"x".repeat(65)] {
            assert!(bad.parse::<Identifier>().is_err(), "{bad}");
        }
    }

    #[test]
    fn literals_keep_their_quotes_inside() {
        assert_eq!(quote(r"a'b\c"), r"'a\'b\\c'");
    }
}
