//! Attacks on the public port: what each takes of `captcha serve` in memory before, during and after, which limit stops
//! it, and that a client beside it is answered 200 all the time.
//!
//! `make attacks` prints the table. Limits of time are lowered by flags, so that they are met soon; nothing is held
//! against a clock.

mod bodies;
mod cgroup;
mod connections;
pub mod http2;
mod together;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Once};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::cgroup::Cgroup;
use crate::client::{self, events};
use crate::process::{PATIENCE, Process, eventually};
use crate::world::World;

/// A request without a body, and nothing to read for its answer but what this server is.
pub const GET: &[u8] = b"GET /v1/ HTTP/1.1\r\nhost: captcha\r\n\r\n";

/// Lines that an attack may leave in the log: those of the start, and some for each limit that it met.
const LOG_LINES_MAX: usize = 100;

/// One attack on a server of its own; they take turns.
pub struct Siege {
    name: &'static str,
    pub serve: Process,
    before_kb: u64,
    bystander: JoinHandle<()>,
    beside: Arc<Beside>,
    cgroup: Option<Cgroup>,
    stop: CancellationToken,
    _world: World,
    _turn: MutexGuard<'static, ()>,
}

/// What became of the requests of the client beside an attack.
#[derive(Default)]
struct Beside {
    answered: AtomicU64,
    refused: AtomicU64,
    /// How the last one was refused.
    last: std::sync::Mutex<String>,
}

impl Siege {
    /// Starts a server with these flags, and the client beside the attack. `fresh`: who also makes a new connection
    /// for each request.
    pub async fn begin(name: &'static str, flags: &[&str], fresh: bool) -> Siege {
        Siege::begin_within(name, flags, fresh, None).await
    }

    /// The same, where the system and the process together may take no more than this many bytes: `memory_bytes_max`.
    pub async fn begin_within(name: &'static str, flags: &[&str], fresh: bool, memory_bytes_max: Option<u64>) -> Siege {
        static TURN: Mutex<()> = Mutex::const_new(());
        static RAISED: Once = Once::new();
        let turn = TURN.lock().await;
        RAISED.call_once(raise_file_limit);
        let world = World::new("attack");
        world.migrate(&["--partitions", "1"]).await;
        let serve = world.serve_with(flags).await;
        serve.await_ready(200, "kafka: ok").await;
        let cgroup = memory_bytes_max.and_then(|bytes| Cgroup::around(serve.pid(), bytes));
        let mut sender = connect(&serve.address).await.unwrap();
        // What is allocated once is not the attack's.
        for _ in 0..100 {
            post(&mut sender).await.unwrap();
        }
        let before_kb = memory_kb(&serve, "VmRSS");
        let peak = format!("/proc/{}/clear_refs", serve.pid());
        std::fs::write(peak, "5").unwrap();
        let (stop, beside) = (CancellationToken::new(), Arc::default());
        let fresh = fresh.then(|| serve.address.clone());
        let address = serve.address.clone();
        let bystander = stand_by(sender, fresh, address, stop.clone(), Arc::clone(&beside));
        let bystander = tokio::spawn(bystander);
        Siege {
            name,
            serve,
            before_kb,
            bystander,
            beside,
            cgroup,
            stop,
            _world: world,
            _turn: turn,
        }
    }

    /// Waits until the client beside the attack has been answered some more.
    pub async fn await_bystander(&self) {
        let so_far = self.beside.answered.load(Relaxed);
        eventually("the client beside the attack to be answered", async || {
            let answered = self.beside.answered.load(Relaxed);
            assert!(!self.bystander.is_finished(), "it gave up");
            (answered > so_far + 5).then_some(()).ok_or(answered.to_string())
        })
        .await;
    }

    /// Waits until this many connections were given up for a reason.
    pub async fn await_refused(&self, reason: &str, count: usize) {
        eventually(&format!("{count} connections refused: {reason}"), async || {
            let refused = self.refused(reason).await;
            (refused >= count as f64).then_some(()).ok_or(refused.to_string())
        })
        .await;
    }

    /// Waits until no more than so much is left of what the attack took.
    pub async fn await_given_back(&self, left_kb_max: u64) {
        eventually("memory to be given back", async || {
            let left = memory_kb(&self.serve, "VmRSS").saturating_sub(self.before_kb);
            (left <= left_kb_max).then_some(()).ok_or(format!("{left} kB are left"))
        })
        .await;
    }

    pub async fn refused(&self, reason: &str) -> f64 {
        let name = format!("captcha_connections_refused_total{{reason=\"{reason}\"}}");
        self.serve.metric(&name).await
    }

