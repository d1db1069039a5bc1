//! The tree as it lies on disk: what the documentation names is there, and what the house forbids is not. No server.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that fails is to say where and with what"
)]

use std::fs;
use std::path::Path;

mod docs;
mod imports;
mod threat_model;
mod versions;

/// Says in plain `cargo test`, which leaves the end-to-end tests out, what they need.
#[test]
#[ignore = "tests/e2e needs Kafka and ClickHouse: run `make test`"]
fn end_to_end() {
    panic!("the end-to-end tests are in tests/e2e, and need Kafka and ClickHouse: run `make test`");
}

/// The root of the checkout.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the checkout.
fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|err| panic!("{file}: {err}"))
}
