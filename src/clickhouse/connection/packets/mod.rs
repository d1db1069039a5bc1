//! Reads and checks each packet of a server before the driver reads it.
//!
//! The driver believes every length: `Vec::with_capacity` of the rows that a block announces ends the process where
//! memory is short, and a type of a thousand parentheses overflows its stack. Nothing catches either. So each packet is
//! read here first, within limits, and the driver gets the whole of it or nothing. A part of a packet would be lost
//! too, because the driver forgets it when a query is sent in the middle of it.

mod block;
mod reader;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use self::block::Block;
use self::reader::{PacketReader, refused};

/// Protocol revision that the driver speaks. A server that speaks less writes other packets, and none that is supported
/// does.
const REVISION_MIN: usize = 54_448;

/// The state of a server's packets. Clones share it.
#[derive(Clone, Default)]
pub struct Received(Arc<State>);

#[derive(Default)]
struct State {
    refusal: OnceLock<String>,
    whole_answers: AtomicU64,
}

impl Received {
    /// Why a packet was not handed over: the server's fault, to follow its name. `None` while all were.
    pub fn reason(&self) -> Option<&str> {
        self.0.refusal.get().map(String::as_str)
    }

    /// The answers that came to their end, without an exception. The driver takes one that is cut short for a whole one;
    /// only the last packet of an answer says that nothing is missing.
    pub fn whole_answers(&self) -> u64 {
        self.0.whole_answers.load(Ordering::Acquire)
    }
}

/// A reader that hands over whole packets, each after a look at it, and ends before one that breaks a limit.
pub struct Checked<R> {
    next: Pin<Box<dyn Future<Output = Next<R>> + Send + Sync>>,
    ready: io::Cursor<Vec<u8>>,
    received: Received,
}

/// After a packet: the reader again if there may be more.
type Next<R> = (Option<Packets<R>>, io::Result<Vec<u8>>);

/// Wraps what a server sends; the second says later what came.
pub fn check<R: AsyncRead + Unpin + Send + Sync + 'static>(inner: R) -> (Checked<R>, Received) {
    let received = Received::default();
    let packets = Packets {
        reader: PacketReader::new(inner),
        is_greeted: false,
        received: received.clone(),
    };
    let checked = Checked {
        next: Box::pin(packets.next()),
        ready: io::Cursor::default(),
        received: received.clone(),
    };
    (checked, received)
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
                        let _ = self.received.0.refusal.set(err.to_string());
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

/// The packets of one connection.
struct Packets<R> {
    reader: PacketReader<R>,
    is_greeted: bool,
    received: Received,
}

impl<R: AsyncRead + Unpin> Packets<R> {
    async fn next(mut self) -> Next<R> {
        match self.packet().await {
            Ok(()) => {
                let packet = self.reader.take_packet();
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
        let kind = self.reader.integer().await?;
        match (kind, self.is_greeted) {
            (HELLO, false) => self.hello().await,
            (EXCEPTION, _) => self.exception().await,
            // Extremes come where a profile wants them, and the driver throws them away.
            (DATA | EXTREMES, true) => {
                self.reader.text().await?;
                let mut block = Block::new(&mut self.reader);
                block.read().await
            }
            (PROGRESS, true) => self.reader.integers(5).await,
            (END_OF_STREAM, true) => {
                self.received.0.whole_answers.fetch_add(1, Ordering::Release);
                Ok(())
            }
            (PROFILE_INFO, true) => {
                self.reader.integers(3).await?;
                self.reader.bytes(1).await?;
                self.reader.integers(1).await?;
                self.reader.bytes(1).await.map(drop)
            }
            (TABLE_COLUMNS, true) => {
                self.reader.text().await?;
                self.reader.text().await.map(drop)
            }
            // Also what has a number, and what nothing here asks for: logs, at which the driver panics, totals, pongs.
            _ => Err(refused(format!("a packet of kind {kind}, which was not asked for"))),
        }
    }

    async fn hello(&mut self) -> io::Result<()> {
        self.reader.text().await?;
        self.reader.integers(2).await?;
        let revision = self.reader.integer().await?;
        if revision < REVISION_MIN {
            return Err(refused(format!("protocol revision {revision}")));
        }
        // The time zone and the display name, then the patch.
        self.reader.text().await?;
        self.reader.text().await?;
        self.is_greeted = true;
        self.reader.integers(1).await
    }

    async fn exception(&mut self) -> io::Result<()> {
        self.reader.bytes(4).await?;
        for _name_message_trace in 0..3 {
            self.reader.text().await?;
        }
        // Servers have written no others for years, and the driver does not read them.
        match self.reader.bytes(1).await? {
            [0] => Ok(()),
            _ => Err(refused("an exception within another".to_string())),
        }
    }
}
