//! The bytes that tests and fuzzers send to captcha: requests, good and bad, with the responses they must get, record
//! batches, and recordings of real clients and servers.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a mistake in the corpus fails the test that reads it, with the place"
)]

pub mod bodies;
pub mod encodings;
mod gzip;
pub mod record_batch;
pub mod recordings;
pub mod script;

pub use self::gzip::gzip;

/// The site of the events in the corpus.
pub const SITE: &str = "7a6f0a3e-9d3c-4b0e-8a55-0a4f5b1c2d3e";
