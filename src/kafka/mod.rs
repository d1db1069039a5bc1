//! Kafka: connections that give up in bounded time, partitions to read, and a producer that waits for confirmation.

mod args;
mod broker_version;
mod client;
mod connect;
mod error_codes;
mod fetcher;
mod leader_reachability;
mod metadata;
mod partition;
mod producer;
pub mod protocol;
mod scram_limit;
mod topic_admin;
mod transient;

pub use self::args::{Args, TopicArgs, TopicName};
pub use self::client::Kafka;
pub use self::connect::quota_advice;
pub use self::metadata::MetadataClient;
pub use self::partition::PartitionConsumer;
pub use self::producer::{ProduceOutcome, Producer, ProducerStatus, Receipt, SendError};
pub use self::protocol::produce::ProducerRecord;
pub use self::protocol::record_reader::{Record, VALUE_BYTES_MAX};
pub use self::protocol::timestamp_type::TimestampType;
pub use self::topic_admin::{Retention, TopicSpec, TopicState, min_insync_replicas};
pub use self::transient::{AccessDenied, Transient};
