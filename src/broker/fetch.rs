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
use rskafka::protocol::primitives::{Int8, Int16, Int32, Int64, NullableBytes, String_};
use rskafka::protocol::record::{ControlBatchOrRecords, RecordBatch};
use rskafka::protocol::traits::{ReadError, ReadType, WriteType};

use super::Record;

/// Fetch, version 4, from one partition: what is committed, at least a byte of it if that comes in time.
pub struct Fetch {
    /// Topic.
    pub topic: String,
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
const NO_REPLICA: i32 = -1;
/// Leaves out what open transactions wrote.
const READ_COMMITTED: i8 = 1;

impl RequestBody for Fetch {
    type ResponseBody = FetchAnswer;
    const API_KEY: ApiKey = ApiKey::Fetch;
    const API_VERSION_RANGE: ApiVersionRange =
        ApiVersionRange::new(ApiVersion(Int16(4)), ApiVersion(Int16(4)));
    const FIRST_TAGGED_FIELD_IN_REQUEST_VERSION: ApiVersion = ApiVersion(Int16(12));
}

impl<W: Write> WriteVersionedType<W> for Fetch {
    fn write_versioned(&self, writer: &mut W, _: ApiVersion) -> Result<(), WriteVersionedError> {
        Int32(NO_REPLICA).write(writer)?;
        Int32(self.wait_ms).write(writer)?;
        Int32(1).write(writer)?; // bytes to wait for
        Int32(self.bytes_max).write(writer)?;
        Int8(READ_COMMITTED).write(writer)?;
        Int32(1).write(writer)?; // topics
        String_(self.topic.clone()).write(writer)?;
        Int32(1).write(writer)?; // partitions
        Int32(self.partition).write(writer)?;
        Int64(self.offset).write(writer)?;
        Int32(self.bytes_max).write(writer)?;
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
        for _ in 0..Int32::read(reader)?.0 {
            String_::read(reader)?; // topic
            for _ in 0..Int32::read(reader)?.0 {
                Int32::read(reader)?; // partition
                answer.error = ProtocolError::new(Int16::read(reader)?.0);
                answer.high_watermark = Int64::read(reader)?.0;
                Int64::read(reader)?; // last stable offset
                for _ in 0..Int32::read(reader)?.0 {
                    let (producer, first) = (Int64::read(reader)?.0, Int64::read(reader)?.0);
                    answer.aborted.push((producer, first));
                }
                answer.batches = NullableBytes::read(reader)?.0.unwrap_or_default();
            }
        }
        Ok(answer)
    }
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
            if header.is_marker() {
                // Whichever it is, the transaction of this producer ends with it.
                aborted.remove(&header.producer);
            } else if !(header.is_transactional() && aborted.contains(&header.producer)) {
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

fn read_batch(batch: &[u8], from: i64, records: &mut Vec<Record>) -> Result<(), ReadError> {
    let batch = RecordBatch::read(&mut Cursor::new(batch))?;
    let ControlBatchOrRecords::Records(inside) = batch.records else {
        return Ok(());
    };
    let wanted = inside.into_iter().map(|record| Record {
        offset: batch.base_offset + i64::from(record.offset_delta),
        timestamp_millis: batch.first_timestamp.saturating_add(record.timestamp_delta),
        value: record.value,
    });
    // A batch comes whole, also if its middle was asked for.
    records.extend(wanted.filter(|record| record.offset >= from));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rskafka::protocol::record::{
        ControlBatchRecord, Record as Inside, RecordBatchCompression, RecordBatchTimestampType,
    };

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
        let mut answer = answer(&[], &[data(0, -1, &["a"])]);
        *answer.batches.last_mut().unwrap() ^= 1;
        assert!(answer.records(0).is_err());
    }

    #[test]
    fn an_answer_is_read() {
        let mut bytes = b"\0\0\0\0\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\x02\0\0".to_vec();
        for number in [9_i64, 8] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend(b"\0\0\0\x01");
        for number in [7_i64, 5] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend(b"\0\0\0\x02xy");
        let answer =
            FetchAnswer::read_versioned(&mut Cursor::new(bytes), ApiVersion(Int16(4))).unwrap();
        assert_eq!(answer.error, None);
        assert_eq!((answer.high_watermark, answer.aborted), (9, vec![(7, 5)]));
        assert_eq!(answer.batches, b"xy");
    }
}
