//! End to end: the real executable against real Kafka and ClickHouse, through its public surface.
//!
//! `make test` starts the two servers and runs this. Each test has a topic and a database of its own; those
//! that stop a server have a server of their own. Processes end with the test that started them.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that fails is to say where and with what"
)]

mod attacks;
mod audit;
mod authority;
mod batch;
mod client;
mod client_certificates;
#[cfg(target_os = "linux")]
mod clocks;
mod coding;
mod consume;
mod corpus;
mod documents;
mod edge;
mod errors;
mod files;
mod foreign;
mod forms;
mod fresh;
mod holds;
mod hostile;
mod hosts;
mod keys;
mod leaders;
mod log_lines;
mod logs;
mod many_sites;
mod metrics;
mod migrate;
mod months;
mod newer;
mod outages;
mod owners;
mod process;
mod quota;
mod readers;
mod records;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod replicas;
mod restore;
mod secure_clickhouse;
mod secure_kafka;
mod serve;
mod settings;
mod shards;
mod shares;
mod stream;
mod variables;
mod visibility;
mod waiting;
mod world;
