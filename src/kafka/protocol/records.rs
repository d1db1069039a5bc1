//! The records of a batch. Whatever a producer put into them, each offset of the batch comes out as one record.
//!
//! Kafka's brokers read every record before they take a batch, those of compressed batches too, and bound neither what
//! they inflate to nor how many there are. Other brokers do not look inside. So what cannot be read is handed out as
//! records that say so, and what is large in pieces; only damage, which a checksum shows, and a codec to come stop a
//! reader. The driver's own reader fails a batch for one header without a value.

#[cfg(test)]
mod tests;

use std::io::{self, BufRead, BufReader, Read};

use anyhow::Context as _;

use super::decompress::Codec;
use super::record_batch::{OldMessage, RecordBatch};

/// Bytes of a value that are read; the table keeps less. An event takes 200.
pub const VALUE_BYTES_MAX: u64 = 2 << 20;

/// What bounds the work and the memory for an answer. Bytes in each case.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of the records that are handed out at once, about; the rest comes the next time.
    pub records: usize,
    /// Of what one batch inflates to, as far as it is read.
    pub inflated: u64,
}

impl Limits {
    /// Records: several times what one fetch asks for, so that hardly a batch is read in pieces, which means to inflate
    /// it from its beginning each time. Inflated: a batch of Kafka's default limit, 1 MiB, has 20 MiB when it is full of
    /// events, and at worst 32 GiB, which takes minutes; this takes 4 s at most.
    pub const DEFAULT: Limits = Limits {
        records: 32 << 20,
        inflated: 1 << 30,
    };
}

/// A record as it lies in the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Its place in the partition.
    pub offset: i64,
    /// Its own timestamp, in milliseconds since 1970: whatever its producer wrote there, or when the broker appended it,
    /// where the topic wants that.
    pub timestamp_millis: i64,
    /// What its producer wrote there, in any case.
    pub created_millis: i64,
    /// Its value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// How long the value is, also if not all of it was read.
    pub value_bytes: u64,
    /// Why the value is not what was written, or not all of it.
    pub unread: Option<String>,
}

impl Record {
    /// The times that its row may have: the first builds of captcha took the second one, whatever the topic's type.
    pub fn times_millis(&self) -> [i64; 2] {
        [self.timestamp_millis, self.created_millis]
    }
}

/// Records that are handed out, up to a limit.
pub struct Taken {
    limits: Limits,
    bytes: usize,
    /// In ascending order of offset.
    pub records: Vec<Record>,
}

impl Taken {
    /// None yet.
    pub fn new(limits: Limits) -> Taken {
        Taken {
            limits,
            bytes: 0,
            records: Vec::new(),
        }
    }

    /// The rest is to come the next time.
    pub fn is_full(&self) -> bool {
        self.bytes >= self.limits.records
    }

    fn push(&mut self, record: Record) {
        let text = record.unread.as_ref().map_or(0, String::len);
        self.bytes += size_of::<Record>() + record.value.as_ref().map_or(0, Vec::len) + text;
        self.records.push(record);
    }
}

impl OldMessage<'_> {
    /// One record for all of it: nobody has written such since 2017, and no event is among them.
    pub fn take(&self, from: i64, taken: &mut Taken) {
        if self.last >= from {
            let kept = self.bytes.len().min(VALUE_BYTES_MAX as usize);
            taken.push(Record {
                offset: self.last,
                timestamp_millis: self.millis.unwrap_or(0),
                created_millis: self.millis.unwrap_or(0),
                value: Some(self.bytes[..kept].to_vec()),
                value_bytes: self.bytes.len() as u64,
                unread: Some("a message in a format from before Kafka 0.11".to_string()),
            });
        }
    }
}

impl RecordBatch<'_> {
    /// Takes the records from an offset on until no more fit; the offset after them, or after the batch.
    ///
    /// # Errors
    /// The batch is compressed in a way that is not known.
    pub fn take(&self, from: i64, taken: &mut Taken) -> anyhow::Result<i64> {
        let codec = Codec::of(self.attributes).with_context(|| {
            format!(
                "the batch at {} has the codec {}, which this captcha does not know; use a newer one",
                self.first,
                self.attributes & 7
            )
        })?;
        let mut reading = Reading {
            batch: self,
            from,
            next: self.first,
            taken,
        };
        let read = match codec {
            Codec::Plain => reading.records(self.records),
            _ => codec.inflate(self.records).and_then(|inflating| {
                let left = reading.taken.limits.inflated;
                reading.records(BufReader::new(Bounded { inflating, left }))
            }),
        };
        if let Err(why) = read {
            reading.give_up(&why);
        }
        Ok(match reading.taken.is_full() {
            true => reading.next,
            false => self.last + 1,
        })
    }

    /// Whether it has a record at each of its offsets, that is, was not compacted.
    fn is_dense(&self) -> bool {
        i64::from(self.count) == self.last - self.first + 1
    }
}

