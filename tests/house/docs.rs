//! What the documentation points to is there: files, folders, headings.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::root;

/// Folders of the checkout that paths in backticks begin with.
const FOLDERS: [&str; 6] = ["src/", "tests/", "dev/", "docs/", "k8s/", "migrations/"];

/// All pages that people read.
fn pages() -> Vec<PathBuf> {
    let folders = ["", "docs", "docs/adr", "k8s", "k8s/overlays/local", "migrations"].map(|folder| root().join(folder));
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let paths = files.map(|file| file.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect()
}

/// A page without its blocks of code.
fn prose(page: &Path) -> String {
    let text = fs::read_to_string(page).unwrap();
    text.split("```").step_by(2).collect()
}

/// The names under which a code host links the headings of a page.
fn anchors(page: &Path) -> BTreeSet<String> {
    let text = prose(page);
    let headings = text.lines().filter_map(|line| {
        line.trim_start_matches('#')
            .strip_prefix(' ')
            .filter(|_| line.starts_with('#'))
    });
    let anchor = |heading: &str| {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

/// The targets of the links of a text: `](TARGET)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target)
}

#[test]
fn links_lead_somewhere() {
    let (mut broken, mut count) = (Vec::new(), 0);
    for page in pages() {
        let text = prose(&page);
        for link in links(&text).filter(|link| !link.contains("://")) {
            count += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => page.clone(),
                file => page.parent().unwrap().join(file),
            };
            let is_whole = target.exists() && (anchor.is_empty() || anchors(&target).contains(anchor));
            if !is_whole {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(count > 50, "only {count} links were found");
}

#[test]
fn paths_in_backticks_are_there() {
    let (mut missing, mut count) = (Vec::new(), 0);
    for page in pages() {
        let text = prose(&page);
        for word in text.split('`').skip(1).step_by(2) {
            let is_path = FOLDERS.iter().any(|folder| word.starts_with(folder));
            if !is_path
                || word.contains([' ', '*', '{', '<'])
                || word.bytes().any(|byte| byte.is_ascii_uppercase()) && word.contains("VERSION")
            {
                continue;
            }
            count += 1;
            // `tests/e2e/fetch.rs:12` and `src/http/` are paths too.
            let path = word.split(':').next().unwrap_or_default();
            if !root().join(path).exists() {
                missing.push(format!("{}: {word}", page.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(count > 50, "only {count} paths were found");
}
