//! What lies in a partition's log: batches of records, each behind a header that says what it is
//! (<https://kafka.apache.org/documentation/#recordbatch>).

use anyhow::{bail, ensure};
use bytes::Buf as _;

/// The offset and the length, which the length does not count.
const BEFORE_LENGTH_COUNTS: usize = 12;
/// Where the version of the format lies, in all of them.
const MAGIC_AT: usize = 16;
/// What a header of each format takes, without the offset and the length.
const HEADER_BYTES_LEAST: usize = 49;
const OLD_HEADER_BYTES_LEAST: usize = 14;

/// How somebody is to go on with bytes that are not what was written.
const DAMAGED: &str = "is damaged; see the disks of kafka's brokers, and their logs";

/// A batch, whole, with the checksum that its header gives.
#[derive(Debug)]
pub struct RecordBatch<'a> {
    /// The offset of its first record, or of the first that it had before it was compacted.
    pub first: i64,
    /// That of the last one.
    pub last: i64,
    /// Bits: codec, kind of timestamp, transaction, marker.
    pub attributes: i16,
    /// What the times of the records count from, in milliseconds since 1970.
    pub first_millis: i64,
    /// The newest time, which is the broker's where the broker stamps.
    pub max_millis: i64,
    /// Who wrote it, if it is of a transaction.
    pub producer: i64,
    /// How many records it says it has.
    pub count: i32,
    /// The records, maybe compressed.
    pub records: &'a [u8],
}

/// A message in one of the formats before Kafka 0.11, which may lie in old logs: alone, or with others compressed in it.
#[derive(Debug)]
pub struct OldMessage<'a> {
    /// The offset of the last record in it.
    pub last: i64,
    /// In milliseconds since 1970, if it has one.
    pub millis: Option<i64>,
    /// All of it.
    pub bytes: &'a [u8],
}

/// What comes next in a log.
#[derive(Debug)]
pub enum Entry<'a> {
    /// A batch.
    Batch(RecordBatch<'a>),
    /// A message of another time.
    Old(OldMessage<'a>),
}

impl<'a> Entry<'a> {
    /// Takes a whole entry off; `None` if there is none any more.
    ///
    /// # Errors
    /// The entry is not what a broker wrote, or is of a format to come.
    pub fn split(rest: &mut &'a [u8]) -> anyhow::Result<Option<Entry<'a>>> {
        let mut header = *rest;
        let (Ok(first), Ok(length)) = (header.try_get_i64(), header.try_get_i32()) else {
            return Ok(None);
        };
        let length = usize::try_from(length).unwrap_or(0);
        ensure!(
            length >= OLD_HEADER_BYTES_LEAST && (0..i64::MAX).contains(&first),
            "the batch at {first} {DAMAGED}"
        );
        let Some((bytes, after)) = rest.split_at_checked(BEFORE_LENGTH_COUNTS + length) else {
            return Ok(None);
        };
        *rest = after;
        Ok(Some(match bytes[MAGIC_AT] {
            2 if length >= HEADER_BYTES_LEAST => Entry::Batch(RecordBatch::read(bytes)?),
            0 | 1 => Entry::Old(OldMessage::read(bytes)?),
            magic @ 3..=9 => {
                bail!("the batch at {first} has the format {magic}, which this captcha does not know; use a newer one")
            }
            _ => bail!("the batch at {first} {DAMAGED}"),
        }))
    }

    /// Its first and last offset. Of an old message only the last is known.
    pub fn offsets(&self) -> (i64, i64) {
        match self {
            Entry::Batch(batch) => (batch.first, batch.last),
            Entry::Old(message) => (message.last, message.last),
        }
    }
}

impl<'a> RecordBatch<'a> {
    fn read(bytes: &'a [u8]) -> anyhow::Result<RecordBatch<'a>> {
        let mut rest = bytes;
        let first = rest.get_i64();
        rest.advance(9); // length, epoch of the leader, format
        let checksum = rest.get_u32();
        let is_whole = crc32c::crc32c(rest) == checksum;
        let attributes = rest.get_i16();
        let last = first.checked_add(rest.get_i32().into());
        let last = last.filter(|last| is_whole && (first..i64::MAX).contains(last));
        let Some(last) = last else {
            bail!("the batch at {first} {DAMAGED}");
        };
        let (first_millis, max_millis) = (rest.get_i64(), rest.get_i64());
        let producer = rest.get_i64();
        rest.advance(6); // epoch and sequence of the producer
        Ok(RecordBatch {
            first,
            last,
            attributes,
            first_millis,
            max_millis,
            producer,
            count: rest.get_i32(),
            records: rest,
        })
    }

    /// The broker stamped the records.
    pub fn is_stamped_by_broker(&self) -> bool {
        self.attributes & 0x08 != 0
    }

    /// It is part of a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & 0x10 != 0
    }

    /// It says how a transaction ended.
    pub fn is_marker(&self) -> bool {
        self.attributes & 0x20 != 0
    }
}

impl<'a> OldMessage<'a> {
    fn read(bytes: &'a [u8]) -> anyhow::Result<OldMessage<'a>> {
        let mut rest = bytes;
        let last = rest.get_i64();
        rest.advance(4); // length
        let checksum = rest.get_u32();
        let mut crc = flate2::Crc::new();
        crc.update(rest);
        ensure!(crc.sum() == checksum, "the message at {last} {DAMAGED}");
        let magic = rest.get_u8();
        rest.advance(1); // attributes
        let millis = if magic == 0 { None } else { Some(rest.get_i64()) };
        Ok(OldMessage { last, millis, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_is_cut_off_is_left() {
        for bytes in [&b""[..], b"\0\0\0\0\0\0\0\x07\0\0", &[0; 11]] {
            let mut rest = bytes;
            assert!(Entry::split(&mut rest).unwrap().is_none());
            assert_eq!(rest, bytes);
        }
        let mut rest = &b"\0\0\0\0\0\0\0\x07\0\0\0\x31\0\0\0\0\x02"[..];
        assert!(Entry::split(&mut rest).unwrap().is_none());
    }

    #[test]
    fn headers_that_cannot_be_are_damage() {
        let with = |length: i32, magic: u8| {
            let mut bytes = 7_i64.to_be_bytes().to_vec();
            bytes.extend(length.to_be_bytes());
            bytes.extend([0, 0, 0, 0, magic]);
            bytes.resize(100, 0);
            let mut rest = bytes.as_slice();
            Entry::split(&mut rest).unwrap_err().to_string()
        };
        for (length, magic) in [(-1, 2), (0, 2), (13, 0), (48, 2), (60, 2), (60, 0), (60, 0xff)] {
            let reason = with(length, magic);
            assert!(reason.contains("at 7 is damaged"), "{length} {magic}: {reason}");
        }
        assert!(with(60, 3).contains("the format 3"));
    }
}
