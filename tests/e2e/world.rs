//! What a test stands on: a topic and a database of its own, and processes that end with it.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use klickhouse::{ClientOptions, Value};
use rskafka::client::ClientBuilder;
use rskafka::client::partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::record::{Record, RecordAndOffset};

use crate::client::{self, Reply};

/// After which something that was waited for counts as never coming. Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(90);

/// Lines of each log that a failed test prints.
const LOG_LINES: usize = 40;

/// A topic, a database, and the processes of one test.
pub struct World {
    pub name: String,
    pub kafka: String,
    pub clickhouse: String,
    logs: PathBuf,
}

impl World {
    /// On the servers that all tests share.
    pub fn new(test: &str) -> World {
        World::on(
            test,
            &shared("CAPTCHA_TEST_KAFKA"),
            &shared("CAPTCHA_TEST_CLICKHOUSE"),
        )
    }

    /// On servers of the test's own.
    pub fn on(test: &str, kafka: &str, clickhouse: &str) -> World {
        World {
            name: format!("{test}_{}", uuid::Uuid::now_v7().simple()),
            kafka: kafka.to_string(),
            clickhouse: clickhouse.to_string(),
            logs: PathBuf::from(shared("CAPTCHA_TEST_LOGS")),
        }
    }

    /// A command line of captcha, with this world's servers, topic and database.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_captcha"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CAPTCHA_")) {
            command.env_remove(name);
        }
        command
            .args(args)
            .env("CAPTCHA_KAFKA_BROKERS", &self.kafka)
            .env("CAPTCHA_KAFKA_TOPIC", &self.name)
            .env("CAPTCHA_CLICKHOUSE_ADDR", &self.clickhouse)
            .env("CAPTCHA_CLICKHOUSE_DATABASE", &self.name)
            .stdin(Stdio::null());
        command
    }

    /// Runs captcha to its end.
    pub async fn run(&self, args: &[&str]) -> Output {
        let mut command = self.command(args);
        let run = tokio::task::spawn_blocking(move || command.output().unwrap());
        tokio::time::timeout(PATIENCE, run)
            .await
            .expect("captcha does not end")
            .unwrap()
    }

    /// Runs captcha, which must succeed; its stdout.
    pub async fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs captcha, which must fail with exit code 1 and one line on stderr; the line.
    pub async fn refused(&self, args: &[&str]) -> String {
        let output = self.run(args).await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {stdout}{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
        stderr.trim_end().to_string()
    }

    pub async fn migrate(&self, args: &[&str]) -> String {
        self.ok(&[&["migrate"], args].concat()).await
    }

    /// Starts `captcha serve` and waits until it listens.
    pub async fn serve(&self) -> Process {
        self.serve_with(&[]).await
    }

    /// The same, with more flags.
    pub async fn serve_with(&self, args: &[&str]) -> Process {
        let ports = [
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
        ];
        let args = [&ports[..], args].concat();
        let mut process = self.start("serve", &args);
        process.await_addresses("serving").await;
        process
    }

    /// Starts `captcha consume` and waits until it listens.
    pub async fn consume(&self, args: &[&str]) -> Process {
        let args = [&["consume", "--admin-listen", "127.0.0.1:0"], args].concat();
        let mut process = self.start("consume", &args);
        process.await_addresses("consuming").await;
        process
    }

    /// `migrate`, then one `serve` and one `consume`.
    pub async fn all(&self) -> (Process, Process) {
        self.migrate(&[]).await;
        (self.serve().await, self.consume(&[]).await)
    }

    fn start(&self, role: &str, args: &[&str]) -> Process {
        let log = self.logs.join(format!(
            "{}-{role}-{}.log",
            self.name,
            uuid::Uuid::now_v7().simple()
        ));
        let child = self
            .command(args)
            .stderr(File::create(&log).unwrap())
            .stdout(Stdio::null())
            .spawn();
        Process {
            child: child.unwrap(),
            log,
            address: String::new(),
            admin: String::new(),
        }
    }

    /// The report as `captcha report` has it: (date, site, served, solved).
    pub async fn report(&self, args: &[&str]) -> Vec<(String, String, u64, u64)> {
        let page = self
            .ok(&[&["report", "--format", "json"], args].concat())
            .await;
        counters(&serde_json::from_str(&page).unwrap())
    }

    /// Waits until the report counts this many events in all.
    pub async fn await_counted(&self, events: u64) {
        eventually(&format!("{events} events counted"), async || {
            let counted: u64 = self
                .report(&[])
                .await
                .iter()
                .map(|(_, _, served, solved)| served + solved)
                .sum();
            assert!(
                counted <= events,
                "{counted} events counted, {events} were sent"
            );
            (counted == events)
                .then_some(())
                .ok_or(format!("{counted} are"))
        })
        .await;
    }

    /// Asks ClickHouse; the rows as text.
    pub async fn sql(&self, sql: &str) -> Vec<Vec<String>> {
        let options = ClientOptions {
            default_database: self.name.clone(),
            ..ClientOptions::default()
        };
        let client = klickhouse::Client::connect(&self.clickhouse, options)
            .await
            .unwrap();
        let mut stream = client.query_raw(sql, None).await.unwrap();
        let mut rows = Vec::new();
        while let Some(block) = stream.next().await {
            let mut block = block.unwrap();
            rows.extend(
                block
                    .take_iter_rows()
                    .map(|row| row.into_iter().map(|(_, _, value)| text(value)).collect()),
            );
        }
        rows
    }

    /// Waits until this many records are stored, each in exactly one row: per partition no hole and no
    /// overlap, and the heads together are the number of records.
    pub async fn await_log(&self, records: i64) {
        eventually(&format!("{records} records stored"), async || {
            let rows = self
                .sql(
                    "SELECT partition, toInt64(max(offset) + 1), toInt64(sum(span)), toInt64(count()), \
                     toInt64(uniqExact(offset)) FROM events GROUP BY partition ORDER BY partition",
                )
                .await;
            let mut total = 0;
            for row in &rows {
                let [head, spans, count, distinct] =
                    [1, 2, 3, 4].map(|at| row[at].parse::<i64>().unwrap());
                assert_eq!((spans, count), (head, distinct), "partition {}: {rows:?}", row[0]);
                total += head;
            }
            assert!(total <= records, "more than {records}: {rows:?}");
            (total == records).then_some(()).ok_or(format!("{rows:?}"))
        })
        .await;
    }

    /// A partition of the topic, to write and read by hand.
    pub async fn partition(&self, number: i32) -> PartitionClient {
        let client = ClientBuilder::new(vec![self.kafka.clone()])
            .build()
            .await
            .unwrap();
        client
            .partition_client(self.name.as_str(), number, UnknownTopicHandling::Retry)
            .await
            .unwrap()
    }

    /// Writes values as they are, past `captcha serve`.
    pub async fn produce(&self, partition: i32, values: &[Option<&[u8]>]) {
        let record = |value: &Option<&[u8]>| Record {
            key: None,
            value: value.map(<[u8]>::to_vec),
            headers: Default::default(),
            timestamp: chrono::Utc::now(),
        };
        let records = values.iter().map(record).collect();
        self.partition(partition)
            .await
            .produce(records, Compression::NoCompression)
            .await
            .unwrap();
    }

    /// All records of a partition.
    pub async fn records(&self, partition: i32) -> Vec<RecordAndOffset> {
        let partition = self.partition(partition).await;
        let end = partition.get_offset(OffsetAt::Latest).await.unwrap();
        let mut records: Vec<RecordAndOffset> = Vec::new();
        while (records.len() as i64) < end {
            records.extend(
                partition
                    .fetch_records(records.len() as i64, 1..1_000_000, 1_000)
                    .await
                    .unwrap()
                    .0,
            );
        }
        records
    }
}

