//! What a test stands on: a topic and a database of its own, and processes that end with it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use futures_util::StreamExt as _;
use klickhouse::{ClientOptions, Value};
use rskafka::client::ClientBuilder;
use rskafka::client::partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::record::{Record, RecordAndOffset};

use crate::process::{PATIENCE, Process, eventually, shared};

/// The names of all migrations, in their order; the schema version is their number.
pub fn migrations() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let names = std::fs::read_dir(folder).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(".sql")).collect();
    let number = |name: &String| -> u32 { name[1..name.find("__").unwrap()].parse().unwrap() };
    names.sort_by_key(number);
    names
}

/// What `captcha migrate` prints if there is nothing to do.
pub fn nothing_to_do() -> String {
    format!("nothing to do: schema version {}\n", migrations().len())
}

/// A topic, a database, and the processes of one test.
pub struct World {
    pub name: String,
    pub kafka: String,
    pub clickhouse: String,
    logs: PathBuf,
    /// The library and the seconds that the clock of its processes is ahead.
    clock: Option<(PathBuf, i64)>,
}

impl World {
    /// On the servers that all tests share.
    pub fn new(test: &str) -> World {
        World::on(test, &shared("CAPTCHA_TEST_KAFKA"), &shared("CAPTCHA_TEST_CLICKHOUSE"))
    }

    /// On servers of the test's own.
    pub fn on(test: &str, kafka: &str, clickhouse: &str) -> World {
        World {
            name: format!("{test}_{}", uuid::Uuid::now_v7().simple()),
            kafka: kafka.to_string(),
            clickhouse: clickhouse.to_string(),
            logs: PathBuf::from(shared("CAPTCHA_TEST_LOGS")),
            clock: None,
        }
    }

    /// The same topic and database on other ClickHouse servers.
    pub fn beside(&self, clickhouse: &str) -> World {
        World {
            name: self.name.clone(),
            kafka: self.kafka.clone(),
            clickhouse: clickhouse.to_string(),
            logs: self.logs.clone(),
            clock: None,
        }
    }

    /// The same topic, database and servers, where captcha's own clock is wrong.
    pub fn with_clock(&self, ahead_seconds: i64) -> World {
        World {
            clock: Some((clock_library(&self.logs), ahead_seconds)),
            ..self.beside(&self.clickhouse)
        }
    }

    /// A command line of captcha, with this world's servers, topic and database.
    pub fn command(&self, args: &[&str]) -> Command {
        let program = std::env::var("PROGRAM");
        let program = program.unwrap_or_else(|_| env!("CARGO_BIN_EXE_captcha").to_string());
        let mut command = Command::new(program);
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
        if let Some((library, ahead_seconds)) = &self.clock {
            command
                .env("LD_PRELOAD", library)
                .env("CLOCK_AHEAD_SECONDS", ahead_seconds.to_string());
        }
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
        let ports = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
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

    /// Starts captcha, which writes what it says to a log.
    pub fn start(&self, role: &str, args: &[&str]) -> Process {
        self.start_command(role, self.command(args))
    }

    /// The same of a command line with more than arguments.
    pub fn start_command(&self, role: &str, command: Command) -> Process {
        let file = format!("{}-{role}-{}.log", self.name, uuid::Uuid::now_v7().simple());
        Process::start(command, self.logs.join(file))
    }

    /// The report as `captcha report` has it: (date, site, served, solved).
    pub async fn report(&self, args: &[&str]) -> Vec<(String, String, u64, u64)> {
        let page = self.ok(&[&["report", "--format", "json"], args].concat()).await;
        counters(&serde_json::from_str(&page).unwrap())
    }

    /// How many events the report counts, or why there is none.
    pub async fn counted(&self) -> Result<u64, String> {
        let output = self.run(&["report", "--format", "json"]).await;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let report = serde_json::from_slice(&output.stdout).unwrap();
        let rows = counters(&report).into_iter();
        Ok(rows.map(|(_, _, served, solved)| served + solved).sum())
    }

    /// Waits until the report counts this many events in all.
    pub async fn await_counted(&self, events: u64) {
        eventually(&format!("{events} events counted"), async || {
            all_counted(self.counted().await.unwrap(), events)
        })
        .await;
    }

    /// Asks ClickHouse, the first of several; the rows as text.
    pub async fn sql(&self, sql: &str) -> Vec<Vec<String>> {
        tokio::time::timeout(PATIENCE, self.sql_as("default", &self.name, sql))
            .await
            .unwrap_or_else(|_| panic!("clickhouse does not answer: {sql}"))
    }

    /// The same as a user, whose password is `pw` but for that of `default`, and in another database.
    pub async fn sql_as(&self, user: &str, database: &str, sql: &str) -> Vec<Vec<String>> {
        let password = if user == "default" { "" } else { "pw" };
        let options = ClientOptions {
            username: user.to_string(),
            password: password.to_string(),
            default_database: database.to_string(),
            // The driver reads nothing else, and ClickHouse 26.9 has another default.
            settings: [["network_compression_method", "LZ4"].map(str::to_string).into()].into(),
            ..ClientOptions::default()
        };
        let first = self.clickhouse.split([',', ';']).next().unwrap();
        let client = klickhouse::Client::connect(first, options).await.unwrap();
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
                let [head, spans, count, distinct] = [1, 2, 3, 4].map(|at| row[at].parse::<i64>().unwrap());
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
        let client = ClientBuilder::new(vec![self.kafka.clone()]).build().await.unwrap();
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

/// Compiles the clock that [`World::with_clock`] takes.
fn clock_library(folder: &Path) -> PathBuf {
    let library = folder.join(format!("clock-{}.so", uuid::Uuid::now_v7().simple()));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/clock.c");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([library.as_os_str(), source.as_ref()])
        .status();
    assert!(compiled.unwrap().success(), "cc {source}");
    library
}

fn text(value: Value) -> String {
    match value {
        Value::String(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        other => other.to_string(),
    }
}

/// Whether all events that were sent are counted. Never more.
pub fn all_counted(counted: u64, events: u64) -> Result<(), String> {
    assert!(counted <= events, "{counted} events counted, {events} were sent");
    (counted == events).then_some(()).ok_or(format!("{counted} are"))
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
