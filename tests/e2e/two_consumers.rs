//! Two consumers that own one partition, as during every change of their number: both are ready, one is enough.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::client::{accept, events};
use crate::complete_through::{await_complete_through, complete_through, now};
use crate::process::eventually;
use crate::world::World;

/// Clients that post one event after the other until they are stopped.
struct Load {
    clients: Vec<JoinHandle<()>>,
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicU64>,
}

impl Load {
    fn start(address: &str) -> Load {
        let (sent, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let client = |_| {
            let (address, sent, stop) = (address.to_string(), sent.clone(), stop.clone());
            tokio::spawn(async move {
                while stop.load(Ordering::Relaxed) == 0 {
                    accept(&address, &events(3)).await;
                    sent.fetch_add(3, Ordering::Relaxed);
                }
            })
        };
        Load {
            clients: (0..4).map(client).collect(),
            sent,
            stop,
        }
    }

    /// How many events were accepted.
    async fn stop(self) -> u64 {
        self.stop.store(1, Ordering::Relaxed);
        for client in self.clients {
            client.await.unwrap();
        }
        self.sent.load(Ordering::Relaxed)
    }
}

/// A port that hands on what comes in either direction, each piece this much later. Ends with the test.
async fn far_away(server: &str, delay: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = server.to_string();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&server).await.unwrap();
            let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
            for (mut from, mut to) in [(from_client, to_server), (from_server, to_client)] {
                tokio::spawn(async move {
                    let mut piece = vec![0; 64 << 10];
                    loop {
                        let bytes = from.read(&mut piece).await?;
                        if bytes == 0 {
                            return std::io::Result::Ok(());
                        }
                        tokio::time::sleep(delay).await;
                        to.write_all(&piece[..bytes]).await?;
                    }
                });
            }
        }
    });
    address
}

#[tokio::test]
async fn two_owners_are_both_ready_under_load_and_one_is_enough() {
    let world = World::new("owners");
    world.migrate(&["--partitions", "1"]).await;
    let serve = world.serve().await;
    let load = Load::start(&serve.address);
    let mut first = world.consume(&["--insert-interval-ms", "1"]).await;
    first.await_ready(200, "partition 0: ok").await;
    // So far away that the first one always stores something between its look at the head and its insert.
    let far = far_away(&world.clickhouse, Duration::from_millis(40)).await;
    let second = world.beside(&far).consume(&[]).await;
    second.await_ready(200, "partition 0: ok").await;
    eventually("the second one to lose", async || {
        let moved = second.metric("captcha_heads_moved_total").await;
        (moved >= 3.0).then_some(()).ok_or(format!("{moved} times"))
    })
    .await;
    for owner in [&first, &second] {
        owner.await_ready(200, "partition 0: ok").await;
    }

    first.kill();
    let killed = now(&world).await;
    let mut newest = complete_through(&world).await;
    let (mut changed, mut longest) = (Instant::now(), Duration::ZERO);
    eventually("complete_through to go on for some seconds", async || {
        let through = complete_through(&world).await;
        if through != newest {
            longest = longest.max(changed.elapsed());
            (newest, changed) = (through, Instant::now());
        }
        let since = through.map_or(0, |through| (through - killed).num_seconds());
        (since >= 5).then_some(()).ok_or(format!("{through:?}"))
    })
    .await;
    println!(
        "complete_through waited for at most {} ms after a kill",
        longest.as_millis()
    );
    second.await_ready(200, "partition 0: ok").await;

    let sent = load.stop().await;
    let end = now(&world).await;
    await_complete_through(&world, end).await;
    assert_eq!(world.counted().await, Ok(sent));
    world.await_log(sent as i64).await;
}
