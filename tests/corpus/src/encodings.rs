//! Content types and encodings, whose bodies are made here.

use std::io::Write as _;

use crate::gzip;
use crate::script::{Case, Step, body_case, event};

const JSON: &str = "application/json";

/// Each content type with what it must be answered; `\n` begins another header.
const TYPES: [(&str, &str); 24] = [
    ("application/json", "200"),
    ("Application/JSON", "200"),
    ("application/json;charset=utf-8", "200"),
    ("application/json ; charset=\"UTF-8\"", "200"),
    ("application/json; profile=x; charset=Utf-8", "200"),
    ("application/json;", "200"),
    ("application/x-ndjson", "200"),
    ("application/ndjson", "200"),
    ("application/jsonl", "200"),
    ("application/json; charset=latin1", "415"),
    ("application/json; charset=utf-16", "415"),
    ("application/json; charset=", "415"),
    ("application/json; charset=utf-8; charset=utf-16", "415"),
    ("application/json, text/plain", "415"),
    ("application/json\ncontent-type: application/json", "415"),
    ("text/json", "415"),
    ("text/plain", "415"),
    ("application/json-seq", "415"),
    ("application/vnd.api+json", "415"),
    ("application/x-www-form-urlencoded", "415"),
    ("multipart/form-data; boundary=x", "415"),
    ("", "415"),
    ("\u{e4}", "415"),
    ("json", "415"),
];

/// Content encodings of a body that has none in truth.
const CODINGS: [(&str, &str); 14] = [
    ("identity", "200"),
    ("", "200"),
    ("identity, identity", "200"),
    ("gzip", "400"),
    ("zstd", "400"),
    ("deflate", "415"),
    ("br", "415"),
    ("compress", "415"),
    ("zstd, gzip", "415"),
    ("gzip, gzip", "415"),
    ("gzip\ncontent-encoding: gzip", "415"),
    ("gzip;q=1.0", "415"),
    ("\"gzip\"", "415"),
    ("*", "415"),
];

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

/// A stream, which does not say how large it becomes, with a window of `1 << log` bytes.
fn zstd_with_window(bytes: &[u8], log: u32) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(log).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Bytes that were changed at one place.
fn with_byte(mut bytes: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    bytes[at] = byte;
    bytes
}

fn cut(bytes: &[u8], by: usize) -> Vec<u8> {
    bytes[..bytes.len() - by].to_vec()
}

/// A body that says it is encoded.
struct Row {
    name: &'static str,
    coding: &'static str,
    body: Vec<u8>,
    status: &'static str,
    /// The correlation id of the event in it, if it must be stored.
    id: Option<String>,
}

/// One that must be accepted, of an event of its own.
fn good(name: &'static str, coding: &'static str, encode: impl Fn(&[u8]) -> Vec<u8>) -> Row {
    let id = uuid::Uuid::now_v7().to_string();
    Row {
        name,
        coding,
        body: encode(&event(&id)),
        status: "200",
        id: Some(id),
    }
}

fn bad(name: &'static str, coding: &'static str, body: Vec<u8>, status: &'static str) -> Row {
    Row {
        name,
        coding,
        body,
        status,
        id: None,
    }
}

fn odd() -> Vec<Row> {
    let halves = |encode: fn(&[u8]) -> Vec<u8>, event: &[u8], between: Vec<u8>| {
        [encode(&event[..70]), between, encode(&event[70..])].concat()
    };
    let skippable = b"\x50\x2a\x4d\x18\x01\0\0\0x";
    vec![
        good("gzip", "gzip", gzip),
        good("gzip in capitals", "GZIP", gzip),
        good("an old name of gzip", "x-gzip", gzip),
        good("gzip and nothing", "identity, gzip", gzip),
        good("two members", "gzip", |event| halves(gzip, event, Vec::new())),
        good("an empty member between", "gzip", |event| {
            halves(gzip, event, gzip(b""))
        }),
        good("zstd", "zstd", zstd),
        good("two frames", "zstd", |event| halves(zstd, event, Vec::new())),
        good("a skippable frame between", "zstd", |event| {
            halves(zstd, event, skippable.to_vec())
        }),
        good("a window of 8 MiB", "zstd", |event| zstd_with_window(event, 23)),
    ]
}

