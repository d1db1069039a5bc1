//! Writes what fuzzers begin with as files: for `decode` the bodies of the corpus of bad requests, for `answers` the
//! record batches of real clients.
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
    let (decode, answers) = (format!("{folder}/decode"), format!("{folder}/answers"));
    for folder in [&decode, &answers] {
        std::fs::create_dir_all(folder)?;
    }
    write_answers(&answers)?;
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
            std::fs::write(
                format!("{folder}/{name}-{kind}"),
                [&[kind], &bytes[..]].concat(),
            )?;
        }
    }
    Ok(())
}
