//! Captcha events in over HTTP, through Kafka, into ClickHouse exactly once, and exact statistics out.
//!
//! Imports run one way: a command imports servers, and a server imports what is below it. `tests/house` holds that.
//!
//! | | rooms |
//! | --- | --- |
//! | commands | [`serve`], [`consume`], [`migrate`], [`report`]; [`cli`] runs them |
//! | servers | [`kafka`], [`clickhouse`], [`http`] |
//! | below | [`event`], [`tls`], [`telemetry`], [`resource_pool`], [`address`], [`terminal`], [`runtime`] |

mod address;
pub mod cli;
mod clickhouse;
mod consume;
mod event;
mod http;
mod kafka;
mod migrate;
mod report;
mod resource_pool;
mod runtime;
mod serve;
mod telemetry;
mod terminal;
mod tested_versions;
mod tls;
mod topic_partition;
