//! Record batches made by hand, with whatever in them, and the request that writes them as they are.

use captcha_corpus::record_batch::{Header, field, record, varint};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A record without a key at a place of its batch: a value, and headers as they are, behind their number.
pub fn plain(delta: i64, value: Option<&[u8]>, headers: &[u8]) -> Vec<u8> {
    record(&[&varint(0), &varint(delta), &varint(-1), &field(value), headers])
}

/// A batch of now. Retention takes older ones before they are read.
pub fn batch(attributes: i16, count: i32, records: &[u8]) -> Vec<u8> {
    let now = chrono::Utc::now().timestamp_millis();
    let header = Header {
        base_offset: 0,
        attributes,
        last_offset_delta: count - 1,
        base_timestamp_millis: now,
        max_timestamp_millis: now,
        records_count: count,
    };
    header.batch(records)
}

/// Writes a batch to a partition; Kafka's error code, 0 for none.
pub async fn produce(kafka: &str, topic: &str, partition: i32, batch: &[u8]) -> i16 {
    let mut request = Vec::new();
    for number in [0_i16, 7] {
        request.extend(number.to_be_bytes()); // Produce, version 7
    }
    request.extend([0, 0, 0, 1, 0xff, 0xff]); // no name of the client
    request.extend([0xff; 4]); // no transaction, all replicas
    request.extend(30_000_i32.to_be_bytes());
    request.extend(1_i32.to_be_bytes());
    request.extend((topic.len() as i16).to_be_bytes());
    request.extend(topic.as_bytes());
    for number in [1, partition, batch.len() as i32] {
        request.extend(number.to_be_bytes());
    }
    request.extend(batch);
    let mut tcp = TcpStream::connect(kafka).await.unwrap();
    let length = (request.len() as i32).to_be_bytes();
    tcp.write_all(&[&length[..], &request].concat()).await.unwrap();
    let length = tcp.read_i32().await.unwrap();
    let mut answer = vec![0; length as usize];
    tcp.read_exact(&mut answer).await.unwrap();
    // After the request's number, a topic and a partition.
    let error = 4 + 4 + 2 + topic.len() + 4 + 4;
    i16::from_be_bytes([answer[error], answer[error + 1]])
}
