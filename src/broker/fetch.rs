//! Fetch, as Kafka's protocol has it, and the batches of records in its answer.
//!
//! The driver has a type for it, but fails a whole answer for one transaction marker or one timestamp beyond the
//! calendar, and hands out the records of aborted transactions. So the answer is walked here batch by batch
//! (<https://kafka.apache.org/documentation/#recordbatch>); what is inside a batch, and its compression, is the driver's.

use std::collections::HashSet;
use std::io::{Cursor, Read, Write};

use rskafka::protocol::api_key::ApiKey;
use rskafka::protocol::api_version::{ApiVersion, ApiVersionRange};
use rskafka::protocol::error::Error as ProtocolError;
use rskafka::protocol::messages::{
    ReadVersionedError, ReadVersionedType, RequestBody, WriteVersionedError, WriteVersionedType,
};
use rskafka::protocol::primitives::{CompactString, Int8, Int16, Int32, Int64, TaggedFields};
use rskafka::protocol::record::{ControlBatchOrRecords, RecordBatch, RecordBatchTimestampType};
use rskafka::protocol::traits::{ReadError, ReadType, WriteType};
use uuid::Uuid;

use super::Record;
use super::metadata::{read_length, read_uuid, write_length, write_uuid};

/// Fetch, version 13 (Kafka 3.1 and newer), from one partition: what is committed, at least a byte of it if that comes
/// in time. It names the topic by its id, so that no record of another topic of the same name is ever read.
pub struct Fetch {
    /// Topic.
    pub topic_id: Uuid,
    /// Its partition.
    pub partition: i32,
    /// The first offset that is wanted.
    pub offset: i64,
    /// About how much is wanted; the first batch comes whole.
    pub bytes_max: i32,
    /// How long the broker may wait for a byte.
    pub wait_ms: i32,
}

/// The answer.
#[derive(Debug)]
pub struct FetchAnswer {
    /// Why there is none.
    pub error: Option<ProtocolError>,
    /// The offset after the last record that is on all in-sync replicas.
    pub high_watermark: i64,
    /// Transactions that were aborted and have records in the batches: producer and first offset.
    aborted: Vec<(i64, i64)>,
    /// Whole batches, and maybe the beginning of one more.
    batches: Vec<u8>,
}

/// A consumer, not a broker that copies.
pub(super) const NO_REPLICA: i32 = -1;
/// The whole answer each time, and nothing for the broker to remember.
const NO_SESSION: i32 = -1;
/// For what only followers know.
const UNKNOWN: i32 = -1;
/// Leaves out what open transactions wrote.
const READ_COMMITTED: i8 = 1;

impl RequestBody for Fetch {
    type ResponseBody = FetchAnswer;
    const API_KEY: ApiKey = ApiKey::Fetch;
    const API_VERSION_RANGE: ApiVersionRange =
        ApiVersionRange::new(ApiVersion(Int16(13)), ApiVersion(Int16(13)));
    const FIRST_TAGGED_FIELD_IN_REQUEST_VERSION: ApiVersion = ApiVersion(Int16(12));
}

impl<W: Write> WriteVersionedType<W> for Fetch {
    fn write_versioned(&self, writer: &mut W, _: ApiVersion) -> Result<(), WriteVersionedError> {
        Int32(NO_REPLICA).write(writer)?;
        Int32(self.wait_ms).write(writer)?;
        Int32(1).write(writer)?; // bytes to wait for
        Int32(self.bytes_max).write(writer)?;
        Int8(READ_COMMITTED).write(writer)?;
        Int32(0).write(writer)?; // session
        Int32(NO_SESSION).write(writer)?;
        write_length(writer, 1)?; // topics
        write_uuid(writer, self.topic_id)?;
        write_length(writer, 1)?; // partitions
        Int32(self.partition).write(writer)?;
        Int32(UNKNOWN).write(writer)?; // epoch of the leader
        Int64(self.offset).write(writer)?;
        Int32(UNKNOWN).write(writer)?; // epoch of the last record
        Int64(UNKNOWN.into()).write(writer)?; // begin of a follower's log
        Int32(self.bytes_max).write(writer)?;
        TaggedFields::default().write(writer)?;
        TaggedFields::default().write(writer)?;
        write_length(writer, 0)?; // forgotten topics
        CompactString(String::new()).write(writer)?; // rack
        TaggedFields::default().write(writer)?;
        Ok(())
    }
}

