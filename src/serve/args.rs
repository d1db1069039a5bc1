//! The flags of `captcha serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use super::access_log;
use super::auth::cors::Cors;
use super::auth::hosts::Hosts;
use super::auth::keys::{self, RateShare};
use super::auth::links;
use super::limits::Limits;
use crate::http::{self, trusted_proxies};
use crate::{clickhouse, kafka};

/// Accept events and answer with statistics, over HTTP
#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Address of the API; port 0 takes a free one
    #[arg(
        long,
        env = "CAPTCHA_LISTEN",
        value_name = "IP:PORT", value_parser = http::parse_listen,
        default_value = "127.0.0.1:8000"
    )]
    pub listen: SocketAddr,

    /// Address of /livez, /readyz and /metrics; port 0 takes a free one
    #[arg(
        long,
        env = "CAPTCHA_ADMIN_LISTEN",
        value_name = "IP:PORT", value_parser = http::parse_listen,
        default_value = "127.0.0.1:9090"
    )]
    pub admin_listen: SocketAddr,

    /// Certificate chain in PEM, the server's own first; makes the API speak TLS. Read again when it changes
    #[arg(
        long,
        help_heading = "TLS",
        env = "CAPTCHA_TLS_CERTIFICATE_FILE",
        value_name = "FILE",
        requires = "tls_key_file"
    )]
    pub tls_certificate_file: Option<PathBuf>,

    /// Private key of the certificate in PEM. Read again when it changes
    #[arg(
        long,
        help_heading = "TLS",
        env = "CAPTCHA_TLS_KEY_FILE",
        value_name = "FILE",
        requires = "tls_certificate_file"
    )]
    pub tls_key_file: Option<PathBuf>,

    /// Authorities in PEM that may sign client certificates. Without --keys-file a client needs a certificate to
    /// connect; with it, a line of that file may name one. Read again when it changes
    #[arg(
        long,
        help_heading = "TLS",
        env = "CAPTCHA_TLS_CLIENT_CA_FILE",
        value_name = "FILE",
        requires = "tls_certificate_file"
    )]
    pub tls_client_ca_file: Option<PathBuf>,

    /// File of API keys, which `captcha serve new-key` makes; without it every client may send and read. Read again
    /// when it changes
    #[arg(long, help_heading = "Access", env = "CAPTCHA_KEYS_FILE", value_name = "FILE")]
    pub keys_file: Option<PathBuf>,

    /// File of the secrets that sign links to pictures, one a line, which `captcha serve new-link` needs too; without it
    /// every link is refused. Read again when it changes
    #[arg(
        long,
        help_heading = "Access",
        env = "CAPTCHA_LINK_SECRET_FILE",
        value_name = "FILE",
        requires = "keys_file"
    )]
    pub link_secret_file: Option<PathBuf>,

    /// File of the names of sites, a UUID, a blank and a name on each line, for the dashboard and pictures. Read again
    /// when it changes
    #[arg(long, env = "CAPTCHA_SITES_FILE", value_name = "FILE")]
    pub sites_file: Option<PathBuf>,

    /// This process's part of each key's rate and burst: 1/N where N processes serve the same clients, rounded down, at
    /// least 1
    #[arg(long, help_heading = "Access", env = "CAPTCHA_RATE_SHARE", value_name = "1/N", default_value = "1/1", value_parser = RateShare::parse)]
    pub rate_share: RateShare,

    /// Origins whose web pages may call the API, with commas between them, or * for all
    #[arg(long, help_heading = "Access", env = "CAPTCHA_CORS_ORIGINS", value_name = "ORIGINS", value_parser = Cors::parse)]
    pub cors_origins: Option<Cors>,

    /// Names and addresses of this server, with commas between them, each with a port if only that port is allowed; a
    /// request for another host is refused with 421 [default: any host]
    #[arg(long, help_heading = "Access", env = "CAPTCHA_HOST", value_name = "HOSTS", value_parser = Hosts::parse)]
    pub host: Option<Hosts>,

    /// Share of requests that are logged, from 0 (none) to 1 (all)
    #[arg(
        long,
        env = "CAPTCHA_ACCESS_LOG_SHARE",
        value_name = "SHARE",
        default_value = "0",
        value_parser = access_log::parse_share
    )]
    pub access_log_share: f64,

    /// Proxies that are trusted to name the address of their client: addresses and networks with commas between them,
    /// such as 10.0.0.0/8
    #[arg(
        long,
        help_heading = "Proxies",
        env = "CAPTCHA_TRUSTED_PROXIES",
        value_name = "NETWORKS",
        value_delimiter = ',',
        value_parser = trusted_proxies::parse_network
    )]
    pub trusted_proxies: Vec<IpNet>,

    /// Where a trusted proxy names its client. Make sure that the proxy removes or extends what a client has sent
    /// there: only what the proxy writes itself is safe
    #[arg(
        long,
        help_heading = "Proxies",
        env = "CAPTCHA_CLIENT_ADDRESS_FROM",
        value_name = "WHERE",
        default_value = "x-forwarded-for",
        requires = "trusted_proxies"
    )]
    pub client_address_from: trusted_proxies::Source,

    #[command(flatten)]
    pub limits: Limits,

    #[command(flatten)]
    pub kafka: kafka::Args,

    #[command(flatten)]
    pub clickhouse: clickhouse::Args,
}

/// Commands about API keys and links, which serve nothing.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    NewKey(keys::new_key::Args),
    Keys(keys::list::Args),
    NewLink(links::new_link::Args),
}
