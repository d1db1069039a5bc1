//! The answer to a question, for all who asked it.

use std::hash::Hasher as _;
use std::sync::Arc;

use siphasher::sip128::{Hasher128 as _, SipHasher13};

use crate::clickhouse::{Freshness, Report, ReportRow};
use crate::resource_pool::Share;
use crate::statistics;

/// The longest text of a plain row: a date, a UUID, two numbers and their names; and of the end of a report.
pub const ROW_TEXT_BYTES: usize = 160;

/// Bytes of text that are hashed at once.
const HASHED_BYTES: usize = 64 << 10;

/// The numbers of a report, and the memory of its rows.
pub struct Answer {
    pub numbers: Numbers,
    /// A hash of all but `complete_through`: the same in each process, and another one if any value changes.
    pub tag: u128,
    _share: Share,
}

/// The numbers of a report.
pub enum Numbers {
    /// Of days and sites alone. It takes the least memory, and its text never changes.
    Plain(Report),
    Statistics(Arc<statistics::Answer>),
}

impl Answer {
    /// Makes the tag, which takes a tenth of a second of a million rows.
    pub fn new(numbers: Numbers, share: Share) -> Answer {
        Answer {
            tag: match &numbers {
                Numbers::Plain(report) => hash_rows(&report.rows),
                Numbers::Statistics(answer) => hash_answer(answer),
            },
            numbers,
            _share: share,
        }
    }

    pub fn freshness(&self) -> Freshness {
        match &self.numbers {
            Numbers::Plain(report) => report.freshness,
            Numbers::Statistics(answer) => Freshness::of_micros(answer.complete_through_micros),
        }
    }

    /// At least as many as its text has.
    pub fn text_bytes_max(&self) -> usize {
        let (rows, row_bytes) = match &self.numbers {
            Numbers::Plain(report) => (report.rows.len(), ROW_TEXT_BYTES),
            Numbers::Statistics(answer) => (answer.row_count(), statistics::ROW_TEXT_BYTES_MAX),
        };
        (rows + 1) * row_bytes
    }
}

impl Numbers {
    pub fn row_count(&self) -> usize {
        match self {
            Numbers::Plain(report) => report.rows.len(),
            Numbers::Statistics(answer) => answer.row_count(),
        }
    }
}

fn hash_rows(rows: &[ReportRow]) -> u128 {
    let mut hasher = SipHasher13::new();
    let mut text = Vec::new();
    for row in rows {
        text.clear();
        // Writing numbers and text to memory cannot fail.
        let _ = serde_json::to_writer(&mut text, row);
        hasher.write(&text);
    }
    hasher.finish128().as_u128()
}

fn hash_answer(answer: &Arc<statistics::Answer>) -> u128 {
    let mut hasher = SipHasher13::new();
    let writer = statistics::Writer::new(Arc::clone(answer), statistics::Format::Json);
    let mut writer = writer.without_complete_through();
    while let Some(piece) = writer.next_piece(HASHED_BYTES) {
        hasher.write(&piece);
    }
    hasher.finish128().as_u128()
}
