//! What the fuzzer of answers and its seeds have in common: the first byte says what follows.

/// What the bytes behind the first one are.
#[allow(dead_code, reason = "seeds have each kind by its number")]
pub enum Kind {
    /// An answer, as it comes.
    Answer,
    /// The batches of an answer to a fetch.
    Batches,
    /// The same, with checksums that fit: no fuzzer guesses them.
    BatchesMadeWhole,
}

impl Kind {
    #[allow(dead_code, reason = "seeds have each kind by its number")]
    pub fn of(byte: u8) -> Kind {
        match byte {
            0 => Kind::Answer,
            1 => Kind::Batches,
            _ => Kind::BatchesMadeWhole,
        }
    }
}

/// An answer to a fetch, version 13, before and after the batches of its one partition.
pub struct Answer {
    before: &'static [u8],
    after: &'static [u8],
}

/// Error, session, one topic by its id, its partition 0 with an aborted transaction of producer 1 from offset 1 on.
pub const WITH_BATCHES: Answer = Answer {
    before: b"\0\0\0\0\0\0\0\0\0\0\x020123456789abcdef\x02\0\0\0\0\0\0\
        \0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\0\
        \x02\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01\0\xff\xff\xff\xff",
    after: b"\0\0\0",
};

impl Answer {
    pub fn around(&self, batches: &[u8]) -> Vec<u8> {
        let mut length = batches.len() + 1;
        let mut answer = self.before.to_vec();
        while length > 0x7f {
            answer.push(length as u8 | 0x80);
            length >>= 7;
        }
        answer.push(length as u8);
        [&answer, batches, self.after].concat()
    }
}

/// Writes the checksum of each batch that there seems to be.
#[allow(dead_code, reason = "seeds have checksums that fit")]
pub fn made_whole(bytes: &[u8]) -> Vec<u8> {
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
