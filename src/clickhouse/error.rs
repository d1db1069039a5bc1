//! Why ClickHouse did not do what it was asked.

use super::error_codes::{self, Action};

/// Why ClickHouse did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server answered with an exception of this code.
    #[error("{message}")]
    Server {
        /// ClickHouse's number for the error.
        code: i32,
        /// What captcha does about it.
        action: Action,
        /// Who answered, the code, the first line of the server's message, and what to do.
        message: String,
    },
    /// There was no answer, or not all of it: the connection is of no further use.
    #[error("{0}")]
    Connection(String),
    /// What is set for captcha does not fit: a file, or who is who in TLS.
    #[error("{0}")]
    Configuration(String),
    /// The schema is not one that this captcha can work with; what is lacking, and what to do.
    #[error("{0}")]
    Schema(String),
    /// The server does not show this user all rows; of which table, and what to do.
    #[error("{0}")]
    Hidden(String),
}

impl Error {
    /// What captcha does about it.
    pub fn action(&self) -> Action {
        match self {
            Error::Server { action, .. } => *action,
            Error::Connection(_) | Error::Configuration(_) | Error::Hidden(_) => Action::Hold,
            Error::Schema(_) => Action::SchemaMissing,
        }
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

/// An answer of another shape than the question's: a bug, or a server that is not ClickHouse.
pub(crate) fn unexpected(what: &str) -> Error {
    Error::Connection(format!("clickhouse gave an unexpected answer for {what}"))
}
