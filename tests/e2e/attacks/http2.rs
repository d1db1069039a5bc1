//! HTTP/2, frame by frame: what its known floods take, and who stops them.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Siege, pour};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// RFC 9113 section 7: enough of it.
const ENHANCE_YOUR_CALM: u32 = 11;

/// Connections of each attack.
const CONNECTIONS: usize = 20;

/// Far more than any of the limits that are to stop it.
const BYTES_MAX: u64 = 256 << 20;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    let mut frame = vec![len[1], len[2], len[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A field without a place in any table.
fn field(name: &str, value: &[u8]) -> Vec<u8> {
    let mut field = vec![0, name.len() as u8];
    field.extend(name.bytes());
    field.extend(length(value.len()));
    field.extend(value);
    field
}

/// An integer with a prefix of 7 bits (RFC 7541 section 5.1).
fn length(mut value: usize) -> Vec<u8> {
    if value < 127 {
        return vec![value as u8];
    }
    value -= 127;
    let mut bytes = vec![127];
    while value >= 128 {
        bytes.push(value as u8 | 128);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// GET /v1/, by the static table where it has the words.
fn get() -> Vec<u8> {
    [
        &[0x82, 0x86][..],
        &field(":path", b"/v1/"),
        &field(":authority", b"captcha"),
    ]
    .concat()
}

fn post() -> Vec<u8> {
    let path = field(":path", b"/v1/events");
    let content_type = field("content-type", b"application/json");
    [
        &[0x83, 0x86][..],
        &path,
        &field(":authority", b"captcha"),
        &content_type,
    ]
    .concat()
}

/// The settings of a client that no answer may be sent to: a window of 0 bytes for each.
pub const NO_WINDOW: [u8; 6] = [0, 4, 0, 0, 0, 0];

/// RFC 9113 section 7.
pub const REFUSED_STREAM: u32 = 7;

/// The request of a connection with this number, from 0: GET /v1/.
pub fn get_stream(number: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, &get())
}

/// What a server says, frame by frame.
pub struct Frames(TcpStream);

impl Frames {
    pub fn of(stream: TcpStream) -> Frames {
        Frames(stream)
    }

    /// The error of the next stream that is reset.
    pub async fn reset(&mut self) -> u32 {
        let read = async {
            loop {
                let mut head = [0; 9];
                self.0.read_exact(&mut head).await.unwrap();
                let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                let mut payload = vec![0; len];
                self.0.read_exact(&mut payload).await.unwrap();
                if head[3] == RST_STREAM {
                    return u32::from_be_bytes(payload.try_into().unwrap());
                }
            }
        };
        let reset = tokio::time::timeout(crate::process::PATIENCE, read).await;
        reset.expect("a stream that is reset")
    }
}

/// A connection, with these settings of its client.
pub async fn connect(address: &str, settings: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&hello(settings)).await.unwrap();
    stream
}

/// How a client with these settings begins.
pub fn hello(settings: &[u8]) -> Vec<u8> {
    [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        &frame(SETTINGS, 0, 0, settings),
    ]
    .concat()
}

/// The same with a head as large as one may be.
pub fn begun_stream_with_large_head(number: u32) -> Vec<u8> {
    let head = [post(), field("x", &[b'y'; 15_500])].concat();
    frame(HEADERS, END_HEADERS, 2 * number + 1, &head)
}

/// A request of a connection with this number, whose body never ends.
pub fn begun_stream(number: u32) -> Vec<u8> {
    let id = 2 * number + 1;
    [
        frame(HEADERS, END_HEADERS, id, &post()),
        frame(DATA, 0, id, &[b' '; 100]),
    ]
    .concat()
}

/// The error of the last GOAWAY, of all that a server said.
fn goaway(mut came: &[u8]) -> Option<u32> {
    let mut error = None;
    while came.len() >= 9 {
        let len = u32::from_be_bytes([0, came[0], came[1], came[2]]) as usize;
        if came[3] == GOAWAY && came.len() >= 17 {
            error = Some(u32::from_be_bytes(came[13..17].try_into().unwrap()));
        }
        came = came.get(9 + len..).unwrap_or_default();
    }
    error
}

/// Sends one thing after the other on many connections until the server has enough of each: it must say so.
async fn flood(siege: &Siege, make: fn() -> Box<dyn FnMut() -> Vec<u8> + Send>) -> u32 {
    let mut floods = Vec::new();
    for _ in 0..CONNECTIONS {
        let stream = connect(&siege.serve.address, &[]).await;
        floods.push(tokio::spawn(pour_made(stream, make())));
    }
    let mut error = 0;
    for flood in floods {
        let (came, sent) = flood.await.unwrap();
        assert!(sent < BYTES_MAX, "{sent} bytes, and no end");
        error = goaway(&came).unwrap_or(error);
    }
    assert_eq!(error, ENHANCE_YOUR_CALM);
    error
}

/// As [`pour`], with bytes that are made each time.
async fn pour_made(stream: TcpStream, mut make: impl FnMut() -> Vec<u8>) -> (Vec<u8>, u64) {
    let (mut reading, mut writing) = stream.into_split();
    let read = tokio::spawn(async move {
        let mut came = Vec::new();
        let _ = reading.read_to_end(&mut came).await;
        came
    });
    let mut sent = 0;
    while sent < BYTES_MAX && !read.is_finished() {
        let bytes = make();
        if writing.write_all(&bytes).await.is_err() {
            break;
        }
        sent += bytes.len() as u64;
    }
    drop(writing);
    let came = tokio::time::timeout(crate::process::PATIENCE, read).await;
    (came.expect("an end").unwrap(), sent)
}

#[tokio::test]
#[ignore = "minutes: make attacks"]
async fn streams_that_are_reset_at_once() {
    let siege = Siege::begin("HTTP/2: rapid reset", &[], true).await;
    let error = flood(&siege, || {
        let mut stream = 1;
        Box::new(move || {
            let mut frames = Vec::new();
            for _ in 0..100 {
                frames.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream, &get()));
                frames.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
                stream += 2;
            }
            frames
        })
    })
    .await;
    siege
        .end(60, &format!("the library's limit of resets, GOAWAY {error}"))
        .await;
}

