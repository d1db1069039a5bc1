//! Compression codecs of record batches, as all Kafka clients write them.

use std::io::{self, Read};

use bytes::Buf as _;

/// Of one block of Snappy, which is decompressed as a whole. Java writes blocks of 32 KiB, librdkafka one for a batch.
const SNAPPY_BLOCK_BYTES_MAX: usize = 64 << 20;

/// A byte of Snappy decompresses to at most 21. A block that claims more is refused before memory is allocated.
const SNAPPY_RATIO_MAX: usize = 22;

/// The header before the blocks of Java's Snappy, without the two versions behind it.
const JAVA_SNAPPY: &[u8] = b"\x82SNAPPY\0";
const JAVA_SNAPPY_BYTES: usize = JAVA_SNAPPY.len() + 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    None,
    Gzip,
    /// Blocks with Java's header, or one block without.
    Snappy,
    /// The frame format.
    Lz4,
    Zstd,
}

impl Codec {
    /// From the attributes of a batch; `None` if the codec is not known yet.
    pub fn from_attributes(attributes: i16) -> Option<Codec> {
        match attributes & 7 {
            0 => Some(Codec::None),
            1 => Some(Codec::Gzip),
            2 => Some(Codec::Snappy),
            3 => Some(Codec::Lz4),
            4 => Some(Codec::Zstd),
            _ => None,
        }
    }

    /// A reader that decompresses in bounded memory. How much comes out has no bound.
    ///
    /// # Errors
    /// The decoder gets no memory. Wrong bytes are an error of the reader.
    pub fn decompress(self, bytes: &[u8]) -> io::Result<Box<dyn Read + '_>> {
        Ok(match self {
            Codec::None => Box::new(bytes),
            Codec::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(bytes)),
            Codec::Snappy => Box::new(Snappy::new(bytes)),
            Codec::Lz4 => Box::new(lz4::Decoder::new(bytes)?),
            Codec::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(bytes)?),
        })
    }
}

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
        // A batch may have several streams, each with its own header.
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
            let decompressed = snap::raw::Decoder::new().decompress_vec(block)?;
            self.block = io::Cursor::new(decompressed);
        }
    }
}

fn cut_off() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decompressed(codec: Codec, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        codec.decompress(bytes)?.read_to_end(&mut out)?;
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
        let read = |bytes: &[u8]| decompressed(Codec::Snappy, bytes).unwrap();
        assert_eq!(read(&block(b"one")), b"one");
        assert_eq!(read(&framed(&[b"one", b"", b"two"])), b"onetwo");
        let two = [framed(&[b"one"]), framed(&[b"two"])].concat();
        assert_eq!(read(&two), b"onetwo");
        assert_eq!(read(&framed(&[])), b"");
    }

    #[test]
    fn snappy_with_a_false_length_gets_no_memory() {
        // 4 GiB, 60 MiB and 2 MiB, of a few bytes each.
        for bytes in [
            &b"\xff\xff\xff\xff\x0f\0a"[..],
            b"\x80\x80\x80\x1d\0a",
            b"\x80\x80\x80\x01\0a",
        ] {
            let reason = decompressed(Codec::Snappy, bytes).unwrap_err().to_string();
            assert!(reason.contains("says it has"), "{reason}");
        }
        let cut = [JAVA_SNAPPY, b"\0\0\0\x01\0\0\0\x01\0\0\0\x09abc"].concat();
        for end in JAVA_SNAPPY.len()..cut.len() {
            let whole = end == JAVA_SNAPPY_BYTES;
            assert_eq!(decompressed(Codec::Snappy, &cut[..end]).is_ok(), whole, "{end}");
        }
    }
}
