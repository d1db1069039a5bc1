//! The limits of the public port, each a flag with a unit.

use std::time::Duration;

use anyhow::bail;

use crate::clickhouse::QueryLimits;
use crate::http::{self, Timeouts};

/// The largest `--report-wait-seconds`: the rest of the time of a report is for asking ClickHouse.
pub const REPORT_WAIT_SECONDS_MAX: u32 = 8;

/// Limits of requests and connections.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Largest request body in bytes as it is sent, up to 64 MiB; the default fits the 10,000 events that one request
    /// may have
    #[arg(
        long,
        env = "CAPTCHA_BODY_BYTES_MAX",
        value_name = "BYTES",
        default_value_t = 2 << 20,
        value_parser = clap::value_parser!(u32).range(1..=64 << 20)
    )]
    pub body_bytes_max: u32,

    /// Largest request body in bytes once inflated, up to 64 MiB; only for gzip and zstd
    #[arg(
        long,
        env = "CAPTCHA_INFLATED_BYTES_MAX",
        value_name = "BYTES",
        default_value_t = 4 << 20,
        value_parser = clap::value_parser!(u32).range(1..=64 << 20)
    )]
    pub inflated_bytes_max: u32,

    /// Events in one request; 10,000 fit in 2 MiB, and are on their way to Kafka in some 20 ms
    #[arg(
        long,
        env = "CAPTCHA_EVENTS_MAX",
        value_name = "COUNT",
        default_value_t = 10_000,
        value_parser = clap::value_parser!(u32).range(1..=100_000)
    )]
    pub events_max: u32,

    /// Bytes that clients may make this process hold: connections, heads, bodies, responses and reports together; past
    /// it they are refused. One address can hold at most as much as remains free
    #[arg(
        long,
        env = "CAPTCHA_MEMORY_BYTES_MAX",
        value_name = "BYTES",
        default_value_t = 256 << 20,
        value_parser = clap::value_parser!(u32).range(1 << 20..)
    )]
    pub memory_bytes_max: u32,

    /// Bytes of events that may wait for Kafka; past it requests are answered 503. An event costs about 340 bytes
    #[arg(
        long,
        env = "CAPTCHA_WAITING_BYTES_MAX",
        value_name = "BYTES",
        default_value_t = 64 << 20,
        value_parser = clap::value_parser!(u32).range(1 << 10..=1 << 30)
    )]
    pub waiting_bytes_max: u32,

    /// Requests at once that came whole and wait for Kafka or ClickHouse, WebSocket messages among them; past it they
    /// are answered 503. One address can hold at most as much as remains free
    #[arg(
        long,
        env = "CAPTCHA_REQUESTS_MAX",
        value_name = "COUNT",
        default_value_t = 16_384,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub requests_max: u32,

    /// Readers who may wait while ClickHouse answers 4 reports; more get 503, unless they ask for the same as one who
    /// waits. A thousand readers have theirs within 5 s where one takes 20 ms
    #[arg(
        long,
        env = "CAPTCHA_REPORTS_WAITING_MAX",
        value_name = "COUNT",
        default_value_t = 1024,
        value_parser = clap::value_parser!(u32).range(0..=100_000)
    )]
    pub reports_waiting_max: u32,

    /// Seconds that a reader may wait until its report is asked for, then it is answered 503; waiting and asking end
    /// within 9 s together
    #[arg(
        long,
        env = "CAPTCHA_REPORT_WAIT_SECONDS",
        value_name = "SECONDS",
        default_value_t = 7,
        value_parser = clap::value_parser!(u32).range(0..=i64::from(REPORT_WAIT_SECONDS_MAX))
    )]
    pub report_wait_seconds: u32,

    /// Seconds that ClickHouse may take for the question of one report, then the report is answered 503; a lower limit
    /// in the profile of --clickhouse-user stays
    #[arg(
        long,
        env = "CAPTCHA_REPORT_QUERY_SECONDS",
        value_name = "SECONDS",
        default_value_t = 6,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(REPORT_WAIT_SECONDS_MAX))
    )]
    pub report_query_seconds: u32,

    /// Bytes of memory that ClickHouse may use for the question of one report, on each shard; a lower limit in the
    /// profile of --clickhouse-user stays. A report of a million rows takes some 200 MB
    #[arg(
        long,
        env = "CAPTCHA_REPORT_QUERY_BYTES_MAX",
        value_name = "BYTES",
        default_value_t = 2 << 30,
        value_parser = clap::value_parser!(u64).range(1 << 20..)
    )]
    pub report_query_bytes_max: u64,

    /// Connections open at once; more are answered 503 and closed. One address can hold at most as much as remains free
    #[arg(
        long,
        env = "CAPTCHA_CONNECTIONS_MAX",
        value_name = "COUNT",
        default_value_t = 8192,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub connections_max: u32,

    /// Connections of one address, if fewer than half of all; of IPv6 a network of 64 bits is one address. Not for
    /// trusted proxies
    #[arg(
        long,
        env = "CAPTCHA_ADDRESS_CONNECTIONS_MAX",
        value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub address_connections_max: Option<u32>,

    /// Largest head of a request in bytes, from 8 KiB on, and the read buffer that a connection may grow to; a report
    /// may name 300 sites in 16 KiB
    #[arg(
        long,
        env = "CAPTCHA_HEAD_BYTES_MAX",
        value_name = "BYTES",
        default_value_t = 16 << 10,
        value_parser = clap::value_parser!(u32).range(8 << 10..=1 << 20)
    )]
    pub head_bytes_max: u32,

    /// Seconds from the first byte of a head to its last; of a new connection, from its beginning
    #[arg(
        long,
        env = "CAPTCHA_HEAD_SECONDS",
        value_name = "SECONDS",
        default_value_t = 30,
        value_parser = clap::value_parser!(u32).range(1..=3600)
    )]
    pub head_seconds: u32,

    /// Seconds from the head of a request to the last byte of its body
    #[arg(
        long,
        env = "CAPTCHA_BODY_SECONDS",
        value_name = "SECONDS",
        default_value_t = 30,
        value_parser = clap::value_parser!(u32).range(1..=3600)
    )]
    pub body_seconds: u32,

    /// Seconds that a connection may stay open without a request; longer than the minute of common load balancers, so
    /// that they close first
    #[arg(
        long,
        env = "CAPTCHA_IDLE_SECONDS",
        value_name = "SECONDS",
        default_value_t = 75,
        value_parser = clap::value_parser!(u32).range(1..=86_400)
    )]
    pub idle_seconds: u32,

    /// Seconds that a WebSocket stream may stay open without a message, though it answers pings: a forgotten one keeps
    /// a connection from other clients
    #[arg(
        long,
        env = "CAPTCHA_STREAM_IDLE_SECONDS",
        value_name = "SECONDS",
        default_value_t = 3600,
        value_parser = clap::value_parser!(u32).range(1..=604_800)
    )]
    pub stream_idle_seconds: u32,

    /// Seconds that requests in flight may take to finish after SIGTERM
    #[arg(
        long,
        env = "CAPTCHA_GRACE_SECONDS",
        value_name = "SECONDS",
        default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub grace_seconds: u32,
}

