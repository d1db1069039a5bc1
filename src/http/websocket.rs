//! WebSocket frames (RFC 6455) as a server sees them: from bytes to messages within a limit, and back. Pure.
//!
//! Headers and codes are tungstenite's. Its reader is not used: it keeps a buffer as large as the largest
//! frame for as long as a connection lives, and answers a close before what is in flight.

use std::io::Cursor;
use std::mem;

use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
pub use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// The longest header that a client may send.
const HEADER_BYTES_MAX: usize = 14;

/// RFC 6455 section 5.5.
const CONTROL_BYTES_MAX: usize = 125;

/// What a message takes at once, before it has come; one that is larger grows as it comes.
const MESSAGE_BYTES_RESERVED: usize = 16 << 10;

/// What comes from a client.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    /// A whole message, in UTF-8; empty after [`Decoder::forget_message`].
    Text(Vec<u8>),
    /// To be answered by a pong with the same bytes.
    Ping(Vec<u8>),
    /// An answer to a ping.
    Pong,
    /// It wants to end, and may have said why.
    Close(Option<CloseCode>),
}

/// Why a connection cannot go on: a code and a reason of at most 123 bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct Ending(pub CloseCode, pub String);

/// Reads frames.
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
    /// Reads messages of at most so many bytes.
    pub fn new(message_bytes_max: usize) -> Decoder {
        Decoder {
            message_bytes_max,
            header: Vec::new(),
            frame: None,
            control: Vec::new(),
            message: None,
        }
    }

    /// Bytes held of a message whose end is awaited.
    pub fn message_bytes(&self) -> usize {
        self.message
            .as_ref()
            .map_or(0, |message| message.bytes.len())
    }

    /// Whether a message or a frame has begun and not ended.
    pub fn is_within(&self) -> bool {
        self.message.is_some() || self.frame.is_some() || !self.header.is_empty()
    }

    /// Holds nothing more of the message whose end is awaited.
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
                self.frame = Some(self.begin(&header, bytes)?);
            }
            let Some(frame) = &mut self.frame else {
                continue;
            };
            let taken = frame.bytes_left.min(input.len());
            let (payload, rest) = input.split_at(taken);
            *input = rest;
            let kept = match (&frame.control, &mut self.message) {
                (Some(_), _) => Some(&mut self.control),
                (None, Some(message)) if !message.is_forgotten => Some(&mut message.bytes),
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

    fn begin(&mut self, header: &FrameHeader, bytes: u64) -> Result<Frame, Ending> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(protocol(
                "a reserved bit is set, and no extension was agreed on",
            ));
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
            self.bytes.reserve(bytes.min(MESSAGE_BYTES_RESERVED));
        }
        Ok(())
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
    write(
        OpCode::Control(Control::Close),
        &[code, reason.as_bytes()],
        out,
    );
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
