//! Failures that may pass by themselves.

use std::fmt;
use std::time::Duration;

use rskafka::protocol::error::Error as ProtocolError;

use super::error_codes::is_transient;

/// What may pass by itself, without anybody changing what is set: one line for people.
#[derive(Debug)]
pub struct Transient(String);

impl Transient {
    /// With this line.
    pub fn new(reason: String) -> Transient {
        Transient(reason)
    }
}

impl fmt::Display for Transient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Transient {}

/// A broker that does not answer.
pub(super) fn silent(address: &str, limit: Duration) -> anyhow::Error {
    let seconds = limit.as_secs();
    Transient(format!(
        "kafka at {address} did not answer within {seconds} s; look at its load and its log"
    ))
    .into()
}

/// An answer that may pass by itself, or not.
pub(super) fn said(error: ProtocolError, reason: String) -> anyhow::Error {
    match is_transient(error) {
        true => Transient(reason).into(),
        false => anyhow::anyhow!(reason),
    }
}
