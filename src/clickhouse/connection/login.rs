//! The server's answer to a login, which the driver keeps to itself when the login fails.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::AsyncRead;
use tokio_util::io::InspectReader;

use super::server_version::Version;

/// Bytes of the server's answer that are kept: a refusal is a few hundred.
const TRANSCRIPT_BYTES_MAX: usize = 4096;

/// Packet number of an exception in ClickHouse's native protocol.
const EXCEPTION: u8 = 2;

/// Packet number of the greeting of a server that let us in.
const HELLO: u8 = 0;

/// A copy of the first bytes that a server sent.
#[derive(Clone, Default)]
pub struct Transcript(Arc<Mutex<Vec<u8>>>);

/// Wraps a reader so that the first bytes that it reads are in the transcript.
pub fn transcribe<R: AsyncRead>(
    reader: R,
) -> (InspectReader<R, impl FnMut(&[u8]) + Send + Sync + 'static>, Transcript) {
    let transcript = Transcript::default();
    let copy = transcript.clone();
    let reader = InspectReader::new(reader, move |bytes: &[u8]| copy.record(bytes));
    (reader, transcript)
}

impl Transcript {
    fn record(&self, bytes: &[u8]) {
        let mut kept = self.0.lock();
        let free = TRANSCRIPT_BYTES_MAX - kept.len();
        kept.extend_from_slice(&bytes[..bytes.len().min(free)]);
    }

    /// Code and message, if the first thing that the server sent was an exception.
    pub fn exception(&self) -> Option<(i32, String)> {
        let kept = self.0.lock();
        let rest = kept.strip_prefix(&[EXCEPTION])?;
        let (code, rest) = rest.split_first_chunk::<4>()?;
        let (_name, rest) = split_string(rest)?;
        let (message, _) = split_string(rest)?;
        let message = String::from_utf8_lossy(message).into_owned();
        Some((i32::from_le_bytes(*code), message))
    }

    /// The server's version, if the first thing that it sent was its greeting.
    pub fn version(&self) -> Option<Version> {
        let kept = self.0.lock();
        let (_name, rest) = split_string(kept.strip_prefix(&[HELLO])?)?;
        let (major, rest) = split_integer(rest)?;
        let (minor, _) = split_integer(rest)?;
        Some(Version::new(major, minor))
    }
}

/// An integer of the native protocol: seven bits in a byte, the lowest first.
fn split_integer(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut integer = 0;
    for (index, byte) in bytes.iter().take(9).enumerate() {
        integer |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((integer, &bytes[index + 1..]));
        }
    }
    None
}

/// A string of the native protocol: its length, then its bytes.
fn split_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = split_integer(bytes)?;
    rest.split_at_checked(usize::try_from(length).ok()?)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    fn transcript(bytes: &[u8]) -> Transcript {
        let transcript = Transcript::default();
        transcript.record(bytes);
        transcript
    }

    #[tokio::test]
    async fn the_first_bytes_are_kept_and_all_are_handed_over() {
        let sent = vec![7; TRANSCRIPT_BYTES_MAX + 1];
        let (mut reader, transcript) = transcribe(&sent[..]);
        let mut read = Vec::new();
        reader.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, sent);
        assert_eq!(*transcript.0.lock(), sent[..TRANSCRIPT_BYTES_MAX]);
    }

    #[test]
    fn a_refusal_is_read() {
        let message = "m".repeat(200);
        let mut bytes = vec![EXCEPTION];
        bytes.extend(516_i32.to_le_bytes());
        bytes.extend(b"\x0dDB::Exception");
        bytes.extend([0xc8, 0x01]);
        bytes.extend(message.as_bytes());
        assert_eq!(transcript(&bytes).exception(), Some((516, message)));
    }

    #[test]
    fn a_greeting_says_the_version() {
        let greeting = transcript(b"\0\x0aClickHouse\x1a\x07\xd7\xa9\x03");
        assert_eq!(greeting.version(), Some(Version::new(26, 7)));
        assert_eq!(transcript(b"\0\x0aClickHouse\x1a").version(), None);
    }

    #[test]
    fn anything_else_is_not() {
        for bytes in [&b""[..], b"\x00hello", b"\x02\x01", b"\x02\0\0\0\0\xff\xff\xff\xff\xff"] {
            assert_eq!(transcript(bytes).exception(), None);
            assert_eq!(transcript(bytes).version(), None);
        }
    }
}
