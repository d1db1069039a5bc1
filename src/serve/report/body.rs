//! The body of a report, made while it is sent: a report of a million rows is 40 MB as numbers and 115 as text.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::vec::IntoIter;

use bytes::Bytes;
use hyper::body::{Body, Frame};

use crate::clickhouse::{Freshness, Report, ReportRow};

/// Bytes that are made at once.
const CHUNK_BYTES: usize = 32 << 10;

/// The longest text of a row: a date, a UUID, two numbers and their names; and of the end of a report.
pub const ROW_TEXT_BYTES: usize = 160;

/// The JSON of [`Report`] and a line break, piece by piece.
pub struct ReportBody {
    rest: IntoIter<ReportRow>,
    freshness: Freshness,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    Rows,
    Sent,
}

impl ReportBody {
    /// A body for a report.
    pub fn new(report: Report) -> ReportBody {
        ReportBody {
            rest: report.rows.into_iter(),
            freshness: report.freshness,
            stage: Stage::Head,
        }
    }

    fn next_chunk(&mut self) -> Vec<u8> {
        let text_bytes = (self.rest.len() + 1) * ROW_TEXT_BYTES;
        let mut chunk = Vec::with_capacity(text_bytes.min(CHUNK_BYTES + ROW_TEXT_BYTES));
        let mut separator = ",";
        if self.stage == Stage::Head {
            chunk.extend_from_slice(b"{\"counters\":[");
            separator = "";
            self.stage = Stage::Rows;
        }
        for counter in self.rest.by_ref() {
            chunk.extend_from_slice(separator.as_bytes());
            separator = ",";
            // Writing numbers and text to memory cannot fail.
            let _ = serde_json::to_writer(&mut chunk, &counter);
            if chunk.len() >= CHUNK_BYTES {
                break;
            }
        }
        if self.rest.len() == 0 {
            chunk.extend_from_slice(b"],");
            let freshness = crate::http::json_line(&self.freshness);
            chunk.extend_from_slice(&freshness.as_bytes()[1..]);
            self.stage = Stage::Sent;
        }
        chunk
    }
}

impl Body for ReportBody {
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

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use uuid::Uuid;

    #[tokio::test]
    async fn the_pieces_are_the_whole() {
        for rows in [0, 1, 2, 5_000] {
            let counter = |number: u64| ReportRow {
                date: "2001-01-01".parse().unwrap(),
                site_id: Uuid::from_u128(number.into()),
                served: number,
                solved: number * 1_000_000,
            };
            let report = Report {
                rows: (0..rows).map(counter).collect(),
                freshness: Freshness::default(),
            };
            let whole = crate::http::json_line(&report);
            let pieces = ReportBody::new(report).collect().await.unwrap();
            assert_eq!(pieces.to_bytes(), whole, "{rows}");
        }
    }

    #[test]
    fn no_row_has_a_longer_text_than_is_counted() {
        let row = ReportRow {
            date: "2200-12-31".parse().unwrap(),
            site_id: Uuid::max(),
            served: u64::MAX,
            solved: u64::MAX,
        };
        assert!(serde_json::to_string(&row).unwrap().len() < ROW_TEXT_BYTES);
    }
}
