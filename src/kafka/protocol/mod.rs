//! Messages of the Kafka protocol, and the record batches in them, as bytes.

pub mod decompress;
pub mod describe_configs;
pub mod fetch;
pub mod metadata;
pub(super) mod primitives;
pub mod produce;
pub mod record_batch;
pub mod record_reader;
pub mod timestamp_type;
