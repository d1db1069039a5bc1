//! Where ClickHouse is, as it is configured: addresses, shards and their replicas, login and TLS.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::sql::Identifier;
use crate::address::parse_address;
use crate::tls::Secret;
use crate::topic_partition::Partition;

/// The addresses of ClickHouse, the login, and TLS.
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
    pub(super) clickhouse_addr: Addresses,

    /// Database of the tables
    #[arg(
        long,
        env = "CAPTCHA_CLICKHOUSE_DATABASE",
        value_name = "NAME",
        default_value = "captcha"
    )]
    pub(super) clickhouse_database: Identifier,

    /// User
    #[arg(
        long,
        env = "CAPTCHA_CLICKHOUSE_USER",
        value_name = "NAME",
        default_value = "default",
        value_parser = clap::builder::NonEmptyStringValueParser::new()
    )]
    pub(super) clickhouse_user: String,

    /// Password [default: empty]; better in a file
    #[arg(
        long,
        env = "CAPTCHA_CLICKHOUSE_PASSWORD",
        value_name = "PASSWORD",
        hide_env_values = true,
        conflicts_with = "clickhouse_password_file"
    )]
    pub(super) clickhouse_password: Option<Secret>,

    /// File that holds the password, read again for each connection; a final line break is not part of it
    #[arg(long, env = "CAPTCHA_CLICKHOUSE_PASSWORD_FILE", value_name = "FILE")]
    pub(super) clickhouse_password_file: Option<PathBuf>,

    /// Connect with TLS; the port is another then, often 9440
    #[arg(long, help_heading = "ClickHouse TLS", env = "CAPTCHA_CLICKHOUSE_TLS")]
    pub(super) clickhouse_tls: bool,

    /// Authorities that may sign the server's certificate, PEM [default: the system's]
    #[arg(
        long,
        help_heading = "ClickHouse TLS",
        env = "CAPTCHA_CLICKHOUSE_CA_FILE",
        value_name = "FILE",
        requires = "clickhouse_tls"
    )]
    pub(super) clickhouse_ca_file: Option<PathBuf>,

    /// Our own certificate chain for a server that asks for one, PEM
    #[arg(
        long,
        help_heading = "ClickHouse TLS",
        env = "CAPTCHA_CLICKHOUSE_CLIENT_CERTIFICATE_FILE",
        value_name = "FILE",
        requires_all = ["clickhouse_tls", "clickhouse_client_key_file"]
    )]
    pub(super) clickhouse_client_certificate_file: Option<PathBuf>,

    /// Its private key, PEM; read again for each connection, as the certificates are
    #[arg(
        long,
        help_heading = "ClickHouse TLS",
        env = "CAPTCHA_CLICKHOUSE_CLIENT_KEY_FILE",
        value_name = "FILE",
        requires = "clickhouse_client_certificate_file"
    )]
    pub(super) clickhouse_client_key_file: Option<PathBuf>,
}

/// Shards that may be configured: each costs every process some connections.
const SHARDS_MAX: usize = 64;

/// The addresses of each shard's replicas, as `--clickhouse-addr` has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses(pub(super) Vec<Vec<String>>);

impl FromStr for Addresses {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = |text: &str| {
            parse_address(text).map_err(|expected| format!("{expected}, `,` between replicas, `;` between shards"))
        };
        let replicas = |shard: &str| shard.split(',').map(address).collect();
        let shards: Vec<Vec<String>> = text.split(';').map(replicas).collect::<Result<_, _>>()?;
        if shards.len() > SHARDS_MAX {
            return Err(format!("more than {SHARDS_MAX} shards"));
        }
        let mut all: Vec<&String> = shards.iter().flatten().collect();
        all.sort_unstable();
        match all.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("{} is there twice", pair[0])),
            None => Ok(Addresses(shards)),
        }
    }
}

/// A shard, by its index from 0. It holds the Kafka partitions whose number modulo `of` is `index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardId {
    pub index: i32,
    /// The number of shards.
    pub of: i32,
}

impl Default for ShardId {
    /// The only one.
    fn default() -> ShardId {
        ShardId { index: 0, of: 1 }
    }
}

impl ShardId {
    /// Whether the rows of a partition are in this shard.
    pub fn holds(self, partition: Partition) -> bool {
        partition.get() % self.of == self.index
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {} of {}", self.index, self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_replicas_of_shards() {
        let parse = |text: &str| text.parse::<Addresses>().map(|addresses| addresses.0);
        let texts = |shards: &[&[&str]]| {
            let shard = |shard: &&[&str]| shard.iter().map(|text| text.to_string()).collect();
            Ok(shards.iter().map(shard).collect::<Vec<Vec<String>>>())
        };
        assert_eq!(parse("127.0.0.1:9000"), texts(&[&["127.0.0.1:9000"]]));
        assert_eq!(
            parse("a-0.svc:9440,a-1.svc:9440;[::1]:9000"),
            texts(&[&["a-0.svc:9440", "a-1.svc:9440"], &["[::1]:9000"]])
        );
        assert_eq!(
            parse(" a:1 , b:1 ; c:1,d:1\n"),
            texts(&[&["a:1", "b:1"], &["c:1", "d:1"]])
        );
        for bad in [
            "",
            "localhost",
            ":9000",
            "host:",
            "host:0",
            "host:65536",
            "a:1;",
            "a:1,,b:1",
            "::1:9000",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(parse("a:1; a:1"), Err("a:1 is there twice".to_string()));
        assert!(parse(&vec!["a:1"; 65].join(";")).is_err());
    }

    #[test]
    fn each_partition_is_in_one_shard() {
        for of in 1..5 {
            for partition in 0..20 {
                let holds = |index: &i32| ShardId { index: *index, of }.holds(Partition::new(partition));
                assert_eq!((0..of).filter(holds).count(), 1);
            }
        }
    }
}
