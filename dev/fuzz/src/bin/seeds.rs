//! Writes the files that fuzzers begin with: for `events` the bodies of the corpus of requests, for `kafka_responses` the
//! record batches of real clients, for `clickhouse_packets` what a real ClickHouse sent, for `websocket_frames` frames of
//! each kind.
//!
//! usage: seeds FOLDER

use captcha_corpus::script::{self, Case, Step};
use captcha_corpus::{bodies, encodings, recordings};
use captcha_fuzz::fetch_response::{self, Form};
use captcha_fuzz::segments;
// It counts for nothing here, but what is compiled to be counted links to it.
use libfuzzer_sys as _;

/// Larger ones make every run slow and find nothing more.
const BYTES_MAX: usize = 8 << 10;

fn main() -> std::io::Result<()> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| {
        eprintln!("usage: seeds FOLDER");
        std::process::exit(2);
    });
    let seeds = |name: &str| -> std::io::Result<String> {
        let folder = format!("{folder}/{name}");
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    };
    write_bodies(&seeds("events")?)?;
    write_responses(&seeds("kafka_responses")?)?;
    write_packets(&seeds("clickhouse_packets")?)?;
    write_frames(&seeds("websocket_frames")?)
}

/// The bodies of all requests of the corpus.
fn write_bodies(folder: &str) -> std::io::Result<()> {
    let mut cases = encodings::cases();
    cases.extend(bodies::members());
    for file in ["json.txt", "lines.txt"] {
        cases.extend(bodies::cases(file, "application/json"));
    }
    for file in ["chunks.http", "heads.http", "lengths.http", "targets.http"] {
        cases.extend(script::cases(file));
    }
    let mistaken = bodies::mistakes().into_iter().map(|mistaken| mistaken.body);
    for (number, body) in cases.iter().map(body).chain(mistaken).enumerate() {
        if body.len() <= BYTES_MAX {
            std::fs::write(format!("{folder}/seed-{number:04}"), body)?;
        }
    }
    Ok(())
}

/// What follows the first head.
fn body(case: &Case) -> Vec<u8> {
    let sent = case.steps.iter().map(|step| match step {
        Step::Send(bytes) => bytes.as_slice(),
        Step::AwaitAnswer | Step::Finish => b"",
    });
    let sent = sent.collect::<Vec<_>>().concat();
    let end = sent.windows(4).position(|four| four == b"\r\n\r\n");
    end.map_or(Vec::new(), |end| sent[end + 4..].to_vec())
}

/// The batches of each client in each of the forms that the fuzzer takes.
fn write_responses(folder: &str) -> std::io::Result<()> {
    for (name, batches) in recordings::record_batches() {
        let response = fetch_response::around(&batches);
        for (form, bytes) in [
            (Form::Response, &response),
            (Form::Batches, &batches),
            (Form::BatchesWithoutChecksums, &batches),
        ] {
            let form = form as u8;
            std::fs::write(format!("{folder}/{name}-{form}"), [&[form], &bytes[..]].concat())?;
        }
    }
    Ok(())
}

/// What a server sent on each connection that was recorded, from its greeting on.
fn write_packets(folder: &str) -> std::io::Result<()> {
    for (name, stream) in recordings::clickhouse_streams() {
        std::fs::write(format!("{folder}/{name}"), segments::split(&stream))?;
    }
    Ok(())
}

/// Frames with a mask of zeros, behind the byte that says in which pieces they come.
fn write_frames(folder: &str) -> std::io::Result<()> {
    let frame = |first: u8, payload: &[u8]| {
        let mut frame = vec![first, 0x80 | payload.len() as u8, 0, 0, 0, 0];
        frame.extend(payload);
        frame
    };
    let long = [&[0x81, 0xfe, 0x03, 0xe8, 0, 0, 0, 0][..], &[b'x'; 1_000]].concat();
    let messages = [
        frame(0x81, b"text"),
        [frame(0x01, b"te\xc3"), frame(0x80, b"\xa4xt")].concat(),
        [frame(0x01, b"te"), frame(0x89, b"ping"), frame(0x80, b"xt")].concat(),
        [frame(0x8a, b"pong"), frame(0x88, b"\x03\xe8bye")].concat(),
        [long, frame(0x88, b"")].concat(),
    ];
    for (number, message) in messages.iter().enumerate() {
        std::fs::write(format!("{folder}/frames-{number}"), [&[5], &message[..]].concat())?;
    }
    Ok(())
}
