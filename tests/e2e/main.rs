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

mod advertised_listeners;
mod attacks;
mod audit;
mod certificates;
mod challenges;
mod client;
mod client_certificates;
#[cfg(target_os = "linux")]
mod clocks;
mod complete_through;
mod connections;
mod consume;
mod consume_holds;
mod content_types;
mod corpus;
mod dashboard;
mod dead_letters;
mod documents;
mod drop_months;
mod errors;
mod fair_shares;
mod foreign_records;
mod foreign_tables;
mod fractions;
mod host_header;
mod kafka_logs;
mod keys;
mod links;
mod logs_of_serve;
mod metrics;
mod migrate;
mod migrate_wait;
mod newer_servers;
mod outages;
mod process;
mod projections;
mod pty;
mod questions;
mod quota;
mod record_batches;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod replicas;
mod report_command;
mod report_connections;
mod report_formats;
mod report_queue;
mod report_terminal;
mod reports_of_many_sites;
mod restore;
mod retired_topics;
mod row_policies;
mod secure_clickhouse;
mod secure_kafka;
mod serve;
mod settings;
mod shards;
mod shell;
mod terminal_escapes;
mod two_consumers;
mod variables;
mod watched_files;
mod webhook;
mod websocket;
mod world;
