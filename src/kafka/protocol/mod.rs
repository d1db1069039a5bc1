//! Requests and answers of the Kafka protocol, and the record batches in them, as bytes.

pub mod decompress;
pub mod describe_configs;
pub mod fetch;
pub mod metadata;
pub mod produce;
pub mod record_batch;
pub mod records;
pub mod timestamp_type;
