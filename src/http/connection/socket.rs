//! The socket of a connection, and a handle by which others see its end and set its buffers.

use std::io::{self, ErrorKind, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt as _;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// How long the other side may take to close after this side has.
pub const LINGER: Duration = Duration::from_secs(1);

/// Bytes that are still read meanwhile, so that the other side reads the response before it meets a reset. On a slow
/// line no more come in that time.
const LINGER_BYTES_MAX: usize = 16 << 20;

/// Bytes that are discarded at once.
const DISCARDED_BYTES: usize = 8 << 10;

/// A socket, closed when it is dropped. Shutting it down waits until the other side has closed too, at most for
/// [`LINGER`]: closing while bytes come would reset the connection, and the other side would lose what it has not read.
#[derive(Debug)]
pub struct Socket {
    stream: Arc<TcpStream>,
    /// After the shutdown.
    lingering: Option<Lingering>,
}

#[derive(Debug)]
struct Lingering {
    over: Pin<Box<Sleep>>,
    bytes_left: usize,
}

/// Sees the other end of a connection hang up, and sets the sizes of its buffers. Does not keep it open.
#[derive(Debug)]
pub struct SocketHandle(Weak<TcpStream>);

impl Socket {
    pub fn new(stream: TcpStream) -> (Socket, SocketHandle) {
        let stream = Arc::new(stream);
        let handle = SocketHandle(Arc::downgrade(&stream));
        let socket = Socket {
            stream,
            lingering: None,
        };
        (socket, handle)
    }

    /// The first byte that comes, without reading it; `None` at the end.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn first_byte(&self) -> io::Result<Option<u8>> {
        let mut first = [0];
        let count = self.stream.peek(&mut first).await?;
        Ok((count > 0).then_some(first[0]))
    }
}

impl SocketHandle {
    /// Has the system end the connection if the other side acknowledges nothing for this long.
    pub fn set_unacknowledged_timeout(&self, time: Duration) {
        if let Some(stream) = self.0.upgrade() {
            let _ = SockRef::from(&*stream).set_tcp_user_timeout(Some(time));
        }
    }

    /// Sets how many bytes that are on their way out the system keeps.
    pub fn set_send_buffer(&self, bytes: usize) {
        if let Some(stream) = self.0.upgrade() {
            let _ = SockRef::from(&*stream).set_send_buffer_size(bytes);
        }
    }

    /// Sets how many bytes that came the system keeps.
    pub fn set_receive_buffer(&self, bytes: usize) {
        if let Some(stream) = self.0.upgrade() {
            let _ = SockRef::from(&*stream).set_recv_buffer_size(bytes);
        }
    }

    /// Whether the other end sends nothing any more: it is gone, or has closed its side. TCP does not tell the two
    /// apart until something is sent.
    pub fn has_hung_up(&self) -> bool {
        let Some(stream) = self.0.upgrade() else {
            return true;
        };
        let ready = stream.ready(Interest::READABLE).now_or_never();
        ready.is_some_and(|ready| ready.map_or(true, |ready| ready.is_read_closed()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            match self.stream.try_read_buf(buffer) {
                Err(err) if err.kind() == ErrorKind::WouldBlock => {}
                other => return Poll::Ready(other.map(drop)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            match self.stream.try_write_vectored(slices) {
                Err(err) if err.kind() == ErrorKind::WouldBlock => {}
                other => return Poll::Ready(other),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Socket { stream, lingering } = self.get_mut();
        if lingering.is_none() {
            SockRef::from(&**stream).shutdown(Shutdown::Write)?;
        }
        let lingering = lingering.get_or_insert_with(|| Lingering {
            over: Box::pin(sleep(LINGER)),
            bytes_left: LINGER_BYTES_MAX,
        });
        loop {
            if lingering.over.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            ready!(stream.poll_read_ready(cx))?;
            match stream.try_read(&mut [0; DISCARDED_BYTES]) {
                Err(err) if err.kind() == ErrorKind::WouldBlock => {}
                // It has closed, or is gone.
                Ok(0) | Err(_) => return Poll::Ready(Ok(())),
                Ok(count) => match lingering.bytes_left.checked_sub(count) {
                    Some(left) => lingering.bytes_left = left,
                    None => return Poll::Ready(Ok(())),
                },
            }
        }
    }
}
