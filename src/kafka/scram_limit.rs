//! How often a broker may have the password hashed. A login by SCRAM takes as many rounds as the broker says, up to 4 billion: an hour in
//! which the driver lets nothing else happen on its thread, so no limit of time ends it. Until the login is over, what comes is
//! looked at before the driver reads it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Kafka's own passwords have 4,096 rounds, and it takes at most 16,384; these take a tenth of a second.
const ROUNDS_MAX: u32 = 100_000;

/// What stands before the rounds in a broker's first message (RFC 5802); no other part of it may have a comma.
const BEFORE: &[u8] = b",i=";

/// A connection that ends where a broker asks for too many rounds.
#[derive(Debug)]
pub struct Watched<S> {
    inner: S,
    rounds: Rounds,
    is_over: LoginOver,
}

/// Says that a login is over: what comes from then on is none of it.
#[derive(Debug, Clone, Default)]
pub struct LoginOver(Arc<AtomicBool>);

impl LoginOver {
    /// Ends the look at what comes.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Wraps a connection before its login.
pub fn watch<S>(inner: S) -> (Watched<S>, LoginOver) {
    let is_over = LoginOver::default();
    let watched = Watched {
        inner,
        rounds: Rounds::default(),
        is_over: is_over.clone(),
    };
    (watched, is_over)
}

/// Looks for a number of rounds, byte by byte, since a broker may send it in pieces.
#[derive(Debug, Default)]
struct Rounds {
    /// Bytes of [`BEFORE`] that have come.
    before: usize,
    /// The number so far, of which more may come.
    number: Option<u32>,
}

impl Rounds {
    fn is_beyond(&mut self, bytes: &[u8]) -> bool {
        bytes.iter().any(|byte| self.add(*byte) > ROUNDS_MAX)
    }

    fn add(&mut self, byte: u8) -> u32 {
        match (self.number, byte) {
            (Some(number), b'0'..=b'9') => {
                let digit = u32::from(byte - b'0');
                let number = number.saturating_mul(10).saturating_add(digit);
                self.number = Some(number);
                return number;
            }
            // The driver reads it as a part of the number.
            (Some(0), b'+') => return 0,
            _ => self.number = None,
        }
        self.before = match byte == BEFORE[self.before] {
            true => self.before + 1,
            false => usize::from(byte == BEFORE[0]),
        };
        if self.before == BEFORE.len() {
            self.before = 0;
            self.number = Some(0);
        }
        0
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let is_over = self.is_over.0.load(Ordering::Relaxed);
        if !is_over && self.rounds.is_beyond(&buf.filled()[before..]) {
            let reason = format!("it asks for more than {ROUNDS_MAX} rounds of scram");
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, reason)));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
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
    fn rounds_are_read_in_whatever_pieces_they_come() {
        for (words, is_beyond) in [
            ("r=nonce,s=c2FsdA==,i=4096", false),
            ("r=nonce,s=c2FsdA==,i=100000", false),
            ("r=nonce,s=c2FsdA==,i=100001", true),
            ("r=nonce,s=c2FsdA==,i=+4294967295", true),
            ("r=nonce,s=c2FsdA==,i=000000000100001,x=1", true),
            ("r=nonce,s=c2FsdA==,,i=100001", true),
            ("r=i=100001,s=c2FsdA==,i=4096,x=100001", false),
            ("i=100001", false),
        ] {
            let mut whole = Rounds::default();
            assert_eq!(whole.is_beyond(words.as_bytes()), is_beyond, "{words}");
            let mut pieces = Rounds::default();
            let found = words.bytes().any(|byte| pieces.is_beyond(&[byte]));
            assert_eq!(found, is_beyond, "{words}");
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
    async fn a_broker_that_asks_for_billions_of_rounds_is_refused() {
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
        let words = "it asks for more than 100000 rounds of scram";
        assert!(refused.to_string().contains(words), "{refused}");
        broker.await.unwrap();
    }
}
