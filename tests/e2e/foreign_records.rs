//! Records that other programs write into the topic: whatever a broker takes stops nothing.

use std::io::Write as _;

use captcha_corpus::record_batch::{field, record, varint};

use crate::client::served;
use crate::process::configure_topic;
use crate::record_batches::{batch, plain, produce};
use crate::world::World;

#[tokio::test]
async fn a_header_without_a_value_stops_nothing() {
    let world = World::new("nullheader");
    world.migrate(&["--partitions", "1"]).await;
    let headers = [&varint(1)[..], &field(Some(b"x")), &field(None)].concat();
    let foreign = batch(0, 1, &plain(0, Some(b"{}"), &headers));
    assert_eq!(produce(&world.kafka, &world.name, 0, &foreign).await, 0);
    let event = served("2024-02-29T12:00:00").to_string();
    world.produce(0, &[Some(event.as_bytes())]).await;
    let consume = world.consume(&[]).await;
    world.await_log(2).await;
    world.await_counted(1).await;
    consume.await_ready(200, "partition 0: ok").await;
}

/// A batch for which the broker's answer is known, and the records that it adds: dead letters, and events.
struct Case {
    name: &'static str,
    batch: Vec<u8>,
    error: i16,
    bad: i64,
    events: i64,
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Kafka's own error codes; brokers have none for what they cannot inflate.
const UNKNOWN: i16 = -1;
const CORRUPT: i16 = 2;
const TIMESTAMP: i16 = 32;
const INVALID: i16 = 87;

fn cases(is_stamped_by_broker: bool) -> Vec<Case> {
    let none = varint(0);
    let event = served("2024-02-29T12:00:00").to_string();
    let event = |delta| plain(delta, Some(event.as_bytes()), &none);
    let bad = |delta| plain(delta, Some(b"{}"), &none);
    let taken = |name, batch, bad, events| Case {
        name,
        batch,
        error: 0,
        bad,
        events,
    };
    let refused = |name, batch, error| Case {
        name,
        batch,
        error,
        bad: 0,
        events: 0,
    };
    let headers = |count: i64, one: &[u8]| [varint(count), one.repeat(count as usize)].concat();
    let large = plain(0, Some(&vec![b'x'; 100 << 20]), &none);
    let two = [event(0), event(1)].concat();
    vec![
        taken(
            "a header with an empty name",
            batch(0, 1, &plain(0, None, &headers(1, &[0, 0]))),
            1,
            0,
        ),
        taken(
            "names of headers that are not UTF-8, all the same",
            batch(0, 1, &plain(0, None, &headers(1_000, b"\x04\xff\xfe\x01"))),
            1,
            0,
        ),
        taken(
            "lengths below -1",
            batch(0, 1, &record(&[&none, &none, &varint(-9), &varint(-7), &none])),
            1,
            0,
        ),
        taken(
            "a number with bits beyond its size",
            batch(
                0,
                1,
                &record(&[&none, b"\x80\x80\x80\x80\x70", &varint(-1), &varint(-1), &none]),
            ),
            1,
            0,
        ),
        taken(
            "records that all say they are the first",
            batch(0, 3, &[event(0), event(0), bad(0)].concat()),
            1,
            2,
        ),
        taken(
            "records that say they are elsewhere",
            batch(0, 2, &[event(900), event(-5)].concat()),
            0,
            2,
        ),
        taken(
            "a time before 1970",
            batch(
                0,
                1,
                &record(&[&varint(-2_000_000_000_000), &none, &none, &none, &none]),
            ),
            1,
            0,
        ),
        Case {
            name: "a time at the beginning of all numbers",
            batch: batch(0, 1, &record(&[&varint(i64::MIN), &none, &none, &none, &none])),
            error: if is_stamped_by_broker { 0 } else { TIMESTAMP },
            bad: 1,
            events: 0,
        },
        refused(
            "compressed records that say they are elsewhere",
            batch(1, 2, &gzip(&[event(7), bad(7)].concat())),
            UNKNOWN,
        ),
        taken(
            "a codec in two streams",
            batch(1, 2, &[gzip(&event(0)), gzip(&event(1))].concat()),
            0,
            2,
        ),
        taken("100 MiB in some kilobytes", batch(1, 1, &gzip(&large)), 1, 0),
        refused("no records", batch(0, 0, b""), INVALID),
        refused("more records than it says", batch(0, 1, &two), INVALID),
        refused("fewer records than it says", batch(0, 3, &two), INVALID),
        refused("a transaction's end", batch(0x20, 1, &event(0)), INVALID),
        refused("no gzip", batch(1, 1, b"no gzip"), UNKNOWN),
        refused("gzip that is cut off", batch(1, 2, &gzip(&two)[..100]), UNKNOWN),
        refused("a codec to come", batch(5, 1, &event(0)), UNKNOWN),
        refused(
            "another checksum",
            {
                let mut batch = batch(0, 1, &event(0));
                batch[20] ^= 1;
                batch
            },
            CORRUPT,
        ),
        refused(
            "an old format",
            {
                let mut batch = batch(0, 1, &event(0));
                batch[16] = 1;
                batch
            },
            INVALID,
        ),
    ]
}

#[tokio::test]
async fn whatever_a_broker_takes_stops_nothing() {
    takes(&World::new("foreign"), true).await;
}

#[tokio::test]
async fn whatever_a_broker_takes_stops_nothing_where_senders_date_records() {
    takes(&World::new("foreign_dated"), false).await;
}

async fn takes(world: &World, is_stamped_by_broker: bool) {
    world.migrate(&["--partitions", "1"]).await;
    let stamps = ["CreateTime", "LogAppendTime"][usize::from(is_stamped_by_broker)];
    let setting = format!("message.timestamp.type={stamps}");
    configure_topic(&world.kafka, &world.name, &setting).await;
    let consume = world.consume(&[]).await;
    let (mut bad, mut events) = (0, 0);
    let mut wrong = Vec::new();
    for case in cases(is_stamped_by_broker) {
        let error = produce(&world.kafka, &world.name, 0, &case.batch).await;
        if error != case.error {
            wrong.push(format!("{}: error {error}", case.name));
        }
        if error == 0 {
            bad += case.bad;
            events += case.events;
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    world.await_log(bad + events).await;
    let kinds = "SELECT kind, toString(count()) FROM events GROUP BY kind ORDER BY kind";
    let wanted = [
        ["bad".to_string(), bad.to_string()],
        ["event".to_string(), events.to_string()],
    ];
    assert_eq!(world.sql(kinds).await, wanted);
    consume.await_ready(200, "partition 0: ok").await;
}
