//! Feeds the readers of Kafka's answers with whatever libFuzzer comes up with. None may panic, and a log that is read in
//! pieces must be the same log.

#![no_main]

/// The product's own modules.
#[allow(
    dead_code,
    unused_imports,
    reason = "the product's own modules, of which not all is fuzzed"
)]
#[path = "../../src/broker"]
mod broker {
    pub mod decompress;
    pub mod describe;
    pub mod fetch;
    pub mod metadata;
    pub mod produce;
    pub mod record_batch;
    pub mod records;
    pub mod timestamps;
}
#[path = "answer.rs"]
mod answer;

use answer::{Kind, WITH_BATCHES};
use broker::describe::TopicConfig;
use broker::fetch::FetchAnswer;
use broker::metadata::Described;
use broker::produce::Produced;
use broker::records::{Limits, Record, VALUE_BYTES_MAX};
use libfuzzer_sys::fuzz_target;
use rskafka::protocol::api_version::ApiVersion;
use rskafka::protocol::messages::{
    ApiVersionsResponse, CreateTopicsResponse, ListOffsetsResponse, ReadVersionedType, SaslAuthenticateResponse,
    SaslHandshakeResponse,
};
use rskafka::protocol::primitives::Int16;

/// Small, so that the limits are met often.
const WHOLE: Limits = Limits {
    records: 1 << 20,
    inflated: 256 << 10,
};
const PIECES: Limits = Limits {
    records: 1_000,
    ..WHOLE
};

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    match Kind::of(*kind) {
        Kind::Answer => {
            read::<Described>(bytes, 12);
            read::<Produced>(bytes, 7);
            read::<TopicConfig>(bytes, 1);
            // The driver's own.
            read::<ApiVersionsResponse>(bytes, 3);
            read::<ListOffsetsResponse>(bytes, 3);
            read::<CreateTopicsResponse>(bytes, 5);
            read::<SaslHandshakeResponse>(bytes, 1);
            read::<SaslAuthenticateResponse>(bytes, 1);
            records(bytes);
        }
        Kind::Batches => records(&WITH_BATCHES.around(bytes)),
        Kind::BatchesMadeWhole => records(&WITH_BATCHES.around(&answer::made_whole(bytes))),
    }
});

fn read<T: for<'a> ReadVersionedType<&'a [u8]>>(bytes: &[u8], version: i16) -> Option<T> {
    let mut rest = bytes;
    T::read_versioned(&mut rest, ApiVersion(Int16(version))).ok()
}

fn records(answer: &[u8]) {
    let take = |from, limits| {
        let answer = read::<FetchAnswer>(answer, 13)?;
        answer.records(from, limits).ok()
    };
    let Some((whole, end)) = take(0, WHOLE) else {
        return;
    };
    check(&whole, 0, end, WHOLE);
    let mut pieces: Vec<Record> = Vec::new();
    let mut next = 0;
    // As much as there is, or so much that it does not take long.
    while next < end && pieces.len() < 100 {
        let Some((piece, after)) = take(next, PIECES) else {
            return; // damage that lies behind what was read at once
        };
        check(&piece, next, after, PIECES);
        assert!(after > next || piece.is_empty());
        if after == next {
            break;
        }
        pieces.extend(piece);
        next = after;
    }
    let compared = pieces.len().min(whole.len());
    assert_eq!(pieces[..compared], whole[..compared]);
}

/// What holds for all that is read.
fn check(records: &[Record], from: i64, next: i64, limits: Limits) {
    let offsets: Vec<_> = records.iter().map(|record| record.offset).collect();
    assert!(offsets.is_sorted_by(|one, other| one < other), "{offsets:?}");
    assert!(offsets.first().is_none_or(|first| *first >= from));
    assert!(offsets.last().is_none_or(|last| *last < next));
    let bytes = |record: &Record| record.value.as_ref().map_or(0, Vec::len);
    let all: usize = records.iter().map(bytes).sum();
    let last = records.last().map_or(0, bytes);
    assert!(last as u64 <= VALUE_BYTES_MAX && all - last <= limits.records);
}
