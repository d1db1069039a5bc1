-- Which shard of how many this server is: it holds the Kafka partitions whose number modulo shards is shard. Fixed
-- once a topic is recorded, because a partition's head is where its rows are.
ALTER TABLE topics
    ADD COLUMN IF NOT EXISTS shard Int32 DEFAULT 0,
    ADD COLUMN IF NOT EXISTS shards Int32 DEFAULT 1
