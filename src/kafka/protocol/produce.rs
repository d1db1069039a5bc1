//! Produce, as Kafka's protocol has it: one request for records of many partitions, written once.
//!
//! The driver sends each partition alone, and copies each record three times on its way into the request.

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

/// A record to be written.
#[derive(Debug)]
pub struct ProducerRecord {
    /// Decides the partition.
    pub key: String,
    /// The value.
    pub value: String,
}

/// Records that arrived together.
#[derive(Debug)]
pub struct Arrived {
    /// When, in milliseconds since 1970.
    pub millis: i64,
    /// The records.
    pub records: Vec<ProducerRecord>,
}

/// Produce, version 7 (Kafka 2.1 and newer), with acks=all.
pub struct Produce<'a> {
    /// Topic.
    pub topic: &'a str,
    /// One batch of records for each of these partitions.
    pub batches: Vec<(i32, Vec<&'a Arrived>)>,
    /// How long the leader may wait for the in-sync replicas; then it says so for those partitions alone.
    pub wait_ms: i32,
    /// About how large the request becomes.
    pub bytes: usize,
}

/// The answer: for each partition what was taken, or why not.
#[derive(Debug, PartialEq, Eq)]
pub struct Produced {
    /// By partition.
    pub partitions: Vec<(i32, Result<Taken, ProtocolError>)>,
    /// How long the broker does not listen on this connection from now on, because a quota is used up.
    pub throttle_ms: i32,
}

/// A batch that a broker took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The offset of its first record.
    pub offset: i64,
    /// Who dated its records.
    pub timestamp_type: TimestampType,
}

/// All in-sync replicas.
const ACKS_ALL: i16 = -1;
/// For what only transactions and leaders have.
const NONE: i8 = -1;
/// The date that the broker gave to the records, if it gave none.
const NOT_DATED: i64 = -1;
/// Of a batch: the only version that Kafka 4 takes.
const MAGIC: u8 = 2;
/// What the length of a batch does not count: its offset and the length.
const BEFORE_LENGTH_COUNTS: usize = 12;

impl RequestBody for Produce<'_> {
    type ResponseBody = Produced;
    const API_KEY: ApiKey = ApiKey::Produce;
    const API_VERSION_RANGE: ApiVersionRange = ApiVersionRange::new(ApiVersion(Int16(7)), ApiVersion(Int16(7)));
    const FIRST_TAGGED_FIELD_IN_REQUEST_VERSION: ApiVersion = ApiVersion(Int16(9));
}

impl WriteVersionedType<Vec<u8>> for Produce<'_> {
    fn write_versioned(&self, out: &mut Vec<u8>, _: ApiVersion) -> Result<(), WriteVersionedError> {
        out.reserve(self.bytes);
        NullableString(None).write(out)?; // transaction
        Int16(ACKS_ALL).write(out)?;
        Int32(self.wait_ms).write(out)?;
        Int32(1).write(out)?; // topics
        String_(self.topic.to_string()).write(out)?;
        Int32(self.batches.len() as i32).write(out)?;
        for (partition, arrived) in &self.batches {
            Int32(*partition).write(out)?;
            let length = hole(out);
            write_batch(out, arrived);
            let bytes = out.len() - length - 4;
            fill(out, length, bytes as u32);
        }
        Ok(())
    }
}

