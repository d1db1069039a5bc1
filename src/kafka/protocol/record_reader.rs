//! Reads the records of a batch: one record for each offset, whatever a producer put into the batch.
//!
//! Kafka's brokers check every record before they append a batch, but bound neither its decompressed size nor its
//! number of records. Brokers of other make do not look inside. So an unreadable record is returned with the error, and
//! a large batch in pieces; only a wrong checksum and an unknown codec stop a reader. The driver's reader fails a batch
//! for one header without a value; that of the crate `kafka-protocol` fails a whole batch for one bad record.

#[cfg(test)]
mod tests;

use std::io::{self, BufRead, BufReader, Read};

use anyhow::Context as _;

use super::decompress::Codec;
use super::record_batch::{LegacyMessage, RecordBatch};
use crate::topic_partition::Offset;

/// Bytes of a value that are read; the table keeps fewer. An event has 200.
pub const VALUE_BYTES_MAX: u64 = 2 << 20;

/// Bounds the work and the memory for one response, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimits {
    /// About, of the records that are returned at once; the rest comes with the next fetch.
    pub record_bytes: usize,
    /// Of the decompressed bytes of one batch that are read.
    pub decompressed_bytes: u64,
}

impl ReadLimits {
    /// `record_bytes` is several times what one fetch asks for: a batch that is read in pieces is decompressed from its
    /// beginning for each piece. `decompressed_bytes`: a batch of Kafka's default limit, 1 MiB, decompresses to 20 MiB
    /// when it is full of events, and at worst to 32 GiB, which takes minutes; this takes 4 s at most.
    pub const DEFAULT: ReadLimits = ReadLimits {
        record_bytes: 32 << 20,
        decompressed_bytes: 1 << 30,
    };
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    pub offset: Offset,
    /// In milliseconds since 1970: the create time, or the broker's append time where the topic has it.
    pub timestamp_millis: i64,
    /// The timestamp of its producer, whatever type the topic has.
    pub create_time_millis: i64,
    /// `None` is a tombstone, or could not be read.
    pub value: Option<Vec<u8>>,
    /// The length of the value, also if not all of it was read.
    pub value_bytes: u64,
    /// Why the value is missing or not whole.
    pub read_error: Option<String>,
}

impl Record {
    /// The timestamps that its row may have: the first builds of captcha took the create time, whatever type the topic
    /// had.
    pub fn timestamps_millis(&self) -> [i64; 2] {
        [self.timestamp_millis, self.create_time_millis]
    }
}

/// Records to return, up to a limit.
pub struct RecordBuffer {
    limits: ReadLimits,
    record_bytes: usize,
    /// In ascending order of offset.
    pub records: Vec<Record>,
}

impl RecordBuffer {
    pub fn new(limits: ReadLimits) -> RecordBuffer {
        RecordBuffer {
            limits,
            record_bytes: 0,
            records: Vec::new(),
        }
    }

    /// The rest comes with the next fetch.
    pub fn is_full(&self) -> bool {
        self.record_bytes >= self.limits.record_bytes
    }

    fn push(&mut self, record: Record) {
        let text = record.read_error.as_ref().map_or(0, String::len);
        self.record_bytes += size_of::<Record>() + record.value.as_ref().map_or(0, Vec::len) + text;
        self.records.push(record);
    }
}

impl LegacyMessage<'_> {
    /// One record for the whole message: it is older than captcha, so it has no event.
    pub fn read_record(&self, from: Offset, buffer: &mut RecordBuffer) {
        if self.last_offset >= from {
            let kept = self.bytes.len().min(VALUE_BYTES_MAX as usize);
            buffer.push(Record {
                offset: self.last_offset,
                timestamp_millis: self.timestamp_millis.unwrap_or(0),
                create_time_millis: self.timestamp_millis.unwrap_or(0),
                value: Some(self.bytes[..kept].to_vec()),
                value_bytes: self.bytes.len() as u64,
                read_error: Some("a message in a format from before Kafka 0.11".to_string()),
            });
        }
    }
}

