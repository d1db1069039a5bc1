//! The noun Kafka: clients that give up in bounded time, partitions to read, a producer that confirms.

mod args;
mod broker_version;
mod client;
mod connect;
mod error_codes;
mod fetcher;
mod leaders;
mod metadata;
mod partition;
mod producer;
pub mod protocol;
mod scram_limit;
mod topic_admin;
mod transient;

pub use self::args::{Args, TopicArgs, TopicName};
pub use self::client::Kafka;
pub use self::connect::raise_quota;
pub use self::metadata::TopicWatch;
pub use self::partition::PartitionConsumer;
pub use self::producer::routing::Requested;
pub use self::producer::{Producer, Receipt, SendError, Status};
pub use self::protocol::produce::ProducerRecord;
pub use self::protocol::records::{Record, VALUE_BYTES_MAX};
pub use self::protocol::timestamp_type::TimestampType;
pub use self::topic_admin::{Retention, TopicSpec, TopicState, min_insync_replicas};
pub use self::transient::Transient;