impl<R: Read> ReadVersionedType<R> for FetchAnswer {
    fn read_versioned(reader: &mut R, _: ApiVersion) -> Result<Self, ReadVersionedError> {
        let mut answer = FetchAnswer {
            error: None,
            high_watermark: 0,
            aborted: Vec::new(),
            batches: Vec::new(),
        };
        Int32::read(reader)?; // throttle time; the broker waits by itself
        answer.error = ProtocolError::new(Int16::read(reader)?.0);
        Int32::read(reader)?; // session
        for _ in 0..read_length(reader)? {
            read_uuid(reader)?; // topic
            for _ in 0..read_length(reader)? {
                Int32::read(reader)?; // partition
                let error = ProtocolError::new(Int16::read(reader)?.0);
                answer.error = answer.error.or(error);
                answer.high_watermark = Int64::read(reader)?.0;
                Int64::read(reader)?; // last stable offset
                Int64::read(reader)?; // first offset
                for _ in 0..read_length(reader)? {
                    let (producer, first) = (Int64::read(reader)?.0, Int64::read(reader)?.0);
                    TaggedFields::read(reader)?;
                    answer.aborted.push((producer, first));
                }
                Int32::read(reader)?; // a replica to read from instead
                answer.batches = read_bytes(reader)?;
                TaggedFields::read(reader)?;
            }
            TaggedFields::read(reader)?;
        }
        TaggedFields::read(reader)?;
        Ok(answer)
    }
}

/// Compact bytes, read as they come, so that a wrong length takes no memory.
fn read_bytes<R: Read>(reader: &mut R) -> Result<Vec<u8>, ReadError> {
    let length = read_length(reader)?;
    let mut bytes = Vec::new();
    if reader.take(length).read_to_end(&mut bytes)? as u64 != length {
        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
    }
    Ok(bytes)
}

impl FetchAnswer {
    /// The records from an offset on that a reader may see, and the offset after everything in the answer: markers
    /// and what was aborted or compacted away has been passed too.
    ///
    /// # Errors
    /// A batch is damaged, or compressed in a way that is not known.
    pub fn records(mut self, from: i64) -> Result<(Vec<Record>, i64), ReadError> {
        self.aborted.sort_unstable_by_key(|(_, first)| *first);
        let mut begun = self.aborted.into_iter().peekable();
        let mut aborted = HashSet::new();
        let mut records = Vec::new();
        let mut next = from;
        let mut rest = self.batches.as_slice();
        while let Some((header, batch)) = Header::split(&mut rest) {
            while let Some((producer, _)) = begun.next_if(|(_, first)| *first <= header.last) {
                aborted.insert(producer);
            }
            let is_passed = header.is_transactional() && aborted.contains(&header.producer);
            if header.is_marker() || is_passed {
                check(batch)?;
            }
            if header.is_marker() {
                // Whichever it is, the transaction of this producer ends with it.
                aborted.remove(&header.producer);
            } else if !is_passed {
                read_batch(batch, from, &mut records)?;
            }
            next = next.max(header.last + 1);
        }
        Ok((records, next))
    }
}

/// What is needed of a batch before it is read.
struct Header {
    /// The offset of its last record, or of the last that it had before it was compacted.
    last: i64,
    attributes: i16,
    producer: i64,
}

impl Header {
    /// From the offset to the checksum, that is, up to the attributes.
    const BEFORE_ATTRIBUTES: usize = 21;
    /// What the length in a batch does not count: the offset and the length.
    const BEFORE_LENGTH_COUNTS: usize = 12;

