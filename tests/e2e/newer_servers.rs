//! Servers that are newer than any that the tests were run with. There are none yet, so a port in front of the real ones
//! makes their version larger where they say it, and changes nothing else.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::client::{accept, events, get};
use crate::process::eventually;
use crate::world::World;

const CLICKHOUSE: &str = "clickhouse is newer than any that this captcha was tested with";
const KAFKA: &str = "kafka is newer than any that this captcha was tested with";

/// A port in front of a server, which puts `larger` some bytes after each `name` in what the server says. Its address.
async fn newer(server: &str, name: &'static [u8], after: usize, larger: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = server.to_string();
    tokio::spawn(async move {
        while let Ok((outside, _)) = listener.accept().await {
            let inside = TcpStream::connect(&server).await.unwrap();
            let (mut from_client, mut to_client) = outside.into_split();
            let (mut from_server, mut to_server) = inside.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
            tokio::spawn(async move {
                let mut bytes = vec![0; 1 << 16];
                while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
                    let said = &mut bytes[..count];
                    for at in 0..count.saturating_sub(name.len() + after + larger.len()) {
                        if said[at..].starts_with(name) {
                            let begin = at + name.len() + after;
                            said[begin..begin + larger.len()].copy_from_slice(larger);
                        }
                    }
                    if to_client.write_all(said).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_newer_server_is_named_once() {
    let tested = World::new("newer");
    let migrate = tested.run(&["migrate"]).await;
    let said = String::from_utf8(migrate.stderr).unwrap();
    assert!(!said.contains("newer than any"), "{said}");

    let mut world = tested.beside(&newer(&tested.clickhouse, b"\x0aClickHouse", 0, &[99]).await);
    // A feature is its name, the oldest and the newest version of it.
    world.kafka = newer(&tested.kafka, b"metadata.version", 2, &[0x7f, 0xff]).await;
    let migrate = world.run(&["migrate"]).await;
    let said = String::from_utf8(migrate.stderr).unwrap();
    assert!(migrate.status.success(), "{said}");
    for message in [CLICKHOUSE, KAFKA] {
        assert_eq!(said.matches(message).count(), 1, "{said}");
    }

    let (serve, consume) = (world.serve().await, world.consume(&[]).await);
    accept(&serve.address, &events(3)).await;
    world.await_counted(3).await;
    for _ in 0..2 {
        assert_eq!(get(&serve.address, "/v1/report").await.status, 200);
    }
    for (process, name) in [(&serve, "serve"), (&consume, "consume")] {
        for (message, address) in [(CLICKHOUSE, &world.clickhouse), (KAFKA, &world.kafka)] {
            eventually(&format!("{name} to name it"), async || {
                let named = process.logged(message, "address");
                let is_named = named == [address.as_str()];
                is_named.then_some(()).ok_or(format!("{named:?}"))
            })
            .await;
        }
    }
}
