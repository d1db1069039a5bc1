//! Writes what fuzzers begin with as files: for `decode` the bodies of the corpus of bad requests, for `answers` the
//! record batches of real clients, for `packets` what a real ClickHouse sent, for `websocket` frames of each kind.
//!
//! usage: seeds FOLDER

mod client {
    pub const SITE: &str = "7a6f0a3e-9d3c-4b0e-8a55-0a4f5b1c2d3e";
}

mod answer;
#[allow(dead_code, reason = "the tests' own modules, which have answers too")]
#[path = "../../tests/e2e/corpus/bodies.rs"]
mod bodies;
#[path = "../../tests/e2e/coding.rs"]
mod coding;
#[path = "../../tests/e2e/corpus/encodings.rs"]
mod encodings;
#[allow(dead_code, reason = "the tests' own modules, which have answers too")]
#[path = "../../tests/e2e/corpus/script.rs"]
mod script;
mod segments;

// It counts for nothing here, but what is compiled to be counted links to it.
use libfuzzer_sys as _;
use script::{Case, Step};

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
    write_answers(&seeds("answers")?)?;
    write_packets(&seeds("packets")?)?;
    write_frames(&seeds("websocket")?)?;
    let decode = seeds("decode")?;
    let mut cases = encodings::cases();
    cases.extend(bodies::members());
    for file in ["json.txt", "lines.txt"] {
        cases.extend(bodies::cases(file, "application/json"));
    }
    for file in ["chunks.http", "heads.http", "lengths.http", "targets.http"] {
        cases.extend(script::cases(file));
    }
    for (number, case) in cases.iter().enumerate() {
        let body = body(case);
        if body.len() <= BYTES_MAX {
            std::fs::write(format!("{decode}/seed-{number:04}"), body)?;
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

/// Each file of batches in each of the ways in which the target takes it.
fn write_answers(folder: &str) -> std::io::Result<()> {
    let batches = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/batches");
    for file in std::fs::read_dir(batches)? {
        let path = file?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.ends_with(".batches") {
            continue;
        }
        let batches = std::fs::read(&path)?;
        let answer = answer::WITH_BATCHES.around(&batches);
        for (kind, bytes) in [(0, &answer), (1, &batches), (2, &batches)] {
            std::fs::write(format!("{folder}/{name}-{kind}"), [&[kind], &bytes[..]].concat())?;
        }
    }
    Ok(())
}

/// What a server sent on each connection that was recorded, from its greeting on.
fn write_packets(folder: &str) -> std::io::Result<()> {
    let answers = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/answers");
    for file in std::fs::read_dir(answers)? {
        let path = file?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".stream") {
            let segments = segments::split(&std::fs::read(&path)?);
            std::fs::write(format!("{folder}/{name}"), segments)?;
        }
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
