//! Captcha events in over HTTP, through Kafka, into ClickHouse exactly once, and exact statistics out.
//!
//! Imports run one way: a command imports servers, and a server imports what is below it. `tests/house` holds that.
//!
//! | | rooms |
//! | --- | --- |
//! | commands | [`serve`], [`consume`], [`migrate`], [`report`]; [`cli`] runs them |
//! | servers | [`kafka`], [`clickhouse`], [`http`] |
//! | names of sites | [`site_names`] |
//! | below | [`statistics`], [`rules`], [`event`], [`topic_partition`], [`tls`], [`telemetry`], [`runtime`] |
//! | below these | [`resource_pool`], [`backoff`], [`address`], [`terminal`], [`tested_versions`] |

#![allow(
    rustdoc::private_intra_doc_links,
    reason = "the rooms are private, and the documentation is for those who read them"
)]

mod address;
mod backoff;
pub mod cli;
mod clickhouse;
mod consume;
mod event;
mod http;
mod kafka;
mod migrate;
mod report;
mod resource_pool;
mod rules;
mod runtime;
mod serve;
mod site_names;
mod statistics;
mod telemetry;
mod terminal;
mod tested_versions;
mod tls;
mod topic_partition;

/// What reads bytes from outside: the only items that `dev/fuzz` reaches.
pub mod parsers {
    pub use crate::clickhouse::connection::packets::check as check_packets;
    pub use crate::event::{Event, Rejection, parse_body, parse_lines, parse_record};
    pub use crate::http::websocket::{CloseCode, Decoder, Ending, Item};
    pub use crate::kafka::protocol::describe_configs::DescribeConfigsResponse;
    pub use crate::kafka::protocol::fetch::FetchResponse;
    pub use crate::kafka::protocol::metadata::MetadataResponse;
    pub use crate::kafka::protocol::produce::ProduceResponse;
    pub use crate::kafka::protocol::record_reader::{ReadLimits, Record, VALUE_BYTES_MAX};
    pub use crate::serve::request::content_type::{BodyFormat, MediaType, Source};
    pub use crate::serve::request::decompress::{ContentCoding, DecompressError, decompress};
    pub use crate::serve::request::mistake::Mistake;
    pub use crate::topic_partition::Offset;
}
