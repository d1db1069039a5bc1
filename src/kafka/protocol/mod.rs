//! Messages of the Kafka protocol, and the record batches in them, as bytes.
//!
//! Only the messages that the driver lacks, has in an older version, or reads with less care. They are not those of the
//! crate `kafka-protocol` (0.18): its decoder allocates an array by the length that the broker claims, so that nine
//! bytes abort the process, and its encoder takes several times as long for a produce request.

pub mod decompress;
pub mod describe_configs;
pub mod fetch;
pub mod metadata;
pub(super) mod primitives;
pub mod produce;
pub mod record_batch;
pub mod record_reader;
pub mod timestamp_type;