impl RecordBatch<'_> {
    /// Reads the records from an offset on until the buffer is full. Returns the offset after them, or after the batch.
    ///
    /// # Errors
    /// The codec is not known yet.
    pub fn read_records(&self, from: Offset, buffer: &mut RecordBuffer) -> anyhow::Result<Offset> {
        let codec = Codec::from_attributes(self.attributes).with_context(|| {
            format!(
                "the batch at {} has the codec {}, which this captcha does not know; use a newer one",
                self.base_offset,
                self.attributes & 7
            )
        })?;
        let mut reader = BatchReader {
            batch: self,
            from,
            next: self.base_offset,
            buffer,
        };
        let read = match codec {
            Codec::None => reader.read_all(self.records),
            _ => codec.decompress(self.records).and_then(|decompressing| {
                let left = reader.buffer.limits.decompressed_bytes;
                reader.read_all(BufReader::new(Bounded { decompressing, left }))
            }),
        };
        if let Err(why) = read {
            reader.push_unreadable(&why);
        }
        Ok(match reader.buffer.is_full() {
            true => reader.next,
            false => self.last_offset + 1,
        })
    }

    /// It has a record at each of its offsets: it was not compacted.
    fn is_dense(&self) -> bool {
        i64::from(self.record_count) == self.last_offset - self.base_offset + 1
    }
}

struct BatchReader<'a> {
    batch: &'a RecordBatch<'a>,
    from: Offset,
    /// The offset after the last record that was read.
    next: Offset,
    buffer: &'a mut RecordBuffer,
}

impl BatchReader<'_> {
    fn read_all(&mut self, mut source: impl BufRead) -> io::Result<()> {
        for number in 0..count(self.batch.record_count)? {
            if self.buffer.is_full() {
                return Ok(());
            }
            // Values before the first wanted offset need no memory.
            let keep_value = !self.batch.is_dense() || self.batch.base_offset + number >= self.from;
            let fields = read_record(&mut source, keep_value)?;
            let offset = self.offset(number, fields.offset_delta)?;
            self.next = offset + 1;
            if offset >= self.from {
                self.buffer.push(Record {
                    offset,
                    timestamp_millis: self.timestamp_millis(fields.timestamp_delta),
                    create_time_millis: self.create_time_millis(fields.timestamp_delta),
                    value: fields.value,
                    value_bytes: fields.value_bytes,
                    read_error: fields.read_error,
                });
            }
        }
        Ok(())
    }

    /// Brokers number the records of a batch from its base offset on and ignore the deltas in batches that are not
    /// compressed. Only in a compacted batch do the deltas say which offsets are left.
    fn offset(&self, number: i64, delta: i32) -> io::Result<Offset> {
        if self.batch.is_dense() {
            return Ok(self.batch.base_offset + number);
        }
        let offset = Offset::new(self.batch.base_offset.get().saturating_add(delta.into()));
        match (self.next..=self.batch.last_offset).contains(&offset) {
            true => Ok(offset),
            false => Err(invalid(format!("a record that says it is at {offset}"))),
        }
    }

    fn timestamp_millis(&self, delta: i64) -> i64 {
        // The append time is in the header alone; the records keep the deltas of their producer.
        match self.batch.is_log_append_time() {
            true => self.batch.max_timestamp_millis,
            false => self.create_time_millis(delta),
        }
    }

    fn create_time_millis(&self, delta: i64) -> i64 {
        self.batch.base_timestamp_millis.saturating_add(delta)
    }

    /// Pushes a record for each offset that could not be read, or for the last one if the others are not known.
    fn push_unreadable(&mut self, why: &io::Error) {
        let (first, last) = (self.batch.base_offset, self.batch.last_offset);
        let why = match why.kind() {
            io::ErrorKind::UnexpectedEof => "it ends in the middle of a record".to_string(),
            _ => why.to_string(),
        };
        let reason = format!("the batch of {first} to {last} cannot be read from here on: {why}");
        let begin = match self.batch.is_dense() {
            true => self.next,
            false => self.next.max(last),
        };
        for number in begin.max(self.from).get()..=last.get() {
            let offset = Offset::new(number);
            if self.buffer.is_full() {
                return;
            }
            self.next = offset + 1;
            self.buffer.push(Record {
                offset,
                timestamp_millis: self.timestamp_millis(0),
                create_time_millis: self.create_time_millis(0),
                read_error: Some(reason.clone()),
                ..Record::default()
            });
        }
    }
}

