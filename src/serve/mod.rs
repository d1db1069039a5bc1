//! `captcha serve`: events in over HTTP, confirmed once Kafka has them; statistics out of ClickHouse.

mod api;
mod documents;
mod metrics;
mod openapi;
mod problem;
mod report;
mod request;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use self::api::{Api, Drain};
use crate::broker::{self, Broker, Producer};
use crate::http::{self, admin};
use crate::store::{self, Store};

/// Accept captcha events over HTTP and answer with statistics
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Address of the API; port 0 takes a free one
    #[arg(
        long,
        env = "CAPTCHA_LISTEN",
        value_name = "IP:PORT", value_parser = http::parse_listen,
        default_value = "127.0.0.1:8000"
    )]
    listen: SocketAddr,

    /// Address of /livez, /readyz and /metrics; port 0 takes a free one
    #[arg(
        long,
        env = "CAPTCHA_ADMIN_LISTEN",
        value_name = "IP:PORT", value_parser = http::parse_listen,
        default_value = "127.0.0.1:9090"
    )]
    admin_listen: SocketAddr,

    /// Largest request body in bytes, up to 64 MiB; the default fits the 10,000 events that one request may have
    #[arg(long, env = "CAPTCHA_BODY_BYTES_MAX", value_name = "BYTES", default_value_t = 2 << 20, value_parser = clap::value_parser!(u32).range(1..=64 << 20))]
    body_bytes_max: u32,

    /// Connections open at once; more are answered 503 and closed
    #[arg(long, env = "CAPTCHA_CONNECTIONS_MAX", value_name = "COUNT", default_value_t = 8192, value_parser = clap::value_parser!(u32).range(1..))]
    connections_max: u32,

    /// Bytes of events that may wait for Kafka; past it requests are answered 503. An event costs about 340 bytes
    #[arg(long, env = "CAPTCHA_WAITING_BYTES_MAX", value_name = "BYTES", default_value_t = 64 << 20, value_parser = clap::value_parser!(u32).range(1 << 10..=1 << 30))]
    waiting_bytes_max: u32,

    /// Seconds that requests in flight may take to finish after SIGTERM
    #[arg(long, env = "CAPTCHA_GRACE_SECONDS", value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    grace_seconds: u32,

    #[command(flatten)]
    broker: broker::Args,

    #[command(flatten)]
    store: store::Args,
}

/// Serves until `stop` is cancelled, then answers what is in flight.
///
/// # Errors
/// A port cannot be listened on, or a file cannot be read. A server that is away is no error.
pub async fn run(args: Args, stop: CancellationToken) -> anyhow::Result<()> {
    let store = Store::new(args.store)?;
    let broker = Broker::new(args.broker);
    let listener = http::bind(args.listen, "--listen").await?;
    let admin_listener = http::bind(args.admin_listen, "--admin-listen").await?;
    let address = listener
        .local_addr()
        .context("cannot tell the address of the API")?;
    let admin_address = admin_listener
        .local_addr()
        .context("cannot tell the address of the admin port")?;
    tracing::info!(%address, %admin_address, kafka = broker.addresses(), topic = %broker.topic(),
        clickhouse = store.addresses(), "serving");

    let health = admin::Health::awaiting(["kafka"]);
    let (metrics, registry) = metrics::Metrics::new();
    // The admin port outlives the API, so that /readyz can be read while the last requests finish.
    let admin_stop = CancellationToken::new();
    let admin = tokio::spawn(admin::serve(
        admin_listener,
        health.clone(),
        registry,
        admin_stop.clone(),
    ));

    let grace = Duration::from_secs(args.grace_seconds.into());
    let topic = broker.topic().clone();
    let report = health.clone();
    let producer = Producer::start(broker, args.waiting_bytes_max, move |status| {
        report.set("kafka", status)
    });
    let api = Arc::new(Api::new(
        topic,
        producer,
        store,
        metrics,
        args.body_bytes_max as usize,
        Drain {
            stop: stop.clone(),
            body_limit: grace / 2,
        },
    ));

    health.set("serving", Ok(()));
    let draining = stop.clone();
    tokio::spawn(async move {
        draining.cancelled().await;
        health.set("serving", Err("stopping".to_string()));
    });
    http::serve(
        listener,
        http::connections_within_limit(args.connections_max),
        stop,
        grace,
        move |request| Arc::clone(&api).handle(request),
    )
    .await;
    admin_stop.cancel();
    admin.await.context("the admin port failed")?;
    tracing::info!("stopped");
    Ok(())
}
