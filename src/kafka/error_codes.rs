//! Kafka's error codes: the one place that decides what captcha does about each, and what a person should do.
//!
//! `docs/errors.md` has the same table, and a test compares the two. A code never makes a record a bad one: that is
//! decided from the bytes of the record alone.

use rskafka::protocol::error::Error as ProtocolError;

/// What captcha does about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The log does not have the offset: ask where it begins and ends.
    OutOfRange,
    /// Hold, and try again. Unknown codes too.
    Hold,
}

struct ErrorCode {
    /// Kafka's number for it (<https://kafka.apache.org/protocol#protocol_error_codes>).
    code: i16,
    error: ProtocolError,
    action: Action,
    /// What a person should do, for the end of an error line.
    advice: &'static str,
}

pub fn action(error: ProtocolError) -> Action {
    find(error).map_or(Action::Hold, |known| known.action)
}

/// Errors that may pass by themselves, while brokers start, stop, elect leaders or are overloaded.
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

/// Errors that pass once somebody makes the user, or gives it the right.
pub fn is_denied(error: ProtocolError) -> bool {
    let denied = [
        ProtocolError::SaslAuthenticationFailed,
        ProtocolError::TopicAuthorizationFailed,
        ProtocolError::ClusterAuthorizationFailed,
    ];
    denied.contains(&error)
}

/// An error for people: its code, the message of the broker if it has one, and what to do.
pub fn explain_code(error: ProtocolError, detail: Option<&str>) -> String {
    let detail = detail.map_or_else(String::new, |detail| format!(": {detail}"));
    match find(error) {
        Some(ErrorCode { code, advice, .. }) => {
            format!("error {code} ({error:?}){detail}; {advice}")
        }
        None => format!("error {error:?}{detail}; {LOOK_AT_LOG}"),
    }
}

fn find(error: ProtocolError) -> Option<&'static ErrorCode> {
    KNOWN.iter().find(|known| known.error == error)
}

const LOOK_AT_LOG: &str = "look at kafka's log";
const LEADER: &str = "wait until the partition has a leader; if it stays so, start the broker that is missing";
const REPLICAS: &str = "start the brokers that are missing: fewer replicas than min.insync.replicas are in sync";
const BATCH: &str = "set max.message.bytes of the topic to 1048588 or more";

const fn holding(code: i16, error: ProtocolError, advice: &'static str) -> ErrorCode {
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
        ..holding(
            1,
            ProtocolError::OffsetOutOfRange,
            "nothing, unless it says that the log lost its end",
        )
    },
    holding(
        2,
        ProtocolError::CorruptMessage,
        "see the disks of kafka's brokers, and their logs",
    ),
    holding(3, ProtocolError::UnknownTopicOrPartition, "run `captcha migrate`"),
    holding(5, ProtocolError::LeaderNotAvailable, LEADER),
    holding(6, ProtocolError::NotLeaderOrFollower, LEADER),
    holding(
        7,
        ProtocolError::RequestTimedOut,
        "see the load of kafka's brokers, and whether all of them run",
    ),
    holding(9, ProtocolError::ReplicaNotAvailable, LEADER),
    holding(10, ProtocolError::MessageTooLarge, BATCH),
    holding(
        18,
        ProtocolError::RecordListTooLarge,
        "set segment.bytes of the topic to its default",
    ),
    holding(19, ProtocolError::NotEnoughReplicas, REPLICAS),
    holding(20, ProtocolError::NotEnoughReplicasAfterAppend, REPLICAS),
    holding(
        29,
        ProtocolError::TopicAuthorizationFailed,
        "allow captcha to describe, read and write the topic",
    ),
    holding(
        32,
        ProtocolError::InvalidTimestamp,
        "set the clock of captcha or of kafka's brokers, or message.timestamp.type of the topic to LogAppendTime",
    ),
    holding(
        44,
        ProtocolError::PolicyViolation,
        "see the policies of kafka's brokers",
    ),
    holding(
        56,
        ProtocolError::KafkaStorageError,
        "see the disks of kafka's brokers, and their logs",
    ),
    holding(89, ProtocolError::ThrottlingQuotaExceeded, "raise the quota of captcha"),
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
