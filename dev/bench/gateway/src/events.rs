//! Requests whose events are new each time, for the price of writing some digits.

use std::fmt::Write as _;
use std::ops::Range;

use uuid::Uuid;

/// As `new Date().toISOString()` has it; what a browser sends.
const TIME: &str = "2024-01-15T05:55:07.123Z";

const SITES: u128 = 100;

/// A request, and where in it correlation ids stand.
pub struct Events {
    bytes: Vec<u8>,
    correlation_ids: Vec<Range<usize>>,
}

impl Events {
    /// Of `batch` events, or of one that is no array.
    pub fn new(host: &str, batch: usize) -> Events {
        let events: Vec<String> = (0..batch.max(1)).map(event).collect();
        let body = match batch {
            0 => events.concat(),
            _ => format!("[{}]", events.join(",")),
        };
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "POST /v1/events HTTP/1.1\r\nHost: {host}\r\nUser-Agent: load\r\nAccept: */*\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let name = "\"correlation_id\":\"";
        let places = text.match_indices(name).map(|(at, _)| at + name.len());
        Events {
            correlation_ids: places.map(|at| at..at + 36).collect(),
            bytes: text.into_bytes(),
        }
    }

    /// The request with new correlation ids.
    pub fn next_request(&mut self) -> &[u8] {
        for place in &self.correlation_ids {
            let id = Uuid::new_v4().hyphenated();
            id.encode_lower(&mut self.bytes[place.clone()]);
        }
        &self.bytes
    }
}

fn event(number: usize) -> String {
    let site = Uuid::from_u128(0x6f1c_1f2e_3d0b_4c5a_9b0e_2f4b_8f3f_7a00 + number as u128 % SITES);
    let kind = if number.is_multiple_of(2) {
        "serve"
    } else {
        "solve"
    };
    let id = Uuid::nil();
    format!(r#"{{"site_id":"{site}","type":"{kind}","correlation_id":"{id}","time":"{TIME}"}}"#)
}
