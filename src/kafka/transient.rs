//! Failures that may pass without a change of captcha's settings: by themselves, or once access is given.

use std::time::Duration;

use rskafka::protocol::error::Error as ProtocolError;

use super::error_codes::{is_denied, is_transient};

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

/// A refused login, or a missing right: it passes once somebody makes the user or gives the right. One line for people.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct AccessDenied(String);

impl AccessDenied {
    pub(super) fn new(reason: String) -> AccessDenied {
        AccessDenied(reason)
    }
}

/// [`Transient`] or [`AccessDenied`] if the error of a broker is, else a plain error.
pub(super) fn broker_error(error: ProtocolError, reason: String) -> anyhow::Error {
    if is_transient(error) {
        Transient(reason).into()
    } else if is_denied(error) {
        AccessDenied(reason).into()
    } else {
        anyhow::anyhow!(reason)
    }
}