fn text(value: Value) -> String {
    match value {
        Value::String(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        other => other.to_string(),
    }
}

/// The rows of a report.
pub fn counters(report: &serde_json::Value) -> Vec<(String, String, u64, u64)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_string();
    let number = |value: &serde_json::Value| value.as_u64().unwrap();
    let rows = report["counters"].as_array().unwrap().iter();
    rows.map(|row| {
        (
            text(&row["date"]),
            text(&row["site_id"]),
            number(&row["served"]),
            number(&row["solved"]),
        )
    })
    .collect()
}

fn shared(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: these tests need servers, run `make test`"))
}

/// Asks again and again until the answer is Ok.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(last) => assert!(
                began.elapsed() < PATIENCE,
                "waited in vain for {what}: {last}"
            ),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A process that ends with its owner, and whose log is printed if the test fails.
pub struct Process {
    child: Child,
    log: PathBuf,
    /// Of the API.
    pub address: String,
    /// Of the admin port.
    pub admin: String,
}

impl Process {
    async fn await_addresses(&mut self, message: &str) {
        let log = self.log.clone();
        let line = eventually("the line that tells the addresses", async || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!(
                    "captcha ended ({status}): {}",
                    std::fs::read_to_string(&log).unwrap()
                );
            }
            let text = std::fs::read_to_string(&log).unwrap();
            let line = text
                .lines()
                .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            line.into_iter()
                .find(|line| line["message"] == message)
                .ok_or(text)
        })
        .await;
        self.address = line["address"].as_str().unwrap_or_default().to_string();
        self.admin = line["admin_address"].as_str().unwrap().to_string();
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Sends a signal by name, such as TERM or STOP.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.pid().to_string()])
            .status();
        assert!(status.unwrap().success());
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        eventually("the process to end", async || {
            self.child.try_wait().unwrap().ok_or("it runs".to_string())
        })
        .await
    }

    /// SIGKILL, and it is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; its exit status.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.ended().await
    }

    pub async fn ready(&self) -> Reply {
        client::get(&self.admin, "/readyz").await
    }

    /// Waits until `/readyz` has this status and contains a text.
    pub async fn await_ready(&self, status: u16, part: &str) {
        eventually(&format!("/readyz {status} with {part:?}"), async || {
            let reply = self.ready().await;
            let fits = reply.status == status && reply.text().contains(part);
            fits.then_some(())
                .ok_or(format!("{} {}", reply.status, reply.text()))
        })
        .await;
    }

    /// A metric by its name and labels as they are rendered.
    pub async fn metric(&self, name: &str) -> f64 {
        let page = client::get(&self.admin, "/metrics").await.text();
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {page}"))
            .parse()
            .unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            print_tail(&self.log);
        }
    }
}

