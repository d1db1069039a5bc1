//! `captcha serve`: events in over HTTP, confirmed once Kafka has them; statistics out of ClickHouse.

mod access_log;
mod api;
mod args;
mod auth;
mod chart;
mod client;
mod clock;
mod dashboard;
mod docs;
#[cfg(test)]
mod escaping;
mod ingest;
mod limits;
mod metrics;
mod people;
mod picture;
mod problem;
mod reader_sites;
mod report;
pub mod request;
mod retry_after;
mod router;
mod websocket;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use prometheus_client::registry::{Registry, Unit};
use tokio_util::sync::CancellationToken;

use self::access_log::AccessLog;
use self::api::Api;
pub use self::args::Args;
use self::args::Command;
use self::auth::keys::{Key, KeyMetrics, Keyring, RateShare};
use self::auth::links::LinkSecrets;
use self::auth::{Auth, KeyRejections};
use self::clock::Clock;
use self::docs::Documents;
use self::ingest::Ingest;
use self::metrics::Metrics;
use self::report::Reports;
use self::request::body::BodyReader;
use self::websocket::session::StreamLimits;
use self::websocket::stream::Streams;
use crate::clickhouse::Cluster;
use crate::http::admin_port;
use crate::http::admin_port::Health;
use crate::http::trusted_proxies::Proxies;
use crate::kafka::{Kafka, Producer, ProducerStatus};
use crate::resource_pool::Pool;
use crate::site_names::SitesFile;
use crate::tls::file_watch::{FileStatus, WatchedFiles};
use crate::tls::server;
use crate::{http, runtime};

/// Serves until `stop` is cancelled, then answers the requests in flight.
///
/// # Errors
/// A port cannot be listened on, a file cannot be read, or a new key cannot be made. A server that is away is not an
/// error.
pub async fn run(args: Args, stop: CancellationToken) -> anyhow::Result<()> {
    match args.command {
        Some(Command::NewKey(args)) => return auth::keys::new_key::run(&args),
        Some(Command::Keys(args)) => return auth::keys::list::run(&args),
        Some(Command::NewLink(args)) => return auth::links::new_link::run(&args),
        None => {}
    }
    let limits = args.limits;
    limits.check()?;
    let mut watched = WatchedFiles::default();
    let files = args.tls_certificate_file.zip(args.tls_key_file);
    let client_auth = args.tls_client_ca_file.map(|ca_file| server::ClientAuth {
        ca_file,
        need_certificate: args.keys_file.is_none(),
    });
    let client_certificates = client_auth.is_some();
    let tls = files.map(|(certificate, key)| {
        let files = server::PemFiles::new(certificate, key, client_auth);
        files.watch(watched.add("certificate"), stop.clone())
    });
    let tls = tls.transpose()?;
    let keys = args.keys_file.map(|file| {
        let status = watched.add("keys");
        start_keys(file, args.rate_share, client_certificates, status, &stop)
    });
    let keys = keys.transpose()?;
    let links = args
        .link_secret_file
        .map(|file| LinkSecrets::watch(file, watched.add("link_secrets"), stop.clone()));
    let links = links.transpose()?;
    let sites = args
        .sites_file
        .map(|file| SitesFile::watch(file, watched.add("sites"), stop.clone()));
    let sites = sites.transpose()?.unwrap_or_default();
    let cluster = Cluster::new(args.clickhouse)?.with_report_limits(limits.report_limits());
    let kafka = Kafka::new(args.kafka)?;
    let listener = http::bind(args.listen, "--listen").await?;
    let admin_listener = http::bind(args.admin_listen, "--admin-listen").await?;
    let address = listener.local_addr().context("cannot read the address of the API")?;
    let admin_address = admin_listener
        .local_addr()
        .context("cannot read the address of the admin port")?;
    tracing::info!(%address, %admin_address, kafka = kafka.addresses(), topic = %kafka.topic(),
        clickhouse = cluster.addresses(), tls = tls.is_some(), client_certificates, keys = keys.is_some(), "serving");
    runtime::warn_if_root();
    if keys.is_none() && !client_certificates && !address.ip().is_loopback() {
        tracing::warn!(
            %address,
            "no --keys-file: every client that reaches this address may send events and read reports"
        );
    }

    admin_port::warn_if_exposed(admin_address);

    let health = admin_port::Health::new(["serving"]);
    health.add_loop("kafka");
    health.add_loop(clock::CHECK);
    let mut registry = Registry::with_prefix("captcha");
    let metrics = Metrics::register(&mut registry);
    let connections = http::ConnectionMetrics::register(&mut registry);
    tokio::spawn(connections.clone().log_each_minute());
    let (keyring, rejections) = (keys.clone(), KeyRejections::register(&mut registry));
    let topic = kafka.topic().clone();
    let reports_kafka = kafka.clone();
    registry.register_collector(Box::new(kafka.leaders().clone()));
    let clock = Clock::register(&mut registry);
    let (observe, produce_clock) = (metrics.produce_observer(), clock.clone());
    let producer = Producer::start(
        kafka,
        limits.waiting_bytes_max,
        report_to(health.clone()),
        move |outcome| {
            observe(outcome);
            produce_clock.record(outcome);
        },
    );
    tokio::spawn(clock.watch(cluster.clone(), health.clone(), stop.clone()));
    let shared = http::Shared {
        memory: Pool::new(limits.memory_bytes_max as usize),
        proxies: Arc::new(Proxies::new(args.trusted_proxies, args.client_address_from)),
    };
    let requests = Pool::new(limits.requests_max as usize);
    let auth = Auth::new(
        keys,
        client_certificates,
        links,
        args.cors_origins,
        args.host,
        rejections,
    );
    let auth = Arc::new(auth);
    let ingest = Arc::new(Ingest {
        auth: Arc::clone(&auth),
        bodies: BodyReader::new(&limits, Arc::clone(&shared.memory), stop.clone()),
        requests: Arc::clone(&requests),
        topic,
        producer,
        metrics: metrics.clone(),
    });
    let streams = Arc::new(Streams {
        ingest: Arc::clone(&ingest),
        auth: Arc::clone(&auth),
        metrics: metrics.clone(),
        memory: Arc::clone(&shared.memory),
        limits: StreamLimits::new(&limits, stop.clone()),
    });
    let api = Arc::new(Api {
        auth,
        ingest,
        reports: Reports::new(cluster, reports_kafka, &limits, Arc::clone(&shared.memory)),
        streams,
        documents: Documents::new(),
        sites,
        has_tls: tls.is_some(),
        metrics,
        access_log: AccessLog::new(args.access_log_share),
        memory: Arc::clone(&shared.memory),
        proxies: Arc::clone(&shared.proxies),
    });

    if let Some(keys) = keyring {
        registry.register_collector(Box::new(KeyMetrics(keys)));
    }
    registry.register_collector(Box::new(watched));
    register_gauges(&mut registry, requests, Arc::clone(&shared.memory), Arc::clone(&api));

    // The admin port outlives the API, so that /readyz can be read while the last requests finish.
    let admin_stop = CancellationToken::new();
    let admin = tokio::spawn(admin_port::serve(
        admin_listener,
        health.clone(),
        registry,
        admin_stop.clone(),
    ));

    health.set("serving", Ok(()));
    let draining = stop.clone();
    tokio::spawn(async move {
        draining.cancelled().await;
        health.set("serving", Err("stopping".to_string()));
    });
    http::Server::new(
        limits.connection_limits(),
        shared,
        tls,
        connections,
        move |request, peer| Arc::clone(&api).handle(request, peer),
    )
    .serve(listener, stop, limits.grace())
    .await;
    admin_stop.cancel();
    admin.await.context("the admin port failed")?;
    tracing::info!("stopped");
    Ok(())
}