    /// Takes a whole batch off; `None` if there is none any more.
    fn split<'a>(rest: &mut &'a [u8]) -> Option<(Header, &'a [u8])> {
        let length = i32::from_be_bytes(*rest.get(8..)?.first_chunk()?);
        let length = usize::try_from(length).ok()? + Self::BEFORE_LENGTH_COUNTS;
        let (batch, after) = rest.split_at_checked(length)?;
        let base = i64::from_be_bytes(*batch.first_chunk()?);
        let fields = batch.get(Self::BEFORE_ATTRIBUTES..)?;
        let last_delta = i32::from_be_bytes(*fields.get(2..)?.first_chunk()?);
        let header = Header {
            last: base + i64::from(last_delta),
            attributes: i16::from_be_bytes(*fields.first_chunk()?),
            // After two timestamps.
            producer: i64::from_be_bytes(*fields.get(22..)?.first_chunk()?),
        };
        *rest = after;
        Some((header, batch))
    }

    fn is_transactional(&self) -> bool {
        self.attributes & 0x10 != 0
    }

    fn is_marker(&self) -> bool {
        self.attributes & 0x20 != 0
    }
}

/// A batch that is passed over must be whole too: a damaged attribute would make a gap of records.
fn check(batch: &[u8]) -> Result<(), ReadError> {
    let (magic, checksum) = (batch[16], &batch[17..Header::BEFORE_ATTRIBUTES]);
    let computed = crc32c::crc32c(&batch[Header::BEFORE_ATTRIBUTES..]);
    if magic != 2 || checksum != computed.to_be_bytes() {
        return Err(ReadError::Malformed("a batch is damaged".into()));
    }
    Ok(())
}

