//! Fetch, and the records in its response.
//!
//! The driver has a type for it, but fails a whole response for one control record or one timestamp beyond the
//! calendar, and returns the records of aborted transactions. So the response is read here batch by batch.

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

use super::primitives::{read_length, read_uuid, write_length, write_uuid};
use super::record_batch::LogEntry;
use super::record_reader::{ReadLimits, Record, RecordBuffer};
use crate::topic_partition::{Offset, Partition};

/// Fetch, version 13 (Kafka 3.1 and newer), of the committed records of one partition. It names the topic by its id, so
/// that no record of another topic of the same name is ever read.
pub struct FetchRequest {
    pub topic_id: Uuid,
    pub partition: Partition,
    /// The first one wanted.
    pub offset: Offset,
    /// About; the first batch comes whole.
    pub max_bytes: i32,
    /// How long the broker may wait for the first byte.
    pub max_wait_ms: i32,
}

#[derive(Debug)]
pub struct FetchResponse {
    /// Why there are no records.
    pub error: Option<ProtocolError>,
    /// How long the broker does not read from this connection, because a quota is used up. Then the response has
    /// nothing about the partition.
    pub throttle_ms: i32,
    /// The offset after the last record that is on all in-sync replicas.
    pub high_watermark: Option<Offset>,
    /// Producer id and first offset of each aborted transaction that has records in the batches.
    aborted: Vec<(i64, Offset)>,
    /// Whole batches, and maybe the beginning of another one.
    batches: Vec<u8>,
}

/// Says that a consumer asks, not a replica.
pub(crate) const CONSUMER_REPLICA_ID: i32 = -1;
/// A full fetch each time, without a session at the broker.
const NO_SESSION_EPOCH: i32 = -1;
/// In fields that only followers use.
const UNKNOWN: i32 = -1;
/// The isolation level that leaves out the records of open transactions.
const READ_COMMITTED: i8 = 1;

impl RequestBody for FetchRequest {
    type ResponseBody = FetchResponse;
    const API_KEY: ApiKey = ApiKey::Fetch;
    const API_VERSION_RANGE: ApiVersionRange = ApiVersionRange::new(ApiVersion(Int16(13)), ApiVersion(Int16(13)));
    const FIRST_TAGGED_FIELD_IN_REQUEST_VERSION: ApiVersion = ApiVersion(Int16(12));
}

impl<W: Write> WriteVersionedType<W> for FetchRequest {
    fn write_versioned(&self, writer: &mut W, _: ApiVersion) -> Result<(), WriteVersionedError> {
        Int32(CONSUMER_REPLICA_ID).write(writer)?;
        Int32(self.max_wait_ms).write(writer)?;
        Int32(1).write(writer)?; // min bytes
        Int32(self.max_bytes).write(writer)?;
        Int8(READ_COMMITTED).write(writer)?;
        Int32(0).write(writer)?; // session
        Int32(NO_SESSION_EPOCH).write(writer)?;
        write_length(writer, 1)?; // topics
        write_uuid(writer, self.topic_id)?;
        write_length(writer, 1)?; // partitions
        Int32(self.partition.get()).write(writer)?;
        Int32(UNKNOWN).write(writer)?; // leader epoch
        Int64(self.offset.get()).write(writer)?;
        Int32(UNKNOWN).write(writer)?; // last fetched epoch
        Int64(UNKNOWN.into()).write(writer)?; // log start offset of a follower
        Int32(self.max_bytes).write(writer)?;
        TaggedFields::default().write(writer)?;
        TaggedFields::default().write(writer)?;
        write_length(writer, 0)?; // forgotten topics
        CompactString(String::new()).write(writer)?; // rack
        TaggedFields::default().write(writer)?;
        Ok(())
    }
}