#[tokio::test]
#[ignore = "minutes: make attacks"]
async fn heads_that_go_on_for_ever() {
    let siege = Siege::begin("HTTP/2: CONTINUATION flood", &[], true).await;
    let error = flood(&siege, || {
        let mut begun = false;
        Box::new(move || {
            let more = field("x", &[b'y'; 16_000]);
            if std::mem::replace(&mut begun, true) {
                frame(CONTINUATION, 0, 1, &more)
            } else {
                frame(HEADERS, END_STREAM, 1, &get())
            }
        })
    })
    .await;
    siege.end(60, &format!("--head-bytes-max, GOAWAY {error}")).await;
}

#[tokio::test]
#[ignore = "minutes: make attacks"]
async fn heads_that_go_on_for_ever_with_nothing() {
    let siege = Siege::begin("HTTP/2: empty CONTINUATION flood", &[], true).await;
    let error = flood(&siege, || {
        let mut begun = false;
        Box::new(move || {
            if std::mem::replace(&mut begun, true) {
                frame(CONTINUATION, 0, 1, &[]).repeat(1_000)
            } else {
                frame(HEADERS, END_STREAM, 1, &get())
            }
        })
    })
    .await;
    siege
        .end(60, &format!("the library's limit of frames, GOAWAY {error}"))
        .await;
}

#[tokio::test]
#[ignore = "minutes: make attacks"]
async fn small_heads_that_unpack_to_large_ones() {
    let siege = Siege::begin("HTTP/2: header compression bombs", &[], true).await;
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = connect(&siege.serve.address, &[]).await;
        // A field of 4,000 bytes into the table, and 10,000 references to it: 40 MB.
        let mut bomb = get();
        bomb.extend([0x40, 1, b'x']);
        bomb.extend(length(4_000));
        bomb.extend([b'y'; 4_000]);
        bomb.extend([0xbe; 10_000]);
        for number in 0..100 {
            let head = frame(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, &bomb);
            let _ = stream.write_all(&head).await;
        }
        streams.push(stream);
    }
    for mut stream in streams {
        // Refused, stream by stream or with the connection: something is said either way.
        let mut came = vec![0; 64];
        let read = stream.read(&mut came);
        let read = tokio::time::timeout(crate::process::PATIENCE, read).await;
        assert!(read.is_ok());
    }
    siege.end(60, "--head-bytes-max").await;
}

