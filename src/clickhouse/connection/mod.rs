//! One connection: a login, questions with a limit in time, and errors that say who said what.

mod connect;
mod exception;
mod login;
pub mod packets;
mod query;
mod quorum_retry;
pub mod server_version;
pub mod settings;

pub use self::connect::Connection;
pub(crate) use self::query::QUERY_TIMEOUT;
pub(crate) use self::quorum_retry::{QuorumRetry, RESEND_MAX, has_code};