fn read_batch(batch: &[u8], from: i64, records: &mut Vec<Record>) -> Result<(), ReadError> {
    let batch = RecordBatch::read(&mut Cursor::new(batch))?;
    let ControlBatchOrRecords::Records(inside) = batch.records else {
        return Ok(());
    };
    // Where the broker stamps, it does so once for a batch, and leaves the producer's times in the records.
    let appended = match batch.timestamp_type {
        RecordBatchTimestampType::LogAppendTime => Some(batch.max_timestamp),
        RecordBatchTimestampType::CreateTime => None,
    };
    let created = |delta| batch.first_timestamp.saturating_add(delta);
    let wanted = inside.into_iter().map(|record| Record {
        offset: batch.base_offset + i64::from(record.offset_delta),
        timestamp_millis: appended.unwrap_or_else(|| created(record.timestamp_delta)),
        value: record.value,
    });
    // A batch comes whole, also if its middle was asked for.
    records.extend(wanted.filter(|record| record.offset >= from));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rskafka::protocol::record::{ControlBatchRecord, Record as Inside, RecordBatchCompression};

    fn batch(base: i64, producer: i64, records: ControlBatchOrRecords) -> RecordBatch {
        let count = match &records {
            ControlBatchOrRecords::Records(records) => records.len() as i32,
            ControlBatchOrRecords::ControlBatch(_) => 1,
        };
        RecordBatch {
            base_offset: base,
            partition_leader_epoch: 0,
            last_offset_delta: count - 1,
            first_timestamp: i64::MAX - 1,
            max_timestamp: i64::MAX,
            producer_id: producer,
            producer_epoch: 0,
            base_sequence: 0,
            records,
            compression: RecordBatchCompression::NoCompression,
            is_transactional: producer >= 0,
            timestamp_type: RecordBatchTimestampType::CreateTime,
        }
    }

    fn data(base: i64, producer: i64, values: &[&str]) -> RecordBatch {
        let record = |(delta, value): (usize, &&str)| Inside {
            timestamp_delta: 5,
            offset_delta: delta as i32,
            key: None,
            value: Some(value.as_bytes().to_vec()),
            headers: Vec::new(),
        };
        let records = values.iter().enumerate().map(record).collect();
        batch(base, producer, ControlBatchOrRecords::Records(records))
    }

    fn marker(base: i64, producer: i64) -> RecordBatch {
        let end = ControlBatchOrRecords::ControlBatch(ControlBatchRecord::Abort);
        batch(base, producer, end)
    }

    fn answer(aborted: &[(i64, i64)], batches: &[RecordBatch]) -> FetchAnswer {
        let mut bytes = Vec::new();
        for batch in batches {
            batch.write(&mut bytes).unwrap();
        }
        FetchAnswer {
            error: None,
            high_watermark: 0,
            aborted: aborted.to_vec(),
            batches: bytes,
        }
    }

    fn values(records: &[Record]) -> Vec<(i64, String)> {
        let text = |value: &Option<Vec<u8>>| String::from_utf8(value.clone().unwrap()).unwrap();
        records
            .iter()
            .map(|record| (record.offset, text(&record.value)))
            .collect()
    }

    #[test]
    fn markers_and_what_was_aborted_are_passed() {
        let batches = [
            data(3, -1, &["a", "b"]),
            data(5, 7, &["gone"]),
            data(6, 8, &["c"]),
            marker(7, 7),
            data(8, 7, &["d"]),
            marker(9, 8),
        ];
        let (records, next) = answer(&[(7, 5)], &batches).records(4).unwrap();
        let seen = values(&records);
        let wanted = [(4, "b"), (6, "c"), (8, "d")].map(|(at, text)| (at, text.to_string()));
        assert_eq!((seen.as_slice(), next), (&wanted[..], 10));
        assert_eq!(records[0].timestamp_millis, i64::MAX, "beyond the calendar");
    }

    #[test]
    fn the_time_of_a_record_is_the_brokers_where_the_batch_says_so() {
        let mut batch = data(0, -1, &["a", "b"]);
        batch.first_timestamp = 1_000;
        batch.max_timestamp = 9_000;
        batch.timestamp_type = RecordBatchTimestampType::LogAppendTime;
        let (records, _) = answer(&[], &[batch]).records(0).unwrap();
        let times: Vec<i64> = records
            .iter()
            .map(|record| record.timestamp_millis)
            .collect();
        assert_eq!(times, [9_000, 9_000]);
    }

    #[test]
    fn a_transaction_that_began_before_the_answer_is_known_too() {
        let batches = [
            data(10, 7, &["gone"]),
            marker(11, 7),
            data(12, 7, &["kept"]),
        ];
        let (records, next) = answer(&[(7, 2)], &batches).records(10).unwrap();
        assert_eq!(values(&records), [(12, "kept".to_string())]);
        assert_eq!(next, 13);
    }

    #[test]
    fn a_batch_that_was_cut_off_comes_the_next_time() {
        let mut answer = answer(&[], &[data(0, -1, &["a"]), data(1, -1, &["b"])]);
        let length = answer.batches.len();
        for cut in [1, 40, 69] {
            answer.batches.truncate(length - cut);
            let batches = answer.batches.clone();
            let again = FetchAnswer {
                error: None,
                high_watermark: 0,
                aborted: Vec::new(),
                batches,
            };
            let (records, next) = again.records(0).unwrap();
            assert_eq!((records.len(), next), (1, 1), "{cut}");
        }
        let none = FetchAnswer {
            batches: Vec::new(),
            ..answer
        };
        assert_eq!(none.records(5).unwrap(), (Vec::new(), 5));
    }

    #[test]
    fn damage_is_an_error() {
        for mut answer in [
            answer(&[], &[data(0, -1, &["a"])]),
            answer(&[], &[marker(0, 7)]),
            answer(&[(7, 0)], &[data(0, 7, &["a"])]),
        ] {
            *answer.batches.last_mut().unwrap() ^= 1;
            assert!(answer.records(0).is_err());
        }
        let mut answer = answer(&[], &[data(0, -1, &["a"])]);
        answer.batches[22] ^= 0x20;
        assert!(answer.records(0).is_err(), "called a marker");
    }

    #[test]
    fn an_answer_is_read() {
        let mut bytes = b"\0\0\0\0\0\0\0\0\0\0\x02".to_vec();
        bytes.extend([5; 16]);
        bytes.extend(b"\x02\0\0\0\x02\0\0");
        for number in [9_i64, 8, 0] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.push(2);
        for number in [7_i64, 5] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend(b"\0\xff\xff\xff\xff\x03xy\0\0\0");
        let mut cursor = Cursor::new(bytes);
        let answer = FetchAnswer::read_versioned(&mut cursor, ApiVersion(Int16(13))).unwrap();
        assert_eq!(cursor.position(), cursor.get_ref().len() as u64);
        assert_eq!(answer.error, None);
        assert_eq!((answer.high_watermark, answer.aborted), (9, vec![(7, 5)]));
        assert_eq!(answer.batches, b"xy");
    }
}
