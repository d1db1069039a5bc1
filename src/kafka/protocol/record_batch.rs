//! The entries of a partition's log: batches of records, each with a header
//! (<https://kafka.apache.org/documentation/#recordbatch>).

use anyhow::{bail, ensure};
use bytes::Buf as _;

use crate::topic_partition::Offset;

/// The base offset and the length of an entry, which the length does not count.
const UNCOUNTED_BYTES: usize = 12;
/// The index of the byte with the version of the format, the same in all versions.
const MAGIC_INDEX: usize = 16;
/// The header of each format, without the base offset and the length.
const HEADER_BYTES_MIN: usize = 49;
const LEGACY_HEADER_BYTES_MIN: usize = 14;

/// The end of an error line.
const DAMAGED: &str = "is damaged; see the disks of kafka's brokers, and their logs";

/// A whole batch, whose checksum is right.
#[derive(Debug)]
pub struct RecordBatch<'a> {
    /// Of the first record that it had when it was written; compaction may have removed it.
    pub base_offset: Offset,
    /// Of the last record that it had when it was written.
    pub last_offset: Offset,
    /// Bits: codec, timestamp type, transactional, control.
    pub attributes: i16,
    /// In milliseconds since 1970; the records have deltas to it.
    pub base_timestamp_millis: i64,
    /// The newest timestamp; with `LogAppendTime` that of the broker, for all records.
    pub max_timestamp_millis: i64,
    /// Of a transactional or idempotent producer.
    pub producer_id: i64,
    /// The number of records, as its producer says.
    pub record_count: i32,
    /// Encoded, maybe compressed.
    pub records: &'a [u8],
}

/// A message in one of the formats before Kafka 0.11, which old logs may have: one record, or a compressed set of them.
#[derive(Debug)]
pub struct LegacyMessage<'a> {
    /// Of the last record in it.
    pub last_offset: Offset,
    /// In milliseconds since 1970; the oldest format has none.
    pub timestamp_millis: Option<i64>,
    pub bytes: &'a [u8],
}

#[derive(Debug)]
pub enum LogEntry<'a> {
    Batch(RecordBatch<'a>),
    Legacy(LegacyMessage<'a>),
}

impl<'a> LogEntry<'a> {
    /// Splits the next whole entry off; `None` at the end, or if the rest is the beginning of an entry.
    ///
    /// # Errors
    /// The entry is damaged, or has a format that is not known yet.
    pub fn split(rest: &mut &'a [u8]) -> anyhow::Result<Option<LogEntry<'a>>> {
        let mut header = *rest;
        let (Ok(base_offset), Ok(length)) = (header.try_get_i64(), header.try_get_i32()) else {
            return Ok(None);
        };
        let length = usize::try_from(length).unwrap_or(0);
        ensure!(
            length >= LEGACY_HEADER_BYTES_MIN && (0..i64::MAX).contains(&base_offset),
            "the batch at {base_offset} {DAMAGED}"
        );
        let Some((bytes, after)) = rest.split_at_checked(UNCOUNTED_BYTES + length) else {
            return Ok(None);
        };
        *rest = after;
        Ok(Some(match bytes[MAGIC_INDEX] {
            2 if length >= HEADER_BYTES_MIN => LogEntry::Batch(RecordBatch::read(bytes)?),
            0 | 1 => LogEntry::Legacy(LegacyMessage::read(bytes)?),
            magic @ 3..=9 => {
                bail!(
                    "the batch at {base_offset} has the format {magic}, which this captcha does not know; \
                     use a newer one"
                )
            }
            _ => bail!("the batch at {base_offset} {DAMAGED}"),
        }))
    }

    /// Its first and last offset. Of a legacy message only the last is known.
    pub fn offsets(&self) -> (Offset, Offset) {
        match self {
            LogEntry::Batch(batch) => (batch.base_offset, batch.last_offset),
            LogEntry::Legacy(message) => (message.last_offset, message.last_offset),
        }
    }
}

impl<'a> RecordBatch<'a> {
    fn read(bytes: &'a [u8]) -> anyhow::Result<RecordBatch<'a>> {
        let mut rest = bytes;
        let base_offset = rest.get_i64();
        rest.advance(9); // length, leader epoch, magic
        let checksum = rest.get_u32();
        let is_whole = crc32c::crc32c(rest) == checksum;
        let attributes = rest.get_i16();
        let last_offset = base_offset.checked_add(rest.get_i32().into());
        let last_offset = last_offset.filter(|last_offset| is_whole && (base_offset..i64::MAX).contains(last_offset));
        let Some(last_offset) = last_offset else {
            bail!("the batch at {base_offset} {DAMAGED}");
        };
        let (base_timestamp_millis, max_timestamp_millis) = (rest.get_i64(), rest.get_i64());
        let producer_id = rest.get_i64();
        rest.advance(6); // producer epoch, base sequence
        Ok(RecordBatch {
            base_offset: Offset::new(base_offset),
            last_offset: Offset::new(last_offset),
            attributes,
            base_timestamp_millis,
            max_timestamp_millis,
            producer_id,
            record_count: rest.get_i32(),
            records: rest,
        })
    }

    pub fn is_log_append_time(&self) -> bool {
        self.attributes & 0x08 != 0
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & 0x10 != 0
    }

    /// Its record is a control record: how a transaction ended.
    pub fn is_control(&self) -> bool {
        self.attributes & 0x20 != 0
    }
}

impl<'a> LegacyMessage<'a> {
    fn read(bytes: &'a [u8]) -> anyhow::Result<LegacyMessage<'a>> {
        let mut rest = bytes;
        let last_offset = rest.get_i64();
        rest.advance(4); // length
        let checksum = rest.get_u32();
        let mut crc = flate2::Crc::new();
        crc.update(rest);
        ensure!(crc.sum() == checksum, "the message at {last_offset} {DAMAGED}");
        let magic = rest.get_u8();
        rest.advance(1); // attributes
        let timestamp_millis = if magic == 0 { None } else { Some(rest.get_i64()) };
        Ok(LegacyMessage {
            last_offset: Offset::new(last_offset),
            timestamp_millis,
            bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_is_cut_off_is_left() {
        for bytes in [&b""[..], b"\0\0\0\0\0\0\0\x07\0\0", &[0; 11]] {
            let mut rest = bytes;
            assert!(LogEntry::split(&mut rest).unwrap().is_none());
            assert_eq!(rest, bytes);
        }
        let mut rest = &b"\0\0\0\0\0\0\0\x07\0\0\0\x31\0\0\0\0\x02"[..];
        assert!(LogEntry::split(&mut rest).unwrap().is_none());
    }

    #[test]
    fn headers_that_cannot_be_are_damage() {
        let with = |length: i32, magic: u8| {
            let mut bytes = 7_i64.to_be_bytes().to_vec();
            bytes.extend(length.to_be_bytes());
            bytes.extend([0, 0, 0, 0, magic]);
            bytes.resize(100, 0);
            let mut rest = bytes.as_slice();
            LogEntry::split(&mut rest).unwrap_err().to_string()
        };
        for (length, magic) in [(-1, 2), (0, 2), (13, 0), (48, 2), (60, 2), (60, 0), (60, 0xff)] {
            let reason = with(length, magic);
            assert!(reason.contains("at 7 is damaged"), "{length} {magic}: {reason}");
        }
        assert!(with(60, 3).contains("the format 3"));
    }
}
