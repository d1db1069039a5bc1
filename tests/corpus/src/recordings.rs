//! What real clients and servers sent. `collect.py` beside the files makes them.

use std::collections::BTreeMap;
use std::path::Path;

/// Record batches as a broker hands them out, by the client that wrote them and its codec.
pub fn record_batches() -> BTreeMap<String, Vec<u8>> {
    files("batches", "batches")
}

/// What ClickHouse sent on one connection each, by what was asked.
pub fn clickhouse_streams() -> BTreeMap<String, Vec<u8>> {
    files("answers", "stream")
}

/// The files with an extension in a folder of `tests/`, by their names without it.
fn files(folder: &str, extension: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.unwrap().path());
    let files = paths.filter(|path| path.extension().is_some_and(|found| found == extension));
    files
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (name, bytes)
        })
        .collect()
}
