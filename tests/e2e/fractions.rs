//! Times with more digits than microseconds, as Go, Java and .NET write them: one event in every form.

use serde_json::{Value, json};

use crate::audit::{audit, damage};
use crate::client::{Reply, accept, post, request, served};
use crate::websocket::Stream;
use crate::world::World;

/// The event with another time.
fn at(event: &Value, time: &str) -> Value {
    let mut event = event.clone();
    event["time"] = json!(time);
    event
}

async fn post_lines(address: &str, lines: &[Value]) -> Reply {
    let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let headers = [("content-type", "application/x-ndjson")];
    request(address, "POST", "/v1/events", &headers, body).await.unwrap()
}

#[tokio::test]
async fn events_that_differ_beyond_microseconds_are_one_event_in_every_form() {
    let world = World::new("nanoseconds");
    world.migrate(&["--partitions", "1"]).await;
    let (serve, _consume) = (world.serve().await, world.consume(&[]).await);
    let event = served("2024-02-29T12:00:00.123456");
    let other = served("2024-02-29T12:00:00.123457");
    accept(&serve.address, &event).await;
    accept(
        &serve.address,
        &json!([at(&event, "2024-02-29T12:00:00.1234567"), other]),
    )
    .await;
    // Only the slow path parses white space, escapes and other spellings.
    accept(&serve.address, &at(&event, "2024-02-29t14:00:00.12345678+02:00")).await;
    let lines = [
        at(&event, "2024-02-29T12:00:00.123456789Z"),
        at(&event, "2024-02-29T12:00:00.1234569z"),
    ];
    let reply = post_lines(&serve.address, &lines).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let mut stream = Stream::open(&serve.address).await;
    stream.send(at(&event, "2024-02-29T12:00:00.123456001")).await;
    assert_eq!(stream.answer().await["status"], "accepted");
    // What serve writes has the six digits that are kept.
    let time = "\"time\":\"2024-02-29T12:00:00.123456\"}";
    for record in world.records(0).await {
        let value = String::from_utf8(record.record.value.unwrap()).unwrap();
        assert!(
            value.ends_with(time) || value.contains(other["correlation_id"].as_str().unwrap()),
            "{value}"
        );
    }
    let foreign = at(&event, "2024-02-29T12:00:00.123456999").to_string();
    world.produce(0, &[Some(foreign.as_bytes())]).await;

    world.await_log(8).await;
    world.await_counted(2).await;
    let rows = "SELECT kind, toString(repeat), toString(count()) FROM events GROUP BY kind, repeat ORDER BY repeat";
    assert_eq!(world.sql(rows).await, [["event", "0", "2"], ["event", "1", "6"]]);
    world.ok(&["report", "audit"]).await;
}

#[tokio::test]
async fn times_that_no_clock_shows_are_refused_by_name_in_every_form() {
    let world = World::new("no_times");
    world.migrate(&["--partitions", "1"]).await;
    let (serve, _consume) = (world.serve().await, world.consume(&[]).await);
    let event = served("2024-02-29T12:00:00");
    let mut stream = Stream::open(&serve.address).await;
    let times = [
        ("2024-02-29T12:00:00.1234567890", "more than 9 digits after the point"),
        (
            "2024-02-29T24:00:00",
            "no hour 24; the end of a day is 00:00:00 of the next day",
        ),
        ("2024-02-29T23:59:60Z", "no second 60; a leap second is second 59"),
    ];
    for (time, detail) in times {
        let wrong = at(&event, time);
        let document = post(&serve.address, &wrong).await;
        let lines = post_lines(&serve.address, std::slice::from_ref(&wrong)).await;
        stream.send(&wrong).await;
        let message = stream.answer().await;
        for (answer, pointer) in [
            (document.json(), "/time"),
            (lines.json(), "/0/time"),
            (message, "/time"),
        ] {
            let error = json!({"pointer": pointer, "detail": detail});
            assert_eq!((&answer["status"], &answer["errors"]), (&json!(422), &json!([error])));
        }
        world.produce(0, &[Some(wrong.to_string().as_bytes())]).await;
    }
    world.await_log(3).await;
    let reasons = world.sql("SELECT kind, reason FROM events ORDER BY offset").await;
    let wanted = times.map(|(_, detail)| vec!["bad".to_string(), format!("/time {detail}")]);
    assert_eq!(reasons, wanted);
}

#[tokio::test]
async fn a_dead_letter_of_an_older_captcha_stays_one() {
    let world = World::new("older_letters");
    world.migrate(&["--partitions", "1"]).await;
    // The older one refused seven digits.
    let event = served("2024-02-29T12:00:00.1234567Z");
    let value = event.to_string();
    world.produce(0, &[Some(value.as_bytes())]).await;
    let millis = world.records(0).await[0].record.timestamp.timestamp_millis();
    let letter = format!(
        "INSERT INTO events (topic, partition, offset, span, arrival, kind, reason, raw) SELECT '{}', 0, 0, 1, \
         fromUnixTimestamp64Milli({millis}), 'bad', '/time more than 6 digits after the point', '{value}'",
        world.name
    );
    world.sql(&letter).await;

    // It begins right behind the letter, which is not the event that such a record is now.
    let consume = world.consume(&[]).await;
    consume.await_ready(200, "partition 0: ok").await;
    world.produce(0, &[Some(value.as_bytes())]).await;
    world.await_log(2).await;
    world.await_counted(1).await;
    let rows = world
        .sql("SELECT kind, toString(repeat) FROM events ORDER BY offset")
        .await;
    assert_eq!(rows, [["bad", "0"], ["event", "0"]]);
    let (code, partitions) = audit(&world, &[]).await;
    assert_eq!((code, damage(&partitions[0])), (Some(0), vec![]), "{partitions:?}");
}
