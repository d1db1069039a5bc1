//! Who dates the records of a topic.

use std::fmt;

/// `message.timestamp.type` of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// Their producer does.
    CreateTime,
    /// The broker does, as it takes them.
    LogAppendTime,
}

impl TimestampType {
    /// The key in a topic's configuration.
    pub const KEY: &str = "message.timestamp.type";
}

impl fmt::Display for TimestampType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TimestampType::CreateTime => "CreateTime",
            TimestampType::LogAppendTime => "LogAppendTime",
        })
    }
}