struct Reading<'a> {
    batch: &'a RecordBatch<'a>,
    from: i64,
    /// The offset after the last record that was read.
    next: i64,
    taken: &'a mut Taken,
}

impl Reading<'_> {
    fn records(&mut self, mut source: impl BufRead) -> io::Result<()> {
        for number in 0..count(self.batch.count)? {
            if self.taken.is_full() {
                return Ok(());
            }
            // Before where this reader begins, values need no memory.
            let keeps = !self.batch.is_dense() || self.batch.first + number >= self.from;
            let fields = read_record(&mut source, keeps)?;
            let offset = self.offset(number, fields.offset_delta)?;
            self.next = offset + 1;
            if offset >= self.from {
                self.taken.push(Record {
                    offset,
                    timestamp_millis: self.millis(fields.timestamp_delta),
                    created_millis: self.created_millis(fields.timestamp_delta),
                    value: fields.value,
                    value_bytes: fields.value_bytes,
                    unread: fields.unread,
                });
            }
        }
        Ok(())
    }

    /// Brokers number the records of a batch from its first offset on and do not look at what is written in those that
    /// are not compressed. Only where some were compacted away do the others say which they are.
    fn offset(&self, number: i64, delta: i32) -> io::Result<i64> {
        if self.batch.is_dense() {
            return Ok(self.batch.first + number);
        }
        let offset = self.batch.first.saturating_add(delta.into());
        match (self.next..=self.batch.last).contains(&offset) {
            true => Ok(offset),
            false => Err(invalid(format!("a record that says it is at {offset}"))),
        }
    }

    fn millis(&self, delta: i64) -> i64 {
        // Where the broker stamps, it does so once for a batch, and leaves the producer's times in the records.
        match self.batch.is_stamped_by_broker() {
            true => self.batch.max_millis,
            false => self.created_millis(delta),
        }
    }

    fn created_millis(&self, delta: i64) -> i64 {
        self.batch.first_millis.saturating_add(delta)
    }

    /// Hands out what could not be read: each offset of the rest, or its last if it is not known which there are.
    fn give_up(&mut self, why: &io::Error) {
        let (first, last) = (self.batch.first, self.batch.last);
        let why = match why.kind() {
            io::ErrorKind::UnexpectedEof => "it ends in the middle of a record".to_string(),
            _ => why.to_string(),
        };
        let reason = format!("the batch of {first} to {last} cannot be read from here on: {why}");
        let begin = match self.batch.is_dense() {
            true => self.next,
            false => self.next.max(last),
        };
        for offset in begin.max(self.from)..=last {
            if self.taken.is_full() {
                return;
            }
            self.next = offset + 1;
            self.taken.push(Record {
                offset,
                timestamp_millis: self.millis(0),
                created_millis: self.created_millis(0),
                unread: Some(reason.clone()),
                ..Record::default()
            });
        }
    }
}

/// Says that there is more than is read, where a reader would find an end.
struct Bounded<R> {
    inflating: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(invalid("it inflates to more than is read"));
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let most = most.min(buffer.len());
        let read = self.inflating.read(&mut buffer[..most])?;
        self.left -= read as u64;
        Ok(read)
    }
}

/// What is needed of a record.
struct Fields {
    timestamp_delta: i64,
    offset_delta: i32,
    value: Option<Vec<u8>>,
    value_bytes: u64,
    unread: Option<String>,
}

/// Reads a record and passes over its key and headers, which are nothing to us.
fn read_record(source: &mut impl BufRead, keeps_value: bool) -> io::Result<Fields> {
    let length = u64::try_from(read_i32(source)?);
    let length = length.map_err(|_| invalid("a record of a negative length"))?;
    let mut inside = source.take(length);
    inside.read_exact(&mut [0])?; // attributes
    let timestamp_delta = read_i64(&mut inside)?;
    let offset_delta = read_i32(&mut inside)?;
    if let Some(key) = read_length(&mut inside)? {
        skip(&mut inside, key)?;
    }
    let (mut value, mut value_bytes, mut unread) = (None, 0, None);
    if let Some(length) = read_length(&mut inside)? {
        if length > VALUE_BYTES_MAX {
            unread = Some("a value that is longer than any event".to_string());
        }
        let kept = if keeps_value { length.min(VALUE_BYTES_MAX) } else { 0 };
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
    Ok(Fields {
        timestamp_delta,
        offset_delta,
        value,
        value_bytes,
        unread,
    })
}

/// The length of what may be missing: any negative number says that it is, as brokers read it.
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

/// Seven bits a byte, the lowest first; the highest bit says that more follow. Bits beyond the number's size fall off, as
/// they do at the brokers.
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
