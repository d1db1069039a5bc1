-- The records that are no events: where they stand in Kafka, when they arrived, why they were
-- refused, and their bytes.
CREATE VIEW IF NOT EXISTS dead_letters AS
SELECT
    topic,
    partition,
    offset,
    arrival,
    reason,
    raw
FROM events
WHERE kind = 'bad'
