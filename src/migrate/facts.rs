//! What is recorded of the topic: its partitions, its repeat window, and under which name its records stand.

use anyhow::bail;

use super::say;
use crate::broker::Broker;
use crate::store::{Connection, Place, TopicFacts};

/// N unless it is said otherwise: at 100 events a second for each partition, the last 2 h 46 min.
const REPEAT_WINDOW_RECORDS: i64 = 1_000_000;

/// What is to be recorded.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish {
    /// Partitions that the topic has; 0 if it is to be retired.
    pub partitions: i32,
    /// N, if it is said.
    pub repeat_window_records: Option<i64>,
    /// Whether the topic is another one of the same name.
    pub made_anew: bool,
}

/// Records them unless they are recorded already, and says whether it did.
///
/// # Errors
/// A server is away, or what is wished contradicts what is known.
pub async fn record(broker: &Broker, connection: &Connection, wish: Wish) -> anyhow::Result<bool> {
    let topic = broker.topic().as_str();
    let known = connection.topic_facts(topic).await?;
    if wish.made_anew {
        match &known {
            Some(known) => prove_made_anew(broker, connection, known, wish.partitions).await?,
            None => bail!("topic {topic} was never consumed; leave --topic-made-anew out"),
        }
    }
    let Some(wanted) = wanted(topic, known.as_ref(), wish)? else {
        return Ok(false);
    };
    connection.record_topic(topic, &wanted).await?;
    if connection.topic_facts(topic).await?.as_ref() != Some(&wanted) {
        bail!(
            "another migrate recorded topic {topic} differently at the same time; run `captcha migrate` again"
        );
    }
    tell(topic, known.as_ref(), &wanted)?;
    Ok(true)
}

/// The revision that is to be recorded; `None` if nothing is new.
fn wanted(
    topic: &str,
    known: Option<&TopicFacts>,
    wish: Wish,
) -> anyhow::Result<Option<TopicFacts>> {
    let window = wish.repeat_window_records;
    let Some(known) = known else {
        return Ok(Some(TopicFacts {
            revision: 1,
            log: topic.to_string(),
            partitions: wish.partitions,
            repeat_window_records: window.unwrap_or(REPEAT_WINDOW_RECORDS),
        }));
    };
    // A consumer that runs has the recorded one; with another, the table would be by two rules.
    if let Some(window) = window.filter(|window| *window != known.repeat_window_records) {
        bail!(
            "the repeat window of topic {topic} is fixed at {} records and cannot become {window}; leave --repeat-window-records out",
            known.repeat_window_records,
        );
    }
    let revision = known.revision + 1;
    let wanted = TopicFacts {
        revision,
        log: match wish.made_anew {
            // No topic has a name with this sign.
            true => format!("{topic}@{revision}"),
            false => known.log.clone(),
        },
        partitions: wish.partitions,
        repeat_window_records: known.repeat_window_records,
    };
    let is_new = (&wanted.log, wanted.partitions) != (&known.log, known.partitions);
    Ok(is_new.then_some(wanted))
}

/// Whoever takes a topic for another one by mistake would have all its records counted twice. So at least one
/// partition must contradict the table, and none may agree with it.
async fn prove_made_anew(
    broker: &Broker,
    connection: &Connection,
    known: &TopicFacts,
    partitions: i32,
) -> anyhow::Result<()> {
    let mut contradicted = false;
    for partition in 0..partitions {
        let place = Place {
            topic: known.log.clone(),
            partition,
        };
        let Some(head) = connection.head(&place).await? else {
            continue;
        };
        let log = broker.log(partition, head.next).await?;
        let (_, end) = log.range().await?;
        let record = log.record_at(head.next - 1).await?;
        let row = connection.last_row(&place, &head).await?;
        match (record, row) {
            (Some(record), Some(row)) => {
                if row.is_made_of(record.timestamp_millis, record.value.as_deref()) {
                    bail!(
                        "topic {} is the one that was consumed: its record {} of partition {partition} is in the table; leave --topic-made-anew out",
                        broker.topic(),
                        head.next - 1
                    );
                }
                contradicted = true;
            }
            _ => contradicted |= end < head.next,
        }
    }
    if !contradicted {
        bail!(
            "nothing in topic {} contradicts what was consumed; leave --topic-made-anew out",
            broker.topic()
        );
    }
    Ok(())
}

fn tell(topic: &str, known: Option<&TopicFacts>, now: &TopicFacts) -> anyhow::Result<()> {
    if now.partitions == 0 {
        return say(format_args!(
            "retired topic {topic}: complete_through does not wait for it any more"
        ));
    }
    if let Some(known) = known.filter(|known| known.log != now.log) {
        return say(format_args!(
            "recorded topic {topic} as made anew: its records are stored from offset 0 on as {}, beside those of {}",
            now.log, known.log
        ));
    }
    let grown = |known: &&TopicFacts| known.partitions != now.partitions && known.partitions > 0;
    if let Some(known) = known.filter(grown) {
        say(format_args!(
            "warning: topic {topic} went from {} to {} partitions; an event that was sent before and is sent again may be counted twice",
            known.partitions, now.partitions
        ))?;
    }
    say(format_args!(
        "recorded topic {topic}: {} partitions, repeat window {} records",
        now.partitions, now.repeat_window_records
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(revision: u32, log: &str, partitions: i32) -> TopicFacts {
        TopicFacts {
            revision,
            log: log.to_string(),
            partitions,
            repeat_window_records: 20,
        }
    }

    fn wish(partitions: i32) -> Wish {
        Wish {
            partitions,
            ..Wish::default()
        }
    }

    #[test]
    fn only_what_is_new_is_recorded() {
        let first = wanted("t", None, wish(4)).unwrap().unwrap();
        assert_eq!((first.revision, first.log.as_str()), (1, "t"));
        assert_eq!(first.repeat_window_records, REPEAT_WINDOW_RECORDS);
        let known = known(3, "t", 4);
        assert_eq!(wanted("t", Some(&known), wish(4)).unwrap(), None);
        let grown = wanted("t", Some(&known), wish(6)).unwrap().unwrap();
        assert_eq!((grown.revision, grown.partitions), (4, 6));
        assert_eq!(grown.repeat_window_records, 20);
    }

    #[test]
    fn the_window_stays() {
        let known = known(1, "t", 4);
        for (window, fits) in [(20, true), (21, false)] {
            let wish = Wish {
                repeat_window_records: Some(window),
                ..wish(4)
            };
            assert_eq!(wanted("t", Some(&known), wish).is_ok(), fits);
        }
    }

    #[test]
    fn a_topic_made_anew_gets_a_name_that_no_topic_has() {
        let wish = Wish {
            made_anew: true,
            ..wish(4)
        };
        let anew = wanted("t", Some(&known(1, "t", 4)), wish).unwrap().unwrap();
        assert_eq!(anew.log, "t@2");
        let again = wanted("t", Some(&anew), wish).unwrap().unwrap();
        assert_eq!(again.log, "t@3");
        assert!("t@2".parse::<crate::broker::TopicName>().is_err());
    }
}
