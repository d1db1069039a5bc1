//! What Kafka's error codes mean, and what is to be done: the one place that decides it.
//!
//! `docs/errors.md` is the same for people, and a test holds the two together. No code is ever the fault of a
//! record that is read: whether it is an event is decided from its own bytes.

use rskafka::protocol::error::Error as ProtocolError;

/// What captcha does about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The log does not have the offset that was asked for: see where it begins and ends.
    OutOfRange,
    /// Anything else, unknown codes too: hold, and try again.
    Hold,
}

/// What is known of an error.
struct ErrorCode {
    /// Kafka's number for it (<https://kafka.apache.org/protocol#protocol_error_codes>).
    code: i16,
    error: ProtocolError,
    action: Action,
    /// What a person is to do, for the end of a line.
    advice: &'static str,
}

/// What is to be done about what a broker says.
pub fn action(error: ProtocolError) -> Action {
    meaning(error).map_or(Action::Hold, |known| known.action)
}

/// Whether it may pass by itself: brokers start, stop, elect, or have too much to do.
pub fn is_transient(error: ProtocolError) -> bool {
    let passing = [
        ProtocolError::LeaderNotAvailable,
        ProtocolError::NotLeaderOrFollower,
        ProtocolError::NotController,
        ProtocolError::BrokerNotAvailable,
        ProtocolError::ReplicaNotAvailable,
        ProtocolError::RequestTimedOut,
        ProtocolError::NetworkException,
        ProtocolError::ThrottlingQuotaExceeded,
        ProtocolError::UnknownTopicOrPartition,
    ];
    passing.contains(&error)
}

/// What a broker says, in words for people, with its own words if it has any, and what they are to do.
pub fn explain_code(error: ProtocolError, detail: Option<&str>) -> String {
    let detail = detail.map_or_else(String::new, |detail| format!(": {detail}"));
    match meaning(error) {
        Some(ErrorCode { code, advice, .. }) => {
            format!("error {code} ({error:?}){detail}; {advice}")
        }
        None => format!("error {error:?}{detail}; {LOOK}"),
    }
}

fn meaning(error: ProtocolError) -> Option<&'static ErrorCode> {
    KNOWN.iter().find(|known| known.error == error)
}

const LOOK: &str = "look at kafka's log";
const LEADER: &str = "wait until the partition has a leader; if it stays so, start the broker that is missing";
const REPLICAS: &str = "start the brokers that are missing: fewer replicas than min.insync.replicas are in sync";
const BATCH: &str = "set max.message.bytes of the topic to 1048588 or more";

const fn hold(code: i16, error: ProtocolError, advice: &'static str) -> ErrorCode {
    ErrorCode {
        code,
        error,
        action: Action::Hold,
        advice,
    }
}

static KNOWN: [ErrorCode; 16] = [
    ErrorCode {
        action: Action::OutOfRange,
        ..hold(
            1,
            ProtocolError::OffsetOutOfRange,
            "nothing, unless it says that the log lost its end",
        )
    },
    hold(
        2,
        ProtocolError::CorruptMessage,
        "see the disks of kafka's brokers, and their logs",
    ),
    hold(3, ProtocolError::UnknownTopicOrPartition, "run `captcha migrate`"),
    hold(5, ProtocolError::LeaderNotAvailable, LEADER),
    hold(6, ProtocolError::NotLeaderOrFollower, LEADER),
    hold(
        7,
        ProtocolError::RequestTimedOut,
        "see the load of kafka's brokers, and whether all of them run",
    ),
    hold(9, ProtocolError::ReplicaNotAvailable, LEADER),
    hold(10, ProtocolError::MessageTooLarge, BATCH),
    hold(
        18,
        ProtocolError::RecordListTooLarge,
        "set segment.bytes of the topic to its default",
    ),
    hold(19, ProtocolError::NotEnoughReplicas, REPLICAS),
    hold(20, ProtocolError::NotEnoughReplicasAfterAppend, REPLICAS),
    hold(
        29,
        ProtocolError::TopicAuthorizationFailed,
        "allow captcha to describe, read and write the topic",
    ),
    hold(
        32,
        ProtocolError::InvalidTimestamp,
        "set the clock of captcha or of kafka's brokers, or message.timestamp.type of the topic to LogAppendTime",
    ),
    hold(
        44,
        ProtocolError::PolicyViolation,
        "see the policies of kafka's brokers",
    ),
    hold(
        56,
        ProtocolError::KafkaStorageError,
        "see the disks of kafka's brokers, and their logs",
    ),
    hold(89, ProtocolError::ThrottlingQuotaExceeded, "raise the quota of captcha"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_each_code_and_no_other() {
        let does = |action| match action {
            Action::OutOfRange => "looks where the log begins",
            Action::Hold => "holds",
        };
        let known: Vec<_> = KNOWN
            .iter()
            .map(|known| {
                let name = format!("{:?}", known.error);
                let code = known.code.to_string();
                [code, name, does(known.action).into(), known.advice.into()]
            })
            .collect();
        let page = include_str!("../../docs/errors.md");
        let section = page.split("\n## ").find(|part| part.starts_with("Kafka"));
        let rows = section.expect("the section of Kafka").lines();
        let documented: Vec<[String; 4]> = rows
            .filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit())
            .map(|line| {
                let cells = line.trim_matches('|').split(" | ").take(4);
                let cells: Vec<_> = cells.map(|cell| cell.trim().to_string()).collect();
                cells.try_into().expect("six columns")
            })
            .collect();
        assert_eq!(known.as_slice(), documented);
    }

    #[test]
    fn codes_are_those_of_the_protocol() {
        for known in &KNOWN {
            assert_eq!(ProtocolError::new(known.code), Some(known.error));
        }
    }
}
