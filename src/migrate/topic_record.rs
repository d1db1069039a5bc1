//! What is recorded of the topic: its partitions, its dedup window, and the name of its log.

use anyhow::bail;
use uuid::Uuid;

use super::output::print_line;
use crate::clickhouse::{Connection, ShardId, TopicRecord};
use crate::rules::DEDUP_WINDOW_RECORDS;
use crate::topic_partition::LogName;

/// What is to be recorded.
#[derive(Debug, Clone, Copy, Default)]
pub struct Desired {
    /// Kafka's id of the topic; `None` if there is none, or it does not matter.
    pub topic_id: Option<Uuid>,
    /// Partitions that the topic has; 0 if it is to be retired.
    pub partitions: i32,
    /// N, if it is given.
    pub dedup_window_records: Option<i64>,
    /// Whether --topic-recreated is given.
    pub recreated: bool,
    /// Whether --resume-topic is given.
    pub resumed: bool,
    /// Which shard the server is to be.
    pub shard: ShardId,
}

/// Records the topic unless it is recorded already, or prints what would be recorded. Returns whether there is
/// anything.
///
/// # Errors
/// ClickHouse is away, or what is desired contradicts what is recorded.
pub async fn record(topic: &str, connection: &Connection, desired: Desired, dry_run: bool) -> anyhow::Result<bool> {
    let recorded = connection.topic_record(topic).await?;
    let Some(next) = next_record(topic, recorded.as_ref(), desired)? else {
        return Ok(false);
    };
    if dry_run {
        print_line(format_args!(
            "would record topic {topic}: {} partitions, stored as {}",
            next.partitions, next.log
        ));
        return Ok(true);
    }
    connection.record_topic(topic, &next).await?;
    if connection.topic_record(topic).await?.as_ref() != Some(&next) {
        bail!("another migrate recorded topic {topic} differently at the same time; run `captcha migrate` again");
    }
    print_recorded(topic, recorded.as_ref(), &next);
    Ok(true)
}

/// The revision that is to be recorded; `None` if nothing is new.
///
/// # Errors
/// What is desired contradicts what is recorded.
pub fn next_record(
    topic: &str,
    recorded: Option<&TopicRecord>,
    desired: Desired,
) -> anyhow::Result<Option<TopicRecord>> {
    let window = desired.dedup_window_records;
    let Some(recorded) = recorded else {
        if desired.recreated {
            bail!("topic {topic} was never consumed; leave --topic-recreated out");
        }
        if desired.partitions == 0 {
            bail!("topic {topic} is not recorded; see --kafka-topic");
        }
        return Ok(Some(TopicRecord {
            revision: 1,
            log: LogName::new(topic),
            topic_id: desired.topic_id.unwrap_or_default(),
            partitions: desired.partitions,
            repeat_window_records: window.unwrap_or(DEDUP_WINDOW_RECORDS),
            shard: desired.shard,
        }));
    };
    // A partition's head is where its rows are: elsewhere it would start at 0 and count everything again.
    if recorded.shard != desired.shard {
        bail!(
            "it is {} for topic {topic} and cannot become {}; give all shards, in their order, `;` between them, and \
             for another number of shards begin with a new topic and a new database",
            recorded.shard,
            desired.shard
        );
    }
    // A consumer that runs has the recorded window; with another one, the table would follow two rules.
    if let Some(window) = window.filter(|window| *window != recorded.repeat_window_records) {
        bail!(
            "the dedup window of topic {topic} is fixed at {} records and cannot become {window}; leave \
             --dedup-window-records out",
            recorded.repeat_window_records,
        );
    }
    let is_resumed = recorded.is_retired() && desired.partitions > 0;
    // A retired topic that is taken up by mistake, such as by a wrong --kafka-topic, holds up complete_through.
    if is_resumed && !desired.resumed && !desired.recreated {
        bail!(
            "topic {topic} is retired, so nothing is done; name another with --kafka-topic, or let `captcha migrate \
             --resume-topic` take it up again: complete_through then waits for it"
        );
    }
    // A topic that does not exist yet is a new one; a topic that is retired may be gone.
    let is_recreated = desired.partitions > 0 && !recorded.matches_id(desired.topic_id.unwrap_or_default());
    // If a topic is taken for a new one by mistake, all its records are counted twice.
    match (is_recreated, desired.recreated) {
        (true, false) => bail!(
            "topic {topic} was deleted since it was recorded; `captcha migrate --topic-recreated` makes it again, \
             unless it is there, and consumes it from its beginning"
        ),
        (false, true) => {
            bail!("topic {topic} is the one that was recorded; leave --topic-recreated out")
        }
        _ => {}
    }
    let revision = recorded.revision + 1;
    let next = TopicRecord {
        revision,
        log: match is_recreated {
            // No topic has a name with this sign.
            true => LogName::new(&format!("{topic}@{revision}")),
            false => recorded.log.clone(),
        },
        topic_id: desired.topic_id.unwrap_or(recorded.topic_id),
        partitions: desired.partitions,
        repeat_window_records: recorded.repeat_window_records,
        shard: recorded.shard,
    };
    let is_new = TopicRecord {
        revision: recorded.revision,
        ..next.clone()
    } != *recorded;
    Ok(is_new.then_some(next))
}

