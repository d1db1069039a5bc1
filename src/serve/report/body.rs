//! The body of a report, made while it is sent: a report of a million rows is 40 MB as numbers and 115 as text.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame};

use super::text::ReportText;

/// Bytes that are made at once.
const CHUNK_BYTES: usize = 32 << 10;

/// A text, piece by piece.
pub struct ReportBody(ReportText);

impl ReportBody {
    pub fn new(text: ReportText) -> ReportBody {
        ReportBody(text)
    }
}

impl Body for ReportBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.0.next_piece(CHUNK_BYTES);
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_written()
    }
}
