//! What `docs/threat-model.md` names is there: files, tests, constants and flags.

use std::fs;
use std::path::Path;

use crate::root;

const PAGE: &str = include_str!("../../docs/threat-model.md");

/// Endings of the files that the page names.
const FILES: [&str; 7] = [".rs", ".py", ".sh", ".yaml", ".toml", ".lock", "Dockerfile"];

/// What stands between backticks in a text.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The words of the column of proofs of all tables.
fn proofs() -> impl Iterator<Item = &'static str> {
    let rows = PAGE.lines().filter(|line| line.starts_with("| "));
    let proofs = rows.filter_map(|row| row.split(" | ").nth(2));
    proofs.flat_map(words)
}

fn read_all(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_all(&path, text);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

fn sources() -> String {
    let mut text = String::new();
    for folder in ["src", "tests"] {
        read_all(&root().join(folder), &mut text);
    }
    text
}

#[test]
fn what_the_threat_model_names_is_there() {
    let sources = sources();
    let mut missing = Vec::new();
    let mut found = [0; 4];
    for word in words(PAGE) {
        let is_there = if FILES.iter().any(|end| word.ends_with(end)) {
            found[0] += 1;
            root().join(word).exists() || root().join("src").join(word).exists()
        } else if let Some(flag) = word.strip_prefix("--") {
            found[1] += 1;
            let variable = flag.replace('-', "_").to_uppercase();
            sources.contains(&format!("\"CAPTCHA_{variable}\""))
        } else if word.contains('_') && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_') {
            found[2] += 1;
            sources.contains(&format!("const {word}: "))
        } else {
            true
        };
        if !is_there {
            missing.push(word);
        }
    }
    for test in proofs().filter(|word| !word.contains(['.', ' ', '/'])) {
        found[3] += 1;
        if !sources.contains(&format!("fn {test}(")) {
            missing.push(test);
        }
    }
    assert!(missing.is_empty(), "docs/threat-model.md names {missing:?}");
    assert!(found.iter().all(|count| *count > 3), "{found:?}");
}
