-- How far each partition is complete: every event that was confirmed before `through`, by the clock of this
-- server, is in the table events. partitions is how many the topic had at that time or later. The newest claim
-- of a partition says all that older ones said, so merges keep that one only.
CREATE TABLE IF NOT EXISTS claims
(
    log String,
    partition Int32,
    through DateTime64(3, 'UTC'),
    partitions Int32
)
ENGINE = ReplacingMergeTree(through)
ORDER BY (log, partition)
SETTINGS old_parts_lifetime = 60
