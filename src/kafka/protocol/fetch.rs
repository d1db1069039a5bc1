//! Fetch, as Kafka's protocol has it, and the batches of records in its answer.
//!
//! The driver has a type for it, but fails a whole answer for one transaction marker or one timestamp beyond the
//! calendar, and hands out the records of aborted transactions. So the answer is walked here batch by batch.

use std::collections::HashSet;
use std::io::{Read, Write};

use anyhow::ensure;
use rskafka::protocol::api_key::ApiKey;
use rskafka::protocol::api_version::{ApiVersion, ApiVersionRange};
use rskafka::protocol::error::Error as ProtocolError;
use rskafka::protocol::messages::{
    ReadVersionedError, ReadVersionedType, RequestBody, WriteVersionedError, WriteVersionedType,
};
use rskafka::protocol::primitives::{CompactString, Int8, Int16, Int32, Int64, TaggedFields};
use rskafka::protocol::traits::{ReadError, ReadType, WriteType};
use uuid::Uuid;

use super::metadata::{read_length, read_uuid, write_length, write_uuid};
use super::record_batch::Entry;
use super::records::{Limits, Record, Taken};

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
    /// How long the broker does not listen on this connection, because the client is beyond a quota. Then it hands
    /// out nothing, and says nothing of the partition.
    pub throttle_ms: i32,
    /// The offset after the last record that is on all in-sync replicas, unless nothing is said of it.
    pub high_watermark: Option<i64>,
    /// Transactions that were aborted and have records in the batches: producer and first offset.
    aborted: Vec<(i64, i64)>,
    /// Whole batches, and maybe the beginning of one more.
    batches: Vec<u8>,
}

/// A consumer, not a broker that copies.
pub(crate) const NO_REPLICA: i32 = -1;
/// The whole answer each time, and nothing for the broker to remember.
const NO_SESSION: i32 = -1;
/// For what only followers know.
const UNKNOWN: i32 = -1;
/// Leaves out what open transactions wrote.
const READ_COMMITTED: i8 = 1;

impl RequestBody for Fetch {
    type ResponseBody = FetchAnswer;
    const API_KEY: ApiKey = ApiKey::Fetch;
    const API_VERSION_RANGE: ApiVersionRange = ApiVersionRange::new(ApiVersion(Int16(13)), ApiVersion(Int16(13)));
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
            throttle_ms: Int32::read(reader)?.0,
            high_watermark: None,
            aborted: Vec::new(),
            batches: Vec::new(),
        };
        answer.error = ProtocolError::new(Int16::read(reader)?.0);
        Int32::read(reader)?; // session
        for _ in 0..read_length(reader)? {
            read_uuid(reader)?; // topic
            for _ in 0..read_length(reader)? {
                Int32::read(reader)?; // partition
                let error = ProtocolError::new(Int16::read(reader)?.0);
                answer.error = answer.error.or(error);
                answer.high_watermark = Some(Int64::read(reader)?.0);
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
    /// The records from an offset on that a reader may see, and the offset after everything that was looked at: markers
    /// and what was aborted or compacted away has been passed too.
    ///
    /// # Errors
    /// A batch is damaged, or of a format or a codec that is not known.
    pub fn records(mut self, from: i64, limits: Limits) -> anyhow::Result<(Vec<Record>, i64)> {
        self.aborted.sort_unstable_by_key(|(_, first)| *first);
        let mut begun = self.aborted.into_iter().peekable();
        let mut aborted = HashSet::new();
        let mut taken = Taken::new(limits);
        let (mut next, mut reached) = (from, 0);
        let mut rest = self.batches.as_slice();
        while let Some(entry) = Entry::split(&mut rest)?.filter(|_| !taken.is_full()) {
            let (first, last) = entry.offsets();
            // No checksum covers the offsets.
            ensure!(
                first >= reached,
                "the batch at {first} lies behind {reached}; see the disks of kafka's brokers, and their logs"
            );
            reached = last + 1;
            while let Some((producer, _)) = begun.next_if(|(_, first)| *first <= last) {
                aborted.insert(producer);
            }
            let after = match entry {
                Entry::Batch(batch) if batch.is_marker() => {
                    // Whichever it is, the transaction of this producer ends with it.
                    aborted.remove(&batch.producer);
                    reached
                }
                Entry::Batch(batch) if batch.is_transactional() && aborted.contains(&batch.producer) => reached,
                Entry::Batch(batch) => batch.take(from, &mut taken)?,
                Entry::Old(message) => {
                    message.take(from, &mut taken);
                    reached
                }
            };
            next = next.max(after);
        }
        ensure!(
            reached > 0 || self.batches.is_empty(),
            "its batch is longer than what kafka hands out; see the disks of kafka's brokers, and their logs"
        );
        Ok((taken.records, next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rskafka::protocol::record::{
        ControlBatchOrRecords, ControlBatchRecord, Record as Inside, RecordBatch, RecordBatchCompression,
        RecordBatchTimestampType,
    };
    use std::io::Cursor;

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
            throttle_ms: 0,
            high_watermark: None,
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
        let (records, next) = answer(&[(7, 5)], &batches).records(4, Limits::DEFAULT).unwrap();
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
        let (records, _) = answer(&[], &[batch]).records(0, Limits::DEFAULT).unwrap();
        let times: Vec<i64> = records.iter().map(|record| record.timestamp_millis).collect();
        assert_eq!(times, [9_000, 9_000]);
    }

    #[test]
    fn a_transaction_that_began_before_the_answer_is_known_too() {
        let batches = [data(10, 7, &["gone"]), marker(11, 7), data(12, 7, &["kept"])];
        let (records, next) = answer(&[(7, 2)], &batches).records(10, Limits::DEFAULT).unwrap();
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
                throttle_ms: 0,
                high_watermark: None,
                aborted: Vec::new(),
                batches,
            };
            let (records, next) = again.records(0, Limits::DEFAULT).unwrap();
            assert_eq!((records.len(), next), (1, 1), "{cut}");
        }
        let none = FetchAnswer {
            batches: Vec::new(),
            ..answer
        };
        assert_eq!(none.records(5, Limits::DEFAULT).unwrap(), (Vec::new(), 5));
    }

    #[test]
    fn damage_is_an_error() {
        for mut answer in [
            answer(&[], &[data(0, -1, &["a"])]),
            answer(&[], &[marker(0, 7)]),
            answer(&[(7, 0)], &[data(0, 7, &["a"])]),
        ] {
            *answer.batches.last_mut().unwrap() ^= 1;
            assert!(answer.records(0, Limits::DEFAULT).is_err());
        }
        let mut answer = answer(&[], &[data(0, -1, &["a"])]);
        answer.batches[22] ^= 0x20;
        assert!(answer.records(0, Limits::DEFAULT).is_err(), "called a marker");
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
        assert_eq!((answer.high_watermark, answer.aborted), (Some(9), vec![(7, 5)]));
        assert_eq!(answer.batches, b"xy");
    }

    #[test]
    fn an_answer_beyond_a_quota_says_nothing() {
        let bytes = b"\0\0\x27\x10\0\0\0\0\0\0\x01\0";
        let answer = FetchAnswer::read_versioned(&mut &bytes[..], ApiVersion(Int16(13))).unwrap();
        assert_eq!((answer.throttle_ms, answer.high_watermark), (10_000, None));
        assert_eq!(answer.records(5, Limits::DEFAULT).unwrap(), (Vec::new(), 5));
    }
}
