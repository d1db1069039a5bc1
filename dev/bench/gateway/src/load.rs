//! The load of `make bench-serve`, and the topics it needs.
//!
//! ```text
//! load create BROKERS TOPIC PARTITIONS
//! load delete BROKERS TOPIC
//! load count BROKERS TOPIC                records in it, by the ends of its partitions
//! load run ADDRESS CONNECTIONS BATCH WARM_UP_SECONDS SECONDS
//! ```
//! `run` keeps one request in flight on each connection; BATCH 0 sends objects, more sends arrays of that size. It prints
//! `begin` and `end` around what is measured, then one line of JSON.

mod client;
mod events;
mod topic;

use std::error::Error;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use client::{Client, Tally};

/// After the end, for what is still in flight.
const DRAIN: Duration = Duration::from_secs(10);

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    // One thread is enough for any of the gateways, and the cheapest.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match words[..] {
        ["create", brokers, topic, partitions] => {
            runtime.block_on(topic::create(brokers, topic, partitions.parse()?))
        }
        ["delete", brokers, topic] => runtime.block_on(topic::delete(brokers, topic)),
        ["count", brokers, topic] => {
            println!("{}", topic::count(brokers, topic)?);
            Ok(())
        }
        ["run", address, connections, batch, warm_up, seconds] => {
            let client = Client::new(address, batch.parse()?);
            let warm_up = Duration::from_secs(warm_up.parse()?);
            let measured = Duration::from_secs(seconds.parse()?);
            let work = run(client, connections.parse()?, warm_up, measured);
            tokio::task::LocalSet::new().block_on(&runtime, work)
        }
        _ => Err("see the beginning of dev/bench/gateway/src/load.rs for what load can do".into()),
    }
}

async fn run(
    client: Client,
    connections: usize,
    warm_up: Duration,
    measured: Duration,
) -> Result<(), Failure> {
    let client = Rc::new(client);
    let begin = Instant::now() + warm_up;
    let end = begin + measured;
    let mut tasks = Vec::new();
    for _ in 0..connections {
        let client = Rc::clone(&client);
        tasks.push(tokio::task::spawn_local(async move {
            let mut tally = Tally::new(begin, end);
            client.send_until_end(&mut tally).await;
            tally
        }));
    }
    sleep_until(begin).await;
    println!("begin");
    sleep_until(end).await;
    println!("end");
    let mut all = Tally::new(begin, end);
    for task in tasks {
        match timeout(DRAIN, task).await {
            Ok(tally) => all.add(tally?),
            Err(_) => all.fail("no answer until long after the end"),
        }
    }
    println!("{}", all.to_json(measured));
    Ok(())
}
