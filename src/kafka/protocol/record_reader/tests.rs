use captcha_corpus::record_batch::{self, Header, field, varint};
use captcha_corpus::{gzip, recordings};

use super::*;
use crate::kafka::protocol::record_batch::LogEntry;

const FIRST_MILLIS: i64 = 1_700_000_000_000;

/// A batch at offset 100.
fn batch(attributes: i16, last_offset_delta: i32, records_count: i32, records: &[u8]) -> Vec<u8> {
    let header = Header {
        base_offset: 100,
        attributes,
        last_offset_delta,
        base_timestamp_millis: FIRST_MILLIS,
        max_timestamp_millis: FIRST_MILLIS + 9,
        records_count,
    };
    header.batch(records)
}

/// A record without a key and headers, its time as far from the first as its place.
fn record(delta: i64, value: &[u8]) -> Vec<u8> {
    let delta = varint(delta);
    record_batch::record(&[&delta, &delta, &field(None), &field(Some(value)), &varint(0)])
}

/// The records of some batches from an offset on, and where to go on.
fn read(mut bytes: &[u8], from: Offset, limits: ReadLimits) -> (Vec<Record>, Offset) {
    let mut buffer = RecordBuffer::new(limits);
    let mut next = from;
    while let Some(entry) = LogEntry::split(&mut bytes).unwrap() {
        match entry {
            LogEntry::Batch(batch) if batch.is_control() => next = batch.last_offset + 1,
            LogEntry::Batch(batch) => next = batch.read_records(from, &mut buffer).unwrap(),
            LogEntry::Legacy(message) => message.read_record(from, &mut buffer),
        }
    }
    (buffer.records, next)
}

fn all(bytes: &[u8]) -> Vec<Record> {
    read(bytes, Offset::ZERO, ReadLimits::DEFAULT).0
}

/// Offset and value, or why there is none.
fn offsets_and_texts(records: &[Record]) -> Vec<(i64, String)> {
    let text = |record: &Record| {
        let value = record.value.as_deref().map(String::from_utf8_lossy);
        let value = value.map_or("none".into(), String::from);
        record.read_error.clone().unwrap_or(value)
    };
    records
        .iter()
        .map(|record| (record.offset.get(), text(record)))
        .collect()
}

#[test]
fn what_real_clients_write_is_read() {
    let long = "v".repeat(2000);
    let five = ["plain", "no key", "none", "", &long];
    let files = recordings::record_batches();
    assert_eq!(files.len(), 20);
    for (name, bytes) in files {
        let records = all(&bytes);
        let wanted: Vec<(i64, &str)> = match name.as_str() {
            // Between them lie the ends of the transactions.
            "java-transactions" => vec![(0, "kept"), (2, "aborted"), (4, "kept too")],
            _ => (0..).zip(five).collect(),
        };
        let wanted: Vec<_> = wanted.into_iter().map(|(at, text)| (at, text.to_string())).collect();
        assert_eq!(offsets_and_texts(&records), wanted, "{name}");
        let times: Vec<_> = records.iter().map(|record| record.timestamp_millis).collect();
        let first = times[0];
        assert!(
            times.iter().all(|millis| (first..first + 60_000).contains(millis)),
            "{name}: {times:?}"
        );
        // Of some bytes that changed, each is noticed, but for the offset and what the leader writes.
        for at in 16..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            let mut rest = damaged.as_slice();
            let mut whole = true;
            while whole && !rest.is_empty() {
                whole = matches!(LogEntry::split(&mut rest), Ok(Some(_)));
            }
            assert!(!whole || name == "java-transactions", "{name}: {at}");
        }
    }
}

#[test]
fn records_have_the_offsets_that_the_broker_counted() {
    let wrong = [record(7, b"a"), record(-7, b"b"), record(0, b"c")].concat();
    let wanted = [(100, "a"), (101, "b"), (102, "c")].map(|(at, text)| (at, text.to_string()));
    assert_eq!(offsets_and_texts(&all(&batch(0, 2, 3, &wrong))), wanted);
}

#[test]
fn what_was_compacted_away_is_a_hole() {
    let kept = [record(1, b"b"), record(4, b"e")].concat();
    let (records, next) = read(&batch(0, 5, 2, &kept), Offset::ZERO, ReadLimits::DEFAULT);
    assert_eq!(
        offsets_and_texts(&records),
        [(101, "b".to_string()), (104, "e".to_string())]
    );
    assert_eq!(records[1].timestamp_millis, FIRST_MILLIS + 4);
    assert_eq!(next, Offset::new(106));
    assert_eq!(
        read(&batch(0, 5, 0, b""), Offset::ZERO, ReadLimits::DEFAULT),
        (Vec::new(), Offset::new(106))
    );
    // More than there are offsets.
    assert_eq!(offsets_and_texts(&all(&batch(0, 1, 3, &record(1, b"b")))).len(), 1);
    // Which offsets the rest has is not known.
    for (last_delta, wrong) in [
        (5, [record(4, b"e"), record(1, b"b")]),
        (2, [record(0, b"e"), record(3, b"b")]),
    ] {
        let records = all(&batch(0, last_delta, 2, &wrong.concat()));
        assert_eq!(records.len(), 2);
        assert_eq!(records[1].offset, Offset::new(100 + i64::from(last_delta)));
        let reason = records[1].read_error.as_ref().unwrap();
        assert!(reason.contains("a record that says it is at"), "{reason}");
    }
}

