//! One connection: questions with a limit in time, and errors that say who said what.

pub mod exception;
pub mod login;
pub mod packets;
pub mod server_version;
pub mod settings;

use std::fmt;
use std::net::Shutdown;
use std::time::Duration;

use futures_util::StreamExt as _;
use klickhouse::block::Block;
use klickhouse::{ClientOptions, KlickhouseError, Value};
use socket2::{SockRef, Socket};
use tokio::net::TcpStream;
use tokio::time::timeout;

use self::exception::Missing;
use self::packets::Refusal;
use self::server_version::Version;
use super::Identifier;
use super::error_codes::{self, Action, READONLY, SETTING_CONSTRAINT_VIOLATION};
use super::replication::Turn;
use crate::tls::{Mismatch, Tls, Wire};
use crate::{address, tested_versions};

/// For a question whose answer is small. With connecting it keeps an HTTP report that
/// ClickHouse does not answer under the 10 seconds that the contract promises.
pub(crate) const QUERY_TIMEOUT: Duration = Duration::from_secs(6);

/// Rows of an answer that is held whole. The largest, of all partitions of a topic, have some thousands.
const ROWS_MAX: usize = 100_000;

/// What is to be done about a table or a database that is missing and that captcha never makes.
const NOT_OURS: &str = "make it again, or drop the view on events that needs it: it is not captcha's";

/// Why ClickHouse did not do what it was asked.
#[derive(Debug)]
pub enum Error {
    /// The server answered with an exception of this code.
    Server {
        /// ClickHouse's number for the error.
        code: i32,
        /// What captcha does about it.
        action: Action,
        /// Who answered, the code, the first line of the server's message, and what to do.
        message: String,
    },
    /// There was no answer, or not all of it: the connection is of no further use.
    Connection(String),
    /// What is set for captcha does not fit: a file, or who is who in TLS.
    Configuration(String),
    /// The schema is not one that this captcha can work with; what is lacking, and what to do.
    Schema(String),
    /// The server does not show this user all rows; of which table, and what to do.
    Hidden(String),
}

impl Error {
    /// What captcha does about it.
    pub fn action(&self) -> Action {
        match self {
            Error::Server { action, .. } => *action,
            Error::Connection(_) | Error::Configuration(_) | Error::Hidden(_) => Action::Hold,
            Error::Schema(_) => Action::SchemaMissing,
        }
    }
}