fn print_recorded(topic: &str, recorded: Option<&TopicRecord>, now: &TopicRecord) {
    if now.is_retired() {
        return print_line(format_args!(
            "retired topic {topic}: complete_through does not wait for it any more"
        ));
    }
    if let Some(recorded) = recorded.filter(|recorded| recorded.log != now.log) {
        return print_line(format_args!(
            "recorded topic {topic} as recreated: its records are stored from offset 0 on as {}, next to those of {}",
            now.log, recorded.log
        ));
    }
    if recorded.is_some_and(TopicRecord::is_retired) {
        return print_line(format_args!(
            "resumed topic {topic}: {} partitions, from where the stored rows end; complete_through waits for it",
            now.partitions
        ));
    }
    let has_grown = |recorded: &&TopicRecord| recorded.partitions != now.partitions;
    if let Some(recorded) = recorded.filter(has_grown) {
        print_line(format_args!(
            "warning: topic {topic} went from {} to {} partitions; an event that was sent before and is sent again \
             may be counted twice",
            recorded.partitions, now.partitions
        ));
    }
    print_line(format_args!(
        "recorded topic {topic}: {} partitions, dedup window {} records",
        now.partitions, now.repeat_window_records
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Uuid = Uuid::from_u128(1);
    const TWO: Uuid = Uuid::from_u128(2);

    fn recorded() -> TopicRecord {
        TopicRecord {
            revision: 3,
            log: LogName::new("t"),
            topic_id: ONE,
            partitions: 4,
            repeat_window_records: 20,
            shard: ShardId::default(),
        }
    }

    fn desired(topic_id: Uuid, partitions: i32) -> Desired {
        Desired {
            topic_id: Some(topic_id),
            partitions,
            ..Desired::default()
        }
    }

    #[test]
    fn only_what_is_new_is_recorded() {
        let first = next_record("t", None, desired(ONE, 4)).unwrap().unwrap();
        assert_eq!((first.revision, first.log.as_str()), (1, "t"));
        assert_eq!(first.repeat_window_records, DEDUP_WINDOW_RECORDS);
        assert_eq!(next_record("t", Some(&recorded()), desired(ONE, 4)).unwrap(), None);
        let grown = next_record("t", Some(&recorded()), desired(ONE, 6)).unwrap().unwrap();
        assert_eq!((grown.revision, grown.partitions), (4, 6));
        assert_eq!((grown.repeat_window_records, grown.topic_id), (20, ONE));
        let nameless = TopicRecord {
            topic_id: Uuid::nil(),
            ..recorded()
        };
        let named = next_record("t", Some(&nameless), desired(TWO, 4)).unwrap().unwrap();
        assert_eq!((named.topic_id, named.log.as_str()), (TWO, "t"));
    }

    #[test]
    fn the_window_stays() {
        for (window, fits) in [(20, true), (21, false)] {
            let desired = Desired {
                dedup_window_records: Some(window),
                ..desired(ONE, 4)
            };
            assert_eq!(next_record("t", Some(&recorded()), desired).is_ok(), fits);
        }
    }

    #[test]
    fn a_topic_recreated_must_be_another_one_and_called_so() {
        let recreated = |topic_id| Desired {
            recreated: true,
            ..desired(topic_id, 4)
        };
        for (desired, reason) in [
            (desired(TWO, 4), "was deleted since"),
            (recreated(ONE), "is the one that was recorded"),
        ] {
            let err = next_record("t", Some(&recorded()), desired).unwrap_err();
            assert!(err.to_string().contains(reason), "{err}");
        }
        assert!(next_record("t", None, recreated(ONE)).is_err());
        let away = Desired {
            topic_id: None,
            ..recreated(ONE)
        };
        let other = next_record("t", Some(&recorded()), away).unwrap().unwrap();
        assert_eq!(other.log.as_str(), "t@4", "still to be made");
        let other = next_record("t", Some(&recorded()), recreated(TWO)).unwrap().unwrap();
        assert_eq!((other.log.as_str(), other.topic_id), ("t@4", TWO));
        assert!(other.log.as_str().parse::<crate::kafka::TopicName>().is_err());
    }

    #[test]
    fn a_shard_stays_what_it_is() {
        let second = ShardId { index: 1, of: 2 };
        let desired = Desired {
            shard: second,
            ..desired(ONE, 4)
        };
        assert_eq!(next_record("t", None, desired).unwrap().unwrap().shard, second);
        let err = next_record("t", Some(&recorded()), desired).unwrap_err().to_string();
        let start = "it is shard 0 of 1 for topic t and cannot become shard 1 of 2; ";
        assert!(err.starts_with(start), "{err}");
    }

    #[test]
    fn only_what_is_recorded_can_be_retired() {
        assert!(next_record("t", None, Desired::default()).is_err());
        let retired = next_record("t", Some(&recorded()), Desired::default())
            .unwrap()
            .unwrap();
        assert_eq!((retired.partitions, retired.topic_id), (0, ONE));
    }

    #[test]
    fn a_retired_topic_is_taken_up_again_only_if_that_is_said() {
        let retired = TopicRecord {
            partitions: 0,
            ..recorded()
        };
        let err = next_record("t", Some(&retired), desired(ONE, 4)).unwrap_err();
        assert!(
            err.to_string().starts_with("topic t is retired, so nothing is done; "),
            "{err}"
        );
        let resumed = |topic_id| Desired {
            resumed: true,
            ..desired(topic_id, 4)
        };
        let next = next_record("t", Some(&retired), resumed(ONE)).unwrap().unwrap();
        let (partitions, log) = (next.partitions, next.log.as_str());
        assert_eq!((next.revision, partitions, log), (4, 4, "t"));
        // A migrate that was killed has resumed it in some shards.
        assert_eq!(next_record("t", Some(&recorded()), resumed(ONE)).unwrap(), None);
        let err = next_record("t", Some(&retired), resumed(TWO)).unwrap_err();
        assert!(err.to_string().contains("was deleted since"), "{err}");
        let recreated = Desired {
            recreated: true,
            ..desired(TWO, 4)
        };
        let next = next_record("t", Some(&retired), recreated).unwrap().unwrap();
        assert_eq!((next.partitions, next.log.as_str()), (4, "t@4"));
        assert_eq!(next_record("t", Some(&retired), Desired::default()).unwrap(), None);
    }
}
