//! The files of which a line is a body, or a member of one.

use crate::script::{Case, body_case, bytes, read};

fn lines(file: &str) -> impl Iterator<Item = &'static str> {
    let lines = read(file).lines();
    lines.filter(|line| !line.is_empty() && !line.starts_with("##"))
}

/// The cases of a file whose lines are `VERDICT | BODY`.
pub fn cases(file: &str, content_type: &str) -> Vec<Case> {
    let case = |line: &str| {
        let (verdict, body) = line.split_once(" | ").unwrap_or_else(|| panic!("{file}: {line}"));
        body_case(&format!("{file}: {line}"), content_type, body, verdict)
    };
    lines(file).map(case).collect()
}

/// The cases of the file whose lines are `MEMBER VERDICT VALUE`.
pub fn members() -> Vec<Case> {
    lines("members.txt").map(member_case).collect()
}

fn member_case(line: &str) -> Case {
    let mut words = line.splitn(3, ' ');
    let [member, verdict, value] = [0; 3].map(|_| words.next().unwrap());
    let id = match verdict {
        "good" => "\"<ID>\"",
        _ => "\"<EVIL-ID>\"",
    };
    let all = [
        ("site_id", "\"<SITE>\""),
        ("type", "\"serve\""),
        ("correlation_id", id),
        ("time", "\"2001-01-01T05:55:07\""),
    ];
    let pair = |(name, usual): (&str, &str)| {
        let value = if name == member { value } else { usual };
        format!("\"{name}\":{value}")
    };
    let body = format!("{{{}}}", all.map(pair).join(","));
    let verdict = match verdict {
        "good" => "200".to_string(),
        "bad" => format!("422 /{member}"),
        other => other.to_string(),
    };
    let name = format!("members.txt: {line}");
    body_case(&name, "application/json", &body, &verdict)
}

/// A body with a common mistake, and words of what the sender must read.
#[derive(Debug)]
pub struct MistakenBody {
    /// The line of the file.
    pub line: &'static str,
    pub content_type: &'static str,
    pub words: &'static str,
    pub body: Vec<u8>,
}

/// The bodies of the file whose lines are `FORMAT | WORDS | BODY`.
pub fn mistakes() -> Vec<MistakenBody> {
    lines("mistakes.txt").map(mistaken_body).collect()
}

fn mistaken_body(line: &'static str) -> MistakenBody {
    let parts: Vec<_> = line.splitn(3, " | ").collect();
    let [format, words, body] = parts[..] else {
        panic!("mistakes.txt: {line}");
    };
    let content_type = match format {
        "json" => "application/json",
        "lines" => "application/x-ndjson",
        _ => panic!("mistakes.txt: {line}"),
    };
    MistakenBody {
        line,
        content_type,
        words,
        body: bytes(body),
    }
}
