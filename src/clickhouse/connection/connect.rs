//! Connects, and logs in.

use std::net::Shutdown;

use klickhouse::{ClientOptions, KlickhouseError};
use socket2::{SockRef, Socket};
use tokio::net::TcpStream;

use super::packets::Received;
use super::server_version::Version;
use super::{exception, login, packets, settings};
use crate::clickhouse::error::{Error, unexpected};
use crate::tls::{Mismatch, Tls, Wire};
use crate::{address, tested_versions};

/// One connection. Drop it after any error, and after a call that was cancelled: the driver may still wait for the
/// answer of that call, and take it for the answer of the next one.
pub struct Connection {
    pub(crate) client: klickhouse::Client,
    address: String,
    user: String,
    /// The database of the tables, for messages.
    database: String,
    /// The server's.
    pub(crate) version: Version,
    received: Received,
    _hang_up: ShutdownOnDrop,
}

/// Ends a connection for both sides when dropped. The driver's own task would wait for a frozen server
/// for ever, and keep its descriptor as long.
struct ShutdownOnDrop(Socket);

impl Drop for ShutdownOnDrop {
    fn drop(&mut self) {
        // Fails where the server has hung up already.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

impl Connection {
    /// Connects and logs in. May take for ever: the caller limits it.
    ///
    /// # Errors
    /// No server listens at the address, or it refuses the login.
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
        let hang_up = ShutdownOnDrop(SockRef::from(&stream).try_clone().map_err(failed)?);
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
        let (read, received) = packets::check(read);
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
                    received,
                    _hang_up: hang_up,
                })
            }
            // The driver may say only that its channel is closed; what the server said is in the transcript.
            Err(err) => Err(match (transcript.exception(), err) {
                (Some((code, message)), _) | (None, KlickhouseError::ServerException { code, message, .. }) => {
                    exception::login_refused(address, user, code, &message)
                }
                (None, err) => {
                    let sent = received.reason().map(|reason| format!("it {reason}"));
                    let reason = sent.unwrap_or_else(|| err.to_string());
                    Error::Connection(format!(
                        "clickhouse at {address} closed the connection during the login of user {user}: {reason}; \
                         check --clickhouse-addr, and look at clickhouse's log"
                    ))
                }
            }),
        }
    }

    /// Whether the server has left it open, as far as is known. Costs nothing: the driver reads all the time.
    pub(crate) fn is_open(&self) -> bool {
        !self.client.is_closed()
    }

    /// The answers that came to their end.
    pub(super) fn whole_answers(&self) -> u64 {
        self.received.whole_answers()
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// The database of the tables.
    pub(crate) fn database(&self) -> &str {
        &self.database
    }

    /// The error of an answer that did not come, or not to its end; `how` follows the server's name.
    pub(crate) fn connection_error(&self, how: &str) -> Error {
        let address = &self.address;
        Error::Connection(match self.received.reason() {
            Some(reason) => format!(
                "clickhouse at {address} {reason}; see that it is a clickhouse that captcha supports, and that nothing \
                 between changes what it sends"
            ),
            None => format!("clickhouse at {address} {how}; look at its load and its log"),
        })
    }
}