/// Sends what must be answered, and reads nothing: until the server stops reading too, or all is sent.
async fn unread(name: &'static str, bytes: Vec<u8>, during_mb_max: u64, stopped_by: &str) {
    let siege = Siege::begin(name, &[], true).await;
    let mut streams = Vec::new();
    let mut all = 0;
    for _ in 0..CONNECTIONS {
        let mut stream = connect(&siege.serve.address, &[]).await;
        let mut sent = 0;
        while sent < 16 << 20 {
            let write = stream.write(&bytes);
            match tokio::time::timeout(std::time::Duration::from_millis(200), write).await {
                Ok(Ok(len)) => sent += len,
                _ => break,
            }
        }
        all += sent;
        streams.push(stream);
    }
    siege.await_bystander().await;
    drop(streams);
    let stopped_by = format!("{stopped_by}, after {} MB", all >> 20);
    siege.end(during_mb_max, &stopped_by).await;
}

#[tokio::test]
#[ignore = "minutes: make attacks"]
async fn pings_whose_answers_are_not_read() {
    let pings = frame(PING, 0, 0, &[0; 8]).repeat(1_000);
    unread("HTTP/2: PING flood, unread", pings, 60, "TCP's own window").await;
}

#[tokio::test]
#[ignore = "minutes: make attacks"]
async fn settings_whose_answers_are_not_read() {
    let settings = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]).repeat(1_000);
    unread("HTTP/2: SETTINGS flood, unread", settings, 60, "TCP's own window").await;
}

#[tokio::test]
#[ignore = "minutes: make attacks"]
async fn frames_that_mean_nothing() {
    let siege = Siege::begin("HTTP/2: frames of nothing", &[], true).await;
    let mut floods = Vec::new();
    for number in 0..CONNECTIONS {
        let mut stream = connect(&siege.serve.address, &[]).await;
        let head = frame(HEADERS, END_HEADERS, 1, &post());
        stream.write_all(&head).await.unwrap();
        let nothing = match number % 2 {
            0 => frame(DATA, 0, 1, &[]),
            _ => frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()),
        };
        let nothing = nothing.repeat(1_000);
        floods.push(tokio::spawn(async move {
            for _ in 0..500 {
                let _ = stream.write_all(&nothing).await;
            }
        }));
    }
    for flood in floods {
        flood.await.unwrap();
    }
    siege.end(60, "nothing is kept of them").await;
}

#[tokio::test]
#[ignore = "minutes: make attacks"]
async fn answers_without_a_window() {
    let siege = Siege::begin("HTTP/2: answers that may not be sent", &[], true).await;
    let mut streams = Vec::new();
    for _ in 0..5 * CONNECTIONS {
        // A window of 0 bytes for every answer.
        let mut stream = connect(&siege.serve.address, &[0, 4, 0, 0, 0, 0]).await;
        for number in 0..300 {
            let head = frame(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, &get());
            let _ = stream.write_all(&head).await;
        }
        streams.push(stream);
    }
    siege.await_bystander().await;
    drop(streams);
    // Some 10 kB for each stream of a debug build, until the connection is given up for not reading.
    siege.end(200, "100 streams for each connection").await;
}

