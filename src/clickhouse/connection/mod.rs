//! One connection: the login, queries with a timeout, and errors that people can act on.

mod connect;
mod exception;
mod login;
pub mod packets;
mod query;
pub mod query_limits;
mod quorum_retry;
pub mod server_version;
pub mod settings;

pub use self::connect::Connection;
pub(crate) use self::query_limits::QUERY_TIMEOUT;
pub(crate) use self::quorum_retry::{QuorumRetry, RESEND_MAX, has_code};
