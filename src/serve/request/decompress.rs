//! Decompressing bodies, within a limit. Pure.

use std::io::Read;

/// The largest window that a zstd body may ask for, 8 MiB as RFC 9659 has it; the format allows gigabytes.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Bytes decompressed at once, and acquired from the memory that clients share.
const CHUNK_BYTES: usize = 64 << 10;

/// The content coding of a body (RFC 9110 section 8.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentCoding {
    /// Not compressed.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// Why a body could not be decompressed.
#[derive(Debug, PartialEq, Eq)]
pub enum DecompressError {
    /// It is larger than the limit.
    TooLarge,
    /// It is not what its encoding says.
    Broken(String),
    /// There was no memory for it.
    NoMemory,
}

/// Decompresses a body to at most `bytes_max`. Calls `acquire` before it uses more memory, with the bytes of it.
///
/// # Errors
/// [`DecompressError`].
pub fn decompress(
    body: &[u8],
    coding: ContentCoding,
    bytes_max: usize,
    acquire: impl FnMut(usize) -> bool,
) -> Result<Vec<u8>, DecompressError> {
    let broken = |err: std::io::Error| DecompressError::Broken(err.to_string());
    match coding {
        ContentCoding::Identity => read_all(body, bytes_max, acquire),
        ContentCoding::Gzip => read_all(flate2::bufread::MultiGzDecoder::new(body), bytes_max, acquire),
        ContentCoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(broken)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(broken)?;
            read_all(decoder, bytes_max, acquire)
        }
    }
}

fn read_all(
    mut reader: impl Read,
    bytes_max: usize,
    mut acquire: impl FnMut(usize) -> bool,
) -> Result<Vec<u8>, DecompressError> {
    let mut all = Vec::new();
    loop {
        let room = CHUNK_BYTES.min(bytes_max + 1 - all.len());
        if !acquire(room) {
            return Err(DecompressError::NoMemory);
        }
        all.reserve_exact(room);
        let read = reader.by_ref().take(room as u64).read_to_end(&mut all);
        let read = read.map_err(|err| DecompressError::Broken(err.to_string()))?;
        if all.len() > bytes_max {
            return Err(DecompressError::TooLarge);
        }
        if read < room {
            return Ok(all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn bodies_inflate_to_what_they_were_up_to_the_limit() {
        for len in [0, 1, 1_000, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 200_000] {
            let bytes: Vec<_> = (0..len).map(|at| (at % 251) as u8).collect();
            let zstd = zstd::encode_all(&bytes[..], 3).unwrap();
            for (coding, body) in [
                (ContentCoding::Identity, bytes.clone()),
                (ContentCoding::Gzip, gzip(&bytes)),
                (ContentCoding::Zstd, zstd),
            ] {
                let decompressed = |max| decompress(&body, coding, max, |_| true);
                assert_eq!(decompressed(len), Ok(bytes.clone()), "{coding:?} {len}");
                assert_eq!(decompressed(len + 1), Ok(bytes.clone()), "{coding:?} {len}");
                if len > 0 {
                    assert_eq!(
                        decompressed(len - 1),
                        Err(DecompressError::TooLarge),
                        "{coding:?} {len}"
                    );
                    assert!(decompress(&body, coding, len, |_| false).is_err());
                }
            }
        }
    }

    #[test]
    fn members_and_frames_follow_each_other() {
        let two = [gzip(b"one"), gzip(b"two")].concat();
        assert_eq!(
            decompress(&two, ContentCoding::Gzip, 9, |_| true),
            Ok(b"onetwo".to_vec())
        );
        let two = [b"one", b"two"]
            .map(|part| zstd::encode_all(&part[..], 1).unwrap())
            .concat();
        assert_eq!(
            decompress(&two, ContentCoding::Zstd, 9, |_| true),
            Ok(b"onetwo".to_vec())
        );
    }

    #[test]
    fn what_is_not_whole_is_broken() {
        let whole = b"something that has some length";
        let zstd = zstd::encode_all(&whole[..], 3).unwrap();
        for (coding, body) in [(ContentCoding::Gzip, gzip(whole)), (ContentCoding::Zstd, zstd)] {
            for cut in 1..body.len() {
                let decompressed = decompress(&body[..cut], coding, 1_000, |_| true);
                assert!(
                    matches!(decompressed, Err(DecompressError::Broken(_))),
                    "{coding:?} {cut}: {decompressed:?}"
                );
            }
            let mut garbage = body.clone();
            garbage.extend_from_slice(b"garbage");
            let decompressed = decompress(&garbage, coding, 1_000, |_| true);
            assert!(
                matches!(decompressed, Err(DecompressError::Broken(_))),
                "{coding:?}: {decompressed:?}"
            );
            assert!(decompress(whole, coding, 1_000, |_| true).is_err(), "{coding:?}");
        }
    }

    #[test]
    fn a_window_of_gigabytes_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(b"small").unwrap();
        let body = encoder.finish().unwrap();
        let decompressed = decompress(&body, ContentCoding::Zstd, 1_000, |_| true);
        assert!(
            matches!(decompressed, Err(DecompressError::Broken(_))),
            "{decompressed:?}"
        );
    }

    #[test]
    fn a_bomb_takes_no_more_than_the_limit() {
        let bomb = gzip(&vec![0; 50 << 20]);
        let mut taken = 0;
        let decompressed = decompress(&bomb, ContentCoding::Gzip, 1 << 20, |bytes| {
            taken += bytes;
            true
        });
        assert_eq!(decompressed, Err(DecompressError::TooLarge));
        assert!(taken <= (1 << 20) + 1, "{taken}");
    }
}