#[test]
fn an_unreadable_record_is_returned_with_its_error() {
    let good = record(0, b"good");
    let cases = [
        (0, [&good[..], b"\x0a"].concat(), "ends in the middle"),
        (0, [&good[..], &varint(-3)].concat(), "a negative length"),
        (0, [&good[..], b"\x02\0"].concat(), "ends in the middle"),
        (
            0,
            [&good[..], b"\xff\xff\xff\xff\xff\xff"].concat(),
            "a number that does not end",
        ),
        (0, [&good[..], b"\x10\0\0\0\x01\x50abc"].concat(), "ends in the middle"),
        (1, gzip(&good), "ends in the middle"),
        (1, gzip(&good)[..20].to_vec(), ""),
        (2, b"no snappy".to_vec(), ""),
        (3, b"no lz4".to_vec(), ""),
        (4, b"no zstd".to_vec(), ""),
    ];
    for (codec, records, why) in cases {
        let records = all(&batch(codec, 2, 3, &records));
        let offsets: Vec<_> = records.iter().map(|record| record.offset.get()).collect();
        assert_eq!(offsets, [100, 101, 102], "{codec} {why}");
        let last = records[2].read_error.as_ref().unwrap();
        assert!(
            last.starts_with("the batch of 100 to 102 cannot be read from here on: "),
            "{last}"
        );
        assert!(last.contains(why), "{last}");
        assert_eq!((&records[2].value, records[2].timestamp_millis), (&None, FIRST_MILLIS));
    }
    let negative = all(&batch(0, 5, -1, &good));
    assert_eq!(offsets_and_texts(&negative)[0].0, 105);
    assert_eq!(negative.len(), 1);
}

#[test]
fn an_unknown_codec_is_an_error_of_the_batch() {
    let bytes = batch(5, 0, 1, &record(0, b"a"));
    let Some(LogEntry::Batch(batch)) = LogEntry::split(&mut bytes.as_slice()).unwrap() else {
        panic!("no batch");
    };
    let reason = batch
        .read_records(Offset::ZERO, &mut RecordBuffer::new(ReadLimits::DEFAULT))
        .unwrap_err();
    assert!(reason.to_string().contains("the codec 5"), "{reason}");
}

#[test]
fn a_large_batch_comes_in_pieces() {
    let records: Vec<_> = (0..50).flat_map(|number| record(number, &[b'x'; 100])).collect();
    let bytes = batch(1, 49, 50, &gzip(&records));
    let limits = ReadLimits {
        record_bytes: 1_000,
        ..ReadLimits::DEFAULT
    };
    let (mut next, mut pieces, mut seen) = (Offset::new(100), 0, Vec::new());
    while next < Offset::new(150) {
        let (records, after) = read(&bytes, next, limits);
        assert_eq!(records.first().map(|record| record.offset), Some(next));
        assert_eq!(records.last().map(|record| record.offset + 1), Some(after));
        assert!(records.len() < 10);
        seen.extend(records);
        (next, pieces) = (after, pieces + 1);
    }
    assert!(pieces >= 6, "{pieces}");
    assert_eq!(seen, all(&bytes));
}

#[test]
fn a_batch_that_decompresses_without_end_is_read_up_to_a_limit() {
    let records: Vec<_> = (0..3).flat_map(|number| record(number, &[b'x'; 100_000])).collect();
    let bytes = batch(1, 2, 3, &gzip(&records));
    let limits = ReadLimits {
        decompressed_bytes: 150_000,
        ..ReadLimits::DEFAULT
    };
    // A reader that begins later finds the same.
    for from in 0..3 {
        let (records, next) = read(&bytes, Offset::new(100 + from), limits);
        let read_error: Vec<_> = records.iter().map(|record| record.read_error.is_some()).collect();
        assert_eq!(read_error, [false, true, true][from as usize..]);
        assert!(
            offsets_and_texts(&records)[2 - from as usize]
                .1
                .ends_with("it inflates to more than is read")
        );
        assert_eq!(next, Offset::new(103));
    }
}

#[test]
fn the_beginning_of_a_long_value_is_read() {
    let most = VALUE_BYTES_MAX as usize;
    for (length, is_whole) in [(most, true), (most + 1, false)] {
        let records = [record(0, &vec![b'x'; length]), record(1, b"after")].concat();
        let records = all(&batch(0, 1, 2, &records));
        assert_eq!(records[0].value.as_ref().map(Vec::len), Some(most));
        assert_eq!(records[0].read_error.is_none(), is_whole, "{:?}", records[0].read_error);
        assert_eq!(offsets_and_texts(&records)[1], (101, "after".to_string()));
    }
}

#[test]
fn a_legacy_message_is_one_record() {
    for magic in [0_u8, 1] {
        let mut body = vec![magic, 0];
        if magic == 1 {
            body.extend(FIRST_MILLIS.to_be_bytes());
        }
        body.extend(b"\xff\xff\xff\xff\0\0\0\x02{}");
        let mut crc = flate2::Crc::new();
        crc.update(&body);
        let mut message = 7_i64.to_be_bytes().to_vec();
        message.extend((body.len() as i32 + 4).to_be_bytes());
        message.extend(crc.sum().to_be_bytes());
        message.extend(body);
        let records = all(&message);
        assert_eq!(
            offsets_and_texts(&records),
            [(7, "a message in a format from before Kafka 0.11".to_string())]
        );
        assert_eq!(records[0].timestamp_millis, i64::from(magic) * FIRST_MILLIS);
        assert_eq!(records[0].value.as_ref(), Some(&message));
        assert!(read(&message, Offset::new(8), ReadLimits::DEFAULT).0.is_empty());
        *message.last_mut().unwrap() ^= 1;
        assert!(LogEntry::split(&mut message.as_slice()).is_err(), "damage");
    }
}
