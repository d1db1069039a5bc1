//! Feeds the readers of Kafka's responses with whatever libFuzzer comes up with. None may panic, and a log that is read in
//! pieces must be the same log.

#![no_main]

use captcha::parsers::{
    DescribeConfigsResponse, FetchResponse, MetadataResponse, Offset, ProduceResponse, ReadLimits, Record,
    VALUE_BYTES_MAX,
};
use captcha_fuzz::fetch_response::{self, Form};
use libfuzzer_sys::fuzz_target;
use rskafka::protocol::api_version::ApiVersion;
use rskafka::protocol::messages::{
    ApiVersionsResponse, CreateTopicsResponse, ListOffsetsResponse, ReadVersionedType, SaslAuthenticateResponse,
    SaslHandshakeResponse,
};
use rskafka::protocol::primitives::Int16;

/// Small, so that the limits are met often.
const WHOLE: ReadLimits = ReadLimits {
    record_bytes: 1 << 20,
    decompressed_bytes: 256 << 10,
};
const PIECES: ReadLimits = ReadLimits {
    record_bytes: 1_000,
    ..WHOLE
};

fuzz_target!(|bytes: &[u8]| {
    let Some((form, bytes)) = bytes.split_first() else {
        return;
    };
    match Form::from(*form) {
        Form::Response => {
            read::<MetadataResponse>(bytes, 12);
            read::<ProduceResponse>(bytes, 7);
            read::<DescribeConfigsResponse>(bytes, 1);
            // The driver's own.
            read::<ApiVersionsResponse>(bytes, 3);
            read::<ListOffsetsResponse>(bytes, 3);
            read::<CreateTopicsResponse>(bytes, 5);
            read::<SaslHandshakeResponse>(bytes, 1);
            read::<SaslAuthenticateResponse>(bytes, 1);
            records(bytes);
        }
        Form::Batches => records(&fetch_response::around(bytes)),
        Form::BatchesWithoutChecksums => {
            records(&fetch_response::around(&fetch_response::with_checksums(bytes)));
        }
    }
});

fn read<T: for<'a> ReadVersionedType<&'a [u8]>>(bytes: &[u8], version: i16) -> Option<T> {
    let mut rest = bytes;
    T::read_versioned(&mut rest, ApiVersion(Int16(version))).ok()
}

fn records(response: &[u8]) {
    let take = |from, limits| {
        let response = read::<FetchResponse>(response, 13)?;
        response.records(from, limits).ok()
    };
    let Some((whole, end)) = take(Offset::ZERO, WHOLE) else {
        return;
    };
    check(&whole, Offset::ZERO, end, WHOLE);
    let mut pieces: Vec<Record> = Vec::new();
    let mut next = Offset::ZERO;
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
fn check(records: &[Record], from: Offset, next: Offset, limits: ReadLimits) {
    let offsets: Vec<_> = records.iter().map(|record| record.offset).collect();
    assert!(offsets.is_sorted_by(|one, other| one < other), "{offsets:?}");
    assert!(offsets.first().is_none_or(|first| *first >= from));
    assert!(offsets.last().is_none_or(|last| *last < next));
    let bytes = |record: &Record| record.value.as_ref().map_or(0, Vec::len);
    let all: usize = records.iter().map(bytes).sum();
    let last = records.last().map_or(0, bytes);
    assert!(last as u64 <= VALUE_BYTES_MAX && all - last <= limits.record_bytes);
}
