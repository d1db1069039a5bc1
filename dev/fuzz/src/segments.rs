//! A stream of packets as a fuzzer can change it: in segments, of which some are blocks that are compressed only when the
//! stream is made of them. No fuzzer guesses a checksum, or changes what is compressed.
//!
//! A segment is a byte that says what it is, two of its length, and as many of it.

/// Of the length, as much as two bytes can say.
const BYTES_MAX: usize = 0xffff;

const RAW: u8 = 0;
const BLOCK: u8 = 1;

/// Checksum, method and both sizes.
const HEADER_BYTES: usize = 25;

/// LZ4.
const METHOD: u8 = 0x82;

/// The stream that segments say.
pub fn join(mut segments: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    while let [kind, high, low, rest @ ..] = segments {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (segment, rest) = rest.split_at(length);
        segments = rest;
        match kind & 1 {
            BLOCK => stream.extend(compressed(segment)),
            _ => stream.extend(segment),
        }
    }
    stream
}

/// The segments of a stream.
pub fn split(stream: &[u8]) -> Vec<u8> {
    let (mut segments, mut raw, mut at) = (Vec::new(), 0, 0);
    while at < stream.len() {
        let Some((length, block)) = frame(&stream[at..]) else {
            at += 1;
            continue;
        };
        add(RAW, &stream[raw..at], &mut segments);
        add(BLOCK, &block, &mut segments);
        at += length;
        raw = at;
    }
    add(RAW, &stream[raw..], &mut segments);
    segments
}

fn add(kind: u8, bytes: &[u8], segments: &mut Vec<u8>) {
    for part in bytes.chunks(BYTES_MAX) {
        segments.push(kind);
        segments.extend((part.len() as u16).to_be_bytes());
        segments.extend(part);
    }
}

/// A frame at the front: how long it is, and what is in it.
fn frame(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    let header = bytes.get(..HEADER_BYTES)?;
    let length = 16 + u32::from_le_bytes(header[17..21].try_into().ok()?) as usize;
    let plain = u32::from_le_bytes(header[21..25].try_into().ok()?) as i32;
    let checked = bytes.get(16..length)?;
    if header[16] != METHOD || checksum(checked) != header[..16] {
        return None;
    }
    let block = lz4::block::decompress(&checked[9..], Some(plain));
    Some((length, block.ok()?))
}

fn compressed(block: &[u8]) -> Vec<u8> {
    let compressed = lz4::block::compress(block, None, false).unwrap_or_default();
    let mut frame = vec![METHOD];
    frame.extend((compressed.len() as u32 + 9).to_le_bytes());
    frame.extend((block.len() as u32).to_le_bytes());
    frame.extend(compressed);
    [&checksum(&frame)[..], &frame].concat()
}

fn checksum(bytes: &[u8]) -> [u8; 16] {
    let checksum = cityhash_rs::cityhash_102_128(bytes);
    let halves = [(checksum >> 64) as u64, checksum as u64];
    let mut bytes = [0; 16];
    for (eight, half) in bytes.chunks_exact_mut(8).zip(halves) {
        eight.copy_from_slice(&half.to_le_bytes());
    }
    bytes
}
