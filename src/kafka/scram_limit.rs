//! Limits the iterations of a login with SCRAM. A broker chooses how often the client hashes the password, up to 4
//! billion times: an hour in which the driver blocks its thread, so that no timeout ends it. Until the login is over,
//! the bytes of the broker are scanned before the driver reads them.
//!
//! tokio-util's `InspectReader` sees the same bytes but cannot refuse them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Kafka's own passwords have 4,096 iterations, and it allows 16,384 at most. This many take a tenth of a second.
const ITERATIONS_MAX: u32 = 100_000;

/// Before the iteration count in the first message of a broker (RFC 5802). No value in it may have a comma.
const PREFIX: &[u8] = b",i=";

/// A connection whose read fails when the broker asks for too many iterations.
#[derive(Debug)]
pub struct ScramLimited<S> {
    inner: S,
    scanner: IterationScanner,
    is_over: LoginOver,
}

/// Set when the login is over: later bytes are not scanned.
#[derive(Debug, Clone, Default)]
pub struct LoginOver(Arc<AtomicBool>);

impl LoginOver {
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Wraps a connection before its login.
pub fn wrap<S>(inner: S) -> (ScramLimited<S>, LoginOver) {
    let is_over = LoginOver::default();
    let limited = ScramLimited {
        inner,
        scanner: IterationScanner::default(),
        is_over: is_over.clone(),
    };
    (limited, is_over)
}

/// Scans for the iteration count byte by byte, since it may come in pieces.
#[derive(Debug, Default)]
struct IterationScanner {
    /// Bytes of [`PREFIX`] that have come.
    matched: usize,
    /// The digits so far; more may come.
    count: Option<u32>,
}

impl IterationScanner {
    fn exceeds_limit(&mut self, bytes: &[u8]) -> bool {
        bytes.iter().any(|byte| self.add(*byte) > ITERATIONS_MAX)
    }

    fn add(&mut self, byte: u8) -> u32 {
        match (self.count, byte) {
            (Some(count), b'0'..=b'9') => {
                let digit = u32::from(byte - b'0');
                let count = count.saturating_mul(10).saturating_add(digit);
                self.count = Some(count);
                return count;
            }
            // The driver accepts a sign before the number.
            (Some(0), b'+') => return 0,
            _ => self.count = None,
        }
        self.matched = match byte == PREFIX[self.matched] {
            true => self.matched + 1,
            false => usize::from(byte == PREFIX[0]),
        };
        if self.matched == PREFIX.len() {
            self.matched = 0;
            self.count = Some(0);
        }
        0
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ScramLimited<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let is_over = self.is_over.0.load(Ordering::Relaxed);
        if !is_over && self.scanner.exceeds_limit(&buf.filled()[before..]) {
            let reason = format!("it asks for more than {ITERATIONS_MAX} iterations of scram");
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, reason)));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ScramLimited<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use clap::Parser as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::kafka::args::SecurityArgs;
    use crate::kafka::connect::Connector;

    #[test]
    fn iterations_are_read_in_whatever_pieces_they_come() {
        for (words, exceeds_limit) in [
            ("r=nonce,s=c2FsdA==,i=4096", false),
            ("r=nonce,s=c2FsdA==,i=100000", false),
            ("r=nonce,s=c2FsdA==,i=100001", true),
            ("r=nonce,s=c2FsdA==,i=+4294967295", true),
            ("r=nonce,s=c2FsdA==,i=000000000100001,x=1", true),
            ("r=nonce,s=c2FsdA==,,i=100001", true),
            ("r=i=100001,s=c2FsdA==,i=4096,x=100001", false),
            ("i=100001", false),
        ] {
            let mut whole = IterationScanner::default();
            assert_eq!(whole.exceeds_limit(words.as_bytes()), exceeds_limit, "{words}");
            let mut pieces = IterationScanner::default();
            let found = words.bytes().any(|byte| pieces.exceeds_limit(&[byte]));
            assert_eq!(found, exceeds_limit, "{words}");
        }
    }

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        security: SecurityArgs,
    }

    /// Answers a request: its correlation id, and what it asked.
    async fn answer(stream: &mut TcpStream, body: impl FnOnce(&[u8]) -> Vec<u8>) {
        let length = stream.read_u32().await.unwrap();
        let mut request = vec![0; length as usize];
        stream.read_exact(&mut request).await.unwrap();
        let answer = [&request[4..8], &body(&request)].concat();
        stream.write_u32(answer.len() as u32).await.unwrap();
        stream.write_all(&answer).await.unwrap();
    }

    #[tokio::test]
    async fn a_broker_that_asks_for_billions_of_iterations_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let broker = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            // Versions, of the two requests of a login alone: their numbers are 17 and 36.
            answer(&mut stream, |_| {
                b"\0\0\x03\0\x11\0\x01\0\x01\0\0\x24\0\0\0\0\0\0\0\0\0\0".to_vec()
            })
            .await;
            let mechanism = b"\0\0\0\0\0\x01\0\x0dSCRAM-SHA-256";
            answer(&mut stream, |_| mechanism.to_vec()).await;
            answer(&mut stream, |request| {
                let words = String::from_utf8_lossy(request);
                let (_, nonce) = words.split_once("r=").unwrap();
                let first = format!("r={nonce}more,s=c2FsdA==,i=4294967295");
                let length = (first.len() as u32).to_be_bytes();
                [&b"\0\0\xff\xff"[..], &length, first.as_bytes()].concat()
            })
            .await;
        });
        let cli = Cli::parse_from([
            "test",
            "--kafka-sasl-mechanism=scram-sha-256",
            "--kafka-user=us",
            "--kafka-password=secret",
        ]);
        let connector = Connector::new(cli.security, Arc::new([address.clone()])).unwrap();
        let refused = connector.messenger(&address, 1 << 20).await.unwrap_err();
        let words = "it asks for more than 100000 iterations of scram";
        assert!(refused.to_string().contains(words), "{refused}");
        broker.await.unwrap();
    }
}
