//! The body of a report, made while it is sent: a report of a million rows is 40 MB as numbers and 115 as text.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame};

/// Bytes that are made at once.
const CHUNK_BYTES: usize = 32 << 10;

/// What is sent, row by row.
pub trait RowWriter {
    fn rows(&self) -> usize;

    /// The longest text of a row, and of the head or the tail.
    fn row_bytes_max(&self) -> usize;

    fn write_head(&self, text: &mut Vec<u8>);

    fn write_row(&self, index: usize, text: &mut Vec<u8>);

    fn write_tail(&self, text: &mut Vec<u8>);
}

/// The text of a writer, piece by piece.
pub struct ReportBody<W> {
    writer: W,
    /// Rows that are made.
    written: usize,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    Rows,
    Sent,
}

impl<W: RowWriter> ReportBody<W> {
    pub fn new(writer: W) -> ReportBody<W> {
        ReportBody {
            writer,
            written: 0,
            stage: Stage::Head,
        }
    }

    fn next_chunk(&mut self) -> Vec<u8> {
        let (rows, row_bytes_max) = (self.writer.rows(), self.writer.row_bytes_max());
        let text_bytes = (rows - self.written + 2) * row_bytes_max;
        let mut chunk = Vec::with_capacity(text_bytes.min(CHUNK_BYTES + row_bytes_max));
        if self.stage == Stage::Head {
            self.writer.write_head(&mut chunk);
            self.stage = Stage::Rows;
        }
        while self.written < rows && chunk.len() < CHUNK_BYTES {
            self.writer.write_row(self.written, &mut chunk);
            self.written += 1;
        }
        if self.written == rows {
            self.writer.write_tail(&mut chunk);
            self.stage = Stage::Sent;
        }
        chunk
    }
}

impl<W: RowWriter + Unpin> Body for ReportBody<W> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.stage == Stage::Sent {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::data(self.next_chunk().into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.stage == Stage::Sent
    }
}
