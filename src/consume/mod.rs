//! `captcha consume`: from Kafka into ClickHouse, each record exactly once. The table is the checkpoint.

mod batch;
mod dead_letter_budget;
mod decision;
mod lag;
mod limits;
mod metrics;
#[cfg(test)]
mod model_check;
mod session;
mod watermark;
mod window_age;
mod worker;

use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::try_join_all;
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use self::limits::Limits;
use self::metrics::{Metrics, schema_version};
use self::watermark::Watermarks;
use self::worker::{Shared, Worker};
use crate::clickhouse::{self, Cluster, Shard, ShardId, TopicRecord};
use crate::http::admin_port::{self, Health};
use crate::kafka::{self, Kafka};
use crate::telemetry::gauges::GaugeFn;
use crate::topic_partition::Partition;
use crate::{http, runtime};

/// Between questions for a schema or a topic that does not exist yet.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Between questions for partitions that were added to the topic.
const PARTITIONS_INTERVAL: Duration = Duration::from_secs(5);

/// Move events from Kafka into ClickHouse, each exactly once
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Address of /livez, /readyz and /metrics; port 0 takes a free one
    #[arg(
        long,
        env = "CAPTCHA_ADMIN_LISTEN",
        value_name = "IP:PORT",
        value_parser = http::parse_listen,
        default_value = "127.0.0.1:9091"
    )]
    admin_listen: SocketAddr,

    /// Share of the partitions: I of N, I from 0, takes those whose number modulo N is I. If two consumers take one
    /// share by mistake, that costs work and every count stays right; if none takes it, its partitions wait
    #[arg(long, env = "CAPTCHA_PARTITION_SHARE", value_name = "I/N", default_value = "0/1")]
    partition_share: PartitionShare,

    /// Milliseconds between two inserts into one partition that is not behind, up to 60000. Each insert is a part
    /// that ClickHouse must merge
    #[arg(
        long,
        env = "CAPTCHA_INSERT_INTERVAL_MS",
        value_name = "MS",
        default_value_t = 300,
        value_parser = clap::value_parser!(u32).range(1..=60_000)
    )]
    insert_interval_ms: u32,

    #[command(flatten)]
    kafka: kafka::Args,

    #[command(flatten)]
    clickhouse: clickhouse::Args,
}

/// The partitions whose number modulo `of` is `index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PartitionShare {
    index: i32,
    of: i32,
}

impl fmt::Display for PartitionShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl FromStr for PartitionShare {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let share = text
            .split_once('/')
            .and_then(|(index, of)| Some((index.parse().ok()?, of.parse().ok()?)))
            .map(|(index, of)| PartitionShare { index, of });
        match share {
            Some(share) if (0..share.of).contains(&share.index) => Ok(share),
            _ => Err("expected I/N with I from 0 to N-1, such as 0/2".to_string()),
        }
    }
}

impl PartitionShare {
    fn owns(self, partition: Partition) -> bool {
        partition.get() % self.of == self.index
    }

    /// Whether any partition can be of this share and in that shard of ClickHouse.
    fn overlaps(self, shard: ShardId) -> bool {
        (self.index - shard.index) % common_divisor(self.of, shard.of) == 0
    }
}

fn common_divisor(one: i32, other: i32) -> i32 {
    match other {
        0 => one,
        _ => common_divisor(other, one % other),
    }
}

/// Consumes until `stop` is cancelled, then finishes the insert in hand.
///
/// # Errors
/// The admin port cannot be listened on, or a file cannot be read. A server that is away is not an error.
pub async fn run(args: Args, stop: CancellationToken) -> anyhow::Result<()> {
    let share = args.partition_share;
    let cluster = Cluster::new(args.clickhouse)?;
    let kafka = Kafka::new(args.kafka)?;
    let listener = http::bind(args.admin_listen, "--admin-listen").await?;
    let admin_address = listener
        .local_addr()
        .context("cannot read the address of the admin port")?;
    tracing::info!(
        %admin_address,
        kafka = kafka.addresses(),
        topic = %kafka.topic(),
        clickhouse = cluster.addresses(),
        partition_share = %share,
        "consuming"
    );
    admin_port::warn_if_exposed(admin_address);
    runtime::warn_if_root();

    let shards: Vec<&Shard> = cluster.iter().filter(|shard| share.overlaps(shard.id())).collect();
    let checks = shards
        .iter()
        .flat_map(|shard| [check_name("schema", shard), check_name("topic", shard)]);
    let health = Health::new(checks);
    let (metrics, registry) = metrics_of(&kafka, &shards);
    let admin_stop = CancellationToken::new();
    let admin = tokio::spawn(admin_port::serve(
        listener,
        health.clone(),
        registry,
        admin_stop.clone(),
    ));

    let limits = Limits::new();
    let consumed = shards.into_iter().map(async |shard| {
        let check = check_name("schema", shard);
        let topic_record = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            record = retry_until_ok(&check, &health, || topic_record(shard, &kafka)) => record,
        };
        let shared = Shared {
            kafka: kafka.clone(),
            shard: shard.clone(),
            health: health.clone(),
            metrics: metrics.clone(),
            stop: stop.clone(),
            insert_interval: Duration::from_millis(args.insert_interval_ms.into()),
            topic_record,
            limits: limits.clone(),
            watermarks: Watermarks::default(),
        };
        consume_shard(share, &shared).await
    });
    let outcome = try_join_all(consumed).await;
    admin_stop.cancel();
    admin.await.context("the admin port failed")?;
    tracing::info!("stopped");
    outcome.map(drop)
}

