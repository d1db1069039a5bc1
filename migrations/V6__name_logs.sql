-- The name under which a topic's records stand in the column topic of events and in claims. It is the topic's
-- own until the topic is deleted and made again: then offsets begin anew, and so does the log, under another name.
-- topic_id is Kafka's id of the topic, by which the two are told apart; the nil one where it is not known.
ALTER TABLE topics
    ADD COLUMN IF NOT EXISTS log String DEFAULT topic AFTER topic,
    ADD COLUMN IF NOT EXISTS topic_id UUID AFTER log