impl<R: Read> ReadVersionedType<R> for FetchResponse {
    fn read_versioned(reader: &mut R, _: ApiVersion) -> Result<Self, ReadVersionedError> {
        let mut response = FetchResponse {
            error: None,
            throttle_ms: Int32::read(reader)?.0,
            high_watermark: None,
            aborted: Vec::new(),
            batches: Vec::new(),
        };
        response.error = ProtocolError::new(Int16::read(reader)?.0);
        Int32::read(reader)?; // session
        for _ in 0..read_length(reader)? {
            read_uuid(reader)?; // topic
            for _ in 0..read_length(reader)? {
                Int32::read(reader)?; // partition
                let error = ProtocolError::new(Int16::read(reader)?.0);
                response.error = response.error.or(error);
                response.high_watermark = Some(Offset::new(Int64::read(reader)?.0));
                Int64::read(reader)?; // last stable offset
                Int64::read(reader)?; // log start offset
                for _ in 0..read_length(reader)? {
                    let (producer, first) = (Int64::read(reader)?.0, Int64::read(reader)?.0);
                    TaggedFields::read(reader)?;
                    response.aborted.push((producer, Offset::new(first)));
                }
                Int32::read(reader)?; // preferred read replica
                response.batches = read_bytes(reader)?;
                TaggedFields::read(reader)?;
            }
            TaggedFields::read(reader)?;
        }
        TaggedFields::read(reader)?;
        Ok(response)
    }
}

/// Compact bytes. The buffer grows with the bytes that come, so a false length allocates nothing.
fn read_bytes<R: Read>(reader: &mut R) -> Result<Vec<u8>, ReadError> {
    let length = read_length(reader)?;
    let mut bytes = Vec::new();
    if reader.take(length).read_to_end(&mut bytes)? as u64 != length {
        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
    }
    Ok(bytes)
}

