//! Connects to a broker: TCP, TLS if configured, the versions of requests, and a login, each in bounded time.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rskafka::client::Credentials;
use rskafka::messenger::{Messenger, RequestError, SaslError};
use rskafka::protocol::error::Error as ProtocolError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::args::{Mechanism, SecurityArgs};
use super::scram_limit::{self, ScramLimited};
use super::transient::{AccessDenied, Transient};
use crate::address;
use crate::telemetry::login_refusals::{self, LoginServer};
use crate::tls::{self, Mismatch, Password, Tls};

pub type Wire = ScramLimited<tls::Wire>;

/// For the TCP connection to one broker.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// For one request about metadata or offsets.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(3);

const CLIENT_ID: &str = concat!("captcha/", env!("CARGO_PKG_VERSION"));

/// What to do about a broker that throttles captcha because the quota of this name is used up.
pub fn quota_advice(name: &str) -> String {
    format!("raise the quota {name} of its user, or of the client id {CLIENT_ID}")
}

/// The throttle time of a response; a negative one is zero.
pub(crate) fn throttle_time(millis: i32) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// Connects to any broker. Names are resolved and files are read for each connection.
#[derive(Debug)]
pub(crate) struct Connector {
    tls: Option<Tls>,
    login: Option<Login>,
    /// As configured; Kafka advertises others.
    addresses: Arc<[String]>,
}

#[derive(Debug)]
struct Login {
    mechanism: Mechanism,
    user: String,
    password: Password,
}

impl Connector {
    /// Checks the arguments; does not connect.
    ///
    /// # Errors
    /// A file cannot be read or has something else in it, or the password is missing or would be sent in the clear.
    pub fn new(args: SecurityArgs, addresses: Arc<[String]>) -> anyhow::Result<Connector> {
        let client = args.kafka_client_certificate_file;
        let tls = args.kafka_tls.then(|| Tls {
            ca_file: args.kafka_ca_file,
            client: client.zip(args.kafka_client_key_file),
        });
        if let Some(tls) = &tls {
            tls.check().context("kafka")?;
        }
        let mut login = None;
        if let Some((mechanism, user)) = args.kafka_sasl_mechanism.zip(args.kafka_user) {
            let file = args.kafka_password_file.map(Password::File);
            let password = file.or(args.kafka_password.map(Password::Given));
            let password =
                password.with_context(|| format!("kafka: user {user} has no password; give --kafka-password-file"))?;
            if mechanism == Mechanism::Plain && tls.is_none() {
                bail!("kafka: sasl plain would send the password in the clear; add --kafka-tls, or use scram-sha-512");
            }
            password.read().context("kafka")?;
            login = Some(Login {
                mechanism,
                user,
                password,
            });
        }
        Ok(Connector { tls, login, addresses })
    }

    /// A connection for requests whose responses have `response_bytes_max` at most.
    ///
    /// # Errors
    /// The broker does not accept within a second, or TLS, versions and login take more than three; a certificate or a
    /// password is wrong. The error says what is wrong and what to do.
    pub async fn messenger(&self, address: &str, response_bytes_max: usize) -> anyhow::Result<Messenger<Wire>> {
        self.messenger_over(address, response_bytes_max, |wire| wire).await
    }

