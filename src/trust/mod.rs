//! Who is who on connections to servers: TLS and passwords, from files that are read again for each connection.

mod file;
mod secret;
mod tls;

pub use file::{FILE_BYTES_MAX, read_file};
pub use secret::{Password, Secret};
pub use tls::{Mismatch, Tls, Wire};