    /// Once the attack is over: holds its memory against the limit, in megabytes above what there was before.
    pub async fn end(self, during_mb_max: u64, stopped_by: &str) {
        self.await_bystander().await;
        self.stop.cancel();
        self.bystander.await.unwrap();
        let refused = self.beside.refused.load(Relaxed);
        let said = self.serve.said();
        assert!(said.lines().count() < LOG_LINES_MAX, "{said}");
        let peak = memory_kb(&self.serve, "VmHWM").saturating_sub(self.before_kb);
        // Allocators keep most of what was freed for what comes next, so that this is no measure but what is seen.
        let left = memory_kb(&self.serve, "VmRSS").saturating_sub(self.before_kb);
        let megabytes = |kb: u64| kb as f64 / 1024.0;
        println!(
            "{:<40} {:6.1} MB before, {:+6.1} at most, {:+6.1} after; of {} requests beside it {refused} refused; {stopped_by}",
            self.name,
            megabytes(self.before_kb),
            megabytes(peak),
            megabytes(left),
            self.beside.answered.load(Relaxed) + refused,
        );
        if let Some(cgroup) = self.cgroup {
            println!("{:<40} {}", "", cgroup.found());
        }
        let last = self.beside.last.lock().unwrap().clone();
        assert_eq!(refused, 0, "the last: {last}");
        assert!(
            peak >> 10 <= during_mb_max,
            "{peak} kB at most, limit {during_mb_max} MB"
        );
    }
}

/// As many connections as `wanted`, or as the limit on files leaves room for beside other tests.
pub fn connections(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    wanted.min((limit / 2) as usize)
}

/// Each attacker is one descriptor here, and one in the server.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}

fn memory_kb(process: &Process, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let value = line.unwrap().trim_matches(|c: char| !c.is_ascii_digit());
    value.parse().unwrap()
}

/// From where the client beside an attack comes; attackers come from elsewhere.
const BESIDE: u8 = 2;

async fn connect(address: &str) -> Result<SendRequest<Full<Bytes>>, String> {
    let stream = client::connect_from(BESIDE, address).await;
    let stream = TokioIo::new(stream.map_err(|err| err.to_string())?);
    let (sender, connection) = http1::handshake(stream).await.map_err(|err| err.to_string())?;
    tokio::spawn(connection);
    Ok(sender)
}

/// One request, which must be answered 200.
async fn post(sender: &mut SendRequest<Full<Bytes>>) -> Result<(), String> {
    let request = hyper::Request::post("/v1/events")
        .header("host", "captcha")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(events(2).to_string())))
        .unwrap();
    let answer = async {
        sender.ready().await.map_err(|err| err.to_string())?;
        let answer = sender.send_request(request).await.map_err(|err| err.to_string())?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|err| err.to_string())?;
        match status.as_u16() {
            200 => Ok(()),
            _ => Err(String::from_utf8_lossy(&body.to_bytes()).into_owned()),
        }
    };
    let answer = tokio::time::timeout(PATIENCE, answer).await;
    answer.unwrap_or_else(|_| Err("no answer".to_string()))
}

/// The client beside an attack: every request must be answered 200.
async fn stand_by(
    mut sender: SendRequest<Full<Bytes>>,
    fresh: Option<String>,
    address: String,
    stop: CancellationToken,
    beside: Arc<Beside>,
) {
    while !stop.is_cancelled() {
        let mut answers = vec![post(&mut sender).await];
        if let Some(address) = &fresh {
            let fresh = async { post(&mut connect(address).await?).await };
            answers.push(fresh.await);
        }
        for answer in answers {
            match answer {
                Ok(()) => drop(beside.answered.fetch_add(1, Relaxed)),
                Err(reason) => {
                    beside.refused.fetch_add(1, Relaxed);
                    *beside.last.lock().unwrap() = reason;
                }
            }
        }
        if sender.is_closed()
            && let Ok(again) = connect(&address).await
        {
            sender = again;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// Reads a connection to its end, which must come.
pub async fn to_the_end(mut stream: TcpStream) -> Vec<u8> {
    let mut came = Vec::new();
    let read = async {
        // A reset is an end too.
        let _ = stream.read_to_end(&mut came).await;
    };
    tokio::time::timeout(PATIENCE, read).await.expect("an end");
    came
}

/// Sends without end until the other side has enough, and reads what it says meanwhile; what it said, and the bytes
/// that it was sent.
pub async fn pour(mut stream: TcpStream, bytes: &[u8]) -> (Vec<u8>, u64) {
    let (mut reading, mut writing) = stream.split();
    let mut came = Vec::new();
    let mut sent = 0;
    let read = async {
        let _ = reading.read_to_end(&mut came).await;
    };
    let write = async {
        while writing.write_all(bytes).await.is_ok() {
            sent += bytes.len() as u64;
        }
        // The reader sees the end.
        std::future::pending::<()>().await;
    };
    let poured = async {
        tokio::select! {
            () = read => {}
            () = write => {}
        }
    };
    tokio::time::timeout(PATIENCE, poured).await.expect("a limit");
    (came, sent)
}

/// The status of an answer in HTTP/1.1; 0 is none.
pub fn status(answer: &[u8]) -> u16 {
    let text = String::from_utf8_lossy(answer);
    let status = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    status.map_or(0, |status| status.parse().unwrap())
}
