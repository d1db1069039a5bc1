//! Feeds the reader of WebSocket frames with whatever libFuzzer comes up with. The same bytes are the same items and the same ending in
//! whatever pieces they come, a message has at most its bytes, and what is held on the way has a bound.

#![no_main]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use captcha::parsers::{CloseCode, Decoder, Ending, Item};
use libfuzzer_sys::fuzz_target;

/// Small, so that the limit is met often.
const MESSAGE_BYTES_MAX: usize = 1_000;

/// What may be held at once: a message that grows is there twice, once with room to double; and some headers and reasons.
const HELD_BYTES_MAX: usize = 3 * MESSAGE_BYTES_MAX + 1_000;

/// Counts what is allocated and not freed.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: all is left to the system's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(held, Relaxed);
        // SAFETY: as asked.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as asked.
        unsafe { System.dealloc(place, layout) }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((piece, bytes)) = bytes.split_first() else {
        return;
    };
    let piece = usize::from(*piece).max(1);
    bounded(bytes, piece);
    let whole = decoded(bytes, bytes.len().max(1), false);
    assert_eq!(decoded(bytes, piece, false), whole);
    assert_eq!(decoded(bytes, 1, false), whole);
    check(&whole);
    forgotten(bytes, piece, &whole);
});

/// What comes of bytes that come in pieces of a size, and how it ends if it does.
fn decoded(bytes: &[u8], piece: usize, forget: bool) -> (Vec<Item>, Option<Ending>) {
    let mut decoder = Decoder::new(MESSAGE_BYTES_MAX);
    let mut items = Vec::new();
    for mut piece in bytes.chunks(piece) {
        loop {
            let item = decoder.decode(&mut piece);
            assert!(decoder.message_bytes() <= MESSAGE_BYTES_MAX);
            match item {
                Ok(Some(item)) => items.push(item),
                Ok(None) => break,
                Err(ending) => return (items, Some(ending)),
            }
        }
        assert!(piece.is_empty());
        if forget {
            decoder.forget_message();
            assert_eq!(decoder.message_bytes(), 0);
        }
    }
    (items, None)
}

/// The same, and nothing is kept but what the decoder keeps.
fn bounded(bytes: &[u8], piece: usize) {
    let before = HELD.load(Relaxed);
    PEAK.store(before, Relaxed);
    let mut decoder = Decoder::new(MESSAGE_BYTES_MAX);
    'ended: for mut piece in bytes.chunks(piece) {
        loop {
            match decoder.decode(&mut piece) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => break 'ended,
            }
        }
    }
    let held = PEAK.load(Relaxed) - before;
    assert!(held <= HELD_BYTES_MAX, "{held} bytes held");
}

fn check((items, ending): &(Vec<Item>, Option<Ending>)) {
    for item in items {
        match item {
            Item::Text(text) => {
                assert!(text.len() <= MESSAGE_BYTES_MAX && std::str::from_utf8(text).is_ok());
            }
            Item::Ping(payload) => assert!(payload.len() <= 125),
            Item::Pong | Item::Close(None) => {}
            Item::Close(Some(code)) => assert!(code.is_allowed()),
        }
    }
    if let Some(Ending(code, reason)) = ending {
        assert!(code.is_allowed() && reason.len() <= 123, "{code} {reason}");
    }
}

/// Messages that are forgotten as they come end where they would, but for what is wrong in them.
fn forgotten(bytes: &[u8], piece: usize, (items, ending): &(Vec<Item>, Option<Ending>)) {
    let (without, ending_without) = decoded(bytes, piece, true);
    let shape = |item: &Item| match item {
        Item::Text(_) => Item::Text(Vec::new()),
        Item::Ping(payload) => Item::Ping(payload.clone()),
        Item::Pong => Item::Pong,
        Item::Close(code) => Item::Close(*code),
    };
    let shapes: Vec<Item> = items.iter().map(shape).collect();
    let shapes_without: Vec<Item> = without.iter().map(shape).collect();
    if matches!(ending, Some(Ending(CloseCode::Invalid, _))) {
        assert!(shapes_without.starts_with(&shapes));
    } else {
        assert_eq!((&shapes_without, &ending_without), (&shapes, ending));
    }
}
