//! The block of a data packet: compressed frames, and in them columns of values.

use std::io;

use tokio::io::AsyncRead;

use super::reader::{Integer, PacketReader, TEXT_BYTES_MAX, beyond, refused};

/// Bytes of a block, decompressed. The largest that is asked for has 16 dead letters of 1 MiB each.
const BLOCK_BYTES_MAX: usize = 128 << 20;

/// Bytes of one compressed frame, decompressed; servers cut them at 1 MiB.
const FRAME_BYTES_MAX: usize = 16 << 20;

/// Rows of a block; servers cut answers at 65,409, unless their profile has another number.
const ROWS_MAX: usize = 1 << 20;

/// Values of a block: the driver makes 32 bytes of each, before it has read one.
const VALUES_MAX: usize = 4 << 20;

/// Columns of a block; the widest that is asked for has 13.
const COLUMNS_MAX: usize = 64;

/// Checksum, method, and both sizes of a compressed frame; the first size counts all but the checksum.
const FRAME_CHECKSUM_BYTES: usize = 16;
const FRAME_HEADER_BYTES: usize = 9;

/// LZ4, the one method that the driver knows.
const METHOD_LZ4: u8 = 0x82;

/// Fields of a block's info, and the last of them.
const INFO_END: usize = 0;
const INFO_IS_OVERFLOW: usize = 1;
const INFO_BUCKET: usize = 2;

/// `LowCardinality`: the version of its prefix, and the one form in which answers have it: the keys of this block
/// alone.
const DICTIONARY_VERSION: u64 = 1;
const DICTIONARY_HAS_KEYS: u64 = 1 << 9;
const DICTIONARY_FLAGS: u64 = !0xff;

/// The values of one column, as the blocks of answers to captcha's questions have them.
enum Shape {
    /// Each of the same number of bytes.
    Fixed(usize),
    Text,
    Dictionary,
    /// Of texts. None is asked for, but an insert is answered by a block that has its columns and no row.
    Array,
}

impl Shape {
    fn of(name: &[u8]) -> io::Result<Shape> {
        Ok(match name {
            b"UInt8" | b"Int8" => Shape::Fixed(1),
            b"UInt16" | b"Int16" => Shape::Fixed(2),
            b"UInt32" | b"Int32" => Shape::Fixed(4),
            b"UInt64" | b"Int64" => Shape::Fixed(8),
            b"UUID" => Shape::Fixed(16),
            b"String" => Shape::Text,
            b"LowCardinality(String)" => Shape::Dictionary,
            b"Array(String)" => Shape::Array,
            _ => {
                let name: String = String::from_utf8_lossy(name).chars().take(50).collect();
                return Err(refused(format!("a column of type {name:?}, which was not asked for")));
            }
        })
    }
}

/// Reads the block of a packet, frame by frame.
pub(crate) struct Block<'a, R> {
    reader: &'a mut PacketReader<R>,
    /// The part of it that is decompressed; its position is how far that is read.
    plain: io::Cursor<Vec<u8>>,
    /// Bytes of it that were decompressed.
    decompressed_bytes: usize,
}

