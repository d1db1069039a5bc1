use std::io::{self, Cursor};
use std::time::Duration;

use captcha_corpus::recordings;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::clickhouse::Connection;

const QUESTION: &str = "SELECT question";

/// The greeting of ClickHouse 26.7.
const GREETING: &[u8] = b"\0\x0aClickHouse\x1a\x07\xd7\xa9\x03\x03UTC\x04host\x03";

/// A data packet of a block, compressed.
fn data(block: &[u8]) -> Vec<u8> {
    let inflated = lz4::block::compress(block, None, false).unwrap();
    let mut frame = vec![0x82];
    frame.extend((inflated.len() as u32 + 9).to_le_bytes());
    frame.extend((block.len() as u32).to_le_bytes());
    frame.extend(inflated);
    let checksum = cityhash_rs::cityhash_102_128(&frame);
    let mut packet = vec![1, 0];
    packet.extend(((checksum >> 64) as u64).to_le_bytes());
    packet.extend((checksum as u64).to_le_bytes());
    packet.extend(frame);
    packet
}

fn integer(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn text(text: &str) -> Vec<u8> {
    [integer(text.len() as u64), text.as_bytes().to_vec()].concat()
}

fn block(columns: u64, rows: u64, rest: &[u8]) -> Vec<u8> {
    let mut block = vec![1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0];
    block.extend(integer(columns));
    block.extend(integer(rows));
    block.extend(rest);
    block
}

/// The error of a query that a server answers with these bytes.
async fn answered(answer: Vec<u8>) -> String {
    ask(answer, true).await.expect_err("it was taken")
}

/// The values, or the error, of a query that a server answers with these bytes before it hangs up.
async fn answered_and_closed(answer: Vec<u8>) -> Result<Vec<u8>, String> {
    ask(answer, false).await
}

async fn ask(answer: Vec<u8>, stays: bool) -> Result<Vec<u8>, String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = [0; 4096];
        // Its greeting; then what the driver sets; then the question.
        for said in [GREETING, &[5]] {
            assert!(stream.read(&mut heard).await.unwrap() > 0);
            stream.write_all(said).await.unwrap();
        }
        let mut question = Vec::new();
        while !question.windows(QUESTION.len()).any(|part| part == QUESTION.as_bytes()) {
            assert!(stream.read_buf(&mut question).await.unwrap() > 0);
        }
        let _ = stream.write_all(&answer).await;
        while stays && stream.read(&mut heard).await.is_ok_and(|read| read > 0) {}
    });
    let ask = async {
        let connection = Connection::open(&address, None, "default", "", "captcha").await?;
        connection.query_values::<u8>(QUESTION).await
    };
    let rows = timeout(Duration::from_secs(60), ask).await;
    server.await.unwrap();
    let rows = rows.expect("nothing ended it");
    rows.map_err(|err| err.to_string().replace(&address, "ADDRESS"))
}

#[tokio::test]
async fn a_server_that_lies_ends_its_connection_and_not_the_process() {
    let deep = format!("{}Int64{}", "Array(".repeat(100_000), ")".repeat(100_000));
    let lying_column = [text("x"), text("Int64")].concat();
    let mut frame = data(b"");
    frame[19..23].copy_from_slice(&0x4000_0000_u32.to_le_bytes());
    for (answer, reason) in [
        (
            data(&block(1, 1 << 30, &lying_column)),
            "a block of more than 1048576 rows",
        ),
        (data(&block(0, 1 << 20, b"")), "rows without a column"),
        (
            data(&block(64, 1 << 20, &lying_column)),
            "a block of more than 4194304 values",
        ),
        (
            data(&block(1, 1, &[text("x"), text(&deep)].concat())),
            "a column of type \"Array(Array(",
        ),
        (
            data(&block(1, 1, &[text("x"), text("String"), integer(1 << 29)].concat())),
            "a block of more than 134217728 bytes in a value",
        ),
        (frame, "a frame of 1073741824 for 0 bytes"),
        (vec![10, 0], "a packet of kind 10"),
        (
            [vec![2, 0, 0, 0, 0], integer(1 << 29)].concat(),
            "a text of more than 1048576 bytes",
        ),
    ] {
        let said = answered(answer).await;
        let expected = format!("clickhouse at ADDRESS sent {reason}");
        assert!(said.starts_with(&expected), "{said}");
    }
}

#[tokio::test]
async fn an_answer_without_end_ends() {
    let rows = [text("x"), text("UInt8"), vec![0; 60_000]].concat();
    let blocks = data(&block(1, 60_000, &rows)).repeat(2);
    let said = answered(blocks).await;
    let expected = "clickhouse at ADDRESS gave more than 100000 rows for a few";
    assert!(said.starts_with(expected), "{said}");
}

#[tokio::test]
async fn an_answer_that_is_cut_short_is_not_taken_for_a_whole_one() {
    let rows = [text("x"), text("UInt8"), vec![7; 3]].concat();
    let some = data(&block(1, 3, &rows));
    let cut = vec![
        some.clone(),
        Vec::new(),
        [some.clone(), vec![3, 0, 0, 0, 0, 0]].concat(),
    ];
    for answer in cut {
        let said = answered_and_closed(answer).await.unwrap_err();
        let expected = "clickhouse at ADDRESS closed the connection in the middle of an answer";
        assert!(said.starts_with(expected), "{said}");
    }
    let whole = [some, vec![5]].concat();
    assert_eq!(answered_and_closed(whole).await, Ok(vec![7; 3]));
}

#[tokio::test]
async fn what_a_server_sends_is_handed_over_as_it_came() {
    let streams = recordings::clickhouse_streams();
    assert_eq!(streams.len(), 9);
    for (name, stream) in streams {
        let (mut checked, received) = super::check(Cursor::new(stream.clone()));
        let mut passed = Vec::new();
        let end = checked.read_to_end(&mut passed).await;
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(received.reason(), None, "{name}");
        assert!(passed == stream, "{name}: {} bytes", passed.len());
    }
}
