//! Metadata of one topic with its id, which the driver's older version of the request does not have.
//!
//! A topic that is deleted and made again has its name and another id, so the id is what tells the two apart.

use std::io::{Read, Write};

use rskafka::protocol::api_key::ApiKey;
use rskafka::protocol::api_version::{ApiVersion, ApiVersionRange};
use rskafka::protocol::error::Error as ProtocolError;
use rskafka::protocol::messages::{
    ReadVersionedError, ReadVersionedType, RequestBody, WriteVersionedError, WriteVersionedType,
};
use rskafka::protocol::primitives::{
    Boolean, CompactArray, CompactNullableString, CompactString, Int16, Int32, TaggedFields, UnsignedVarint,
};
use rskafka::protocol::traits::{ReadError, ReadType, WriteType};
use uuid::Uuid;

/// Metadata, version 12 (Kafka 3.1 and newer), for one topic, which is not made by asking.
pub struct DescribeTopic(pub String);

/// The answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Described {
    /// Why the topic is not described.
    pub error: Option<ProtocolError>,
    /// Which topic of this name it is.
    pub topic_id: Uuid,
    /// All brokers: number and `host:port`.
    pub brokers: Vec<(i32, String)>,
    /// All partitions.
    pub partitions: Vec<DescribedPartition>,
}

/// One partition.
#[derive(Debug, PartialEq, Eq)]
pub struct DescribedPartition {
    /// Its number.
    pub number: i32,
    /// The broker that leads it; -1 if none does.
    pub leader: i32,
    /// Copies, in sync or not.
    pub copies: usize,
}

impl RequestBody for DescribeTopic {
    type ResponseBody = Described;
    const API_KEY: ApiKey = ApiKey::Metadata;
    const API_VERSION_RANGE: ApiVersionRange = ApiVersionRange::new(ApiVersion(Int16(12)), ApiVersion(Int16(12)));
    const FIRST_TAGGED_FIELD_IN_REQUEST_VERSION: ApiVersion = ApiVersion(Int16(9));
}

impl<W: Write> WriteVersionedType<W> for DescribeTopic {
    fn write_versioned(&self, writer: &mut W, _: ApiVersion) -> Result<(), WriteVersionedError> {
        write_length(writer, 1)?; // topics
        write_uuid(writer, Uuid::nil())?; // none, so the name counts
        CompactNullableString(Some(self.0.clone())).write(writer)?;
        TaggedFields::default().write(writer)?;
        Boolean(false).write(writer)?; // make it
        Boolean(false).write(writer)?; // tell what is allowed
        TaggedFields::default().write(writer)?;
        Ok(())
    }
}

impl<R: Read> ReadVersionedType<R> for Described {
    fn read_versioned(reader: &mut R, _: ApiVersion) -> Result<Self, ReadVersionedError> {
        let mut answer = Described::default();
        Int32::read(reader)?; // throttle time
        for _ in 0..read_length(reader)? {
            let number = Int32::read(reader)?.0;
            let host = CompactString::read(reader)?.0;
            let port = Int32::read(reader)?.0;
            CompactNullableString::read(reader)?; // rack
            TaggedFields::read(reader)?;
            let address = match host.contains(':') {
                true => format!("[{host}]:{port}"),
                false => format!("{host}:{port}"),
            };
            answer.brokers.push((number, address));
        }
        CompactNullableString::read(reader)?; // cluster
        Int32::read(reader)?; // controller
        for _ in 0..read_length(reader)? {
            answer.error = ProtocolError::new(Int16::read(reader)?.0);
            CompactNullableString::read(reader)?; // name
            answer.topic_id = read_uuid(reader)?;
            Boolean::read(reader)?; // internal
            for _ in 0..read_length(reader)? {
                Int16::read(reader)?; // error
                let number = Int32::read(reader)?.0;
                let leader = Int32::read(reader)?.0;
                Int32::read(reader)?; // epoch of the leader
                let copies = CompactArray::<Int32>::read(reader)?.0;
                CompactArray::<Int32>::read(reader)?; // in sync
                CompactArray::<Int32>::read(reader)?; // away
                TaggedFields::read(reader)?;
                answer.partitions.push(DescribedPartition {
                    number,
                    leader,
                    copies: copies.map_or(0, |copies| copies.len()),
                });
            }
            Int32::read(reader)?; // what is allowed
            TaggedFields::read(reader)?;
        }
        TaggedFields::read(reader)?;
        Ok(answer)
    }
}

/// The length of a compact array or of compact bytes, as the protocol has it: one more, and 0 for none.
pub(crate) fn read_length<R: Read>(reader: &mut R) -> Result<u64, ReadError> {
    Ok(UnsignedVarint::read(reader)?.0.saturating_sub(1))
}

/// Writes the length of a compact array.
pub(crate) fn write_length<W: Write>(writer: &mut W, length: u64) -> Result<(), WriteVersionedError> {
    Ok(UnsignedVarint(length + 1).write(writer)?)
}

/// Reads 16 bytes.
pub(crate) fn read_uuid<R: Read>(reader: &mut R) -> Result<Uuid, ReadError> {
    let mut bytes = [0; 16];
    reader.read_exact(&mut bytes)?;
    Ok(Uuid::from_bytes(bytes))
}

/// Writes 16 bytes.
pub(crate) fn write_uuid<W: Write>(writer: &mut W, id: Uuid) -> Result<(), WriteVersionedError> {
    writer
        .write_all(id.as_bytes())
        .map_err(|err| WriteVersionedError::WriteError(rskafka::protocol::traits::WriteError::IO(err)))
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
        let answer = Described::read_versioned(&mut cursor, ApiVersion(Int16(12))).unwrap();
        let wanted = Described {
            error: None,
            topic_id: Uuid::from_bytes([5; 16]),
            brokers: vec![(7, "h:9092".to_string())],
            partitions: vec![DescribedPartition {
                number: 3,
                leader: 7,
                copies: 2,
            }],
        };
        assert_eq!(answer, wanted);
        assert_eq!(cursor.position(), cursor.get_ref().len() as u64);
    }
}
