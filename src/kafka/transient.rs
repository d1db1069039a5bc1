//! Failures that may pass by themselves.

use std::time::Duration;

use rskafka::protocol::error::Error as ProtocolError;

use super::error_codes::is_transient;

/// A failure that may pass without a change of configuration: one line for people.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Transient(String);

impl Transient {
    pub fn new(reason: String) -> Transient {
        Transient(reason)
    }
}

pub(super) fn no_response(address: &str, limit: Duration) -> anyhow::Error {
    let seconds = limit.as_secs();
    Transient(format!(
        "kafka at {address} did not answer within {seconds} s; look at its load and its log"
    ))
    .into()
}

/// [`Transient`] if the error of a broker is, else a plain error.
pub(super) fn broker_error(error: ProtocolError, reason: String) -> anyhow::Error {
    match is_transient(error) {
        true => Transient(reason).into(),
        false => anyhow::anyhow!(reason),
    }
}