impl FetchResponse {
    /// The committed records from an offset on, and the offset to fetch next: behind the records, and behind control
    /// records and what was aborted or compacted away.
    ///
    /// # Errors
    /// A batch is damaged, or has a format or a codec that is not known yet.
    pub fn records(mut self, from: Offset, limits: ReadLimits) -> anyhow::Result<(Vec<Record>, Offset)> {
        self.aborted.sort_unstable_by_key(|(_, first)| *first);
        let mut begun = self.aborted.into_iter().peekable();
        let mut aborted = HashSet::new();
        let mut buffer = RecordBuffer::new(limits);
        let (mut next, mut reached) = (from, Offset::ZERO);
        let mut rest = self.batches.as_slice();
        while let Some(entry) = LogEntry::split(&mut rest)?.filter(|_| !buffer.is_full()) {
            let (first, last) = entry.offsets();
            // The checksum does not cover the offsets.
            ensure!(
                first >= reached,
                "the batch at {first} lies behind {reached}; see the disks of kafka's brokers, and their logs"
            );
            reached = last + 1;
            while let Some((producer, _)) = begun.next_if(|(_, first)| *first <= last) {
                aborted.insert(producer);
            }
            let after = match entry {
                LogEntry::Batch(batch) if batch.is_control() => {
                    // A commit or an abort: the transaction of this producer ends here.
                    aborted.remove(&batch.producer_id);
                    reached
                }
                LogEntry::Batch(batch) if batch.is_transactional() && aborted.contains(&batch.producer_id) => reached,
                LogEntry::Batch(batch) => batch.read_records(from, &mut buffer)?,
                LogEntry::Legacy(message) => {
                    message.read_record(from, &mut buffer);
                    reached
                }
            };
            next = next.max(after);
        }
        ensure!(
            reached > Offset::ZERO || self.batches.is_empty(),
            "its batch is longer than what kafka hands out; see the disks of kafka's brokers, and their logs"
        );
        Ok((buffer.records, next))
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

    fn response(aborted: &[(i64, i64)], batches: &[RecordBatch]) -> FetchResponse {
        let mut bytes = Vec::new();
        for batch in batches {
            batch.write(&mut bytes).unwrap();
        }
        FetchResponse {
            error: None,
            throttle_ms: 0,
            high_watermark: None,
            aborted: aborted
                .iter()
                .map(|(producer, first)| (*producer, Offset::new(*first)))
                .collect(),
            batches: bytes,
        }
    }

    fn values(records: &[Record]) -> Vec<(i64, String)> {
        let text = |value: &Option<Vec<u8>>| String::from_utf8(value.clone().unwrap()).unwrap();
        records
            .iter()
            .map(|record| (record.offset.get(), text(&record.value)))
            .collect()
    }

    #[test]
    fn control_records_and_aborted_records_are_passed() {
        let batches = [
            data(3, -1, &["a", "b"]),
            data(5, 7, &["gone"]),
            data(6, 8, &["c"]),
            marker(7, 7),
            data(8, 7, &["d"]),
            marker(9, 8),
        ];
        let (records, next) = response(&[(7, 5)], &batches)
            .records(Offset::new(4), ReadLimits::DEFAULT)
            .unwrap();
        let seen = values(&records);
        let wanted = [(4, "b"), (6, "c"), (8, "d")].map(|(at, text)| (at, text.to_string()));
        assert_eq!((seen.as_slice(), next), (&wanted[..], Offset::new(10)));
        assert_eq!(records[0].timestamp_millis, i64::MAX, "beyond the calendar");
    }

    #[test]
    fn the_timestamp_of_a_record_is_the_brokers_where_the_batch_says_so() {
        let mut batch = data(0, -1, &["a", "b"]);
        batch.first_timestamp = 1_000;
        batch.max_timestamp = 9_000;
        batch.timestamp_type = RecordBatchTimestampType::LogAppendTime;
        let (records, _) = response(&[], &[batch])
            .records(Offset::ZERO, ReadLimits::DEFAULT)
            .unwrap();
        let times: Vec<i64> = records.iter().map(|record| record.timestamp_millis).collect();
        assert_eq!(times, [9_000, 9_000]);
    }

    #[test]
    fn a_transaction_that_began_before_the_response_is_known_too() {
        let batches = [data(10, 7, &["gone"]), marker(11, 7), data(12, 7, &["kept"])];
        let (records, next) = response(&[(7, 2)], &batches)
            .records(Offset::new(10), ReadLimits::DEFAULT)
            .unwrap();
        assert_eq!(values(&records), [(12, "kept".to_string())]);
        assert_eq!(next, Offset::new(13));
    }

    #[test]
    fn a_batch_that_was_cut_off_comes_the_next_time() {
        let mut response = response(&[], &[data(0, -1, &["a"]), data(1, -1, &["b"])]);
        let length = response.batches.len();
        for cut in [1, 40, 69] {
            response.batches.truncate(length - cut);
            let batches = response.batches.clone();
            let again = FetchResponse {
                error: None,
                throttle_ms: 0,
                high_watermark: None,
                aborted: Vec::new(),
                batches,
            };
            let (records, next) = again.records(Offset::ZERO, ReadLimits::DEFAULT).unwrap();
            assert_eq!((records.len(), next), (1, Offset::new(1)), "{cut}");
        }
        let none = FetchResponse {
            batches: Vec::new(),
            ..response
        };
        assert_eq!(
            none.records(Offset::new(5), ReadLimits::DEFAULT).unwrap(),
            (Vec::new(), Offset::new(5))
        );
    }

    #[test]
    fn damage_is_an_error() {
        for mut response in [
            response(&[], &[data(0, -1, &["a"])]),
            response(&[], &[marker(0, 7)]),
            response(&[(7, 0)], &[data(0, 7, &["a"])]),
        ] {
            *response.batches.last_mut().unwrap() ^= 1;
            assert!(response.records(Offset::ZERO, ReadLimits::DEFAULT).is_err());
        }
        let mut response = response(&[], &[data(0, -1, &["a"])]);
        response.batches[22] ^= 0x20;
        assert!(
            response.records(Offset::ZERO, ReadLimits::DEFAULT).is_err(),
            "called a marker"
        );
    }

    #[test]
    fn a_response_is_read() {
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
        let response = FetchResponse::read_versioned(&mut cursor, ApiVersion(Int16(13))).unwrap();
        assert_eq!(cursor.position(), cursor.get_ref().len() as u64);
        assert_eq!(response.error, None);
        assert_eq!(
            (response.high_watermark, response.aborted),
            (Some(Offset::new(9)), vec![(7, Offset::new(5))])
        );
        assert_eq!(response.batches, b"xy");
    }

    #[test]
    fn a_throttled_response_has_nothing_about_the_partition() {
        let bytes = b"\0\0\x27\x10\0\0\0\0\0\0\x01\0";
        let response = FetchResponse::read_versioned(&mut &bytes[..], ApiVersion(Int16(13))).unwrap();
        assert_eq!((response.throttle_ms, response.high_watermark), (10_000, None));
        assert_eq!(
            response.records(Offset::new(5), ReadLimits::DEFAULT).unwrap(),
            (Vec::new(), Offset::new(5))
        );
    }
}
