"""The processes of a run: servers behind links, captcha's processes, and where each of them listens."""

import signal
import time

from dev import ports, process, ready, supervise
from dev.command import Failure, captcha_environment, say
from dev.testkit import captcha, kafka, processes, servers
from tests.chaos.link import Links
from tests.chaos.plan import CONSUMES, SERVES, brokers_named, link_of

START_SECONDS = 120
ANSWER_SECONDS = 60  # for a command that looks
INSERT_INTERVALS_MS = (20, 100, 300)  # different, so that rivals do not walk in step
ENDED_MAX = 10  # more that end by themselves, and there is no point in going on
TOPIC = "captcha"


class World:
    """Everything that is started; `expected` names the processes that have no reason not to run."""

    def __init__(self, folder, lock, program, brokers, partitions):
        self.folder = folder
        self.lock = lock
        self.program = program
        self.partitions = partitions
        self.brokers = brokers_named(brokers)
        self.children = {}
        self.expected = set()
        self.ended = []  # what ended by itself, in words
        self.links = Links()
        self.link = {}
        self.port = self.choose_ports()
        self.argv = self.commands()
        self.environ = captcha_environment(
            kafka_brokers=",".join(f"127.0.0.1:{self.port[link_of(name)]}" for name in self.brokers),
            clickhouse_addr=f"127.0.0.1:{self.port[link_of('clickhouse')]}",
        )

    def choose_ports(self):
        servers = (*self.brokers, "clickhouse")
        names = [*servers, *map(link_of, servers), "clickhouse http", *SERVES]
        names += [f"{name} admin" for name in (*SERVES, *CONSUMES)]
        names += [f"{name} {more}" for name in self.brokers for more in ("controller", "internal")]
        chosen = dict(zip(names, ports.pick(len(names)), strict=True))
        for server in servers:
            self.link[link_of(server)] = self.links.open(chosen[link_of(server)], chosen[server])
        return chosen

    def commands(self):
        argv = {
            "clickhouse": self.server("clickhouse", "clickhouse", "--http-port", self.port["clickhouse http"]),
        }
        voters = ",".join(
            f"{node}@127.0.0.1:{self.port[f'{name} controller']}" for node, name in enumerate(self.brokers, 1)
        )
        for node, name in enumerate(self.brokers, 1):
            argv[name] = self.server(
                "kafka",
                name,
                *("--node-id", node, "--cluster-id", "Y2FwdGNoYS1jaGFvcy0wMA"),
                *("--controller-port", self.port[f"{name} controller"]),
                *self.settings(name, voters),
            )
        for name in SERVES:
            argv[name] = [self.program, "serve", "--listen", f"127.0.0.1:{self.port[name]}"]
        for name, interval in zip(CONSUMES, INSERT_INTERVALS_MS, strict=True):
            argv[name] = [self.program, "consume", "--insert-interval-ms", interval]
        for name in (*SERVES, *CONSUMES):
            argv[name] += ["--admin-listen", f"127.0.0.1:{self.port[f'{name} admin']}"]
        return argv

    def server(self, kind, name, *more):
        return servers.command(kind, self.folder / name, self.port[name], self.log(name), *more)

    def settings(self, name, voters):
        """Sends clients to the link. Brokers talk past it, or a broken link would be a broken cluster."""
        own = {more: f"127.0.0.1:{self.port[f'{name} {more}']}" for more in ("internal", "controller")}
        properties = {
            "controller.quorum.voters": voters,
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port[name]},"
            f"INTERNAL://{own['internal']},CONTROLLER://{own['controller']}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port[link_of(name)]},INTERNAL://{own['internal']}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,INTERNAL:PLAINTEXT",
            "inter.broker.listener.name": "INTERNAL",
            "offsets.topic.replication.factor": len(self.brokers),
            # A follower that stands still is given up after 5 s, not 30: the leader goes on with the others.
            "replica.lag.time.max.ms": 5000,
        }
        return [word for key, value in properties.items() for word in ("--set", f"{key}={value}")]

    def log(self, name):
        return self.folder / "logs" / f"{name.replace(' ', '-')}.log"

    def launch(self, name, argv, environ=None):
        """A child that the kernel kills when we end, however; SIGTERM would not end one that is frozen."""
        options = {"env": environ or self.environ, "pass_fds": (self.lock,), "preexec_fn": processes.kill_with_parent}
        return supervise.launch(name, argv, self.log(name), background=True, **options)

    def start(self, name):
        self.children[name] = self.launch(name, self.argv[name])
        self.expected.add(name)

    def kill(self, name):
        """Kills; False if it had ended before."""
        if not self.check(name):
            return False
        self.expected.discard(name)
        child = self.children[name]
        child.send(signal.SIGKILL)
        child.popen.wait()
        return True

    def check(self, name):
        """Whether the process ran as it should. One that ended by itself is noted, and started again: what comes
        after that is worth seeing too."""
        child = self.children[name]
        if child.alive():
            return True
        self.ended.append(f"{name} ({child.how_it_ended()})")
        supervise.show_log(child)
        if len(self.ended) > ENDED_MAX:
            self.expected.discard(name)
            raise Failure(f"{len(self.ended)} processes ended by themselves; the last was {name}")
        self.start(name)
        return False

    def check_all(self):
        for name in sorted(self.expected):
            self.check(name)

    def broker_ports(self):
        return {node: self.port[name] for node, name in enumerate(self.brokers, 1)}

    def begin(self):
        for name in (*self.brokers, "clickhouse"):
            self.start(name)
        self.wait_servers()
        copies = ["--replication-factor", len(self.brokers)] if len(self.brokers) > 1 else []
        self.migrate_once("--partitions", self.partitions, *copies)
        for name in (*SERVES, *CONSUMES):
            self.start(name)
        for name in (*SERVES, *CONSUMES):
            supervise.wait_ready(self.children[name], lambda name=name: self.not_ready(name), START_SECONDS)

    def wait_servers(self):
        supervise.wait_ready(self.children["clickhouse"], self.clickhouse_away, START_SECONDS)
        for name in self.brokers:
            supervise.wait_ready(self.children[name], lambda port=self.port[name]: ready.kafka(port), START_SECONDS)

    def migrate_once(self, *more):
        child = self.launch("captcha migrate", [self.program, "migrate", *more])
        self.children["migrate"] = child
        begin = time.monotonic()
        while child.alive():
            if time.monotonic() - begin > START_SECONDS:
                raise Failure(f"captcha migrate has not ended in {START_SECONDS} s; its log is {child.log}")
            time.sleep(0.02)
        if child.popen.returncode != 0:
            supervise.show_log(child)
            raise Failure(f"captcha migrate failed ({child.how_it_ended()}); its last lines are above")

    def captcha(self, *words, environ=None, seconds=ANSWER_SECONDS):
        """Exit code and stdout, or stderr when there is none."""
        code, stdout, stderr = captcha.attempt(self.program, *words, environ=environ or self.environ, seconds=seconds)
        return code, stdout or stderr

    def clickhouse_away(self):
        return ready.clickhouse(self.port["clickhouse http"])

    def not_ready(self, name):
        return captcha.not_ready(self.port[f"{name} admin"])

    def out_of_sync(self):
        """None when every partition has all its replicas in sync, else the reason."""
        try:
            for number, (leader, replicas) in kafka.partitions(self.broker_ports(), TOPIC).items():
                if leader < 0 or len(replicas) < len(self.brokers):
                    return f"partition {number} has {len(replicas)} of {len(self.brokers)} replicas in sync"
        except OSError as error:
            return str(error)
        return None

    def end(self):
        """Kills everything; the data is thrown away, so nobody needs to stop in order."""
        self.expected.clear()
        for child in self.children.values():
            child.send(signal.SIGKILL)
        for child in self.children.values():
            if not process.wait_gone(child.pid, child.birth, 10):
                say(f"{child.name} (pid {child.pid}) is still there 10 s after SIGKILL")
