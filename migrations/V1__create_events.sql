-- The log in the table: every Kafka record that was consumed leaves exactly one row here, in the
-- same part as its counts, so that one insert moves everything or nothing.
-- kind: 'event' a good record; 'bad' a record that is no event (reason, raw); 'gap' offsets that
-- Kafka no longer had (span of them, ending at offset); 'mark' a place holder for dropped months.
-- The two fsync settings keep a newer part from surviving a power cut that an older one did not.
CREATE TABLE IF NOT EXISTS events
(
    topic LowCardinality(String),
    partition Int32 CODEC(ZSTD(1)),
    offset Int64 CODEC(Delta(8), ZSTD(1)),
    arrival DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    span Int64 CODEC(ZSTD(1)),
    kind LowCardinality(String),
    reason String CODEC(ZSTD(1)),
    raw String CODEC(ZSTD(1)),
    repeat UInt8 CODEC(ZSTD(1)),
    site_id UUID CODEC(ZSTD(1)),
    type LowCardinality(String),
    correlation_id UUID CODEC(ZSTD(1)),
    time DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    PROJECTION heads
    (
        SELECT
            topic,
            partition,
            kind,
            max(offset),
            min(offset),
            sum(span),
            argMax(toUnixTimestamp64Milli(arrival), offset)
        GROUP BY
            topic,
            partition,
            kind
    ),
    PROJECTION hourly
    (
        SELECT
            intDiv(toUnixTimestamp64Second(time), 3600) AS hour,
            site_id,
            type,
            kind,
            repeat,
            count()
        GROUP BY
            hour,
            site_id,
            type,
            kind,
            repeat
    )
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(arrival)
ORDER BY (site_id, time)
SETTINGS
    non_replicated_deduplication_window = 100000,
    fsync_after_insert = 1,
    fsync_part_directory = 1