impl<R: AsyncRead + Unpin> Block<'_, R> {
    pub(crate) fn new(reader: &mut PacketReader<R>) -> Block<'_, R> {
        Block {
            reader,
            plain: io::Cursor::default(),
            decompressed_bytes: 0,
        }
    }

    /// Reads it to its end.
    ///
    /// # Errors
    /// It breaks a limit, has what was not asked for, or ends too early.
    pub(crate) async fn read(&mut self) -> io::Result<()> {
        loop {
            match self.integer().await? {
                INFO_END => break,
                INFO_IS_OVERFLOW => self.skip(1).await?,
                INFO_BUCKET => self.skip(4).await?,
                field => return Err(refused(format!("a block with the field {field}"))),
            }
        }
        let columns = self.limited("columns", COLUMNS_MAX).await?;
        let rows = self.limited("rows", ROWS_MAX).await?;
        if rows * columns > VALUES_MAX {
            return Err(beyond("a block", VALUES_MAX, "values"));
        }
        // Rows take memory in the driver, and without a column any number of them would need no bytes.
        if columns == 0 && rows > 0 {
            return Err(refused("rows without a column".to_string()));
        }
        for _ in 0..columns {
            self.text().await?;
            let shape = Shape::of(&self.text().await?)?;
            if rows > 0 {
                self.column(&shape, rows).await?;
            }
        }
        // The driver would throw it away without a word.
        match self.left() {
            0 => Ok(()),
            left => Err(refused(format!("{left} bytes behind a block"))),
        }
    }

    async fn column(&mut self, shape: &Shape, rows: usize) -> io::Result<()> {
        match shape {
            Shape::Fixed(bytes) => self.skip(rows * bytes).await,
            Shape::Text => self.texts(rows).await,
            Shape::Dictionary => self.dictionary(rows).await,
            Shape::Array => Err(refused("an array, which was not asked for".to_string())),
        }
    }

    async fn texts(&mut self, count: usize) -> io::Result<()> {
        for _ in 0..count {
            let length = self.limited("bytes in a value", BLOCK_BYTES_MAX).await?;
            self.skip(length).await?;
        }
        Ok(())
    }

    /// A `LowCardinality(String)`: its texts, and the index of one for each row.
    async fn dictionary(&mut self, rows: usize) -> io::Result<()> {
        if self.number().await? != DICTIONARY_VERSION {
            return Err(refused("a dictionary of another version".to_string()));
        }
        let flags = self.number().await?;
        if flags & DICTIONARY_FLAGS & !(1 << 10) != DICTIONARY_HAS_KEYS || flags & 0xff > 3 {
            return Err(refused(format!("a dictionary with the flags {flags:#x}")));
        }
        let keys = self.number().await?;
        if keys > ROWS_MAX as u64 {
            return Err(beyond("a dictionary", ROWS_MAX, "keys"));
        }
        self.texts(keys as usize).await?;
        if self.number().await? != rows as u64 {
            return Err(refused("a dictionary for other rows".to_string()));
        }
        self.skip(rows << (flags & 0xff)).await
    }

    async fn number(&mut self) -> io::Result<u64> {
        let mut number = [0; 8];
        for byte in &mut number {
            *byte = self.byte().await?;
        }
        Ok(u64::from_le_bytes(number))
    }

    async fn integer(&mut self) -> io::Result<usize> {
        let mut integer = Integer::default();
        while !integer.is_whole {
            integer.add(self.byte().await?)?;
        }
        Ok(integer.value)
    }

    async fn limited(&mut self, what: &str, max: usize) -> io::Result<usize> {
        match self.integer().await? {
            count if count > max => Err(beyond("a block", max, what)),
            count => Ok(count),
        }
    }

    /// A name of a column or of a type.
    async fn text(&mut self) -> io::Result<Vec<u8>> {
        let length = self.limited("bytes in a name", TEXT_BYTES_MAX).await?;
        let mut text = Vec::new();
        for _ in 0..length {
            text.push(self.byte().await?);
        }
        Ok(text)
    }

    async fn byte(&mut self) -> io::Result<u8> {
        while self.left() == 0 {
            self.decompress().await?;
        }
        let byte = self.plain.get_ref()[self.plain.position() as usize];
        self.plain.set_position(self.plain.position() + 1);
        Ok(byte)
    }

    async fn skip(&mut self, mut count: usize) -> io::Result<()> {
        while count > self.left() {
            count -= self.left();
            self.decompress().await?;
        }
        self.plain.set_position(self.plain.position() + count as u64);
        Ok(())
    }

    fn left(&self) -> usize {
        self.plain.get_ref().len() - self.plain.position() as usize
    }

    /// Replaces what was read by the next frame.
    async fn decompress(&mut self) -> io::Result<()> {
        let header = self.reader.bytes(FRAME_CHECKSUM_BYTES + FRAME_HEADER_BYTES).await?;
        let header = &header[FRAME_CHECKSUM_BYTES..];
        let [method, size @ .., b0, b1, b2, b3] = header else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let size = size.try_into().map_or(0, u32::from_le_bytes) as usize;
        let plain = u32::from_le_bytes([*b0, *b1, *b2, *b3]) as usize;
        if *method != METHOD_LZ4 {
            return Err(refused(format!("a frame of the method {method:#x}")));
        }
        let sizes = FRAME_HEADER_BYTES..=FRAME_BYTES_MAX;
        if plain > FRAME_BYTES_MAX || !sizes.contains(&size) {
            return Err(refused(format!("a frame of {size} for {plain} bytes")));
        }
        self.decompressed_bytes += plain;
        if self.decompressed_bytes > BLOCK_BYTES_MAX {
            return Err(beyond("a block", BLOCK_BYTES_MAX, "bytes"));
        }
        let frame = self.reader.bytes(size - FRAME_HEADER_BYTES).await?;
        let decompressed = lz4::block::decompress(frame, Some(plain as i32));
        match decompressed {
            Ok(bytes) if bytes.len() == plain => self.plain = io::Cursor::new(bytes),
            _ => return Err(refused("a frame that cannot be decompressed".to_string())),
        }
        Ok(())
    }
}
