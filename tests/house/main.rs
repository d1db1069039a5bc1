//! The tree as it lies on disk: what the documentation names is there, and what the house forbids is not. No server.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that fails is to say where and with what"
)]

mod docs;
mod imports;
mod threat_model;
mod versions;
