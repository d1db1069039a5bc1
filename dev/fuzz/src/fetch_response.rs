//! Kafka's response to a fetch as a fuzzer can change it: the first byte of an input says what follows.

/// The meaning of the bytes behind the first one.
#[derive(Clone, Copy)]
#[repr(u8)]
pub enum Form {
    /// A response, as it comes.
    Response,
    /// The record batches of a response to a fetch.
    Batches,
    /// The same, before [`with_checksums`]: no fuzzer guesses them.
    BatchesWithoutChecksums,
}

impl From<u8> for Form {
    fn from(byte: u8) -> Form {
        match byte {
            0 => Form::Response,
            1 => Form::Batches,
            _ => Form::BatchesWithoutChecksums,
        }
    }
}

/// Of version 13: error, session, one topic by its id, its partition 0 with an aborted transaction of producer 1 from
/// offset 1 on.
const BEFORE_BATCHES: &[u8] = b"\0\0\0\0\0\0\0\0\0\0\x020123456789abcdef\x02\0\0\0\0\0\0\
    \0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\0\
    \x02\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01\0\xff\xff\xff\xff";
const AFTER_BATCHES: &[u8] = b"\0\0\0";

/// A response to a fetch with these record batches.
pub fn around(batches: &[u8]) -> Vec<u8> {
    let mut length = batches.len() + 1;
    let mut response = BEFORE_BATCHES.to_vec();
    while length > 0x7f {
        response.push(length as u8 | 0x80);
        length >>= 7;
    }
    response.push(length as u8);
    [&response, batches, AFTER_BATCHES].concat()
}

/// Record batches with the checksum that fits each, as far as they look like batches.
pub fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while let Some(length) = bytes.get(at + 8..at + 12) {
        let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let end = at + 12 + length;
        if length < 14 || end > bytes.len() {
            break;
        }
        let (begin, sum) = match bytes[at + 16] {
            0 | 1 => {
                let mut crc = flate2::Crc::new();
                crc.update(&bytes[at + 16..end]);
                (at + 12, crc.sum())
            }
            _ => (at + 17, crc32c::crc32c(&bytes[(at + 21).min(end)..end])),
        };
        if begin + 4 > end {
            break;
        }
        bytes[begin..begin + 4].copy_from_slice(&sum.to_be_bytes());
        at = end;
    }
    bytes
}
