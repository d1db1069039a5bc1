//! Processes that end with the test that started them, and waiting for what they do.

use std::collections::HashSet;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use crate::client::{self, Reply};

/// After which something that was waited for counts as never coming. Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Lines of each log that a failed test prints.
const LOG_LINES: usize = 40;

/// The value of a variable of the servers that all tests share. Without it no test here can run: the process ends with
/// one line.
#[allow(
    clippy::disallowed_methods,
    reason = "libtest keeps what the macros print until the test has ended"
)]
pub fn shared(name: &str) -> String {
    static SAYS: Once = Once::new();
    std::env::var(name).unwrap_or_else(|_| {
        SAYS.call_once(|| {
            let line = format!(
                "\ne2e: {name} is not set: these tests need Kafka and ClickHouse; run `make test`, or \
                 `python3 dev/stack.py with -- cargo test --locked --test e2e -- NAME`\n"
            );
            let _ = std::io::stderr().write_all(line.as_bytes());
            std::process::exit(1);
        });
        unreachable!("the process has ended");
    })
}

/// Asks again and again until the answer is Ok.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(last) => assert!(began.elapsed() < PATIENCE, "waited in vain for {what}: {last}"),
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
    /// Starts a command, with all that it says in a log.
    pub fn start(mut command: Command, log: PathBuf) -> Process {
        let file = File::create(&log).unwrap();
        let child = command.stderr(file.try_clone().unwrap()).stdout(file).spawn().unwrap();
        Process {
            child,
            log,
            address: String::new(),
            admin: String::new(),
        }
    }

    /// Waits for the line with this message, which tells where it listens.
    pub async fn await_addresses(&mut self, message: &str) {
        let log = self.log.clone();
        let line = eventually("the line that tells the addresses", async || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("captcha ended ({status}): {}", std::fs::read_to_string(&log).unwrap());
            }
            let text = std::fs::read_to_string(&log).unwrap();
            let line = text
                .lines()
                .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            line.into_iter().find(|line| line["message"] == message).ok_or(text)
        })
        .await;
        self.address = line["address"].as_str().unwrap_or_default().to_string();
        self.admin = line["admin_address"].as_str().unwrap().to_string();
    }

    /// Waits until it has said this.
    pub async fn await_said(&self, part: &str) {
        eventually(&format!("the process to say {part:?}"), async || {
            let text = std::fs::read_to_string(&self.log).unwrap();
            text.contains(part).then_some(()).ok_or(text)
        })
        .await;
    }

    /// All that it has said.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Sends a signal by name, such as TERM.
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

    /// Its exit status, if it has ended.
    pub fn try_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
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
            fits.then_some(()).ok_or(format!("{} {}", reply.status, reply.text()))
        })
        .await;
    }

    /// The lines of its log with this message, as the reason or whatever else they carry under a name.
    pub fn logged(&self, message: &str, field: &str) -> Vec<String> {
        let text = std::fs::read_to_string(&self.log).unwrap();
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter(|line| line["message"] == message);
        lines
            .map(|line| line[field].as_str().unwrap_or_default().to_string())
            .collect()
    }

    /// A metric by its name and labels as they are rendered.
    pub async fn metric(&self, name: &str) -> f64 {
        let page = client::get(&self.admin, "/metrics").await.text();
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
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

/// Kafka's tool for topics.
pub const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";

/// Kafka's tool that writes records.
pub const PRODUCER: &str = "org.apache.kafka.tools.ProducerPerformance";

/// A topic whose records have the dates that their producers gave them.
pub const CREATE_TIME: &str = "message.timestamp.type=CreateTime";

/// The tool for rights.
pub const ACLS: &str = "org.apache.kafka.tools.AclCommand";

/// Tools that older versions of Kafka have in another package, and the version that moved them.
const MOVED: [(&str, (u32, u32)); 2] = [("AclCommand", (4, 0)), ("ConfigCommand", (4, 4))];

/// Where the Kafka of these jars, in a folder such as `kafka-4.3.1`, has a tool.
fn class_in(jars: &str, class: &str) -> String {
    let (_, name) = class.rsplit_once('.').unwrap();
    let Some((_, moved)) = MOVED.iter().find(|(tool, _)| *tool == name) else {
        return class.to_string();
    };
    let (_, version) = jars.rsplit_once('-').unwrap();
    let mut numbers = version.split('.').map(|number| number.parse().unwrap());
    match (numbers.next().unwrap(), numbers.next().unwrap()) < *moved {
        true => format!("kafka.admin.{name}"),
        false => format!("org.apache.kafka.tools.{name}"),
    }
}

/// The command line of one of Kafka's own tools.
pub fn java_class(class: &str, address: &str) -> tokio::process::Command {
    let jars = shared("CAPTCHA_TEST_KAFKA_JARS");
    let mut command = tokio::process::Command::new("java");
    command.args(["-cp", &format!("{jars}/*"), &class_in(&jars, class)]);
    match class {
        // As every version takes it; more of the producer's settings may follow.
        PRODUCER => command.args(["--producer-props", &format!("bootstrap.servers={address}")]),
        _ => command.args(["--bootstrap-server", address]),
    };
    command
}

/// Runs one of Kafka's own tools; what it wrote to stdout.
pub async fn kafka_tool(class: &str, address: &str, args: &[&str]) -> String {
    let output = java_class(class, address).args(args).output().await.unwrap();
    assert!(
        output.status.success(),
        "{class} {args:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Alters the configuration of a topic, with Kafka's own tool.
pub async fn configure_topic(address: &str, topic: &str, setting: &str) {
    let alter = [
        ["--alter", "--entity-type"],
        ["topics", "--entity-name"],
        [topic, "--add-config"],
    ];
    let alter = [&alter.concat()[..], &[setting]].concat();
    kafka_tool("kafka.admin.ConfigCommand", address, &alter).await;
}

/// A Kafka or ClickHouse of one test, which may be stopped, frozen, killed and started again.
pub struct Server {
    kind: &'static str,
    folder: tempfile::TempDir,
    port: u16,
    args: Vec<String>,
    /// Of its folder, in MB, if that is to be a file system of its own.
    disk: Option<u32>,
    process: Option<Process>,
}

impl Server {
    /// A Kafka broker, not started yet, that joins the cluster of a running one.
    pub fn second_broker(first: &Server) -> Server {
        let mut second = Server::new("kafka");
        let read = |file: &str| std::fs::read_to_string(first.folder.path().join(file)).unwrap();
        let controller = read("controller.port");
        let meta = read("data/meta.properties");
        let cluster = meta.lines().find_map(|line| line.strip_prefix("cluster.id=")).unwrap();
        second.args = ["--node-id", "2", "--cluster-id", cluster].map(str::to_string).into();
        for setting in [
            "process.roles=broker".to_string(),
            format!("listeners=PLAINTEXT://{}", second.address()),
            format!("controller.quorum.voters=1@127.0.0.1:{}", controller.trim()),
        ] {
            second.args.extend(["--set".to_string(), setting]);
        }
        second
    }

    /// A ClickHouse, not started yet, on a disk of this many MB; `None` where the system makes no such disk
    /// without root. What it holds goes with the process.
    pub fn on_small_disk(megabytes: u32) -> Option<Server> {
        let can = Command::new("unshare")
            .args(["-Urm", "mount", "-t", "tmpfs", "none", "/tmp"])
            .stderr(Stdio::null())
            .status();
        let mut server = Server::new("clickhouse");
        server.disk = Some(megabytes);
        can.is_ok_and(|status| status.success()).then_some(server)
    }

    /// Gives a ClickHouse users of its own, from its next start on: what stands between `<clickhouse>` and its
    /// end in a file of users.
    pub fn set_users(&mut self, users: &str) {
        let path = |name: &str| self.folder.path().join(name);
        let (config, file) = (path("config.xml"), path("users.xml"));
        let shared = include_str!("../../dev/clickhouse-config.xml");
        let users_config = format!("<users_config>{}</users_config></clickhouse>", file.display());
        std::fs::write(&config, shared.replace("</clickhouse>", &users_config)).unwrap();
        std::fs::write(file, format!("<clickhouse>{users}</clickhouse>")).unwrap();
        self.args = vec!["--config".to_string(), config.display().to_string()];
    }

    /// Makes every write of its to a file fail, or lets it write again.
    pub fn set_writable(&self, writable: bool) {
        let limit = if writable { "unlimited" } else { "0" };
        let status = Command::new("prlimit")
            .arg(format!("--pid={}", self.process.as_ref().unwrap().pid()))
            .arg(format!("--fsize={limit}:unlimited"))
            .status();
        assert!(status.unwrap().success());
    }

    /// Where its folder is for those who stand outside its disk.
    pub fn disk(&self) -> PathBuf {
        let process = self.process.as_ref().unwrap();
        let folder = self.folder.path().strip_prefix("/").unwrap();
        Path::new("/proc")
            .join(process.pid().to_string())
            .join("root")
            .join(folder)
    }

    /// A new server, not started yet.
    pub fn new(kind: &'static str) -> Server {
        Server {
            kind,
            folder: tempfile::tempdir().unwrap(),
            port: free_port(),
            args: Vec::new(),
            disk: None,
            process: None,
        }
    }

    /// One more setting of a Kafka broker.
    pub fn add_setting(&mut self, setting: &str) {
        self.args.extend(["--set".to_string(), setting.to_string()]);
    }

    /// More words for its command line.
    pub fn set_args(&mut self, args: Vec<String>) {
        self.args = args;
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts it, on the data that it had.
    pub fn start(&mut self) {
        let log = PathBuf::from(shared("CAPTCHA_TEST_LOGS")).join(format!("{}-{}.log", self.kind, self.port));
        let child = self
            .python()
            .args([&shared("CAPTCHA_TEST_SERVER"), self.kind, "--die-with-parent"])
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

    fn python(&self) -> Command {
        let Some(megabytes) = self.disk else {
            return Command::new("python3");
        };
        let mut command = Command::new("unshare");
        let mount = format!("mount -t tmpfs -o size={megabytes}m none \"$0\" && exec python3 \"$@\"");
        command.args(["-Urm", "sh", "-c", &mount]).arg(self.folder.path());
        command
    }

    /// A new one that listens.
    pub async fn started(kind: &'static str) -> Server {
        let mut server = Server::new(kind);
        server.start_and_listen().await;
        server
    }

    /// Starts it and waits until it listens.
    pub async fn start_and_listen(&mut self) {
        self.start();
        let address = self.address();
        eventually(&format!("{} to listen", self.kind), async || {
            let connected = tokio::net::TcpStream::connect(&address).await;
            let connected = connected.map_err(|err| err.to_string())?;
            // Where nobody listens yet, a connection may get this very port for its own end, and meet itself.
            let is_own = connected.local_addr().ok() == connected.peer_addr().ok();
            (!is_own).then_some(()).ok_or("connected to itself".to_string())
        })
        .await;
    }

    pub fn kill(&mut self) {
        self.process.take().unwrap().kill();
    }

    /// Kills it, and all that it had is gone.
    pub fn lose_disk(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.folder.path().join("data")).unwrap();
    }

    /// SIGTERM, and it is gone once it has handed over what it led.
    pub async fn stop(&mut self) {
        self.process.take().unwrap().terminate().await;
    }

    /// Alters the configuration of a topic.
    pub async fn configure_topic(&self, topic: &str, setting: &str) {
        configure_topic(&self.address(), topic, setting).await;
    }

    /// Stops it in the middle of whatever it does, and waits until all of it stands still: that comes some
    /// time after the signal.
    pub async fn freeze(&self) {
        let process = self.process.as_ref().unwrap();
        process.signal("STOP");
        let threads = format!("/proc/{}/task", process.pid());
        eventually("a server to freeze", async || {
            let all = std::fs::read_dir(&threads).map_err(|err| err.to_string())?;
            let running = all.flatten().find(|thread| {
                let status = std::fs::read_to_string(thread.path().join("status"));
                !status.is_ok_and(|status| status.contains("State:\tT"))
            });
            running.map_or(Ok(()), |thread| Err(format!("{thread:?} runs")))
        })
        .await;
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.process.as_ref().unwrap().signal("CONT");
    }
}

/// Below the range of outgoing connections, which could take a port before the server does, and apart from
/// the range in which `dev/ports.py` looks.
pub fn free_port() -> u16 {
    static TAKEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let taken = taken.get_or_insert_with(HashSet::new);
    let start = std::process::id() as u16 % 4_000;
    (0..8_000)
        .map(|step| 10_000 + (start + step) % 8_000)
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok() && taken.insert(*port))
        .expect("a free port")
}
