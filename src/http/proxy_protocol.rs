//! The PROXY protocol, version 1 and 2: how a proxy names its client before it passes bytes on
//! (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>).

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// How version 2 begins.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The longest line of version 1, with its end.
const LINE_BYTES_MAX: usize = 107;

/// Bytes after the head of version 2. Addresses take up to 216; the rest is for what proxies add, such as a checksum.
const BLOCK_BYTES_MAX: usize = 2048;

/// Reads what comes before the first byte of the client, and nothing of that: the client's address, if there is one.
/// A proxy's own checks have none.
///
/// # Errors
/// It is something else, or does not come to its end.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    match &start {
        SIGNATURE => block(stream).await,
        _ => line(stream, &start).await,
    }
}

async fn block(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    let [version_and_command, family, high, low] = {
        let mut head = [0; 4];
        stream.read_exact(&mut head).await?;
        head
    };
    let bytes = usize::from(u16::from_be_bytes([high, low]));
    if bytes > BLOCK_BYTES_MAX {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut block = vec![0; bytes];
    stream.read_exact(&mut block).await?;
    match (version_and_command, family >> 4) {
        // LOCAL, and what has no address.
        (0x20, _) | (0x21, 0 | 3) => Ok(None),
        (0x21, 1) => first::<4>(&block).map(|address| Some(Ipv4Addr::from(address).into())),
        (0x21, 2) => first::<16>(&block).map(|address| Some(Ipv6Addr::from(address).into())),
        _ => Err(ErrorKind::InvalidData.into()),
    }
}

/// The source, which comes first.
fn first<const N: usize>(block: &[u8]) -> io::Result<[u8; N]> {
    let first = block.first_chunk().copied();
    first.ok_or_else(|| ErrorKind::InvalidData.into())
}

async fn line(stream: &mut (impl AsyncRead + Unpin), start: &[u8]) -> io::Result<Option<IpAddr>> {
    let mut line = start.to_vec();
    if !line.starts_with(b"PROXY ") {
        return Err(ErrorKind::InvalidData.into());
    }
    // Byte by byte: what follows is the client's.
    while !line.ends_with(b"\r\n") {
        if line.len() == LINE_BYTES_MAX {
            return Err(ErrorKind::InvalidData.into());
        }
        line.push(stream.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&line);
    let words: Vec<&str> = text.trim_end().split(' ').collect();
    match words[..] {
        ["PROXY", "UNKNOWN", ..] => Ok(None),
        ["PROXY", "TCP4" | "TCP6", source, _, _, _] => {
            let address = source.parse().map_err(|_| ErrorKind::InvalidData)?;
            Ok(Some(address))
        }
        _ => Err(ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is read, and what is left.
    fn read_of(bytes: &[u8]) -> (io::Result<Option<IpAddr>>, usize) {
        let mut left = bytes;
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let read = runtime.unwrap().block_on(read(&mut left));
        (read, left.len())
    }

    fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let len = (block.len() as u16).to_be_bytes();
        [&SIGNATURE[..], &[command, family], &len, block, b"GET /"].concat()
    }

    #[test]
    fn the_source_is_read_and_no_byte_of_the_client() {
        let v4 = [198, 51, 100, 7, 10, 1, 2, 3, 1, 2, 3, 4];
        let v6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1], &[9; 20], b"more"].concat();
        for (bytes, address) in [
            (
                b"PROXY TCP4 198.51.100.7 10.1.2.3 4711 80\r\nGET /".to_vec(),
                Some("198.51.100.7"),
            ),
            (
                b"PROXY TCP6 2001:db8::1 ::1 4711 80\r\nGET /".to_vec(),
                Some("2001:db8::1"),
            ),
            (b"PROXY UNKNOWN\r\nGET /".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\nGET /".to_vec(), None),
            (v2(0x21, 0x11, &v4), Some("198.51.100.7")),
            (v2(0x21, 0x21, &v6), Some("2001:db8::1")),
            (v2(0x20, 0, b""), None),
            (v2(0x21, 0x31, &[0; 216]), None),
        ] {
            let (read, left) = read_of(&bytes);
            let expected = address.map(|address| address.parse().unwrap());
            assert_eq!((read.unwrap(), left), (expected, 5), "{bytes:?}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let long = [&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat();
        for bytes in [
            b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
            b"PROXY TCP4 198.51.100.7\r\nGET / HTTP/1.1".to_vec(),
            b"PROXY TCP4 a b c d\r\nGET / HTTP/1.1".to_vec(),
            b"PROXY TCP4 198.51".to_vec(),
            long,
            v2(0x11, 0x11, &[0; 12]),
            v2(0x21, 0x11, &[0; 3]),
            v2(0x21, 0x11, &[0; BLOCK_BYTES_MAX + 1]),
        ] {
            assert!(read_of(&bytes).0.is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_of(&bytes);
            let _ = read_of(&[&SIGNATURE[..], &bytes].concat());
            let _ = read_of(&[&b"PROXY "[..], &bytes].concat());
        }
    }
}
