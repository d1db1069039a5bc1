//! The topic: created as it should be, or checked and left alone.

use anyhow::bail;

use super::output::print_line;
use crate::kafka::{Kafka, Retention, TimestampType, TopicSpec, TopicState, Transient, min_insync_replicas};

/// Partitions of a new topic: enough to use a few cores and consumers, few enough for a laptop.
const PARTITIONS: i32 = 4;

/// How the topic is created. An existing topic must match what is given here.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Topic")]
pub struct TopicArgs {
    /// Number of partitions, up to 10000. An existing topic is only checked, as with the next two [default for
    /// a new topic: 4]
    #[arg(
        long,
        env = "CAPTCHA_PARTITIONS",
        value_name = "COUNT",
        value_parser = clap::value_parser!(i32).range(1..=10_000)
    )]
    partitions: Option<i32>,

    /// Copies of each partition; min.insync.replicas is one less, at least 1 [default for a new topic: the broker's]
    #[arg(
        long,
        env = "CAPTCHA_REPLICATION_FACTOR",
        value_name = "COUNT",
        value_parser = clap::value_parser!(i16).range(1..)
    )]
    replication_factor: Option<i16>,

    /// How long Kafka keeps records, such as 7d, 12h or 2w [default for a new topic: 7d]
    #[arg(long, env = "CAPTCHA_RETENTION", value_name = "DURATION")]
    retention: Option<Retention>,
}

/// The topic after a run.
pub struct TopicOutcome {
    /// Whether it was created, or would be.
    pub is_created: bool,
    pub partitions: i32,
    /// `None` while it does not exist.
    pub state: Option<TopicState>,
}

/// Creates the topic, or checks the existing one, which has this state, and never alters it.
///
/// # Errors
/// No broker answers, it refuses, or the existing topic is not fit; then the error names every reason.
pub async fn migrate(
    args: &TopicArgs,
    kafka: &Kafka,
    mut state: Option<TopicState>,
    recorded_partitions: Option<i32>,
    dry_run: bool,
) -> anyhow::Result<TopicOutcome> {
    let spec = TopicSpec {
        // A topic that is recreated needs as many as before, or an event that is sent again comes to another partition.
        partitions: args.partitions.or(recorded_partitions).unwrap_or(PARTITIONS),
        replication_factor: args.replication_factor,
        retention: args.retention.unwrap_or(Retention::WEEK),
    };
    let mut is_created = false;
    if state.is_none() {
        is_created = true;
        if dry_run {
            print_line(format_args!(
                "would make topic {} with {} partitions",
                kafka.topic(),
                spec.partitions
            ));
            return Ok(TopicOutcome {
                is_created,
                partitions: spec.partitions,
                state: None,
            });
        }
        kafka.create_topic(spec).await?;
        state = kafka.await_topic().await?;
    }
    let Some(state) = state else {
        return Err(Transient::new(format!(
            "kafka made topic {} but does not know it yet; run `captcha migrate` again",
            kafka.topic()
        ))
        .into());
    };
    let faults = faults(args, &state);
    if !faults.is_empty() {
        bail!(
            "topic {} is not fit and is left as it is: {}; alter it with Kafka's own tools (other partitions may \
             count an event twice that is sent again) or name another with --kafka-topic",
            kafka.topic(),
            faults.join(", ")
        );
    }
    if is_created {
        print_line(format_args!("made topic {}: {}", kafka.topic(), summary(&state)));
    }
    Ok(TopicOutcome {
        is_created,
        partitions: state.partitions,
        state: Some(state),
    })
}

/// Prints how the topic is configured, or why that is not known.
pub async fn print_status(kafka: &Kafka) {
    let status = match kafka.topic_state().await {
        Ok(Some(state)) => summary(&state),
        Ok(None) => "not made".to_string(),
        Err(err) => format!("not known: {err:#}"),
    };
    print_line(format_args!("topic {}  {status}", kafka.topic()));
}

fn summary(state: &TopicState) -> String {
    let copies = match state.replication_factor {
        1 => "1 copy".to_string(),
        several => format!("{several} copies"),
    };
    format!(
        "{} partitions, {copies}, {}={}",
        state.partitions,
        TimestampType::KEY,
        state.timestamp_type()
    )
}

/// Why a topic is not fit for events; each reason has the value that it should have.
fn faults(args: &TopicArgs, state: &TopicState) -> Vec<String> {
    let mut faults = Vec::new();
    let mut want = |name: &str, is: String, should: String| {
        if is != should {
            faults.push(format!("{name} is {is} and should be {should}"));
        }
    };
    if let Some(partitions) = args.partitions {
        want(
            "the number of partitions",
            state.partitions.to_string(),
            partitions.to_string(),
        );
    }
    if let Some(copies) = args.replication_factor {
        want(
            "the replication factor",
            state.replication_factor.to_string(),
            copies.to_string(),
        );
    }
    let config = |name: &str| state.config.get(name).cloned().unwrap_or_default();
    if let Some(retention) = args.retention {
        want("retention.ms", config("retention.ms"), retention.millis().to_string());
    }
    // A compacted topic drops events; an unclean leader drops confirmed ones.
    want("cleanup.policy", config("cleanup.policy"), "delete".to_string());
    let unclean = "unclean.leader.election.enable";
    want(unclean, config(unclean), "false".to_string());
    let insync = config("min.insync.replicas");
    let needed = min_insync_replicas(state.replication_factor);
    if insync.parse::<i16>().is_ok_and(|insync| insync < needed) {
        want("min.insync.replicas", insync, needed.to_string());
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const ANY: TopicArgs = TopicArgs {
        partitions: None,
        replication_factor: None,
        retention: None,
    };

    fn state(copies: i16, config: [(&str, &str); 4]) -> TopicState {
        TopicState {
            id: Uuid::nil(),
            partitions: 4,
            replication_factor: copies,
            config: config.map(|(name, value)| (name.to_string(), value.to_string())).into(),
        }
    }

    const GOOD: [(&str, &str); 4] = [
        ("cleanup.policy", "delete"),
        ("min.insync.replicas", "2"),
        ("retention.ms", "604800000"),
        ("unclean.leader.election.enable", "false"),
    ];

    #[test]
    fn a_fit_topic_has_no_faults() {
        assert_eq!(faults(&ANY, &state(3, GOOD)), Vec::<String>::new());
        let same = TopicArgs {
            partitions: Some(4),
            replication_factor: Some(3),
            retention: Some(Retention::WEEK),
        };
        assert_eq!(faults(&same, &state(3, GOOD)), Vec::<String>::new());
    }

    #[test]
    fn every_fault_is_named_with_what_it_should_be() {
        let bad = [
            ("cleanup.policy", "compact"),
            ("min.insync.replicas", "1"),
            ("retention.ms", "1"),
            ("unclean.leader.election.enable", "true"),
        ];
        let other = TopicArgs {
            partitions: Some(8),
            replication_factor: Some(5),
            retention: Some(Retention::WEEK),
        };
        assert_eq!(
            faults(&other, &state(3, bad)),
            [
                "the number of partitions is 4 and should be 8",
                "the replication factor is 3 and should be 5",
                "retention.ms is 1 and should be 604800000",
                "cleanup.policy is compact and should be delete",
                "unclean.leader.election.enable is true and should be false",
                "min.insync.replicas is 1 and should be 2",
            ]
        );
    }
}
