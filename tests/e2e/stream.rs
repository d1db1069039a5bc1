//! `/v1/events/stream`: messages in, answers out in order, and how a stream ends.

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::client::{SITE, event, events, request, served};
use crate::process::{PATIENCE, eventually};
use crate::world::World;

const PATH: &str = "/v1/events/stream";

/// A client's end of a stream.
struct Stream(WebSocketStream<TcpStream>);

impl Stream {
    async fn open(address: &str) -> Stream {
        Stream::try_open(address, PATH).await.unwrap()
    }

    /// # Errors
    /// The handshake was refused.
    async fn try_open(address: &str, path: &str) -> Result<Stream, Error> {
        let tcp = TcpStream::connect(address).await.unwrap();
        let (stream, _) = client_async(format!("ws://{address}{path}"), tcp).await?;
        Ok(Stream(stream))
    }

    async fn send(&mut self, text: impl ToString) {
        self.0.send(Message::text(text.to_string())).await.unwrap();
    }

    /// The next message that is no ping.
    async fn next(&mut self) -> Message {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.0.next()).await;
            match message.expect("the stream hung").unwrap().unwrap() {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    async fn answer(&mut self) -> Value {
        match self.next().await {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("no answer: {other:?}"),
        }
    }

    /// That it ends with this code and nothing before.
    async fn assert_closed(&mut self, code: CloseCode) {
        match self.next().await {
            Message::Close(Some(frame)) => assert_eq!(frame.code, code, "{frame}"),
            other => panic!("no close: {other:?}"),
        }
    }
}

fn receipts(answer: &Value) -> &[Value] {
    assert_eq!(answer["status"], "accepted", "{answer}");
    answer["receipts"].as_array().unwrap()
}

#[tokio::test]
async fn streamed_events_are_receipted_in_order_and_counted() {
    let world = World::new("streamed");
    world.migrate(&["--partitions", "1"]).await;
    let (serve, _consume) = (world.serve().await, world.consume(&[]).await);
    for path in [PATH, "/latest/events/stream", "/V1/events/stream/"] {
        let mut stream = Stream::try_open(&serve.address, path).await.unwrap();
        stream
            .send(event(SITE, "solve", "2001-01-01T05:55:07"))
            .await;
        assert_eq!(receipts(&stream.answer().await).len(), 1, "{path}");
    }
    let mut stream = Stream::open(&serve.address).await;
    // All are on their way before the first answer is read.
    let counts: Vec<usize> = (0..300).map(|at| 1 + at % 3).collect();
    for count in &counts {
        stream.send(events(*count)).await;
    }
    for count in &counts {
        let answer = stream.answer().await;
        assert_eq!(receipts(&answer).len(), *count);
        assert_eq!(answer["accepted"], *count);
    }
    world.await_counted(603).await;
    world.await_log(603).await;
    assert_eq!(serve.metric("captcha_events_accepted_total").await, 603.0);
    let messages = "captcha_stream_messages_total{status=\"200\"}";
    assert_eq!(serve.metric(messages).await, 303.0);
    stream.0.close(None).await.unwrap();
    eventually("no stream to be open", async || {
        let open = serve.metric("captcha_streams_open").await;
        (open == 0.0).then_some(()).ok_or(open.to_string())
    })
    .await;
}
