//! WebSocket frames (RFC 6455) of a server: from bytes to messages within a limit, and back. Pure.
//!
//! Headers and codes are tungstenite's. Its reader is not used: it holds what comes of a frame outside of any limit
//! that connections share, and drops the responses that are in flight when a close comes. Measured: 300 clients that
//! each sent all but the last byte of a 2 MiB frame made it hold 613 MiB, this decoder 247 (of `--memory-bytes-max`);
//! of 5 messages that a close followed, it answered 1, this decoder 5.

use std::io::Cursor;
use std::mem;

use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
pub use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// The longest header that a client may send.
const HEADER_BYTES_MAX: usize = 14;

/// RFC 6455 section 5.5.
const CONTROL_BYTES_MAX: usize = 125;

/// Bytes reserved for a message before it has come; a larger one grows as it comes.
const MESSAGE_BYTES_RESERVED: usize = 16 << 10;

/// An item from a client.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    /// A whole message, in UTF-8; empty after [`Decoder::forget_message`].
    Text(Vec<u8>),
    /// To be answered by a pong with the same bytes.
    Ping(Vec<u8>),
    /// An answer to a ping.
    Pong,
    /// A close, perhaps with a code.
    Close(Option<CloseCode>),
}

/// Why a connection cannot go on: a code and a reason of at most 123 bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct Ending(pub CloseCode, pub String);

#[derive(Debug)]
pub struct Decoder {
    message_bytes_max: usize,
    /// The beginning of a header.
    header: Vec<u8>,
    frame: Option<Frame>,
    /// The payload of a control frame, which may come within a message.
    control: Vec<u8>,
    message: Option<Message>,
}

/// A frame whose payload is awaited.
#[derive(Debug)]
struct Frame {
    control: Option<Control>,
    is_final: bool,
    mask: [u8; 4],
    bytes_left: usize,
}

/// A message whose end is awaited.
#[derive(Debug, Default)]
struct Message {
    bytes: Vec<u8>,
    /// Of the frames so far, with the one that is awaited.
    announced_bytes: usize,
    is_forgotten: bool,
}

impl Decoder {
    /// Reads messages of at most this many bytes.
    pub fn new(message_bytes_max: usize) -> Decoder {
        Decoder {
            message_bytes_max,
            header: Vec::new(),
            frame: None,
            control: Vec::new(),
            message: None,
        }
    }

    /// Bytes of memory that are held for a message whose end is awaited.
    pub fn message_bytes(&self) -> usize {
        self.message.as_ref().map_or(0, |message| message.bytes.capacity())
    }

    /// Whether a message or a frame has begun and not ended.
    pub fn is_within(&self) -> bool {
        self.message.is_some() || self.frame.is_some() || !self.header.is_empty()
    }

    /// Drops the message whose end is awaited, and keeps nothing more of it.
    pub fn forget_message(&mut self) {
        if let Some(message) = &mut self.message {
            message.bytes = Vec::new();
            message.is_forgotten = true;
        }
    }

