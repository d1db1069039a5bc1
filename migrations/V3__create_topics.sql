-- What `captcha migrate` found or made of each Kafka topic: the newest row of a topic is true.
-- repeat_window_records is the N of "the same event sent again within the next N records of its
-- partition is counted once"; it never changes while events has rows of the topic.
CREATE TABLE IF NOT EXISTS topics
(
    topic String,
    revision UInt32,
    partitions Int32,
    repeat_window_records Int64,
    recorded_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = MergeTree
ORDER BY (topic, revision)
SETTINGS
    non_replicated_deduplication_window = 10000,
    fsync_after_insert = 1,
    fsync_part_directory = 1
