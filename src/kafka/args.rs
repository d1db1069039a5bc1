//! Flags: where Kafka is, which topic holds the events, and how connections are secured.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use rskafka::client::{Credentials, SaslConfig};

use crate::address::parse_address;
use crate::tls::Secret;

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Kafka")]
pub struct Args {
    /// Kafka brokers for the first connection: host:port, comma separated
    #[arg(
        long,
        env = "CAPTCHA_KAFKA_BROKERS",
        value_name = "HOST:PORT,...",
        value_delimiter = ',',
        default_value = "127.0.0.1:9092",
        value_parser = parse_address
    )]
    pub(super) kafka_brokers: Vec<String>,

    #[command(flatten)]
    pub(super) topic: TopicArgs,

    #[command(flatten)]
    pub(super) security: SecurityArgs,
}

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct TopicArgs {
    /// Topic of the events
    #[arg(long, env = "CAPTCHA_KAFKA_TOPIC", value_name = "NAME", default_value = "captcha")]
    pub(super) kafka_topic: TopicName,
}

impl TopicArgs {
    pub fn name(&self) -> &TopicName {
        &self.kafka_topic
    }
}

/// A name that Kafka accepts for a topic: 1 to 249 letters, digits, `.`, `_` or `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicName(Arc<str>);

impl FromStr for TopicName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The rule of org.apache.kafka.common.internals.Topic.validate.
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        let fits = (1..=249).contains(&text.len()) && text != "." && text != "..";
        if fits && text.chars().all(plain) {
            Ok(TopicName(text.into()))
        } else {
            Err("expected 1 to 249 letters, digits, `.`, `_` or `-`".to_string())
        }
    }
}

impl TopicName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub struct SecurityArgs {
    /// Connect with TLS
    #[arg(long, help_heading = "Kafka TLS", env = "CAPTCHA_KAFKA_TLS")]
    pub(super) kafka_tls: bool,

    /// Certificate authorities that may sign the certificates of brokers, PEM [default: those of the system]
    #[arg(
        long,
        help_heading = "Kafka TLS",
        env = "CAPTCHA_KAFKA_CA_FILE",
        value_name = "FILE",
        requires = "kafka_tls"
    )]
    pub(super) kafka_ca_file: Option<PathBuf>,

    /// Client certificate chain, for brokers that ask for one, PEM
    #[arg(
        long,
        help_heading = "Kafka TLS",
        env = "CAPTCHA_KAFKA_CLIENT_CERTIFICATE_FILE",
        value_name = "FILE",
        requires_all = ["kafka_tls", "kafka_client_key_file"]
    )]
    pub(super) kafka_client_certificate_file: Option<PathBuf>,

    /// Private key of the client certificate, PEM; read for each connection, as the certificates are
    #[arg(
        long,
        help_heading = "Kafka TLS",
        env = "CAPTCHA_KAFKA_CLIENT_KEY_FILE",
        value_name = "FILE",
        requires = "kafka_client_certificate_file"
    )]
    pub(super) kafka_client_key_file: Option<PathBuf>,

    /// Mechanism of a login with SASL; `plain` sends the password itself and needs TLS
    #[arg(
        long,
        help_heading = "Kafka login",
        env = "CAPTCHA_KAFKA_SASL_MECHANISM",
        value_name = "MECHANISM",
        requires = "kafka_user"
    )]
    pub(super) kafka_sasl_mechanism: Option<Mechanism>,

    /// User of a login with SASL
    #[arg(
        long,
        help_heading = "Kafka login",
        env = "CAPTCHA_KAFKA_USER",
        value_name = "NAME",
        requires = "kafka_sasl_mechanism",
        value_parser = clap::builder::NonEmptyStringValueParser::new()
    )]
    pub(super) kafka_user: Option<String>,

    /// Password; safer in a file
    #[arg(
        long,
        help_heading = "Kafka login",
        env = "CAPTCHA_KAFKA_PASSWORD",
        value_name = "PASSWORD",
        hide_env_values = true,
        requires = "kafka_user",
        conflicts_with = "kafka_password_file"
    )]
    pub(super) kafka_password: Option<Secret>,

    /// File with the password, read for each connection; a final line break is not part of it
    #[arg(
        long,
        help_heading = "Kafka login",
        env = "CAPTCHA_KAFKA_PASSWORD_FILE",
        value_name = "FILE",
        requires = "kafka_user"
    )]
    pub(super) kafka_password_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Mechanism {
    Plain,
    #[value(name = "scram-sha-256")]
    ScramSha256,
    #[value(name = "scram-sha-512")]
    ScramSha512,
}

impl Mechanism {
    /// In the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha512 => "SCRAM-SHA-512",
        }
    }

    pub fn sasl_config(self, credentials: Credentials) -> SaslConfig {
        match self {
            Mechanism::Plain => SaslConfig::Plain(credentials),
            Mechanism::ScramSha256 => SaslConfig::ScramSha256(credentials),
            Mechanism::ScramSha512 => SaslConfig::ScramSha512(credentials),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_follow_kafkas_rule() {
        for good in ["captcha", "a.b_c-D9", &"x".repeat(249)] {
            assert!(good.parse::<TopicName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "a'b", "ä", &"x".repeat(250)] {
            assert!(bad.parse::<TopicName>().is_err(), "{bad}");
        }
    }
}
