//! Requests that are wrong, or odd and right, byte by byte: each has the answer that it must have, and what is refused
//! leaves nothing behind.

mod encodings;
mod script;
mod wire;

use std::collections::BTreeMap;

use crate::world::World;
use script::Case;

/// Plays cases against a server of their own, and reads the topic after all: what must be stored is there once, and
/// nothing else.
async fn play(test: &str, cases: Vec<Case>) {
    let world = World::new(test);
    world.migrate(&["--partitions", "2"]).await;
    let serve = world.serve().await;
    let mut wrong = Vec::new();
    let mut expected = BTreeMap::new();
    for case in &cases {
        let next = uuid::Uuid::now_v7().to_string();
        if let Err(otherwise) = wire::play(&serve.address, case, &next).await {
            wrong.push(format!("{}\n    {otherwise}", case.name));
        }
        let follows = case.stays_open.then_some(next);
        for id in case.stored.iter().cloned().chain(follows) {
            expected.insert(id, case.name.as_str());
        }
    }
    for partition in 0..2 {
        for record in world.records(partition).await {
            let key = String::from_utf8(record.record.key.unwrap()).unwrap();
            if expected.remove(&key).is_none() {
                wrong.push(format!("stored twice, or never to be stored: {key}"));
            }
        }
    }
    let lost = expected
        .iter()
        .map(|(id, name)| format!("{name}\n    not stored: {id}"));
    wrong.extend(lost);
    assert!(
        wrong.is_empty(),
        "{} of {} cases:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

#[tokio::test]
async fn requests_say_once_how_long_they_are() {
    play("lengths", script::cases("lengths.http")).await;
}

#[tokio::test]
async fn chunks_are_whole_or_nothing() {
    play("chunks", script::cases("chunks.http")).await;
}

#[tokio::test]
async fn heads_are_http_or_refused() {
    play("heads", script::cases("heads.http")).await;
}

#[tokio::test]
async fn targets_and_methods_are_known_or_refused() {
    play("targets", script::cases("targets.http")).await;
}

/// A line of a file of bodies: `VERDICT | BODY`.
fn bodies(file: &str, content_type: &str) -> Vec<Case> {
    let text = script::read(file);
    let cases = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("##"));
    let case = |line: &str| {
        let (verdict, body) = line
            .split_once(" | ")
            .unwrap_or_else(|| panic!("{file}: {line}"));
        script::body_case(&format!("{file}: {line}"), content_type, body, verdict)
    };
    cases.map(case).collect()
}

#[tokio::test]
async fn json_is_judged_to_the_letter() {
    play("json", bodies("json.txt", "application/json")).await;
}

#[tokio::test]
async fn lines_are_judged_one_by_one() {
    play("lines", bodies("lines.txt", "application/x-ndjson")).await;
}

/// A line of the file of members: `MEMBER VERDICT VALUE`, where the verdict is good, bad or a status and pointers.
#[tokio::test]
async fn members_have_the_spellings_of_the_contract() {
    let text = script::read("members.txt");
    let cases = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("##"));
    let case = |line: &str| {
        let mut words = line.splitn(3, ' ');
        let [member, verdict, value] = [0; 3].map(|_| words.next().unwrap().trim());
        let id = if verdict == "good" {
            "\"<ID>\""
        } else {
            "\"<EVIL-ID>\""
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
        script::body_case(
            &format!("members.txt: {line}"),
            "application/json",
            &body,
            &verdict,
        )
    };
    play("members", cases.map(case).collect()).await;
}

#[tokio::test]
async fn content_types_and_encodings_are_known_or_refused() {
    play("encodings", encodings::cases()).await;
}
