//! TLS and passwords, from files that are read again when they change.

mod client;
pub mod client_certificate;
mod file;
pub mod file_watch;
mod pem;
mod secret;
pub mod server;

pub use self::client::{Mismatch, Tls, Wire};
pub use self::file::{FILE_BYTES_MAX, read_file};
pub use self::secret::{Password, Secret};