fn metrics_of(kafka: &Kafka, shards: &[&Shard]) -> (Metrics, Registry) {
    let (metrics, mut registry) = Metrics::new();
    registry.register_collector(Box::new(kafka.leaders().clone()));
    let shards: Vec<Shard> = shards.iter().copied().cloned().collect();
    GaugeFn::register(
        &mut registry,
        "schema_version",
        "Newest migration that ClickHouse has, of the shard that has the oldest; 0 while it is not known.",
        None,
        move || schema_version::oldest(&shards) as usize,
    );
    (metrics, registry)
}

/// The name of a check in `/readyz`, with the shard if there are several.
fn check_name(name: &str, shard: &Shard) -> String {
    match shard.id() {
        ShardId { of: 1, .. } => name.to_string(),
        shard => format!("{name} of {shard}"),
    }
}

/// Runs a worker for each partition of a share that is in one shard of ClickHouse, also for those that are added later,
/// until the process is to stop; then waits for them to end.
async fn consume_shard(share: PartitionShare, shared: &Shared) -> anyhow::Result<()> {
    let mut workers = JoinSet::new();
    let watermark_writer = tokio::spawn(watermark::write(
        shared.watermarks.clone(),
        shared.kafka.clone(),
        shared.shard.clone(),
        shared.health.clone(),
        check_name("watermarks", &shared.shard),
        shared.stop.clone(),
    ));
    let version_watch = tokio::spawn(schema_version::watch(shared.shard.clone(), shared.stop.clone()));
    let check = check_name("topic", &shared.shard);
    let mut partitions = 0;
    let mut wait = Duration::ZERO;
    loop {
        let next_count = async {
            sleep(wait).await;
            retry_until_ok(&check, &shared.health, || shared.kafka.partition_count()).await
        };
        tokio::select! {
            () = shared.stop.cancelled() => break,
            Some(ended) = workers.join_next() => ended.context(WORKER_FAILED)?,
            count = next_count => {
                shared.metrics.topic_partitions.set(count.into());
                spawn_workers(share, partitions..count, shared, &mut workers);
                partitions = partitions.max(count);
                wait = PARTITIONS_INTERVAL;
            }
        }
    }
    while let Some(ended) = workers.join_next().await {
        ended.context(WORKER_FAILED)?;
    }
    version_watch.await.context(WORKER_FAILED)?;
    watermark_writer.await.context(WORKER_FAILED)
}

const WORKER_FAILED: &str = "a worker failed; this is a bug in captcha";

fn spawn_workers(share: PartitionShare, added: Range<i32>, shared: &Shared, workers: &mut JoinSet<()>) {
    if added.is_empty() {
        return;
    }
    let partitions = added.end;
    let shard = shared.shard.id();
    for partition in Partition::range(added).filter(|partition| share.owns(*partition) && shard.holds(*partition)) {
        workers.spawn(Worker::new(partition, shared).run());
    }
    if workers.is_empty() {
        tracing::warn!(partitions, %shard, "no partition for this share; fewer replicas would do");
    } else {
        tracing::info!(owned = workers.len(), partitions, %shard, "partitions taken");
    }
}

/// Asks until there is an answer; the check has the reason why not.
async fn retry_until_ok<T, F>(check: &str, health: &Health, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = anyhow::Result<T>>,
{
    loop {
        match ask().await {
            Ok(answer) => {
                health.set(check, Ok(()));
                return answer;
            }
            Err(err) => health.record_failure(check, format!("{err:#}")),
        }
        sleep(RETRY_INTERVAL).await;
    }
}

async fn topic_record(shard: &Shard, kafka: &Kafka) -> anyhow::Result<TopicRecord> {
    let (_, record) = shard.connect_for_topic(kafka.topic().as_str()).await?;
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_every_partition_once() {
        for of in 1..7 {
            let shares: Vec<PartitionShare> = (0..of).map(|index| format!("{index}/{of}").parse().unwrap()).collect();
            for partition in 0..50 {
                assert_eq!(
                    shares
                        .iter()
                        .filter(|share| share.owns(Partition::new(partition)))
                        .count(),
                    1
                );
            }
        }
    }

    #[test]
    fn a_share_overlaps_the_shards_that_hold_some_of_its_partitions() {
        for (share_of, shard_of) in [(1, 1), (1, 3), (2, 2), (2, 3), (4, 6), (6, 4), (5, 1)] {
            for (index, at) in (0..share_of).flat_map(|index| (0..shard_of).map(move |at| (index, at))) {
                let share = PartitionShare { index, of: share_of };
                let shard = ShardId {
                    index: at,
                    of: shard_of,
                };
                let overlap =
                    (0..share_of * shard_of).any(|n| share.owns(Partition::new(n)) && shard.holds(Partition::new(n)));
                assert_eq!(share.overlaps(shard), overlap, "{share:?} {shard:?}");
            }
        }
    }

    #[test]
    fn wrong_shares_are_refused() {
        for bad in ["", "1", "1/1", "2/2", "-1/2", "0/0", "a/b", "0/2/3", "0/-1"] {
            assert!(bad.parse::<PartitionShare>().is_err(), "{bad}");
        }
    }
}
