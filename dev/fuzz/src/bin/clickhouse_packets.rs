//! Feeds what looks at ClickHouse's packets, and the driver behind it, with whatever libFuzzer comes up with. Neither may panic; what
//! is handed over is the beginning of what came, in whatever pieces it came; and the memory of it all has a bound, which is
//! libFuzzer's `-rss_limit_mb`.

#![no_main]

use std::cell::RefCell;
use std::io::Cursor;
use std::pin::Pin;
use std::task::{Context, Poll};

use captcha::parsers::check_packets;
use captcha_fuzz::segments;
use futures_util::StreamExt as _;
use klickhouse::{Client, ClientOptions, KlickhouseError};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};
use tokio::runtime::{Builder, Runtime};

/// Questions asked of what came, which is the answer to all of them.
const QUESTIONS: usize = 4;

thread_local! {
    static RUNTIME: RefCell<Runtime> = RefCell::new(Builder::new_current_thread().build().expect("a runtime"));
}

fuzz_target!(|segments: &[u8]| {
    let stream = segments::join(segments);
    RUNTIME.with_borrow(|runtime| {
        runtime.block_on(async {
            let whole = passed(Cursor::new(stream.clone())).await;
            assert!(stream.starts_with(&whole.0));
            assert_eq!(passed(InPieces(Cursor::new(stream.clone()))).await, whole);
            let _ = driver(stream).await;
        });
    });
});

/// Hands over a few bytes at a time.
struct InPieces(Cursor<Vec<u8>>);

impl AsyncRead for InPieces {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let mut few = buf.take(7);
        let polled = Pin::new(&mut self.0).poll_read(cx, &mut few);
        let read = few.filled().len();
        // SAFETY: that many were just written.
        unsafe { buf.assume_init(read) };
        buf.advance(read);
        polled
    }
}

/// What is handed over of a stream, and why it ended.
async fn passed(stream: impl AsyncRead + Unpin + Send + Sync + 'static) -> (Vec<u8>, Option<String>) {
    let (mut checked, refusal) = check_packets(stream);
    let mut passed = Vec::new();
    let _ = checked.read_to_end(&mut passed).await;
    (passed, refusal.reason().map(str::to_string))
}

/// As the product asks and reads.
async fn driver(stream: Vec<u8>) -> Result<(), KlickhouseError> {
    let (checked, _) = check_packets(Cursor::new(stream));
    let client = Client::connect_stream(checked, tokio::io::sink(), ClientOptions::default());
    let client = client.await?;
    for _ in 0..QUESTIONS {
        let mut answer = client.query_raw("SELECT 1", None).await?;
        while let Some(block) = answer.next().await {
            let mut block = block?;
            let values = block.take_iter_rows().map(|row| row.len());
            assert!(values.sum::<usize>() <= 4 << 20);
        }
    }
    Ok(())
}
