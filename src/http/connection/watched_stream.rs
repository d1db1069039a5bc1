//! The bytes of a connection: its timer counts them, and they hold memory while they cannot be written.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::peer::NoMemory;
use super::timer::ConnectionTimer;
use crate::resource_pool::Share;

/// A stream that tells its timer when bytes come. While the other side reads nothing it holds the share that `acquire`
/// gives; without one the stream fails.
pub struct WatchedStream<S, A> {
    inner: S,
    timer: Arc<ConnectionTimer>,
    acquire: A,
    blocked: Option<Share>,
}

impl<S, A> WatchedStream<S, A> {
    pub fn new(inner: S, timer: Arc<ConnectionTimer>, acquire: A) -> WatchedStream<S, A> {
        WatchedStream {
            inner,
            timer,
            acquire,
            blocked: None,
        }
    }
}

impl<S, A: Fn() -> Result<Share, NoMemory>> WatchedStream<S, A> {
    /// Bytes that are not flushed still wait, here or in TLS; flushed bytes are the system's.
    fn track_blocked<R>(&mut self, polled: Poll<io::Result<R>>, is_all: bool) -> Poll<io::Result<R>> {
        match polled {
            Poll::Ready(_) if is_all => self.blocked = None,
            Poll::Ready(_) => {}
            Poll::Pending if self.blocked.is_some() => {}
            Poll::Pending => match (self.acquire)() {
                Ok(share) => self.blocked = Some(share),
                Err(NoMemory) => {
                    self.timer.set_starved();
                    return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
                }
            },
        }
        polled
    }
}

impl<S: AsyncRead + Unpin, A: Unpin> AsyncRead for WatchedStream<S, A> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.timer.record_read();
        }
        polled
    }
}

impl<S, A> AsyncWrite for WatchedStream<S, A>
where
    S: AsyncWrite + Unpin,
    A: Fn() -> Result<Share, NoMemory> + Unpin,
{
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.track_blocked(polled, false)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.track_blocked(polled, false)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_flush(cx);
        self.track_blocked(polled, true)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource_pool::{Holder, Pool};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufWriter, duplex};

    #[tokio::test]
    async fn a_stream_holds_memory_while_it_is_blocked_and_no_longer() {
        let pool = Pool::new(10);
        let (mut theirs, ours) = duplex(4);
        let acquire = || pool.acquire(Holder::MANY, 10).ok_or(NoMemory);
        let mut ours = WatchedStream::new(ours, ConnectionTimer::start(), acquire);
        ours.write_all(b"1234").await.unwrap();
        assert_eq!(pool.used(), 0);
        let reading = async {
            while pool.used() == 0 {
                tokio::task::yield_now().await;
            }
            theirs.read_exact(&mut [0; 8]).await.unwrap();
        };
        let writing = async {
            ours.write_all(b"5678").await.unwrap();
            ours.flush().await.unwrap();
        };
        let ((), ()) = tokio::join!(writing, reading);
        assert_eq!(pool.used(), 0);
    }

    #[tokio::test]
    async fn what_is_written_and_not_flushed_holds_memory_as_with_tls() {
        let pool = Pool::new(10);
        let (mut theirs, ours) = duplex(4);
        let acquire = || pool.acquire(Holder::MANY, 10).ok_or(NoMemory);
        let mut ours = WatchedStream::new(BufWriter::new(ours), ConnectionTimer::start(), acquire);
        ours.write_all(b"12345678").await.unwrap();
        assert_eq!(pool.used(), 0);
        let reading = async {
            while pool.used() == 0 {
                tokio::task::yield_now().await;
            }
            theirs.read_exact(&mut [0; 8]).await.unwrap();
        };
        let (flushed, ()) = tokio::join!(ours.flush(), reading);
        flushed.unwrap();
        assert_eq!(pool.used(), 0);
    }

    #[tokio::test]
    async fn without_memory_a_blocked_stream_breaks() {
        let timer = ConnectionTimer::start();
        let (_theirs, ours) = duplex(4);
        let mut ours = WatchedStream::new(ours, Arc::clone(&timer), || Err(NoMemory));
        let written = ours.write_all(b"12345").await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::OutOfMemory);
        assert!(timer.is_starved());
    }
}
