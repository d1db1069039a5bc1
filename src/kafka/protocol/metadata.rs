//! Metadata of one topic with its id. The driver has an older version of the request, without the id.
//!
//! A topic that is deleted and created again has the same name and another id, so the id tells the two apart.

use std::io::{Read, Write};

use rskafka::protocol::api_key::ApiKey;
use rskafka::protocol::api_version::{ApiVersion, ApiVersionRange};
use rskafka::protocol::error::Error as ProtocolError;
use rskafka::protocol::messages::{
    ReadVersionedError, ReadVersionedType, RequestBody, WriteVersionedError, WriteVersionedType,
};
use rskafka::protocol::primitives::{
    Boolean, CompactArray, CompactNullableString, CompactString, Int16, Int32, TaggedFields,
};
use rskafka::protocol::traits::{ReadType, WriteType};
use uuid::Uuid;

use super::primitives::{read_length, read_uuid, write_length, write_uuid};
use crate::topic_partition::Partition;

/// Metadata, version 12 (Kafka 3.1 and newer), for one topic by its name. Does not create the topic.
pub struct MetadataRequest(pub String);

#[derive(Debug, Default, PartialEq, Eq)]
pub struct MetadataResponse {
    /// Why nothing is known of the topic.
    pub error: Option<ProtocolError>,
    pub topic_id: Uuid,
    /// Id and `host:port` of each broker of the cluster.
    pub brokers: Vec<(i32, String)>,
    pub partitions: Vec<PartitionMetadata>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct PartitionMetadata {
    pub partition: Partition,
    /// The id of the broker that leads it; -1 if none does.
    pub leader: i32,
    /// In sync or not.
    pub replicas: usize,
}

impl RequestBody for MetadataRequest {
    type ResponseBody = MetadataResponse;
    const API_KEY: ApiKey = ApiKey::Metadata;
    const API_VERSION_RANGE: ApiVersionRange = ApiVersionRange::new(ApiVersion(Int16(12)), ApiVersion(Int16(12)));
    const FIRST_TAGGED_FIELD_IN_REQUEST_VERSION: ApiVersion = ApiVersion(Int16(9));
}

impl<W: Write> WriteVersionedType<W> for MetadataRequest {
    fn write_versioned(&self, writer: &mut W, _: ApiVersion) -> Result<(), WriteVersionedError> {
        write_length(writer, 1)?; // topics
        write_uuid(writer, Uuid::nil())?; // none, so the name counts
        CompactNullableString(Some(self.0.clone())).write(writer)?;
        TaggedFields::default().write(writer)?;
        Boolean(false).write(writer)?; // create it
        Boolean(false).write(writer)?; // authorized operations
        TaggedFields::default().write(writer)?;
        Ok(())
    }
}

impl<R: Read> ReadVersionedType<R> for MetadataResponse {
    fn read_versioned(reader: &mut R, _: ApiVersion) -> Result<Self, ReadVersionedError> {
        let mut response = MetadataResponse::default();
        Int32::read(reader)?; // throttle time
        for _ in 0..read_length(reader)? {
            let id = Int32::read(reader)?.0;
            let host = CompactString::read(reader)?.0;
            let port = Int32::read(reader)?.0;
            CompactNullableString::read(reader)?; // rack
            TaggedFields::read(reader)?;
            let address = match host.contains(':') {
                true => format!("[{host}]:{port}"),
                false => format!("{host}:{port}"),
            };
            response.brokers.push((id, address));
        }
        CompactNullableString::read(reader)?; // cluster
        Int32::read(reader)?; // controller
        for _ in 0..read_length(reader)? {
            response.error = ProtocolError::new(Int16::read(reader)?.0);
            CompactNullableString::read(reader)?; // name
            response.topic_id = read_uuid(reader)?;
            Boolean::read(reader)?; // internal
            for _ in 0..read_length(reader)? {
                Int16::read(reader)?; // error
                let partition = Int32::read(reader)?.0;
                let leader = Int32::read(reader)?.0;
                Int32::read(reader)?; // epoch of the leader
                let replicas = CompactArray::<Int32>::read(reader)?.0;
                CompactArray::<Int32>::read(reader)?; // in sync
                CompactArray::<Int32>::read(reader)?; // away
                TaggedFields::read(reader)?;
                response.partitions.push(PartitionMetadata {
                    partition: Partition::new(partition),
                    leader,
                    replicas: replicas.map_or(0, |replicas| replicas.len()),
                });
            }
            Int32::read(reader)?; // authorized operations
            TaggedFields::read(reader)?;
        }
        TaggedFields::read(reader)?;
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn a_topic_is_read() {
        let mut bytes = Vec::new();
        for part in [
            &b"\0\0\0\0"[..],
            b"\x02\0\0\0\x07\x02h\0\0\x23\x84\0\0", // broker 7 at h:9092
            b"\0\0\0\0\x07",
            b"\x02\0\0\x02t",
            &[5; 16],
            b"\0\x02\0\0\0\0\0\x03\0\0\0\x07\0\0\0\x01",
            b"\x03\0\0\0\x07\0\0\0\x08\x02\0\0\0\x07\x01\0",
            b"\x80\0\0\0\0\0",
        ] {
            bytes.extend_from_slice(part);
        }
        let mut cursor = Cursor::new(bytes);
        let response = MetadataResponse::read_versioned(&mut cursor, ApiVersion(Int16(12))).unwrap();
        let wanted = MetadataResponse {
            error: None,
            topic_id: Uuid::from_bytes([5; 16]),
            brokers: vec![(7, "h:9092".to_string())],
            partitions: vec![PartitionMetadata {
                partition: Partition::new(3),
                leader: 7,
                replicas: 2,
            }],
        };
        assert_eq!(response, wanted);
        assert_eq!(cursor.position(), cursor.get_ref().len() as u64);
    }
}
