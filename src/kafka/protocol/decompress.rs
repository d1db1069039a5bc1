//! Codecs of record batches, as Kafka's own clients write them and as the others do.

use std::io::{self, Read};

use bytes::Buf as _;

/// Bytes of one block of Snappy, which is inflated as a whole: what Java writes has 32 KiB, librdkafka puts a batch into
/// one.
const SNAPPY_BLOCK_BYTES_MAX: usize = 64 << 20;

/// A byte of Snappy stands for at most 21: a block that says more lies, and gets no memory.
const SNAPPY_RATIO_MAX: usize = 22;

/// What Java's Snappy writes before its blocks, with two versions behind it.
const JAVA_SNAPPY: &[u8] = b"\x82SNAPPY\0";
const JAVA_SNAPPY_BYTES: usize = JAVA_SNAPPY.len() + 8;

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    Plain,
    /// Gzip.
    Gzip,
    /// Snappy, in blocks with Java's header or in one without.
    Snappy,
    /// LZ4's frame format.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Codec {
    /// By the attributes of a batch; `None` for one that came after this was written.
    pub fn of(attributes: i16) -> Option<Codec> {
        match attributes & 7 {
            0 => Some(Codec::Plain),
            1 => Some(Codec::Gzip),
            2 => Some(Codec::Snappy),
            3 => Some(Codec::Lz4),
            4 => Some(Codec::Zstd),
            _ => None,
        }
    }

    /// Inflates as it is read, in bounded memory, without a bound on how much comes out.
    ///
    /// # Errors
    /// There is no memory for it. What is wrong with the bytes is said when they are read.
    pub fn inflate(self, bytes: &[u8]) -> io::Result<Box<dyn Read + '_>> {
        Ok(match self {
            Codec::Plain => Box::new(bytes),
            Codec::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(bytes)),
            Codec::Snappy => Box::new(Snappy::new(bytes)),
            Codec::Lz4 => Box::new(lz4::Decoder::new(bytes)?),
            Codec::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(bytes)?),
        })
    }
}

/// Reads Snappy block by block.
struct Snappy<'a> {
    rest: &'a [u8],
    is_framed: bool,
    block: io::Cursor<Vec<u8>>,
}

impl Snappy<'_> {
    fn new(bytes: &[u8]) -> Snappy<'_> {
        Snappy {
            rest: bytes,
            is_framed: bytes.starts_with(JAVA_SNAPPY),
            block: io::Cursor::default(),
        }
    }

    /// The bytes of the next block; `None` at the end.
    fn next_block(&mut self) -> io::Result<Option<&[u8]>> {
        // Streams may follow each other, each with its own header.
        while self.is_framed && self.rest.starts_with(JAVA_SNAPPY) {
            self.rest = self.rest.get(JAVA_SNAPPY_BYTES..).ok_or_else(cut_off)?;
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        let length = match self.is_framed {
            true => self.rest.try_get_u32().map_err(|_| cut_off())? as usize,
            false => self.rest.len(),
        };
        let (block, after) = self.rest.split_at_checked(length).ok_or_else(cut_off)?;
        self.rest = after;
        Ok(Some(block))
    }
}

impl Read for Snappy<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.block.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let Some(block) = self.next_block()? else {
                return Ok(0);
            };
            let length = snap::raw::decompress_len(block)?;
            if length > SNAPPY_BLOCK_BYTES_MAX || length / SNAPPY_RATIO_MAX > block.len() {
                let reason = format!("a block of Snappy that says it has {length} bytes");
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
            }
            let inflated = snap::raw::Decoder::new().decompress_vec(block)?;
            self.block = io::Cursor::new(inflated);
        }
    }
}

fn cut_off() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inflated(codec: Codec, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        codec.inflate(bytes)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn snappy_is_read_with_javas_header_and_without() {
        let block = |text: &[u8]| snap::raw::Encoder::new().compress_vec(text).unwrap();
        let framed = |texts: &[&[u8]]| {
            let mut bytes = [JAVA_SNAPPY, &[0, 0, 0, 1, 0, 0, 0, 1]].concat();
            for text in texts {
                let block = block(text);
                bytes.extend((block.len() as u32).to_be_bytes());
                bytes.extend(block);
            }
            bytes
        };
        let read = |bytes: &[u8]| inflated(Codec::Snappy, bytes).unwrap();
        assert_eq!(read(&block(b"one")), b"one");
        assert_eq!(read(&framed(&[b"one", b"", b"two"])), b"onetwo");
        let two = [framed(&[b"one"]), framed(&[b"two"])].concat();
        assert_eq!(read(&two), b"onetwo");
        assert_eq!(read(&framed(&[])), b"");
    }

    #[test]
    fn snappy_that_lies_of_its_length_gets_no_memory() {
        // 4 GiB, 60 MiB and 2 MiB, of a few bytes each.
        for bytes in [
            &b"\xff\xff\xff\xff\x0f\0a"[..],
            b"\x80\x80\x80\x1d\0a",
            b"\x80\x80\x80\x01\0a",
        ] {
            let reason = inflated(Codec::Snappy, bytes).unwrap_err().to_string();
            assert!(reason.contains("says it has"), "{reason}");
        }
        let cut = [JAVA_SNAPPY, b"\0\0\0\x01\0\0\0\x01\0\0\0\x09abc"].concat();
        for end in JAVA_SNAPPY.len()..cut.len() {
            let whole = end == JAVA_SNAPPY_BYTES;
            assert_eq!(inflated(Codec::Snappy, &cut[..end]).is_ok(), whole, "{end}");
        }
    }
}
