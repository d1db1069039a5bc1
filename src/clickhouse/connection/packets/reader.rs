//! The bytes of one packet, as they are read, and the integers and texts in them.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, BufReader};

/// Bytes of a packet as it travels. The largest answers of tests have 1 MiB.
const PACKET_BYTES_MAX: usize = 64 << 20;

/// Bytes of a text that is not a value: of names, and of exceptions with their trace.
pub const TEXT_BYTES_MAX: usize = 1 << 20;

/// Reads packets, and keeps all that it has read of the one that it is in.
pub struct PacketReader<R> {
    inner: BufReader<R>,
    packet: Vec<u8>,
}

impl<R: AsyncRead + Unpin> PacketReader<R> {
    pub fn new(inner: R) -> PacketReader<R> {
        PacketReader {
            inner: BufReader::new(inner),
            packet: Vec::new(),
        }
    }

    /// The bytes that were read since the last call.
    pub fn take_packet(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.packet)
    }

    /// The next bytes, which grow as they come.
    pub async fn bytes(&mut self, count: usize) -> io::Result<&[u8]> {
        let begin = self.packet.len();
        if count > PACKET_BYTES_MAX - begin {
            return Err(beyond("a packet", PACKET_BYTES_MAX, "bytes"));
        }
        let mut some = (&mut self.inner).take(count as u64);
        if some.read_to_end(&mut self.packet).await? < count {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(&self.packet[begin..])
    }

    /// An integer of the native protocol: seven bits in a byte, the lowest first.
    pub async fn integer(&mut self) -> io::Result<usize> {
        let mut integer = Integer::default();
        while !integer.is_whole {
            integer.add(self.bytes(1).await?[0])?;
        }
        Ok(integer.value)
    }

    pub async fn integers(&mut self, count: usize) -> io::Result<()> {
        for _ in 0..count {
            self.integer().await?;
        }
        Ok(())
    }

    pub async fn text(&mut self) -> io::Result<&[u8]> {
        let length = self.integer().await?;
        if length > TEXT_BYTES_MAX {
            return Err(beyond("a text", TEXT_BYTES_MAX, "bytes"));
        }
        self.bytes(length).await
    }
}

#[derive(Default)]
pub struct Integer {
    pub value: usize,
    bytes: u32,
    pub is_whole: bool,
}

impl Integer {
    /// The driver stops at the ninth byte.
    const BYTES_MAX: u32 = 9;

    pub fn add(&mut self, byte: u8) -> io::Result<()> {
        self.value |= usize::from(byte & 0x7f) << (7 * self.bytes);
        self.bytes += 1;
        self.is_whole = byte & 0x80 == 0;
        match self.bytes {
            Self::BYTES_MAX if !self.is_whole => Err(refused("a number without an end".to_string())),
            _ => Ok(()),
        }
    }
}

pub fn refused(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("sent {what}"))
}

pub fn beyond(what: &str, max: usize, unit: &str) -> io::Error {
    refused(format!("{what} of more than {max} {unit}"))
}