    /// The next item, taking from the front of `input`; `None` once all of that is taken.
    ///
    /// # Errors
    /// The connection cannot go on.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Item>, Ending> {
        loop {
            if self.frame.is_none() {
                let Some((header, bytes)) = self.header(input)? else {
                    return Ok(None);
                };
                self.frame = Some(self.start_frame(&header, bytes)?);
            }
            let Some(frame) = &mut self.frame else {
                continue;
            };
            let taken = frame.bytes_left.min(input.len());
            let (payload, rest) = input.split_at(taken);
            *input = rest;
            let kept = match (&frame.control, &mut self.message) {
                (Some(_), _) => Some(&mut self.control),
                (None, Some(message)) if !message.is_forgotten => Some(message.room(taken)),
                _ => None,
            };
            if let Some(kept) = kept {
                let begin = kept.len();
                kept.extend_from_slice(payload);
                unmask(&mut kept[begin..], frame.mask);
            }
            frame.mask.rotate_left(taken % 4);
            frame.bytes_left -= taken;
            if frame.bytes_left > 0 {
                return Ok(None);
            }
            if let Some(item) = self.end_frame()? {
                return Ok(Some(item));
            }
        }
    }

    fn header(&mut self, input: &mut &[u8]) -> Result<Option<(FrameHeader, u64)>, Ending> {
        let before = self.header.len();
        let taken = input.len().min(HEADER_BYTES_MAX - before);
        self.header.extend_from_slice(&input[..taken]);
        let mut cursor = Cursor::new(&self.header);
        let parsed = FrameHeader::parse(&mut cursor).map_err(|_| protocol("no such opcode"))?;
        let taken = match parsed {
            Some(_) => cursor.position() as usize - before,
            None => taken,
        };
        *input = &input[taken..];
        if parsed.is_some() {
            self.header.clear();
        }
        Ok(parsed)
    }

    fn start_frame(&mut self, header: &FrameHeader, bytes: u64) -> Result<Frame, Ending> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(protocol("a reserved bit is set, and no extension was agreed on"));
        }
        let mask = header.mask.ok_or(protocol("the frame is not masked"))?;
        let bytes_left = usize::try_from(bytes).unwrap_or(usize::MAX);
        let control = match (header.opcode, &mut self.message) {
            (OpCode::Control(_), _) if !header.is_final || bytes_left > CONTROL_BYTES_MAX => {
                return Err(protocol("a control frame is in parts or too long"));
            }
            (OpCode::Control(control), _) => Some(control),
            (OpCode::Data(Data::Binary), None) => {
                let reason = "events are sent as text messages".to_string();
                return Err(Ending(CloseCode::Unsupported, reason));
            }
            (OpCode::Data(Data::Continue), None) => {
                return Err(protocol("a continuation of no message"));
            }
            (OpCode::Data(Data::Continue), Some(message)) => {
                message.announce(bytes_left, self.message_bytes_max)?;
                None
            }
            (OpCode::Data(_), Some(_)) => {
                return Err(protocol("a message begins within another"));
            }
            (OpCode::Data(_), message) => {
                let message = message.insert(Message::default());
                message.announce(bytes_left, self.message_bytes_max)?;
                None
            }
        };
        Ok(Frame {
            control,
            is_final: header.is_final,
            mask,
            bytes_left,
        })
    }

    fn end_frame(&mut self) -> Result<Option<Item>, Ending> {
        let Some(frame) = self.frame.take() else {
            return Ok(None);
        };
        if let Some(control) = frame.control {
            let payload = mem::take(&mut self.control);
            return match control {
                Control::Ping => Ok(Some(Item::Ping(payload))),
                Control::Pong => Ok(Some(Item::Pong)),
                _ => close_code(&payload).map(|code| Some(Item::Close(code))),
            };
        }
        if !frame.is_final {
            return Ok(None);
        }
        let bytes = self.message.take().unwrap_or_default().bytes;
        if std::str::from_utf8(&bytes).is_err() {
            let reason = "the message is not UTF-8".to_string();
            return Err(Ending(CloseCode::Invalid, reason));
        }
        Ok(Some(Item::Text(bytes)))
    }
}

impl Message {
    fn announce(&mut self, bytes: usize, bytes_max: usize) -> Result<(), Ending> {
        self.announced_bytes = self.announced_bytes.saturating_add(bytes);
        if self.announced_bytes > bytes_max {
            let reason = format!("a message may have {bytes_max} bytes; send fewer events at once");
            return Err(Ending(CloseCode::Size, reason));
        }
        if !self.is_forgotten {
            let reserved = bytes.min(MESSAGE_BYTES_RESERVED);
            self.bytes.reserve_exact(reserved);
        }
        Ok(())
    }

    /// Its bytes, with room for this many more: the capacity doubles whenever it is full, up to what was announced.
    fn room(&mut self, bytes: usize) -> &mut Vec<u8> {
        let (len, capacity) = (self.bytes.len(), self.bytes.capacity());
        if len + bytes > capacity {
            let grown = (2 * capacity).min(self.announced_bytes).max(len + bytes);
            self.bytes.reserve_exact(grown - len);
        }
        &mut self.bytes
    }
}

fn protocol(reason: &str) -> Ending {
    Ending(CloseCode::Protocol, reason.to_string())
}

/// Also the other way.
fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let mask_word = u32::from_ne_bytes(mask);
    let (words, rest) = bytes.as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ mask_word).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