#[tokio::test]
#[ignore = "minutes: make attacks"]
async fn bodies_on_every_stream_that_never_end() {
    let flags = ["--body-seconds", "3", "--memory-bytes-max", "33554432"];
    let siege = Siege::begin("HTTP/2: 2,560 bodies that never end", &flags, false).await;
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = connect(&siege.serve.address, &[]).await;
        for number in 0..100 {
            let id = 2 * number + 1;
            let _ = stream.write_all(&frame(HEADERS, END_HEADERS, id, &post())).await;
            let _ = stream.write_all(&frame(DATA, 0, id, &[b' '; 100])).await;
        }
        streams.push(stream);
    }
    let count = (CONNECTIONS * 100) as f64;
    let name = "captcha_http_requests_total{route=\"events\",status=\"408\"}";
    crate::process::eventually("every body to be given up", async || {
        let late = siege.serve.metric(name).await;
        (late >= count).then_some(()).ok_or(late.to_string())
    })
    .await;
    drop(streams);
    siege.end(60, "--body-seconds, for every stream").await;
}

#[tokio::test]
#[ignore = "minutes: make attacks"]
async fn what_is_no_http2() {
    let siege = Siege::begin("HTTP/2: garbage", &[], true).await;
    for _ in 0..CONNECTIONS {
        let stream = connect(&siege.serve.address, &[]).await;
        let (came, sent) = pour(stream, &[0xff; 0x10000]).await;
        assert!(sent < BYTES_MAX && goaway(&came).is_some_and(|error| error != 0));
    }
    siege.end(40, "GOAWAY").await;
}

#[tokio::test]
#[ignore = "minutes: make attacks"]
async fn unread_answers_behind_busy_ones() {
    let siege = Siege::begin("HTTP/2: 99 unread answers, one is read", &[], true).await;
    let mut stream = connect(&siege.serve.address, &NO_WINDOW).await;
    let mut frames = frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes());
    for number in 0..99 {
        frames.extend(get_stream(number));
    }
    stream.write_all(&frames).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let read = tokio::spawn(async move {
        let mut came = vec![0; 1 << 16];
        let mut bytes = 0;
        while let Ok(count @ 1..) = reading.read(&mut came).await {
            bytes += count;
        }
        bytes
    });
    // Each of these is read as fast as it comes.
    let document = [
        &[0x82, 0x86][..],
        &field(":path", b"/v1/docs/swagger-ui-bundle.js"),
        &field(":authority", b"captcha"),
    ]
    .concat();
    let began = siege.refused("response_unread").await;
    for number in 99.. {
        if read.is_finished() {
            break;
        }
        let id = 2 * number + 1;
        let window = frame(WINDOW_UPDATE, 0, id, &(1_u32 << 24).to_be_bytes());
        let head = frame(HEADERS, END_STREAM | END_HEADERS, id, &document);
        // It may have ended meanwhile.
        let _ = writing.write_all(&[head, window].concat()).await;
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    let bytes = read.await.unwrap();
    assert!(bytes > 10 << 20, "only {bytes} bytes were read beside them");
    assert_eq!(siege.refused("response_unread").await, began + 1.0);
    siege.end(20, "10 KiB of each answer in 30 s").await;
}

#[tokio::test]
async fn abusive_connections_leave_few_lines_in_the_log() {
    const ABUSIVE: usize = 200;
    let nowhere = "127.0.0.1:1";
    let world = crate::world::World::on("abusive", nowhere, nowhere);
    let serve = world.serve().await;
    let before = serve.said().lines().count();
    let reset = |stream: u32| {
        let head = frame(HEADERS, END_STREAM | END_HEADERS, stream, &get());
        [head, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
    };
    let resets: Vec<u8> = (0..2_000).flat_map(|number| reset(2 * number + 1)).collect();
    for _ in 0..ABUSIVE {
        let mut stream = connect(&serve.address, &[]).await;
        let _ = stream.write_all(&resets).await;
        let mut came = Vec::new();
        let _ = stream.read_to_end(&mut came).await;
    }
    let broken = "captcha_connections_refused_total{reason=\"broken\"}";
    crate::process::eventually("every connection to be counted", async || {
        let count = serve.metric(broken).await;
        (count >= ABUSIVE as f64).then_some(()).ok_or(count.to_string())
    })
    .await;
    let said = serve.said();
    assert!(said.lines().count() < before + 20, "{said}");
}
