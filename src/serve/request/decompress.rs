//! Inflating bodies, within a limit. Pure.

use std::io::Read;

/// The largest window that a zstd body may ask for, 8 MiB as RFC 9659 has it; the format allows gigabytes.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Bytes inflated at once, and taken from the share of all bodies.
const INFLATE_BYTES: usize = 64 << 10;

/// What was done to the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// Nothing.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// Why a body could not be inflated.
#[derive(Debug, PartialEq, Eq)]
pub enum InflateError {
    /// It is larger than allowed.
    TooLarge,
    /// It is not what its encoding says.
    Broken(String),
    /// No memory was given for it.
    Overloaded,
}

/// Inflates a body to at most `bytes_max`. `take` is asked before more memory is used, with the bytes that are to come.
///
/// # Errors
/// [`InflateError`].
pub fn inflate(
    body: &[u8],
    coding: Coding,
    bytes_max: usize,
    take: impl FnMut(usize) -> bool,
) -> Result<Vec<u8>, InflateError> {
    let broken = |err: std::io::Error| InflateError::Broken(err.to_string());
    match coding {
        Coding::Identity => read_all(body, bytes_max, take),
        Coding::Gzip => read_all(flate2::bufread::MultiGzDecoder::new(body), bytes_max, take),
        Coding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(broken)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(broken)?;
            read_all(decoder, bytes_max, take)
        }
    }
}

fn read_all(
    mut reader: impl Read,
    bytes_max: usize,
    mut take: impl FnMut(usize) -> bool,
) -> Result<Vec<u8>, InflateError> {
    let mut all = Vec::new();
    loop {
        let room = INFLATE_BYTES.min(bytes_max + 1 - all.len());
        if !take(room) {
            return Err(InflateError::Overloaded);
        }
        all.reserve_exact(room);
        let read = reader.by_ref().take(room as u64).read_to_end(&mut all);
        let read = read.map_err(|err| InflateError::Broken(err.to_string()))?;
        if all.len() > bytes_max {
            return Err(InflateError::TooLarge);
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
        for len in [
            0,
            1,
            1_000,
            INFLATE_BYTES - 1,
            INFLATE_BYTES,
            INFLATE_BYTES + 1,
            200_000,
        ] {
            let bytes: Vec<_> = (0..len).map(|at| (at % 251) as u8).collect();
            let zstd = zstd::encode_all(&bytes[..], 3).unwrap();
            for (coding, body) in [
                (Coding::Identity, bytes.clone()),
                (Coding::Gzip, gzip(&bytes)),
                (Coding::Zstd, zstd),
            ] {
                let inflated = |max| inflate(&body, coding, max, |_| true);
                assert_eq!(inflated(len), Ok(bytes.clone()), "{coding:?} {len}");
                assert_eq!(inflated(len + 1), Ok(bytes.clone()), "{coding:?} {len}");
                if len > 0 {
                    assert_eq!(inflated(len - 1), Err(InflateError::TooLarge), "{coding:?} {len}");
                    assert!(inflate(&body, coding, len, |_| false).is_err());
                }
            }
        }
    }

    #[test]
    fn members_and_frames_follow_each_other() {
        let two = [gzip(b"one"), gzip(b"two")].concat();
        assert_eq!(inflate(&two, Coding::Gzip, 9, |_| true), Ok(b"onetwo".to_vec()));
        let two = [b"one", b"two"]
            .map(|part| zstd::encode_all(&part[..], 1).unwrap())
            .concat();
        assert_eq!(inflate(&two, Coding::Zstd, 9, |_| true), Ok(b"onetwo".to_vec()));
    }

    #[test]
    fn what_is_not_whole_is_broken() {
        let whole = b"something that has some length";
        let zstd = zstd::encode_all(&whole[..], 3).unwrap();
        for (coding, body) in [(Coding::Gzip, gzip(whole)), (Coding::Zstd, zstd)] {
            for cut in 1..body.len() {
                let inflated = inflate(&body[..cut], coding, 1_000, |_| true);
                assert!(
                    matches!(inflated, Err(InflateError::Broken(_))),
                    "{coding:?} {cut}: {inflated:?}"
                );
            }
            let mut garbage = body.clone();
            garbage.extend_from_slice(b"garbage");
            let inflated = inflate(&garbage, coding, 1_000, |_| true);
            assert!(
                matches!(inflated, Err(InflateError::Broken(_))),
                "{coding:?}: {inflated:?}"
            );
            assert!(inflate(whole, coding, 1_000, |_| true).is_err(), "{coding:?}");
        }
    }

    #[test]
    fn a_window_of_gigabytes_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(b"small").unwrap();
        let body = encoder.finish().unwrap();
        let inflated = inflate(&body, Coding::Zstd, 1_000, |_| true);
        assert!(matches!(inflated, Err(InflateError::Broken(_))), "{inflated:?}");
    }

    #[test]
    fn a_bomb_takes_no_more_than_the_limit() {
        let bomb = gzip(&vec![0; 50 << 20]);
        let mut taken = 0;
        let inflated = inflate(&bomb, Coding::Gzip, 1 << 20, |bytes| {
            taken += bytes;
            true
        });
        assert_eq!(inflated, Err(InflateError::TooLarge));
        assert!(taken <= (1 << 20) + 1, "{taken}");
    }
}
