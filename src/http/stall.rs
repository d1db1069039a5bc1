//! A connection that fails when its other end does not read what it asked for.

use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long writing may be held up without [`WINDOW_BYTES_MIN`] getting through.
const WINDOW: Duration = Duration::from_secs(30);

/// Bytes that a reader must take within [`WINDOW`]. With less than 35 kB/s it is not worth the memory
/// that its answer holds. Answers that fit the kernel's buffers are never held up.
const WINDOW_BYTES_MIN: usize = 1 << 20;

/// A stream whose writes fail with `TimedOut` once they stall.
pub struct Stalling<S> {
    inner: S,
    /// While a write is held up: when that becomes a failure, and the bytes that got through since.
    held_up: Option<HeldUp>,
}

struct HeldUp {
    until: Pin<Box<Sleep>>,
    bytes: usize,
}

impl<S> Stalling<S> {
    /// Wraps a stream.
    pub fn new(inner: S) -> Stalling<S> {
        Stalling {
            inner,
            held_up: None,
        }
    }

    /// Judges what became of a write.
    fn judge(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Ready(Ok(bytes)) => {
                if let Some(held_up) = &mut self.held_up {
                    held_up.bytes += bytes;
                    if held_up.bytes >= WINDOW_BYTES_MIN {
                        self.held_up = None;
                    }
                }
                polled
            }
            Poll::Ready(Err(_)) => polled,
            Poll::Pending => {
                let held_up = self.held_up.get_or_insert_with(|| HeldUp {
                    until: Box::pin(sleep(WINDOW)),
                    bytes: 0,
                });
                match held_up.until.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stalling<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        // The next request: the time until its answer is ours, not the reader's.
        if buf.filled().len() > before {
            self.held_up = None;
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stalling<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.judge(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.judge(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_given_up() {
        let (ours, _theirs) = duplex(100);
        let began = Instant::now();
        let written = Stalling::new(ours).write_all(&[0; 1_000]).await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed(), WINDOW);
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_drop_by_drop_is_given_up() {
        let (ours, mut theirs) = duplex(100);
        tokio::spawn(async move {
            while theirs.read_u8().await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        let written = Stalling::new(ours).write_all(&[0; 1_000]).await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_at_a_pace_gets_everything() {
        let (ours, mut theirs) = duplex(WINDOW_BYTES_MIN);
        let reader = tokio::spawn(async move {
            let mut part = vec![0; WINDOW_BYTES_MIN];
            for _ in 0..10 {
                sleep(WINDOW / 2).await;
                theirs.read_exact(&mut part).await.unwrap();
            }
        });
        let all = vec![0; 10 * WINDOW_BYTES_MIN];
        Stalling::new(ours).write_all(&all).await.unwrap();
        reader.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_request_begins_anew() {
        let (ours, mut theirs) = duplex(100);
        let mut ours = Stalling::new(ours);
        let reader = tokio::spawn(async move {
            let mut part = [0; 150];
            for _ in 0..2 {
                sleep(Duration::from_secs(1)).await;
                theirs.read_exact(&mut part).await.unwrap();
                sleep(WINDOW * 2).await;
                theirs.write_all(b"?").await.unwrap();
            }
            theirs
        });
        for _ in 0..2 {
            ours.write_all(&[0; 150]).await.unwrap();
            ours.read_u8().await.unwrap();
        }
        drop(reader.await);
    }
}