fn broken() -> Vec<Row> {
    let evil = event(&uuid::Uuid::now_v7().to_string());
    let (gz, zst) = (gzip(&evil), zstd(&evil));
    let end = gz.len();
    let with = |at: usize, byte: u8| with_byte(gz.clone(), at, byte);
    let and = |more: &[u8]| [&gz[..], more].concat();
    let no_such_dictionary = b"\x28\xb5\x2f\xfd\x23\x07\0\0\0\x01\x01\0\0";
    let rows = [
        ("a window of 16 MiB", "zstd", zstd_with_window(&evil, 24)),
        ("a window of 128 MiB", "zstd", zstd_with_window(&evil, 27)),
        ("gzip twice, said once", "gzip", gzip(&gz)),
        ("zstd that says gzip", "gzip", zst.clone()),
        ("gzip that says zstd", "zstd", gz.clone()),
        ("zlib that says gzip", "gzip", zlib(&evil)),
        ("gzip that says nothing", "identity", gz.clone()),
        ("an empty gzip", "gzip", gzip(b"")),
        ("an empty zstd", "zstd", zstd(b"")),
        ("gzip of no bytes at all", "gzip", Vec::new()),
        ("zstd of no bytes at all", "zstd", Vec::new()),
        ("gzip without its last byte", "gzip", cut(&gz, 1)),
        ("gzip without its sum and size", "gzip", cut(&gz, 8)),
        ("gzip cut in the middle", "gzip", cut(&gz, end / 2)),
        ("only the first bytes of gzip", "gzip", gz[..4].to_vec()),
        ("gzip with a wrong sum", "gzip", with(end - 8, gz[end - 8] ^ 1)),
        ("gzip with a wrong size", "gzip", with(end - 4, gz[end - 4] ^ 1)),
        ("gzip of another method", "gzip", with(2, 7)),
        ("gzip with flags that mean nothing", "gzip", with(3, 0xe0)),
        ("gzip with a name that has no end", "gzip", with(3, 0x08)),
        ("gzip with an extra field that is not there", "gzip", with(3, 0x04)),
        ("gzip with a sum of its head that is wrong", "gzip", with(3, 0x02)),
        ("gzip and garbage", "gzip", and(b"garbage")),
        ("gzip and zeros, as tar pads it", "gzip", and(&[0; 512])),
        ("gzip and an event in the clear", "gzip", and(&evil)),
        ("two members, the second broken", "gzip", and(&cut(&gz, 1))),
        ("zstd without its last byte", "zstd", cut(&zst, 1)),
        ("zstd and garbage", "zstd", [&zst[..], b"garbage"].concat()),
        (
            "zstd of a dictionary that nobody has",
            "zstd",
            no_such_dictionary.to_vec(),
        ),
        ("zstd of an old version", "zstd", with_byte(zst, 0, 0x27)),
    ];
    rows.map(|(name, coding, body)| bad(name, coding, body, "400")).into()
}

/// Each inflates to more than the 4 MiB that a body may have.
fn bombs() -> Vec<Row> {
    let evil = event(&uuid::Uuid::now_v7().to_string());
    let mebibyte = vec![b' '; 1 << 20];
    let large = mebibyte.repeat(8);
    let rows = [
        ("a gzip bomb", "gzip", gzip(&large)),
        ("a gzip bomb of many members", "gzip", gzip(&mebibyte).repeat(8)),
        ("a zstd bomb", "zstd", zstd(&large)),
        ("a zstd bomb of many frames", "zstd", zstd(&mebibyte).repeat(8)),
        ("a zstd bomb of an event", "zstd", zstd(&[evil, large].concat())),
    ];
    rows.map(|(name, coding, body)| bad(name, coding, body, "413")).into()
}

fn encoded(row: Row) -> Case {
    let headers = format!("{JSON}\ncontent-encoding: {}", row.coding);
    let mut case = body_case(row.name, &headers, "", row.status);
    let Some(Step::Send(head)) = case.steps.pop() else {
        panic!("{}", row.name);
    };
    let head = String::from_utf8(head).unwrap();
    let head = head.replace("length: 0", &format!("length: {}", row.body.len()));
    let request = [head.as_bytes(), &row.body].concat();
    case.steps.push(Step::Send(request));
    case.stored.extend(row.id);
    case
}

/// All of them.
pub fn cases() -> Vec<Case> {
    let event = |status| if status == "200" { "<EVENT>" } else { "<EVIL>" };
    let types = TYPES.iter().map(|(content_type, status)| {
        body_case(
            &format!("content-type: {content_type}"),
            content_type,
            event(*status),
            status,
        )
    });
    let codings = CODINGS.iter().map(|(coding, status)| {
        let headers = format!("{JSON}\ncontent-encoding: {coding}");
        body_case(&format!("content-encoding: {coding}"), &headers, event(*status), status)
    });
    let rows = [odd(), broken(), bombs()].into_iter().flatten();
    types.chain(codings).chain(rows.map(encoded)).collect()
}