    /// As [`Connector::messenger`], with a wrapper around the connection, such as a buffer.
    pub async fn messenger_over<S>(
        &self,
        address: &str,
        response_bytes_max: usize,
        wrap: impl FnOnce(Wire) -> S,
    ) -> anyhow::Result<Messenger<S>>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let tcp = self.connect_tcp(address).await?;
        let handshake = async {
            let (wire, login_is_over) = scram_limit::wrap(self.connect_tls(address, tcp).await?);
            let mut messenger = Messenger::new(wrap(wire), response_bytes_max, CLIENT_ID.into());
            let versions = messenger.sync_versions().await;
            versions.map_err(|err| self.handshake_failed(address, &err))?;
            if let Some(login) = &self.login {
                login.authenticate(address, &messenger).await?;
            }
            login_is_over.set();
            Ok(messenger)
        };
        let connected = timeout(CALL_TIMEOUT, handshake).await;
        connected.unwrap_or_else(|_| {
            Err(Transient::new(format!(
                "cannot talk to kafka at {address}: no answer within {} s; check {}",
                CALL_TIMEOUT.as_secs(),
                self.origin(address)
            ))
            .into())
        })
    }

    async fn connect_tls(&self, address: &str, tcp: TcpStream) -> anyhow::Result<tls::Wire> {
        let Some(tls) = &self.tls else {
            return Ok(tls::Wire::Left(tcp));
        };
        let (host, _port) = address.rsplit_once(':').unwrap_or((address, ""));
        let connected = tls.connect(host, tcp).await;
        connected.map_err(|err| {
            let reason = format!(
                "cannot connect to kafka at {address} with tls: {err:#}; check {} and --kafka-ca-file",
                self.origin(address)
            );
            match err.is::<Mismatch>() {
                true => anyhow::anyhow!(reason),
                false => Transient::new(reason).into(),
            }
        })
    }

    /// Where an address is configured.
    fn origin(&self, address: &str) -> &'static str {
        match self.addresses.iter().any(|given| given == address) {
            true => "--kafka-brokers",
            false => "advertised.listeners of kafka, which has this address",
        }
    }

    async fn connect_tcp(&self, address: &str) -> anyhow::Result<TcpStream> {
        let failed = |reason: String| Transient::new(format!("cannot connect to kafka at {address}{reason}"));
        let origin = self.origin(address);
        let addresses = address::resolve(address)
            .await
            .map_err(|reason| failed(format!(": {reason}; check {origin}, and the dns of this machine")))?;
        let advice = format!("check {origin}, and that kafka runs");
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(addresses.as_slice())).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                Ok(stream)
            }
            Ok(Err(err)) => Err(failed(format!(": {err}; {advice}")).into()),
            Err(_) => Err(failed(format!(" within 1 s; {advice}")).into()),
        }
    }

    /// The error of the first request on a connection.
    pub fn request_failed(&self, address: &str, err: RequestError) -> anyhow::Error {
        let closed = err.to_string().ends_with("early eof");
        match self.explain_tls_error(&err) {
            Some(reason) => anyhow::anyhow!("cannot talk to kafka at {address}: {reason}"),
            None if closed && self.login.is_none() => Transient::new(format!(
                "kafka at {address} closed the connection at the first request; does it need --kafka-sasl-mechanism?"
            ))
            .into(),
            None => Transient::new(format!("kafka at {address} did not answer: {err}; look at its log")).into(),
        }
    }

    /// Searches the causes of an error for one of TLS, and explains it.
    fn explain_tls_error(&self, err: &(dyn Error + 'static)) -> Option<String> {
        let tls = self.tls.as_ref()?;
        let mut cause = Some(err);
        while let Some(err) = cause {
            if let Some(RequestError::Poisoned(inner)) = err.downcast_ref() {
                return self.explain_tls_error(inner.as_ref());
            }
            let explained = err.downcast_ref::<io::Error>().and_then(|err| tls.in_words(err));
            if explained.is_some() {
                return explained;
            }
            cause = err.source();
        }
        None
    }

    fn handshake_failed(&self, address: &str, err: &(dyn Error + 'static)) -> anyhow::Error {
        let origin = self.origin(address);
        let advice = match self.tls {
            None => format!("check {origin}, and whether that port needs --kafka-tls"),
            Some(_) => format!("check {origin}"),
        };
        match self.explain_tls_error(err) {
            Some(reason) => {
                anyhow::anyhow!("cannot talk to kafka at {address}: {reason}; {advice}")
            }
            None => Transient::new(format!("cannot talk to kafka at {address}: {err}; {advice}")).into(),
        }
    }
}

impl Login {
    async fn authenticate<S>(&self, address: &str, messenger: &Messenger<S>) -> anyhow::Result<()>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (user, mechanism) = (&self.user, self.mechanism.name());
        let file = self.password.clone();
        // On a thread of its own: a disk may be slow.
        let password = tokio::task::spawn_blocking(move || file.read()).await?;
        let password = password.context("kafka")?;
        let credentials = Credentials::new(user.clone(), password.reveal().to_string());
        let Err(err) = messenger.do_sasl(self.mechanism.sasl_config(credentials)).await else {
            return Ok(());
        };
        let refused = format!("kafka at {address} refused the login of user {user} with {mechanism}");
        Err(match err {
            SaslError::ApiError(ProtocolError::UnsupportedSaslMechanism | ProtocolError::IllegalSaslState)
            | SaslError::UnsupportedSaslMechanism => {
                login_refusals::record(LoginServer::Kafka);
                anyhow::anyhow!(
                    "{refused}: that port does not offer it; check --kafka-sasl-mechanism and --kafka-brokers"
                )
            }
            SaslError::ApiError(ProtocolError::SaslAuthenticationFailed) | SaslError::SaslSessionError(_) => {
                login_refusals::record(LoginServer::Kafka);
                AccessDenied::new(format!(
                    "{refused}: wrong user or password; check --kafka-user and its password"
                ))
                .into()
            }
            err => Transient::new(format!("{refused}: {err}; look at kafka's log")).into(),
        })
    }
}
