//! What a server sends, packet by packet, looked at before the driver reads it.
//!
//! The driver believes every length: `Vec::with_capacity` of the rows that a block announces ends the process where there is
//! no such memory, and a type of a thousand parentheses overflows its stack. Nothing catches either. So each packet is read here first,
//! within limits, and the driver gets it whole or not at all. Whole also because the driver forgets a half of a packet when it is asked
//! something in the middle of it.

mod block;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt as _, BufReader, ReadBuf};

use self::block::Block;

/// Bytes of a packet as it travels. The largest answers of tests have 1 MiB.
const PACKET_BYTES_MAX: usize = 64 << 20;

/// Bytes of a text that is no value: of names, and of exceptions with their trace.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// Protocol revision that the driver speaks. A server that speaks less writes other packets, and none that is supported does.
const REVISION_MIN: usize = 54_448;

/// Why a packet was not handed over, for messages; empty while all were.
#[derive(Clone, Default)]
pub struct Refusal(Arc<OnceLock<String>>);

impl Refusal {
    /// What the server did, to follow its name.
    pub fn reason(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

/// A reader that hands over whole packets, each after a look at it, and ends before one that breaks a limit.
pub struct Checked<R> {
    next: Pin<Box<dyn Future<Output = Next<R>> + Send + Sync>>,
    ready: io::Cursor<Vec<u8>>,
    refusal: Refusal,
}

/// After a packet: the reader again if there may be more.
type Next<R> = (Option<Packets<R>>, io::Result<Vec<u8>>);

/// Wraps what a server sends; the second says later why it ended.
pub fn check<R: AsyncRead + Unpin + Send + Sync + 'static>(inner: R) -> (Checked<R>, Refusal) {
    let refusal = Refusal::default();
    let packets = Packets {
        inner: BufReader::new(inner),
        packet: Vec::new(),
        is_greeted: false,
    };
    let checked = Checked {
        next: Box::pin(packets.next()),
        ready: io::Cursor::default(),
        refusal: refusal.clone(),
    };
    (checked, refusal)
}

impl<R: AsyncRead + Unpin + Send + Sync + 'static> AsyncRead for Checked<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ready.position() == self.ready.get_ref().len() as u64 {
            // An idle connection keeps nothing.
            self.ready = io::Cursor::default();
            let (packets, packet) = ready!(self.next.as_mut().poll(cx));
            self.next = match packets {
                Some(packets) => Box::pin(packets.next()),
                None => Box::pin(async { (None, Err(io::ErrorKind::UnexpectedEof.into())) }),
            };
            match packet {
                Ok(packet) => self.ready = io::Cursor::new(packet),
                Err(err) => {
                    if err.kind() == io::ErrorKind::InvalidData {
                        let _ = self.refusal.0.set(err.to_string());
                    }
                    return Poll::Ready(Err(err));
                }
            }
        }
        let read = io::Read::read(&mut self.ready, buf.initialize_unfilled())?;
        buf.advance(read);
        Poll::Ready(Ok(()))
    }
}

/// Reads packets.
struct Packets<R> {
    inner: BufReader<R>,
    /// All of the packet that has been read.
    packet: Vec<u8>,
    is_greeted: bool,
}

impl<R: AsyncRead + Unpin> Packets<R> {
    async fn next(mut self) -> Next<R> {
        match self.packet().await {
            Ok(()) => {
                let packet = std::mem::take(&mut self.packet);
                (Some(self), Ok(packet))
            }
            Err(err) => (None, Err(err)),
        }
    }

    /// One packet, by the numbers and in the order of ClickHouse's `Protocol::Server`.
    async fn packet(&mut self) -> io::Result<()> {
        const HELLO: usize = 0;
        const DATA: usize = 1;
        const EXCEPTION: usize = 2;
        const PROGRESS: usize = 3;
        const END_OF_STREAM: usize = 5;
        const PROFILE_INFO: usize = 6;
        const EXTREMES: usize = 8;
        const TABLE_COLUMNS: usize = 11;
        let kind = self.integer().await?;
        match (kind, self.is_greeted) {
            (HELLO, false) => self.hello().await,
            (EXCEPTION, _) => self.exception().await,
            // Extremes come where a profile wants them, and the driver throws them away.
            (DATA | EXTREMES, true) => {
                self.text().await?;
                let mut block = Block::new(self);
                block.read().await
            }
            (PROGRESS, true) => self.integers(5).await,
            (END_OF_STREAM, true) => Ok(()),
            (PROFILE_INFO, true) => {
                self.integers(3).await?;
                self.bytes(1).await?;
                self.integers(1).await?;
                self.bytes(1).await.map(drop)
            }
            (TABLE_COLUMNS, true) => {
                self.text().await?;
                self.text().await.map(drop)
            }
            // Also what has a number, and what nothing here asks for: logs, at which the driver panics, totals, pongs.
            _ => Err(refused(format!("a packet of kind {kind}, which was not asked for"))),
        }
    }

    async fn hello(&mut self) -> io::Result<()> {
        self.text().await?;
        self.integers(2).await?;
        let revision = self.integer().await?;
        if revision < REVISION_MIN {
            return Err(refused(format!("protocol revision {revision}")));
        }
        // The time zone and the display name, then the patch.
        self.text().await?;
        self.text().await?;
        self.is_greeted = true;
        self.integers(1).await
    }

    async fn exception(&mut self) -> io::Result<()> {
        self.bytes(4).await?;
        for _name_message_trace in 0..3 {
            self.text().await?;
        }
        // Servers have written no others for years, and the driver does not read them.
        match self.bytes(1).await? {
            [0] => Ok(()),
            _ => Err(refused("an exception within another".to_string())),
        }
    }

    /// The next bytes, which grow as they come.
    async fn bytes(&mut self, count: usize) -> io::Result<&[u8]> {
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
    async fn integer(&mut self) -> io::Result<usize> {
        let mut integer = Integer::default();
        while !integer.is_whole {
            integer.add(self.bytes(1).await?[0])?;
        }
        Ok(integer.value)
    }

    async fn integers(&mut self, count: usize) -> io::Result<()> {
        for _ in 0..count {
            self.integer().await?;
        }
        Ok(())
    }

    async fn text(&mut self) -> io::Result<&[u8]> {
        let length = self.integer().await?;
        if length > TEXT_BYTES_MAX {
            return Err(beyond("a text", TEXT_BYTES_MAX, "bytes"));
        }
        self.bytes(length).await
    }
}

#[derive(Default)]
struct Integer {
    value: usize,
    bytes: u32,
    is_whole: bool,
}

impl Integer {
    /// The driver stops at the ninth byte.
    const BYTES_MAX: u32 = 9;

    fn add(&mut self, byte: u8) -> io::Result<()> {
        self.value |= usize::from(byte & 0x7f) << (7 * self.bytes);
        self.bytes += 1;
        self.is_whole = byte & 0x80 == 0;
        match self.bytes {
            Self::BYTES_MAX if !self.is_whole => Err(refused("a number without an end".to_string())),
            _ => Ok(()),
        }
    }
}

fn refused(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("sent {what}"))
}

fn beyond(what: &str, max: usize, unit: &str) -> io::Error {
    refused(format!("{what} of more than {max} {unit}"))
}
