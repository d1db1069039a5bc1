//! Record batches made by hand, with whatever in them, and the request that writes them as they are.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Seven bits a byte, the lowest first, small numbers of either sign as small numbers.
pub fn varint(number: i64) -> Vec<u8> {
    let mut number = ((number << 1) ^ (number >> 63)) as u64;
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// A field with its length before it.
pub fn field(bytes: Option<&[u8]>) -> Vec<u8> {
    match bytes {
        Some(bytes) => [&varint(bytes.len() as i64)[..], bytes].concat(),
        None => varint(-1),
    }
}

/// A record that is made of the parts after its attributes, with its length before it.
pub fn record(parts: &[&[u8]]) -> Vec<u8> {
    field(Some(&[&[0], &parts.concat()[..]].concat()))
}

/// A record without a key at a place of its batch: a value, and headers as they are, behind their number.
pub fn plain(delta: i64, value: Option<&[u8]>, headers: &[u8]) -> Vec<u8> {
    record(&[&varint(0), &varint(delta), &varint(-1), &field(value), headers])
}

/// A batch of now, with a checksum that fits. Retention takes older ones before they are read.
pub fn batch(attributes: i16, count: i32, records: &[u8]) -> Vec<u8> {
    let mut body = attributes.to_be_bytes().to_vec();
    body.extend((count - 1).to_be_bytes());
    for millis in [chrono::Utc::now().timestamp_millis(); 2] {
        body.extend(millis.to_be_bytes());
    }
    body.extend([0xff; 14]); // no producer
    body.extend(count.to_be_bytes());
    body.extend(records);
    let mut batch = vec![0; 8];
    batch.extend((body.len() as i32 + 9).to_be_bytes());
    batch.extend([0xff; 4]);
    batch.push(2);
    batch.extend(crc32c::crc32c(&body).to_be_bytes());
    batch.extend(body);
    batch
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