/// A batch of records (<https://kafka.apache.org/documentation/#recordbatch>), not compressed.
fn write_batch(out: &mut Vec<u8>, arrived: &[&Arrived]) {
    let begin = out.len();
    let first_millis = arrived.first().map_or(0, |first| first.millis);
    let max_millis = arrived.iter().map(|arrived| arrived.millis).max();
    let count: usize = arrived.iter().map(|arrived| arrived.records.len()).sum();
    out.extend(0_i64.to_be_bytes()); // offset
    let length = hole(out);
    out.extend(i32::from(NONE).to_be_bytes()); // epoch of the leader
    out.push(MAGIC);
    let checksum = hole(out);
    out.extend(0_i16.to_be_bytes()); // attributes
    out.extend((count as i32 - 1).to_be_bytes());
    out.extend(first_millis.to_be_bytes());
    out.extend(max_millis.unwrap_or(first_millis).to_be_bytes());
    out.extend(i64::from(NONE).to_be_bytes()); // producer
    out.extend(i16::from(NONE).to_be_bytes()); // its epoch
    out.extend(i32::from(NONE).to_be_bytes()); // its sequence
    out.extend((count as i32).to_be_bytes());
    let mut number = 0;
    for arrived in arrived {
        for record in &arrived.records {
            write_record(out, record, arrived.millis - first_millis, number);
            number += 1;
        }
    }
    let sum = crc32c::crc32c(&out[checksum + 4..]);
    fill(out, checksum, sum);
    let bytes = out.len() - begin - BEFORE_LENGTH_COUNTS;
    fill(out, length, bytes as u32);
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

/// Small numbers of either sign as small numbers.
fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

fn varint_bytes(number: u64) -> usize {
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
fn write_varint(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Leaves room for four bytes that are known later; returns where.
fn hole(out: &mut Vec<u8>) -> usize {
    out.extend([0; 4]);
    out.len() - 4
}

fn fill(out: &mut [u8], at: usize, number: u32) {
    out[at..at + 4].copy_from_slice(&number.to_be_bytes());
}

impl<R: Read> ReadVersionedType<R> for Produced {
    fn read_versioned(reader: &mut R, _: ApiVersion) -> Result<Self, ReadVersionedError> {
        let mut partitions = Vec::new();
        for _ in 0..Int32::read(reader)?.0 {
            String_::read(reader)?; // topic
            for _ in 0..Int32::read(reader)?.0 {
                let partition = Int32::read(reader)?.0;
                let error = ProtocolError::new(Int16::read(reader)?.0);
                let offset = Int64::read(reader)?.0;
                let timestamp_type = match Int64::read(reader)?.0 {
                    NOT_DATED => TimestampType::CreateTime,
                    _ => TimestampType::LogAppendTime,
                };
                Int64::read(reader)?; // first offset of the log
                let taken = Taken { offset, timestamp_type };
                partitions.push((partition, error.map_or(Ok(taken), Err)));
            }
        }
        Ok(Produced {
            partitions,
            throttle_ms: Int32::read(reader)?.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rskafka::protocol::messages::{ProduceRequest, ProduceRequestPartitionData, ProduceRequestTopicData};
    use rskafka::protocol::primitives::Records;
    use rskafka::protocol::record::{
        ControlBatchOrRecords, Record, RecordBatch, RecordBatchCompression, RecordBatchTimestampType,
    };
    use std::io::Cursor;

    const VERSION: ApiVersion = ApiVersion(Int16(7));

    fn arrived(millis: i64, values: &[&str]) -> Arrived {
        let record = |value: &&str| ProducerRecord {
            key: format!("key of {value}"),
            value: (*value).to_string(),
        };
        let records = values.iter().map(record).collect();
        Arrived { millis, records }
    }

    /// What the driver makes of it.
    fn driver(partition: i32, arrived: &[&Arrived]) -> ProduceRequestPartitionData {
        let first = arrived[0].millis;
        let all = arrived.iter().flat_map(|arrived| {
            let delta = arrived.millis - first;
            arrived.records.iter().map(move |record| (delta, record))
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
            max_timestamp: arrived.iter().map(|arrived| arrived.millis).max().unwrap(),
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            records: ControlBatchOrRecords::Records(records),
            compression: RecordBatchCompression::NoCompression,
            is_transactional: false,
            timestamp_type: RecordBatchTimestampType::CreateTime,
        };
        ProduceRequestPartitionData {
            index: Int32(partition),
            records: Records(vec![batch]),
        }
    }

    #[test]
    fn a_request_is_what_the_driver_would_write() {
        let long = "v".repeat(100_000);
        let earlier = arrived(1_700_000_000_000, &["a", "", "c"]);
        let later = arrived(1_700_000_000_999, &["d", &long]);
        let before = arrived(1_699_999_000_000, &["the clock was set back"]);
        let many = vec!["x"; 200];
        let many = arrived(0, &many);
        let batches = vec![
            (7, vec![&earlier, &later, &before]),
            (300, vec![&many]),
            (0, vec![&later]),
        ];
        let partition_data = batches.iter().map(|(at, all)| driver(*at, all)).collect();
        let wanted = ProduceRequest {
            transactional_id: NullableString(None),
            acks: Int16(-1),
            timeout_ms: Int32(3_500),
            topic_data: vec![ProduceRequestTopicData {
                name: String_("captcha".to_string()),
                partition_data,
            }],
        };
        let request = Produce {
            topic: "captcha",
            batches,
            wait_ms: 3_500,
            bytes: 10,
        };
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        request.write_versioned(&mut ours, VERSION).unwrap();
        wanted.write_versioned(&mut theirs, VERSION).unwrap();
        assert!(ours == theirs, "{} and {} bytes", ours.len(), theirs.len());
    }

    #[test]
    fn numbers_take_as_many_bytes_as_is_said() {
        for number in [0, 1, 63, 64, 8_191, 8_192, -1, -64, -65, i64::MAX, i64::MIN] {
            let mut bytes = Vec::new();
            write_varint(&mut bytes, zigzag(number));
            assert_eq!(bytes.len(), varint_bytes(zigzag(number)), "{number}");
        }
    }

    #[test]
    fn an_answer_is_read() {
        let mut bytes = b"\0\0\0\x01\0\x01t\0\0\0\x03".to_vec();
        bytes.extend(b"\0\0\0\x03\0\0\0\0\0\0\0\0\0\x09"); // partition 3: offset 9
        bytes.extend([0xff; 8]);
        bytes.extend([0; 8]);
        bytes.extend(b"\0\0\0\x04\0\0\0\0\0\0\0\0\0\x07"); // partition 4: offset 7, dated by the broker
        bytes.extend([0; 16]);
        bytes.extend(b"\0\0\0\x05\0\x06"); // partition 5: error 6
        bytes.extend([0xff; 24]);
        bytes.extend(7_i32.to_be_bytes());
        let mut cursor = Cursor::new(bytes);
        let answer = Produced::read_versioned(&mut cursor, VERSION).unwrap();
        let taken = |offset, timestamp_type| Ok(Taken { offset, timestamp_type });
        let partitions = vec![
            (3, taken(9, TimestampType::CreateTime)),
            (4, taken(7, TimestampType::LogAppendTime)),
            (5, Err(ProtocolError::NotLeaderOrFollower)),
        ];
        let wanted = Produced {
            partitions,
            throttle_ms: 7,
        };
        assert_eq!(answer, wanted);
        assert_eq!(cursor.position(), cursor.get_ref().len() as u64);
    }
}
