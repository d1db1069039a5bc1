//! The noun ClickHouse: connections that end in bounded time, and everything that is asked of the tables.

mod counters;
mod log;
mod login;
pub mod schema;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
#[cfg(test)]
pub use counters::Counter;
pub use counters::{Counters, CountersError, Filter};
use futures_util::StreamExt as _;
use klickhouse::block::Block;
use klickhouse::{ClientOptions, KlickhouseError, Value};
pub use log::{Content, Head, Insert, Place, Row};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// To connect and to log in, for each address. A server on the same network answers in milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// For a question whose answer is small. With [`CONNECT_TIMEOUT`] it keeps an HTTP report that
/// ClickHouse does not answer under the 10 seconds that the contract promises.
const QUERY_TIMEOUT: Duration = Duration::from_secs(6);

/// Where ClickHouse is and who asks.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "ClickHouse")]
pub struct Args {
    /// ClickHouse, native protocol: host:port, `,` between replicas of the same data
    #[arg(long, env = "CAPTCHA_CLICKHOUSE_ADDR", value_name = "HOST:PORT,...", value_delimiter = ',', default_value = "127.0.0.1:9000", value_parser = parse_address)]
    clickhouse_addr: Vec<String>,

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
        default_value = "default"
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
}

/// A name that needs no quoting in SQL: letters, digits and `_`, not a digit first, at most 64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identifier(String);

