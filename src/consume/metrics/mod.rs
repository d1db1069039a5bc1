//! The metrics of `captcha consume`.

pub mod batch_stats;
pub mod labels;
pub mod lag;
pub mod schema_version;

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use self::batch_stats::{BatchStats, KINDS};
use self::labels::{KindLabel, PartitionLabel};
use self::lag::LagCollector;

/// Handles to the metrics. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    rows: Family<KindLabel, Counter>,
    dated_ahead: Counter<u64, AtomicU64>,
    insert_seconds: Histogram,
    insert_rows: Histogram,
    end_to_end_seconds: Histogram,
    /// Tokens that the server had noted without keeping the rows.
    pub burnt_tokens: Counter<u64, AtomicU64>,
    /// Times that another consumer had moved a head.
    pub heads_moved: Counter<u64, AtomicU64>,
    /// Time that brokers asked to wait, in seconds.
    pub throttled: Counter<f64, AtomicU64>,
    /// Bad records of which only the first bytes were kept, because too many came at once.
    pub dead_letters_truncated: Counter<u64, AtomicU64>,
    /// Partitions of the topic, whoever owns them.
    pub topic_partitions: Gauge,
    /// Records in Kafka that are not in ClickHouse yet.
    pub lag_records: Family<PartitionLabel, Gauge>,
    /// And how old the first of them is.
    pub lag: LagCollector,
    /// How many seconds the dedup window spans.
    pub dedup_window: Family<PartitionLabel, Gauge<f64, AtomicU64>>,
    /// The newest watermark, in seconds since 1970.
    pub complete_through: Family<PartitionLabel, Gauge<f64, AtomicU64>>,
}

impl Metrics {
    /// New metrics, and the registry that renders them.
    pub fn new() -> (Metrics, Registry) {
        let metrics = Metrics {
            rows: Family::default(),
            dated_ahead: Counter::default(),
            // 4 ms to 33 s.
            insert_seconds: Histogram::new(exponential_buckets(0.004, 2.0, 14)),
            // To a million, more than an insert ever has.
            insert_rows: Histogram::new(exponential_buckets(1.0, 4.0, 11)),
            // 8 ms to 9 h: a record may wait out an outage.
            end_to_end_seconds: Histogram::new(exponential_buckets(0.008, 2.0, 23)),
            burnt_tokens: Counter::default(),
            heads_moved: Counter::default(),
            throttled: Counter::default(),
            dead_letters_truncated: Counter::default(),
            topic_partitions: Gauge::default(),
            lag_records: Family::default(),
            lag: LagCollector::default(),
            dedup_window: Family::default(),
            complete_through: Family::default(),
        };
        for kind in KINDS {
            // Present from the start, at 0.
            drop(metrics.rows.get_or_create(&KindLabel { kind }));
        }
        let mut registry = Registry::with_prefix("captcha");
        registry.register("consumed_rows", "Rows that this process stored", metrics.rows.clone());
        registry.register(
            "events_dated_ahead",
            "Events, without repeats, whose time is more than a day after their arrival in Kafka: a sender's clock is \
             wrong, or Kafka's",
            metrics.dated_ahead.clone(),
        );
        registry.register_with_unit(
            "insert_duration",
            "Time from sending an insert to the head that confirms it",
            Unit::Seconds,
            metrics.insert_seconds.clone(),
        );
        registry.register("insert_rows", "Rows of confirmed inserts", metrics.insert_rows.clone());
        registry.register_with_unit(
            "end_to_end_duration",
            "Time from a record's arrival in Kafka, its timestamp, to the head that confirms its row, by this \
             process's clock: wrong by as much as that differs from the sender's, but never below 0. Gaps do not count",
            Unit::Seconds,
            metrics.end_to_end_seconds.clone(),
        );
        registry.register(
            "burnt_tokens",
            "Deduplication tokens that the server had noted without keeping the rows",
            metrics.burnt_tokens.clone(),
        );
        registry.register_with_unit(
            "fetch_throttled",
            "Time that Kafka asked consumers to wait, because a quota was used up",
            Unit::Seconds,
            metrics.throttled.clone(),
        );
        registry.register(
            "dead_letters_truncated",
            "Records that are not events of which only the first bytes were kept, because too many came at once",
            metrics.dead_letters_truncated.clone(),
        );
        registry.register(
            "heads_moved",
            "Times that another consumer had stored records of an owned partition",
            metrics.heads_moved.clone(),
        );
        registry.register(
            "topic_partitions",
            "Partitions of the topic, whoever owns them; 0 until Kafka was asked",
            metrics.topic_partitions.clone(),
        );
        registry.register(
            "lag_records",
            "Records in Kafka that are not in ClickHouse yet",
            metrics.lag_records.clone(),
        );
        registry.register_collector(Box::new(metrics.lag.clone()));
        registry.register_with_unit(
            "dedup_window",
            "Time that the records of the dedup window took to arrive, as far back as this process has seen: an event \
             that is sent again within it is counted once",
            Unit::Seconds,
            metrics.dedup_window.clone(),
        );
        registry.register_with_unit(
            "complete_through_timestamp",
            "Moment before which every confirmed event of an owned partition is in ClickHouse, by its clock, since \
             1970",
            Unit::Seconds,
            metrics.complete_through.clone(),
        );
        (metrics, registry)
    }

    /// Counts an insert that a head has confirmed, this long after it was sent, at `now_millis` since 1970.
    pub fn record_insert(&self, stats: &BatchStats, elapsed: Duration, now_millis: i64) {
        self.insert_seconds.observe(elapsed.as_secs_f64());
        self.insert_rows.observe(stats.rows() as f64);
        for (kind, count) in stats.kinds() {
            self.rows.get_or_create(&KindLabel { kind }).inc_by(count);
        }
        self.dated_ahead.inc_by(stats.dated_ahead());
        for seconds in stats.seconds_since_arrival(now_millis) {
            self.end_to_end_seconds.observe(seconds);
        }
    }
}
