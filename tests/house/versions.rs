//! A version is written in one place; where a tool wants it a second time, the two are compared.

use crate::read;

/// What follows a text on its line, up to one of some characters.
fn after<'a>(text: &'a str, before: &str, end: &[char]) -> &'a str {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("no {before:?}"));
    rest.split(end).next().unwrap_or_default()
}

#[test]
fn rust_is_pinned_to_the_version_that_is_promised() {
    let promised = env!("CARGO_PKG_RUST_VERSION");
    let toolchain = read("rust-toolchain.toml");
    assert_eq!(
        after(&toolchain, "channel = \"", &['"']),
        format!("{promised}.0"),
        "rust-toolchain.toml"
    );
    let dockerfile = read("Dockerfile");
    assert_eq!(after(&dockerfile, "FROM rust:", &['-']), promised, "Dockerfile");
    let readme = read("README.md");
    assert_eq!(after(&readme, "You need Rust ", &[' ']), promised, "README.md");
}