fn close_code(payload: &[u8]) -> Result<Option<CloseCode>, Ending> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return match payload {
            [] => Ok(None),
            _ => Err(protocol("half a close code")),
        };
    };
    let code = CloseCode::from(u16::from_be_bytes(*code));
    if !code.is_allowed() {
        return Err(protocol("no close code that may be sent"));
    }
    if std::str::from_utf8(reason).is_err() {
        let reason = "the reason of the close is not UTF-8".to_string();
        return Err(Ending(CloseCode::Invalid, reason));
    }
    Ok(Some(code))
}

/// Appends a text message.
pub fn write_text(text: &str, out: &mut Vec<u8>) {
    write(OpCode::Data(Data::Text), &[text.as_bytes()], out);
}

/// Appends a ping without a payload.
pub fn write_ping(out: &mut Vec<u8>) {
    write(OpCode::Control(Control::Ping), &[], out);
}

/// Appends the answer to a ping.
pub fn write_pong(payload: &[u8], out: &mut Vec<u8>) {
    write(OpCode::Control(Control::Pong), &[payload], out);
}

/// Appends a close, which is the last that may be written.
pub fn write_close(code: Option<CloseCode>, reason: &str, out: &mut Vec<u8>) {
    let code = code.map(|code| u16::from(code).to_be_bytes());
    let code = code.as_ref().map_or(&[][..], |code| &code[..]);
    write(OpCode::Control(Control::Close), &[code, reason.as_bytes()], out);
}