impl Error {
    /// Whether it may pass by itself, without anybody changing what is set.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Server { code, .. } => error_codes::is_transient(*code),
            Error::Connection(_) => true,
            Error::Configuration(_) | Error::Schema(_) | Error::Hidden(_) => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Server { message, .. } => f.write_str(message),
            Error::Connection(reason)
            | Error::Configuration(reason)
            | Error::Schema(reason)
            | Error::Hidden(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Error {}

/// One connection. After any error, and after a call that was cancelled, drop it: the driver may
/// be waiting for an answer that belongs to somebody else.
pub struct Connection {
    pub(crate) client: klickhouse::Client,
    address: String,
    user: String,
    /// Of the tables, for messages.
    database: String,
    /// Of the server.
    pub(crate) version: Version,
    refusal: Refusal,
    _hang_up: HangUp,
}

/// Ends a connection for both sides when dropped. The driver's own task would wait for a frozen server
/// for ever, and keep its descriptor as long.
struct HangUp(Socket);

impl Drop for HangUp {
    fn drop(&mut self) {
        // Fails where the server has hung up already.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

impl Connection {
    /// Connects and logs in. May take for ever: the caller limits it.
    ///
    /// # Errors
    /// Nobody listens at the address, or the login is refused.
    pub(crate) async fn open(
        address: &str,
        tls: Option<&Tls>,
        user: &str,
        password: &str,
        database: &str,
    ) -> Result<Connection, Error> {
        let failed = |err| {
            Error::Connection(format!(
                "cannot connect to clickhouse at {address}: {err}; \
                 check --clickhouse-addr, and that clickhouse runs"
            ))
        };
        let found = address::resolve(address).await.map_err(|reason| {
            Error::Connection(format!(
                "cannot connect to clickhouse at {address}: {reason}; \
                 check --clickhouse-addr, and the dns of this machine"
            ))
        })?;
        let stream = TcpStream::connect(found.as_slice()).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let hang_up = HangUp(SockRef::from(&stream).try_clone().map_err(failed)?);
        let stream = match tls {
            None => Wire::Left(stream),
            Some(tls) => {
                let (host, _port) = address.rsplit_once(':').unwrap_or((address, ""));
                tls.connect(host, stream).await.map_err(|err| {
                    let reason = format!(
                        "cannot connect to clickhouse at {address} with tls: {err:#}; \
                         check --clickhouse-addr and --clickhouse-ca-file"
                    );
                    match err.is::<Mismatch>() {
                        true => Error::Configuration(reason),
                        false => Error::Connection(reason),
                    }
                })?
            }
        };
        let (read, write) = tokio::io::split(stream);
        let (read, transcript) = login::transcribe(read);
        let (read, refusal) = packets::check(read);
        let options = ClientOptions {
            username: user.to_string(),
            password: password.to_string(),
            settings: settings::PINS
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
            ..ClientOptions::default()
        };
        match klickhouse::Client::connect_stream(read, write, options).await {
            Ok(client) => {
                let version = transcript.version();
                let version = version.ok_or_else(|| unexpected("its greeting"))?;
                tested_versions::log_newer_clickhouse_once(address, version.major, version.minor);
                Ok(Connection {
                    client,
                    address: address.to_string(),
                    user: user.to_string(),
                    database: database.to_string(),
                    version,
                    refusal,
                    _hang_up: hang_up,
                })
            }
            // The driver may say only that its channel is closed; what the server said is in the transcript.
            Err(err) => Err(match (transcript.exception(), err) {
                (Some((code, message)), _) | (None, KlickhouseError::ServerException { code, message, .. }) => {
                    refused(address, user, code, &message)
                }
                (None, err) => {
                    let sent = refusal.reason().map(|reason| format!("it {reason}"));
                    let reason = sent.unwrap_or_else(|| err.to_string());
                    Error::Connection(format!(
                        "clickhouse at {address} closed the connection during the login of user {user}: {reason}; \
                         check --clickhouse-addr, and look at clickhouse's log"
                    ))
                }
            }),
        }
    }

    /// Where the server is, for messages.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Who asks, for messages.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// The database of the tables.
    pub(crate) fn database(&self) -> &str {
        &self.database
    }

    /// Questions are about this database from now on.
    pub(crate) async fn enter(&self, database: &Identifier) -> Result<(), Error> {
        self.execute(&format!("USE {database}")).await
    }

    pub(crate) async fn execute(&self, sql: &str) -> Result<(), Error> {
        let turn = Turn::new();
        loop {
            let answer = self.each_block(sql, QUERY_TIMEOUT, |_| Ok(())).await;
            if !turn.comes_after(&answer).await {
                return answer;
            }
        }
    }

    /// What a driver's error means to people.
    pub(crate) fn explain(&self, err: KlickhouseError) -> Error {
        match err {
            KlickhouseError::ServerException { code, message, .. } => self.answered(code, &message),
            KlickhouseError::ProtocolError(_) => self.failed("closed the connection"),
            other => self.failed(&format!("could not be understood: {other}")),
        }
    }

    fn answered(&self, code: i32, message: &str) -> Error {
        let meaning = error_codes::meaning(code);
        let (address, database, advice) = (&self.address, &self.database, meaning.advice);
        let said = |advice: &str| {
            let what = match not_settable(code, message) {
                Some(what) => what + ":",
                None => "answered".to_string(),
            };
            let (title, words) = (meaning.title(code), first_line(message));
            format!("clickhouse at {address} {what} {title}: {words}; {advice}")
        };
        // A failure inside a view that others made is neither a head that moved nor a table that captcha lost.
        let (action, message) = match (exception::view(message), exception::missing(code, message, database)) {
            (Some(view), _) => {
                let advice = format!("correct the view {view}, which is not captcha's, or drop it");
                (Action::Hold, said(&advice))
            }
            (None, Some(Missing::Theirs)) => (Action::Hold, said(NOT_OURS)),
            (None, Some(Missing::Table(table))) => (
                meaning.action,
                format!(
                    "clickhouse at {address} has not all tables in database {database}: {table} is missing; {advice}"
                ),
            ),
            (None, Some(Missing::Database)) => (
                meaning.action,
                format!("clickhouse at {address} has no tables in database {database}; {advice}"),
            ),
            (None, None) => (meaning.action, said(advice)),
        };
        Error::Server { code, action, message }
    }

    /// An answer that did not come, or not to its end.
    pub(crate) fn failed(&self, how: &str) -> Error {
        let address = &self.address;
        Error::Connection(match self.refusal.reason() {
            Some(reason) => format!(
                "clickhouse at {address} {reason}; see that it is a clickhouse that captcha supports, and that nobody changes what it sends"
            ),
            None => format!("clickhouse at {address} {how}; look at its load and its log"),
        })
    }

    /// Hands over the blocks of an answer one by one. An answer that is cut short looks complete to the
    /// driver, so a second question on the same connection proves that the first was answered to its end.
    pub(crate) async fn each_block(
        &self,
        sql: &str,
        limit: Duration,
        mut take: impl FnMut(Block) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let ask = async {
            self.drain(sql, &mut take).await?;
            let mut answered = 0;
            self.drain("SELECT 1", |block| {
                answered += block.rows;
                Ok(())
            })
            .await?;
            match answered {
                1 => Ok(()),
                _ => Err(self.failed("closed the connection in the middle of an answer")),
            }
        };
        match timeout(limit, ask).await {
            Ok(answer) => answer,
            Err(_) => Err(self.failed(&format!("did not answer within {} s", limit.as_secs()))),
        }
    }

    async fn drain(&self, sql: &str, mut take: impl FnMut(Block) -> Result<(), Error>) -> Result<(), Error> {
        let stream = self.client.query_raw(sql, None).await;
        let mut stream = stream.map_err(|err| self.explain(err))?;
        while let Some(block) = stream.next().await {
            let block = block.map_err(|err| self.explain(err))?;
            if block.rows > 0 {
                take(block)?;
            }
        }
        Ok(())
    }

    /// The rows of a small answer.
    pub(crate) async fn rows(&self, sql: &str) -> Result<Vec<Vec<Value>>, Error> {
        let mut rows = Vec::new();
        self.each_block(sql, QUERY_TIMEOUT, |block| {
            rows.extend(rows_of(block));
            match rows.len() {
                0..=ROWS_MAX => Ok(()),
                _ => Err(self.failed(&format!("gave more than {ROWS_MAX} rows for a few"))),
            }
        })
        .await?;
        Ok(rows)
    }
}

pub(crate) fn rows_of(mut block: Block) -> Vec<Vec<Value>> {
    block
        .take_iter_rows()
        .map(|row| row.into_iter().map(|(_, _, value)| value).collect())
        .collect()
}

/// The text of a value.
pub(crate) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(bytes) => String::from_utf8(bytes.clone()).ok(),
        _ => None,
    }
}

/// An answer of another shape than the question's: a bug, or a server that is not ClickHouse.
pub(crate) fn unexpected(what: &str) -> Error {
    Error::Connection(format!("clickhouse gave an unexpected answer for {what}"))
}

/// The server did not let a user in.
fn refused(address: &str, user: &str, code: i32, message: &str) -> Error {
    let meaning = error_codes::meaning(code);
    let what = not_settable(code, message);
    let what = what.unwrap_or_else(|| format!("refused the login of user {user}"));
    let message = format!(
        "clickhouse at {address} {what}: {}: {}; {}",
        meaning.title(code),
        first_line(message),
        meaning.advice
    );
    Error::Server {
        code,
        action: meaning.action,
        message,
    }
}

/// What a server that refuses a pinned setting does.
fn not_settable(code: i32, message: &str) -> Option<String> {
    let is_refusal = [READONLY, SETTING_CONSTRAINT_VIOLATION].contains(&code);
    let (name, value) = is_refusal.then(|| settings::pinned_in(message)).flatten()?;
    Some(format!("does not let --clickhouse-user set {name} = '{value}'"))
}

/// What a server's message says, without the exception's name, a full stop and a trace.
fn first_line(message: &str) -> &str {
    const CHARS_MAX: usize = 300;
    let line = message.lines().next().unwrap_or_default();
    let line = line.trim_start_matches("DB::Exception: ");
    let line = line.trim_end().trim_end_matches('.');
    line.char_indices().nth(CHARS_MAX).map_or(line, |(end, _)| &line[..end])
}
