//! The timestamp type of a topic and of a batch.

use std::fmt;

/// `message.timestamp.type` of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer sets the timestamp.
    CreateTime,
    /// The broker sets it when it appends the batch.
    LogAppendTime,
}

impl TimestampType {
    /// In the configuration of a topic.
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
