//! Requests that are wrong, or odd and right, byte by byte: each has the answer that it must have, and what is refused
//! leaves nothing behind.

mod wire;

use std::collections::BTreeMap;

use captcha_corpus::script::Case;
use captcha_corpus::{bodies, encodings, script};

use crate::client::request;
use crate::world::World;

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

#[tokio::test]
async fn json_is_judged_to_the_letter() {
    play("json", bodies::cases("json.txt", "application/json")).await;
}

#[tokio::test]
async fn lines_are_judged_one_by_one() {
    play("lines", bodies::cases("lines.txt", "application/x-ndjson")).await;
}

#[tokio::test]
async fn members_have_the_spellings_of_the_contract() {
    play("members", bodies::members()).await;
}

#[tokio::test]
async fn content_types_and_encodings_are_known_or_refused() {
    play("encodings", encodings::cases()).await;
}

#[tokio::test]
async fn common_mistakes_are_named_with_what_to_send() {
    let world = World::new("mistakes");
    world.migrate(&[]).await;
    let serve = world.serve().await;
    let mut wrong = Vec::new();
    for mistaken in bodies::mistakes() {
        let headers = [("content-type", mistaken.content_type)];
        let reply = request(&serve.address, "POST", "/v1/events", &headers, mistaken.body).await;
        let reply = reply.unwrap();
        let text = reply.text();
        let is_refused = [400, 422].contains(&reply.status.as_u16());
        let detail = reply.json()["detail"].as_str().unwrap_or_default().to_string();
        if !is_refused || !detail.contains(mistaken.words) {
            wrong.push(format!("{}\n    {} {text}", mistaken.line, reply.status));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for partition in 0..4 {
        assert!(world.records(partition).await.is_empty());
    }
}
