//! Produce: one request for the records of many partitions.
//!
//! The driver sends one request for each partition, and copies each record three times on its way into it. Here each
//! record is written once, straight into the request.

use std::io::Read;

use rskafka::protocol::api_key::ApiKey;
use rskafka::protocol::api_version::{ApiVersion, ApiVersionRange};
use rskafka::protocol::error::Error as ProtocolError;
use rskafka::protocol::messages::{
    ReadVersionedError, ReadVersionedType, RequestBody, WriteVersionedError, WriteVersionedType,
};
use rskafka::protocol::primitives::{Int16, Int32, Int64, NullableString, String_};
use rskafka::protocol::traits::{ReadType, WriteType};

use super::timestamp_type::TimestampType;
use crate::topic_partition::{Offset, Partition};

/// A record to be written.
#[derive(Debug)]
pub struct ProducerRecord {
    /// Decides the partition.
    pub key: String,
    pub value: String,
}

/// Records with the same timestamp.
#[derive(Debug, Clone, Copy)]
pub struct RecordGroup<'a> {
    /// In milliseconds since 1970.
    pub timestamp_millis: i64,
    pub records: &'a [ProducerRecord],
}

/// Produce, version 7 (Kafka 2.1 and newer), with acks=all.
pub struct ProduceRequest<'a> {
    pub topic: &'a str,
    /// One batch for each of these partitions.
    pub batches: Vec<(Partition, Vec<RecordGroup<'a>>)>,
    /// How long the leader may wait for the in-sync replicas; then those partitions alone fail.
    pub timeout_ms: i32,
    /// About how many bytes the request has.
    pub size_hint: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub struct ProduceResponse {
    pub partitions: Vec<(Partition, Result<AppendedBatch, ProtocolError>)>,
    /// How long the broker does not read from this connection from now on, because a quota is used up.
    pub throttle_ms: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendedBatch {
    /// The offset of its first record.
    pub base_offset: Offset,
    pub timestamp_type: TimestampType,
}

/// All in-sync replicas.
const ACKS_ALL: i16 = -1;
/// In fields that only transactions and leaders use.
const NONE: i8 = -1;
/// In a response, where the topic keeps the timestamps of its producers.
const NO_APPEND_TIME: i64 = -1;
/// The format of a batch, the only one that Kafka 4 takes.
const MAGIC: u8 = 2;
/// The base offset and the length of a batch, which the length does not count.
const UNCOUNTED_BYTES: usize = 12;

impl RequestBody for ProduceRequest<'_> {
    type ResponseBody = ProduceResponse;
    const API_KEY: ApiKey = ApiKey::Produce;
    const API_VERSION_RANGE: ApiVersionRange = ApiVersionRange::new(ApiVersion(Int16(7)), ApiVersion(Int16(7)));
    const FIRST_TAGGED_FIELD_IN_REQUEST_VERSION: ApiVersion = ApiVersion(Int16(9));
}

impl WriteVersionedType<Vec<u8>> for ProduceRequest<'_> {
    fn write_versioned(&self, out: &mut Vec<u8>, _: ApiVersion) -> Result<(), WriteVersionedError> {
        out.reserve(self.size_hint);
        NullableString(None).write(out)?; // transactional id
        Int16(ACKS_ALL).write(out)?;
        Int32(self.timeout_ms).write(out)?;
        Int32(1).write(out)?; // topics
        String_(self.topic.to_string()).write(out)?;
        Int32(self.batches.len() as i32).write(out)?;
        for (partition, groups) in &self.batches {
            Int32(partition.get()).write(out)?;
            let length = reserve_u32(out);
            write_batch(out, groups);
            let bytes = out.len() - length - 4;
            patch_u32(out, length, bytes as u32);
        }
        Ok(())
    }
}