/// Sets the check of Kafka from what the producer reports.
fn report_to(health: Health) -> impl Fn(ProducerStatus) + Send + Sync + 'static {
    move |status| match status {
        ProducerStatus::LeadersReachable => health.set("kafka", Ok(())),
        ProducerStatus::SomeLeadersUnreachable(reason) => {
            health.set_warning("kafka", format!("not all leaders can be reached: {reason}"));
        }
        ProducerStatus::NoLeaderReachable(reason) => {
            health.record_failure("kafka", format!("no leader can be reached: {reason}"));
        }
        ProducerStatus::NoMetadata(reason) => health.set("kafka", Err(reason)),
    }
}

fn register_gauges(registry: &mut Registry, requests: Arc<Pool>, memory: Arc<Pool>, api: Arc<Api>) {
    http::GaugeFn::register(
        registry,
        "http_requests_in_progress",
        "Requests that came whole and are not answered yet.",
        None,
        move || requests.used(),
    );
    http::GaugeFn::register(
        registry,
        "client_memory",
        "Memory that clients make this process hold: connections, heads, bodies, responses and reports.",
        Some(Unit::Bytes),
        move || memory.used(),
    );
    http::GaugeFn::register(
        registry,
        "reports_waiting",
        "Readers whose report is not asked for yet.",
        None,
        move || api.reports.waiting(),
    );
}

fn start_keys(
    file: PathBuf,
    share: RateShare,
    client_certificates: bool,
    status: FileStatus,
    stop: &CancellationToken,
) -> anyhow::Result<Arc<Keyring>> {
    let keys = Arc::new(Keyring::open(file, share)?);
    let all = keys.all();
    let names_one = |key: &Arc<Key>| key.entry().credential.certificate().is_some();
    if !client_certificates && all.iter().any(names_one) {
        tracing::warn!(
            "the key file names client certificates, and without --tls-client-ca-file no client can show one"
        );
    }
    let (watched, stop) = (Arc::clone(&keys), stop.clone());
    tokio::spawn(async move { watched.watch(status, stop).await });
    Ok(keys)
}
