//! Why ClickHouse did not do what it was asked.

use super::error_codes::{self, Action};

/// Why ClickHouse did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The server answered with an exception of this code.
    #[error("{message}")]
    Server {
        /// ClickHouse's number for the error.
        code: i32,
        /// What captcha does about it.
        action: Action,
        /// The address, the code, the first line of the server's message, and what to do.
        message: String,
    },
    /// No answer came, or not all of it: the connection is of no further use.
    #[error("{0}")]
    Connection(String),
    /// The configuration does not fit: a file cannot be read, or TLS finds another name.
    #[error("{0}")]
    Configuration(String),
    /// This captcha cannot work with the schema; what is missing, and what to do.
    #[error("{0}")]
    Schema(String),
    /// A row policy hides rows from this user; of which table, and what to do.
    #[error("{0}")]
    Hidden(String),
}

impl Error {
    /// Decides what captcha does about it.
    pub fn action(&self) -> Action {
        match self {
            Error::Server { action, .. } => *action,
            Error::Connection(_) | Error::Configuration(_) | Error::Hidden(_) => Action::Hold,
            Error::Schema(_) => Action::SchemaMissing,
        }
    }

    /// Whether it passes once somebody makes the user, or grants it what it lacks.
    pub fn is_denied(&self) -> bool {
        matches!(self, Error::Server { code, .. } if error_codes::is_denied(*code))
    }

    /// Whether it may pass by itself, without anybody changing what is set.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Server { code, .. } => error_codes::is_transient(*code),
            Error::Connection(_) => true,
            Error::Configuration(_) | Error::Schema(_) | Error::Hidden(_) => false,
        }
    }
}

/// A value that no ClickHouse with this schema answers: a bug, or another server.
pub(crate) fn unexpected(what: &str) -> Error {
    Error::Connection(format!("clickhouse gave an unexpected answer for {what}"))
}