impl FromStr for Identifier {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let fits =
            (1..=64).contains(&text.len()) && !text.starts_with(|c: char| c.is_ascii_digit());
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

/// A value that no log line, error or debug output shows.
#[derive(Clone)]
pub struct Secret(String);

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Secret(text.to_string()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

fn parse_address(text: &str) -> Result<String, String> {
    if text.contains(';') {
        return Err("`;` between shards is not supported yet".to_string());
    }
    match text.rsplit_once(':') {
        Some((host, port))
            if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) =>
        {
            Ok(text.to_string())
        }
        _ => Err("expected host:port".to_string()),
    }
}

/// Why ClickHouse did not do what it was asked.
#[derive(Debug)]
pub enum Error {
    /// The server answered with an exception of this code.
    Server {
        /// ClickHouse's number for the error.
        code: i32,
        /// First line of its message.
        message: String,
    },
    /// There was no answer, or not all of it: the connection is of no further use.
    Connection(String),
}

/// `UNKNOWN_TABLE`, as ClickHouse numbers its errors (src/Common/ErrorCodes.cpp).
const UNKNOWN_TABLE: i32 = 60;
/// `UNKNOWN_DATABASE`.
const UNKNOWN_DATABASE: i32 = 81;

impl Error {
    /// Whether the database or a table is not there: `captcha migrate` has not run.
    pub fn is_schema_missing(&self) -> bool {
        matches!(self, Error::Server { code, .. } if [UNKNOWN_TABLE, UNKNOWN_DATABASE].contains(code))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Server { code, message } => write!(f, "clickhouse error {code}: {message}"),
            Error::Connection(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Error {}

impl From<KlickhouseError> for Error {
    fn from(err: KlickhouseError) -> Self {
        match err {
            KlickhouseError::ServerException { code, message, .. } => Error::server(code, &message),
            KlickhouseError::ProtocolError(_) => {
                Error::Connection("clickhouse closed the connection".to_string())
            }
            other => Error::Connection(format!("clickhouse connection failed: {other}")),
        }
    }
}

impl Error {
    fn server(code: i32, message: &str) -> Error {
        Error::Server {
            code,
            message: first_line(message).to_string(),
        }
    }
}

/// What a server's message says, without the exception's name and a trace.
fn first_line(message: &str) -> &str {
    let line = message.lines().next().unwrap_or_default();
    line.trim_start_matches("DB::Exception: ").trim_end()
}

/// ClickHouse as configured; connects anew whenever it is asked to.
#[derive(Debug, Clone)]
pub struct Store {
    args: Args,
}

impl Store {
    /// Checks what can be checked without a connection.
    ///
    /// # Errors
    /// The password file cannot be read.
    pub fn new(args: Args) -> anyhow::Result<Store> {
        let store = Store { args };
        store.password()?;
        Ok(store)
    }

    /// The addresses as given, for messages.
    pub fn addresses(&self) -> String {
        self.args.clickhouse_addr.join(",")
    }

    /// The database as given.
    pub fn database(&self) -> &Identifier {
        &self.args.clickhouse_database
    }

    /// Connects to the first address that answers and enters the database.
    ///
    /// # Errors
    /// No address answers, the login is refused, or there is no such database
    /// ([`Error::is_schema_missing`]). Takes at most 3 seconds for each address and 6 more.
    pub async fn connect(&self) -> Result<Connection, Error> {
        let connection = self.connect_outside().await?;
        connection
            .execute(&format!("USE {}", self.database()))
            .await?;
        Ok(connection)
    }

    /// Connects without entering the database, which may not be there yet.
    ///
    /// # Errors
    /// As [`Store::connect`], without the database.
    pub async fn connect_outside(&self) -> Result<Connection, Error> {
        let password = self
            .password()
            .map_err(|err| Error::Connection(format!("{err:#}")))?;
        let mut last = Error::Connection("no clickhouse address".to_string());
        for address in &self.args.clickhouse_addr {
            match timeout(CONNECT_TIMEOUT, self.log_in(address, &password)).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(err)) => last = err,
                Err(_) => {
                    last = Error::Connection(format!(
                        "clickhouse at {address} did not answer within {} s",
                        CONNECT_TIMEOUT.as_secs()
                    ));
                }
            }
        }
        Err(last)
    }

    async fn log_in(&self, address: &str, password: &Secret) -> Result<Connection, Error> {
        let failed =
            |err| Error::Connection(format!("cannot connect to clickhouse at {address}: {err}"));
        let stream = TcpStream::connect(address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let (read, write) = stream.into_split();
        let (read, transcript) = login::transcribe(read);
        let options = ClientOptions {
            username: self.args.clickhouse_user.clone(),
            password: password.0.clone(),
            ..ClientOptions::default()
        };
        match klickhouse::Client::connect_stream(read, write, options).await {
            Ok(client) => Ok(Connection { client }),
            // The driver says only that its channel is closed; what the server said is in the transcript.
            Err(err) => Err(match transcript.exception() {
                Some((code, message)) => self.refused(address, code, &message),
                None => Error::Connection(format!(
                    "clickhouse at {address} closed the connection during the login of user {}: {err}",
                    self.args.clickhouse_user
                )),
            }),
        }
    }

    fn refused(&self, address: &str, code: i32, message: &str) -> Error {
        Error::Connection(format!(
            "clickhouse at {address} refused the login of user {}: {} (error {code}); check --clickhouse-user and --clickhouse-password",
            self.args.clickhouse_user,
            first_line(message)
        ))
    }

    fn password(&self) -> anyhow::Result<Secret> {
        let Some(file) = &self.args.clickhouse_password_file else {
            let inline = self.args.clickhouse_password.clone();
            return Ok(inline.unwrap_or(Secret(String::new())));
        };
        let text = std::fs::read_to_string(file).with_context(|| {
            format!(
                "cannot read the clickhouse password from {}",
                file.display()
            )
        })?;
        Ok(Secret(text.trim_end_matches(['\r', '\n']).to_string()))
    }
}

/// One connection. After any error, and after a call that was cancelled, drop it: the driver may
/// be waiting for an answer that belongs to somebody else.
pub struct Connection {
    client: klickhouse::Client,
}

impl Connection {
    async fn execute(&self, sql: &str) -> Result<(), Error> {
        self.each_block(sql, QUERY_TIMEOUT, |_| Ok(())).await
    }

    /// Hands over the blocks of an answer one by one. An answer that is cut short looks complete to the
    /// driver, so a second question on the same connection proves that the first was answered to its end.
    async fn each_block(
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
                _ => Err(Error::Connection(
                    "clickhouse closed the connection in the middle of an answer".to_string(),
                )),
            }
        };
        match timeout(limit, ask).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Connection(format!(
                "clickhouse did not answer within {} s",
                limit.as_secs()
            ))),
        }
    }

    async fn drain(
        &self,
        sql: &str,
        mut take: impl FnMut(Block) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut stream = self.client.query_raw(sql, None).await?;
        while let Some(block) = stream.next().await {
            let block = block?;
            if block.rows > 0 {
                take(block)?;
            }
        }
        Ok(())
    }

    /// The rows of a small answer.
    async fn rows(&self, sql: &str) -> Result<Vec<Vec<Value>>, Error> {
        let mut rows = Vec::new();
        self.each_block(sql, QUERY_TIMEOUT, |block| {
            rows.extend(rows_of(block));
            Ok(())
        })
        .await?;
        Ok(rows)
    }
}

fn rows_of(mut block: Block) -> Vec<Vec<Value>> {
    block
        .take_iter_rows()
        .map(|row| row.into_iter().map(|(_, _, value)| value).collect())
        .collect()
}

/// An answer of another shape than the question's: a bug, or a server that is not ClickHouse.
fn unexpected(what: &str) -> Error {
    Error::Connection(format!("clickhouse gave an unexpected answer for {what}"))
}

/// A string literal.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        for good in ["127.0.0.1:9000", "clickhouse-0.svc:9440", "[::1]:9000"] {
            assert_eq!(parse_address(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "localhost",
            ":9000",
            "host:",
            "host:0",
            "host:65536",
            "a:1;b:2",
        ] {
            assert!(parse_address(bad).is_err(), "{bad}");
        }
    }

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

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(format!("{:?}", Secret("swordfish".to_string())), "***");
    }
}