/// A batch of records (<https://kafka.apache.org/documentation/#recordbatch>), not compressed.
fn write_batch(out: &mut Vec<u8>, groups: &[RecordGroup<'_>]) {
    let begin = out.len();
    let first_millis = groups.first().map_or(0, |first| first.timestamp_millis);
    let max_millis = groups.iter().map(|group| group.timestamp_millis).max();
    let count: usize = groups.iter().map(|group| group.records.len()).sum();
    out.extend(0_i64.to_be_bytes()); // base offset
    let length = reserve_u32(out);
    out.extend(i32::from(NONE).to_be_bytes()); // leader epoch
    out.push(MAGIC);
    let checksum = reserve_u32(out);
    out.extend(0_i16.to_be_bytes()); // attributes
    out.extend((count as i32 - 1).to_be_bytes());
    out.extend(first_millis.to_be_bytes());
    out.extend(max_millis.unwrap_or(first_millis).to_be_bytes());
    out.extend(i64::from(NONE).to_be_bytes()); // producer id
    out.extend(i16::from(NONE).to_be_bytes()); // producer epoch
    out.extend(i32::from(NONE).to_be_bytes()); // base sequence
    out.extend((count as i32).to_be_bytes());
    let mut number = 0;
    for group in groups {
        for record in group.records {
            write_record(out, record, group.timestamp_millis - first_millis, number);
            number += 1;
        }
    }
    let sum = crc32c::crc32c(&out[checksum + 4..]);
    patch_u32(out, checksum, sum);
    let bytes = out.len() - begin - UNCOUNTED_BYTES;
    patch_u32(out, length, bytes as u32);
}

fn write_record(out: &mut Vec<u8>, record: &ProducerRecord, delta_millis: i64, number: i64) {
    let (key, value) = (record.key.as_bytes(), record.value.as_bytes());
    let numbers = [delta_millis, number, key.len() as i64, value.len() as i64].map(zigzag);
    let numbers_bytes: usize = numbers.iter().copied().map(varint_bytes).sum();
    // One byte of attributes before, one for no headers behind.
    let length = 1 + numbers_bytes + key.len() + value.len() + 1;
    write_varint(out, zigzag(length as i64));
    out.push(0); // attributes
    write_varint(out, numbers[0]);
    write_varint(out, numbers[1]);
    write_varint(out, numbers[2]);
    out.extend_from_slice(key);
    write_varint(out, numbers[3]);
    out.extend_from_slice(value);
    write_varint(out, zigzag(0)); // headers
}

/// Maps numbers of small magnitude to small numbers.
fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

fn varint_bytes(number: u64) -> usize {
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}

/// Seven bits a byte, the lowest first; the highest bit is set if more follow.
fn write_varint(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Reserves four bytes for a number that is known later; returns where.
fn reserve_u32(out: &mut Vec<u8>) -> usize {
    out.extend([0; 4]);
    out.len() - 4
}

fn patch_u32(out: &mut [u8], at: usize, number: u32) {
    out[at..at + 4].copy_from_slice(&number.to_be_bytes());
}

impl<R: Read> ReadVersionedType<R> for ProduceResponse {
    fn read_versioned(reader: &mut R, _: ApiVersion) -> Result<Self, ReadVersionedError> {
        let mut partitions = Vec::new();
        for _ in 0..Int32::read(reader)?.0 {
            String_::read(reader)?; // topic
            for _ in 0..Int32::read(reader)?.0 {
                let partition = Int32::read(reader)?.0;
                let error = ProtocolError::new(Int16::read(reader)?.0);
                let base_offset = Int64::read(reader)?.0;
                let timestamp_type = match Int64::read(reader)?.0 {
                    NO_APPEND_TIME => TimestampType::CreateTime,
                    _ => TimestampType::LogAppendTime,
                };
                Int64::read(reader)?; // log start offset
                let appended = AppendedBatch {
                    base_offset: Offset::new(base_offset),
                    timestamp_type,
                };
                partitions.push((Partition::new(partition), error.map_or(Ok(appended), Err)));
            }
        }
        Ok(ProduceResponse {
            partitions,
            throttle_ms: Int32::read(reader)?.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rskafka::protocol::messages::{
        ProduceRequest as DriverRequest, ProduceRequestPartitionData, ProduceRequestTopicData,
    };
    use rskafka::protocol::primitives::Records;
    use rskafka::protocol::record::{
        ControlBatchOrRecords, Record, RecordBatch, RecordBatchCompression, RecordBatchTimestampType,
    };
    use std::io::Cursor;

    const VERSION: ApiVersion = ApiVersion(Int16(7));

    fn records(values: &[&str]) -> Vec<ProducerRecord> {
        let record = |value: &&str| ProducerRecord {
            key: format!("key of {value}"),
            value: (*value).to_string(),
        };
        values.iter().map(record).collect()
    }

    /// What the driver makes of it.
    fn driver(partition: Partition, groups: &[RecordGroup<'_>]) -> ProduceRequestPartitionData {
        let first = groups[0].timestamp_millis;
        let all = groups.iter().flat_map(|group| {
            let delta = group.timestamp_millis - first;
            group.records.iter().map(move |record| (delta, record))
        });
        let records: Vec<_> = all
            .enumerate()
            .map(|(number, (delta, record))| Record {
                timestamp_delta: delta,
                offset_delta: number as i32,
                key: Some(record.key.clone().into_bytes()),
                value: Some(record.value.clone().into_bytes()),
                headers: Vec::new(),
            })
            .collect();
        let batch = RecordBatch {
            base_offset: 0,
            partition_leader_epoch: -1,
            last_offset_delta: records.len() as i32 - 1,
            first_timestamp: first,
            max_timestamp: groups.iter().map(|group| group.timestamp_millis).max().unwrap(),
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            records: ControlBatchOrRecords::Records(records),
            compression: RecordBatchCompression::NoCompression,
            is_transactional: false,
            timestamp_type: RecordBatchTimestampType::CreateTime,
        };
        ProduceRequestPartitionData {
            index: Int32(partition.get()),
            records: Records(vec![batch]),
        }
    }

    #[test]
    fn a_request_is_what_the_driver_would_write() {
        let long = "v".repeat(100_000);
        let values = [
            records(&["a", "", "c"]),
            records(&["d", &long]),
            records(&["the clock was set back"]),
            records(&["x"; 200]),
        ];
        let timestamps = [1_700_000_000_000, 1_700_000_000_999, 1_699_999_000_000, 0];
        let group = |index: usize| RecordGroup {
            timestamp_millis: timestamps[index],
            records: &values[index],
        };
        let batches = vec![
            (Partition::new(7), vec![group(0), group(1), group(2)]),
            (Partition::new(300), vec![group(3)]),
            (Partition::new(0), vec![group(1)]),
        ];
        let partition_data = batches.iter().map(|(at, all)| driver(*at, all)).collect();
        let wanted = DriverRequest {
            transactional_id: NullableString(None),
            acks: Int16(-1),
            timeout_ms: Int32(3_500),
            topic_data: vec![ProduceRequestTopicData {
                name: String_("captcha".to_string()),
                partition_data,
            }],
        };
        let request = ProduceRequest {
            topic: "captcha",
            batches,
            timeout_ms: 3_500,
            size_hint: 10,
        };
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        request.write_versioned(&mut ours, VERSION).unwrap();
        wanted.write_versioned(&mut theirs, VERSION).unwrap();
        assert!(ours == theirs, "{} and {} bytes", ours.len(), theirs.len());
    }

    #[test]
    fn a_varint_takes_the_bytes_that_varint_bytes_counts() {
        for number in [0, 1, 63, 64, 8_191, 8_192, -1, -64, -65, i64::MAX, i64::MIN] {
            let mut bytes = Vec::new();
            write_varint(&mut bytes, zigzag(number));
            assert_eq!(bytes.len(), varint_bytes(zigzag(number)), "{number}");
        }
    }

    #[test]
    fn a_response_is_read() {
        let mut bytes = b"\0\0\0\x01\0\x01t\0\0\0\x03".to_vec();
        bytes.extend(b"\0\0\0\x03\0\0\0\0\0\0\0\0\0\x09"); // partition 3: offset 9
        bytes.extend([0xff; 8]);
        bytes.extend([0; 8]);
        bytes.extend(b"\0\0\0\x04\0\0\0\0\0\0\0\0\0\x07"); // partition 4: offset 7, with a log append time
        bytes.extend([0; 16]);
        bytes.extend(b"\0\0\0\x05\0\x06"); // partition 5: error 6
        bytes.extend([0xff; 24]);
        bytes.extend(7_i32.to_be_bytes());
        let mut cursor = Cursor::new(bytes);
        let response = ProduceResponse::read_versioned(&mut cursor, VERSION).unwrap();
        let appended = |base_offset, timestamp_type| {
            Ok(AppendedBatch {
                base_offset,
                timestamp_type,
            })
        };
        let partitions = vec![
            (Partition::new(3), appended(Offset::new(9), TimestampType::CreateTime)),
            (
                Partition::new(4),
                appended(Offset::new(7), TimestampType::LogAppendTime),
            ),
            (Partition::new(5), Err(ProtocolError::NotLeaderOrFollower)),
        ];
        let wanted = ProduceResponse {
            partitions,
            throttle_ms: 7,
        };
        assert_eq!(response, wanted);
        assert_eq!(cursor.position(), cursor.get_ref().len() as u64);
    }
}