fn write(opcode: OpCode, payload: &[&[u8]], out: &mut Vec<u8>) {
    let header = FrameHeader {
        opcode,
        ..FrameHeader::default()
    };
    let bytes: usize = payload.iter().map(|part| part.len()).sum();
    // Writing to memory does not fail.
    let _ = header.format(bytes as u64, out);
    payload.iter().for_each(|part| out.extend_from_slice(part));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: usize = 300;

    /// A frame as a client sends it: its first byte, and its payload in the clear.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let mut bytes = vec![first];
        match payload.len() {
            short @ 0..126 => bytes.push(0x80 | short as u8),
            long => {
                bytes.push(0x80 | 126);
                bytes.extend((long as u16).to_be_bytes());
            }
        }
        bytes.extend(mask);
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b));
        bytes
    }

    /// What comes of bytes that come in pieces of these sizes, and how it ends if it does.
    fn decoded(bytes: &[u8], cuts: &[usize]) -> (Vec<Item>, Option<Ending>) {
        let mut decoder = Decoder::new(MAX);
        let (mut items, mut rest) = (Vec::new(), bytes);
        for cut in cuts.iter().chain([&bytes.len()]) {
            let (mut piece, after) = rest.split_at(rest.len().min(*cut));
            rest = after;
            loop {
                match decoder.decode(&mut piece) {
                    Ok(Some(item)) => items.push(item),
                    Ok(None) => break,
                    Err(ending) => return (items, Some(ending)),
                }
            }
            assert!(piece.is_empty());
        }
        (items, None)
    }

    fn text(text: &str) -> Item {
        Item::Text(text.as_bytes().to_vec())
    }

    #[test]
    fn messages_come_whole_with_control_frames_between_their_parts() {
        let long = "x".repeat(MAX);
        let bytes = [
            frame(0x81, b"one"),
            frame(0x81, b""),
            frame(0x01, b"\xc3"),
            frame(0x89, b"who"),
            frame(0x00, b""),
            frame(0x8a, b""),
            frame(0x80, b"\xa4"),
            frame(0x81, long.as_bytes()),
            frame(0x88, &[&1000_u16.to_be_bytes()[..], b"bye"].concat()),
            frame(0x88, b""),
        ];
        let items = [
            text("one"),
            text(""),
            Item::Ping(b"who".to_vec()),
            Item::Pong,
            text("\u{e4}"),
            text(&long),
            Item::Close(Some(CloseCode::Normal)),
            Item::Close(None),
        ];
        let bytes = bytes.concat();
        assert_eq!(decoded(&bytes, &[]), (items.into(), None));
        let one_by_one = vec![1; bytes.len()];
        assert_eq!(decoded(&bytes, &one_by_one), decoded(&bytes, &[]));
    }

    #[test]
    fn what_breaks_the_protocol_ends_with_a_code() {
        let large = vec![b'x'; MAX];
        let parts = |first: &[u8], second: &[u8]| {
            let parts = [frame(0x01, first), frame(0x80, second)];
            parts.concat()
        };
        let mut endless = vec![0x81, 0xff];
        endless.extend(u64::MAX.to_be_bytes());
        endless.extend([0; 4]);
        for (bytes, code) in [
            (frame(0x82, b"1"), 1003),
            (frame(0x81, b"\xff"), 1007),
            (parts(b"\xc3", b"x"), 1007),
            (frame(0x81, &[&large[..], b"x"].concat()), 1009),
            (parts(&large, b"x"), 1009),
            (endless, 1009),
            (vec![0x81, 0x01, b'x'], 1002),
            (frame(0xc1, b"x"), 1002),
            (frame(0x83, b"x"), 1002),
            (frame(0x8b, b"x"), 1002),
            (frame(0x80, b"x"), 1002),
            ([frame(0x01, b"x"), frame(0x81, b"x")].concat(), 1002),
            (frame(0x09, b"x"), 1002),
            (frame(0x89, &[b'x'; 126]), 1002),
            (frame(0x88, b"\x03"), 1002),
            (frame(0x88, &1005_u16.to_be_bytes()), 1002),
            (frame(0x88, &[&1000_u16.to_be_bytes()[..], b"\xff"].concat()), 1007),
        ] {
            let (items, ending) = decoded(&bytes, &[]);
            let Ending(ended, reason) = ending.unwrap();
            assert_eq!((items, u16::from(ended)), (vec![], code), "{bytes:?}");
            assert!(reason.len() <= CONTROL_BYTES_MAX - 2, "{reason}");
        }
    }

    #[test]
    fn a_message_that_is_forgotten_takes_nothing_and_ends_where_it_would() {
        let mut decoder = Decoder::new(MAX);
        let bytes = frame(0x01, &[b'x'; 100]);
        assert_eq!(decoder.decode(&mut &bytes[..]), Ok(None));
        assert_eq!(decoder.message_bytes(), 100);
        decoder.forget_message();
        let bytes = [frame(0x80, &[b'x'; 100]), frame(0x81, b"next")].concat();
        let mut bytes = &bytes[..];
        assert_eq!(decoder.decode(&mut bytes), Ok(Some(text(""))));
        assert_eq!(decoder.decode(&mut bytes), Ok(Some(text("next"))));
        assert!(!decoder.is_within());
    }

    #[test]
    fn frames_are_written_as_a_client_reads_them() {
        let mut out = Vec::new();
        write_text(&"x".repeat(200), &mut out);
        assert_eq!((&out[..4], out.len()), (&[0x81, 126, 0, 200][..], 204));
        out.clear();
        write_ping(&mut out);
        write_pong(b"who", &mut out);
        write_close(Some(CloseCode::Restart), "why", &mut out);
        write_close(None, "", &mut out);
        assert_eq!(
            out,
            [
                &[0x89, 0, 0x8a, 3][..],
                b"who",
                &[0x88, 5, 0x03, 0xf4],
                b"why",
                &[0x88, 0]
            ]
            .concat()
        );
    }

    proptest! {
        /// However the bytes are cut, and whatever they are.
        #[test]
        fn the_same_bytes_say_the_same(
            frames in proptest::collection::vec(
                (prop_oneof![Just(0x81_u8), Just(0x01), Just(0x80), Just(0x89), any::<u8>()],
                    proptest::collection::vec(b'a'..=b'e', 0..200)),
                0..8,
            ),
            tail in proptest::collection::vec(any::<u8>(), 0..40),
            cuts in proptest::collection::vec(1_usize..90, 0..40),
        ) {
            let mut bytes: Vec<u8> = Vec::new();
            for (first, payload) in &frames {
                bytes.extend(frame(*first, payload));
            }
            bytes.extend(tail);
            prop_assert_eq!(decoded(&bytes, &cuts), decoded(&bytes, &[]));
        }
    }
}