/// Fails beyond a limit, where `Read::take` would end.
struct Bounded<R> {
    decompressing: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(invalid("it inflates to more than is read"));
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let most = most.min(buffer.len());
        let read = self.decompressing.read(&mut buffer[..most])?;
        self.left -= read as u64;
        Ok(read)
    }
}

/// The fields of a record that captcha needs.
struct RecordFields {
    timestamp_delta: i64,
    offset_delta: i32,
    value: Option<Vec<u8>>,
    value_bytes: u64,
    read_error: Option<String>,
}

/// Reads a record, and skips its key and headers.
fn read_record(source: &mut impl BufRead, keep_value: bool) -> io::Result<RecordFields> {
    let length = u64::try_from(read_i32(source)?);
    let length = length.map_err(|_| invalid("a record of a negative length"))?;
    let mut inside = source.take(length);
    inside.read_exact(&mut [0])?; // attributes
    let timestamp_delta = read_i64(&mut inside)?;
    let offset_delta = read_i32(&mut inside)?;
    if let Some(key) = read_length(&mut inside)? {
        skip(&mut inside, key)?;
    }
    let (mut value, mut value_bytes, mut read_error) = (None, 0, None);
    if let Some(length) = read_length(&mut inside)? {
        if length > VALUE_BYTES_MAX {
            read_error = Some("a value that is longer than any event".to_string());
        }
        let kept = if keep_value { length.min(VALUE_BYTES_MAX) } else { 0 };
        let mut bytes = Vec::new();
        if io::copy(&mut inside.by_ref().take(kept), &mut bytes)? != kept {
            return Err(cut_off());
        }
        skip(&mut inside, length - kept)?;
        value = Some(bytes);
        value_bytes = length;
    }
    let headers = inside.limit();
    skip(&mut inside, headers)?;
    Ok(RecordFields {
        timestamp_delta,
        offset_delta,
        value,
        value_bytes,
        read_error,
    })
}

/// The length of a field that may be null: any negative number is null, as it is for brokers.
fn read_length(source: &mut impl Read) -> io::Result<Option<u64>> {
    Ok(u64::try_from(read_i32(source)?).ok())
}

fn skip(source: &mut impl BufRead, mut bytes: u64) -> io::Result<()> {
    while bytes > 0 {
        let there = source.fill_buf()?.len();
        if there == 0 {
            return Err(cut_off());
        }
        let passed = usize::try_from(bytes).map_or(there, |bytes| bytes.min(there));
        source.consume(passed);
        bytes -= passed as u64;
    }
    Ok(())
}

fn read_i32(source: &mut impl Read) -> io::Result<i32> {
    let number = read_varint(source, 5)? as u32;
    Ok((number >> 1) as i32 ^ -((number & 1) as i32))
}

fn read_i64(source: &mut impl Read) -> io::Result<i64> {
    let number = read_varint(source, 10)?;
    Ok((number >> 1) as i64 ^ -((number & 1) as i64))
}

/// Seven bits a byte, the lowest first; the highest bit is set if more follow. Bits beyond the size of the number are
/// dropped, as brokers do.
fn read_varint(source: &mut impl Read, bytes_max: u32) -> io::Result<u64> {
    let mut number = 0;
    for place in 0..bytes_max {
        let mut byte = [0];
        source.read_exact(&mut byte)?;
        number |= u64::from(byte[0] & 0x7f) << (7 * place);
        if byte[0] & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(invalid("a number that does not end"))
}

fn count(count: i32) -> io::Result<i64> {
    match count {
        0.. => Ok(count.into()),
        _ => Err(invalid(format!("{count} records"))),
    }
}

fn invalid(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

fn cut_off() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}
