//! All at once, with the memory of a pod: what each attack takes adds up, and the client beside them must not notice.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{GET, Siege, connections, http2};
use crate::client::connect_from;
use captcha_corpus::gzip;

/// The limit of a pod of serve in k8s/base.
const POD_BYTES: u64 = 512 << 20;

/// What is to be left of it.
const ROOM_BYTES: u64 = 64 << 20;

/// What may stay of it afterwards, once the allocator has given back what nobody uses.
const LEFT_BYTES: u64 = 48 << 20;

/// How long all is held, once it is there.
const HELD: Duration = Duration::from_secs(10);

/// What attackers have open.
type Held = JoinSet<Vec<TcpStream>>;

/// From which address each attack comes.
#[derive(Clone, Copy)]
enum From {
    One,
    Many,
}

impl From {
    fn address(self, number: u8) -> u8 {
        match self {
            From::One => 10,
            From::Many => 10 + number,
        }
    }
}

/// Opens connections one after the other, and sends the same on each; those that are refused are dropped.
fn open(held: &mut Held, source: u8, address: &str, count: usize, bytes: Vec<u8>) {
    let address = address.to_string();
    held.spawn(async move {
        let mut streams = Vec::new();
        for _ in 0..count {
            let Ok(mut stream) = connect_from(source, &address).await else {
                continue;
            };
            // As much as is taken without a pause.
            let write = stream.write_all(&bytes);
            let _ = tokio::time::timeout(Duration::from_millis(200), write).await;
            streams.push(stream);
        }
        streams
    });
}

fn post(headers: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("POST /v1/events HTTP/1.1\r\nhost: captcha\r\ncontent-type: application/json\r\n{headers}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// A handshake, and a text message of 2 MiB without its last byte.
fn half_a_message() -> Vec<u8> {
    let handshake = b"GET /v1/events/stream HTTP/1.1\r\nhost: captcha\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let bytes = 2_u64 << 20;
    let mut frame = vec![0x81, 0x80 | 127];
    frame.extend(bytes.to_be_bytes());
    frame.extend([0; 4]);
    frame.resize(frame.len() + bytes as usize - 1, b' ');
    [&handshake[..], &frame].concat()
}

/// Holds what attackers have opened for a while, then lets go of it: there must be room at the peak, and little left.
async fn withstand(siege: Siege, held: Held) {
    let streams = held.join_all().await;
    tokio::time::sleep(HELD).await;
    siege.await_bystander().await;
    let open: usize = streams.iter().map(Vec::len).sum();
    drop(streams);
    siege.await_given_back(LEFT_BYTES >> 10).await;
    let stopped_by = format!("--memory-bytes-max, against {open} connections");
    siege.end((POD_BYTES - ROOM_BYTES) >> 20, &stopped_by).await;
}

async fn all_at_once(name: &'static str, from: From) {
    let siege = Siege::begin_within(name, &[], true, Some(POD_BYTES)).await;
    let address = &siege.serve.address;
    let mut held = Held::new();
    let slow_head = b"POST /v1/events HTTP/1.1\r\nx: ".to_vec();
    for number in 0..4 {
        let count = connections(7_900) / 4;
        open(&mut held, from.address(number), address, count, slow_head.clone());
    }
    let no_window = http2::hello(&http2::NO_WINDOW);
    let unread: Vec<u8> = (0..100).flat_map(http2::get_stream).collect();
    let unread = [no_window, unread].concat();
    open(&mut held, from.address(4), address, 170, unread);
    open(&mut held, from.address(5), address, 64, half_a_message());
    let slow_body = post("content-length: 1000001", &vec![b' '; 1_000_000]);
    open(&mut held, from.address(6), address, 200, slow_body);
    let slow_bodies = [http2::hello(&[]), (0..100).flat_map(http2::begun_stream).collect()].concat();
    open(&mut held, from.address(7), address, 170, slow_bodies);
    let documents = b"GET /v1/docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: captcha\r\n\r\n".repeat(20);
    open(&mut held, from.address(8), address, 300, documents);
    let bomb = gzip(&vec![b' '; 1 << 20]).repeat(64);
    let headers = format!("content-encoding: gzip\r\ncontent-length: {}", bomb.len());
    open(&mut held, from.address(9), address, 100, post(&headers, &bomb));
    open(&mut held, from.address(10), address, 100, GET.repeat(10_000));
    let heads: Vec<u8> = (0..100).flat_map(http2::begun_stream_with_large_head).collect();
    let heads = [http2::hello(&[]), heads].concat();
    open(&mut held, from.address(11), address, 140, heads);
    withstand(siege, held).await;
}

/// Unread answers and unread requests fill the buffers of the system, which are the pod's memory too.
#[tokio::test]
#[ignore = "minutes: make attacks"]
async fn requests_whose_answers_are_not_read_on_many_connections() {
    let name = "3,000 connections that never read";
    let siege = Siege::begin_within(name, &[], true, Some(POD_BYTES)).await;
    let address = &siege.serve.address;
    let mut held = Held::new();
    // Fast senders first, for whom the system makes its buffers large.
    let fast = post("content-length: 1000000", &vec![b' '; 1_000_000]);
    let requests = [fast, GET.repeat(100_000)].concat();
    for number in 0..20 {
        let count = connections(3_000) / 20;
        open(&mut held, 10 + number, address, count, requests.clone());
    }
    withstand(siege, held).await;
}

#[tokio::test]
#[ignore = "minutes: make attacks"]
async fn everything_from_one_address() {
    all_at_once("all at once, from one address", From::One).await;
}

#[tokio::test]
#[ignore = "minutes: make attacks"]
async fn everything_from_many_addresses() {
    all_at_once("all at once, from twelve addresses", From::Many).await;
}