impl Limits {
    /// The limits of the listener; fewer connections where file descriptors do not suffice.
    pub fn connection_limits(&self) -> http::Limits {
        http::Limits {
            connections_max: http::connections_within_limit(self.connections_max),
            address_connections_max: self.address_connections_max,
            head_bytes_max: self.head_bytes_max as usize,
            timeouts: Timeouts {
                head: seconds(self.head_seconds),
                idle: seconds(self.idle_seconds),
            },
        }
    }

    /// Checks that what one request may have fits what one address may have: otherwise some would be refused for
    /// ever.
    ///
    /// # Errors
    /// `--memory-bytes-max` is too small.
    pub fn check(&self) -> anyhow::Result<()> {
        // A body that comes in pieces may take twice its size, as its buffer grows.
        let request = 2 * u64::from(self.body_bytes_max) + u64::from(self.inflated_bytes_max);
        let least = 2 * (request + 2 * u64::from(self.head_bytes_max));
        if u64::from(self.memory_bytes_max) < least {
            bail!(
                "--memory-bytes-max {} is less than one request may take; give it at least {least}, or lower \
                 --body-bytes-max and --inflated-bytes-max",
                self.memory_bytes_max
            );
        }
        Ok(())
    }

    /// From the head of a request to the last byte of its body.
    pub fn body_timeout(&self) -> Duration {
        seconds(self.body_seconds)
    }

    /// How long a stream may stay open without messages.
    pub fn stream_idle(&self) -> Duration {
        seconds(self.stream_idle_seconds)
    }

    /// How long a reader may wait until its report is asked for.
    pub fn report_wait(&self) -> Duration {
        seconds(self.report_wait_seconds)
    }

    /// What one report may take of ClickHouse.
    pub fn report_limits(&self) -> QueryLimits {
        QueryLimits {
            seconds: self.report_query_seconds.into(),
            memory_bytes: Some(self.report_query_bytes_max),
        }
    }

    /// How long requests in flight may take after SIGTERM.
    pub fn grace(&self) -> Duration {
        seconds(self.grace_seconds)
    }
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(count.into())
}