fn print_tail(log: &Path) {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    eprintln!("--- the end of {}", log.display());
    for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
        eprintln!("{line}");
    }
}

/// A Kafka or ClickHouse of one test, which may be stopped, frozen, killed and started again.
pub struct Server {
    kind: &'static str,
    folder: tempfile::TempDir,
    port: u16,
    args: Vec<String>,
    process: Option<Process>,
}

impl Server {
    /// A Kafka broker, not started yet, that joins the cluster of a running one.
    pub fn second_broker(first: &Server) -> Server {
        let mut second = Server::new("kafka");
        let read = |file: &str| std::fs::read_to_string(first.folder.path().join(file)).unwrap();
        let controller = read("controller.port");
        let meta = read("data/meta.properties");
        let cluster = meta
            .lines()
            .find_map(|line| line.strip_prefix("cluster.id="))
            .unwrap();
        second.args = ["--node-id", "2", "--cluster-id", cluster]
            .map(str::to_string)
            .into();
        for setting in [
            "process.roles=broker".to_string(),
            format!("listeners=PLAINTEXT://{}", second.address()),
            format!("controller.quorum.voters=1@127.0.0.1:{}", controller.trim()),
        ] {
            second.args.extend(["--set".to_string(), setting]);
        }
        second
    }
    /// A new server, not started yet.
    pub fn new(kind: &'static str) -> Server {
        Server {
            kind,
            folder: tempfile::tempdir().unwrap(),
            port: free_port(),
            args: Vec::new(),
            process: None,
        }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts it, on the data that it had.
    pub fn start(&mut self) {
        let log = PathBuf::from(shared("CAPTCHA_TEST_LOGS"))
            .join(format!("{}-{}.log", self.kind, self.port));
        let child = Command::new("python3")
            .args([
                &shared("CAPTCHA_TEST_SERVER"),
                self.kind,
                "--die-with-parent",
            ])
            .args(["--dir".as_ref(), self.folder.path()])
            .args(["--port", &self.port.to_string()])
            .args(["--log".as_ref(), log.as_path()])
            .args(&self.args)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        self.process = Some(Process {
            child,
            log,
            address: self.address(),
            admin: String::new(),
        });
    }

    /// Starts it and waits until it listens.
    pub async fn started(kind: &'static str) -> Server {
        let mut server = Server::new(kind);
        server.start();
        let address = server.address();
        eventually(&format!("{kind} to listen"), async || {
            let connected = tokio::net::TcpStream::connect(&address).await;
            connected.map(drop).map_err(|err| err.to_string())
        })
        .await;
        server
    }

    pub fn kill(&mut self) {
        self.process.take().unwrap().kill();
    }

    /// Alters a topic with Kafka's own tool.
    pub async fn configure_topic(&self, topic: &str, setting: &str) {
        let jars = shared("CAPTCHA_TEST_KAFKA_JARS");
        let output = tokio::process::Command::new("java")
            .args(["-cp", &format!("{jars}/*"), "kafka.admin.ConfigCommand"])
            .args(["--bootstrap-server", &self.address(), "--alter"])
            .args([
                "--entity-type",
                "topics",
                "--entity-name",
                topic,
                "--add-config",
                setting,
            ])
            .output()
            .await
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    pub fn signal(&self, name: &str) {
        self.process.as_ref().unwrap().signal(name);
    }
}

/// Below the range of outgoing connections, which could take a port before the server does, and apart from
/// the range in which `dev/ports.py` looks.
fn free_port() -> u16 {
    static TAKEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let taken = taken.get_or_insert_with(HashSet::new);
    let start = std::process::id() as u16 % 4_000;
    (0..8_000)
        .map(|step| 10_000 + (start + step) % 8_000)
        .find(|port| {
            std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok() && taken.insert(*port)
        })
        .expect("a free port")
}
