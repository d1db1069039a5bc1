"""Turns this process into one Kafka broker, ClickHouse server or ZooKeeper on 127.0.0.1, with its data and log in one
folder.

The process that is started becomes the server: its pid is the server's, so a caller may stop, freeze or kill it and
start it again on the same folder and ports, with the data kept."""

import argparse
import base64
import os
import shutil
import signal
import subprocess
import sys
import uuid
from pathlib import Path

from dev import disk, fetch, java, ports, process
from dev.clickhouse_config import replica_config, whole_config
from dev.command import DEV, Failure, ending, last_words, open_log, run, shown, start, utf8_environment, write


def arguments():
    parser = argparse.ArgumentParser(
        prog="server.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind in ("kafka", "clickhouse", "zookeeper"):
        options = kinds.add_parser(kind)
        options.add_argument("--dir", type=Path, required=True, help="folder of the data, made if new")
        options.add_argument("--port", type=int, required=True, help="port for clients")
        options.add_argument("--log", type=Path, help="file that the log is added to (default: DIR/server.log)")
        options.add_argument(
            "--die-with-parent",
            nargs="?",
            type=int,
            const=0,
            metavar="PID",
            help="end when the thread that started this process ends (Linux); PID of the starter closes a small race",
        )
    kafka = kinds.choices["kafka"]
    kafka.add_argument("--controller-port", type=int, help="private port (default: a free one, then kept in DIR)")
    kafka.add_argument("--node-id", type=int, default=1)
    kafka.add_argument("--cluster-id", help="22 characters; the same for all brokers of a cluster (default: a new one)")
    kafka.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="add or replace a broker property"
    )
    kafka.add_argument(
        "--scram",
        action="append",
        default=[],
        metavar="MECHANISM=[name=NAME,password=PASSWORD]",
        help="a user that is there from the first start on",
    )
    clickhouse = kinds.choices["clickhouse"]
    clickhouse.add_argument(
        "--http-port", type=int, help="port of the HTTP interface (default: a free one, then kept in DIR)"
    )
    clickhouse.add_argument("--config", type=Path, help="config file in place of dev/clickhouse-config.xml")
    clickhouse.add_argument(
        "--replica", metavar="NAME", help="be this one of several replicas; its HTTP port is for the others then"
    )
    clickhouse.add_argument("--shard", default="0", help="the shard that a replica is of (default: 0)")
    clickhouse.add_argument("--zookeeper", metavar="HOST:PORT", help="what the replicas have in common")
    return parser.parse_args()


def claim(folder):
    """Takes the folder for this process and, through exec, for the server; freed by the kernel when that ends."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = process.lock(folder / "lock")
    if lock is None:
        raise Failure(f"{shown(folder)} is in use by a server that still runs; stop it or choose another --dir")
    os.set_inheritable(lock, True)


def kept_port(file, asked, option):
    """The port asked for, or the one that this folder used before, or a new free one; written down for next time."""
    if asked is not None:
        need_free(asked, f"{option} PORT")
    port = asked or ports.kept(file)
    write(file, f"{port}\n")
    return port


def need_free(port, remedy):
    if not ports.is_free(port):
        raise Failure(f"cannot listen on 127.0.0.1:{port}: the port is in use; choose another with {remedy}")


def kafka(options, log):
    fetch.need("java")
    jars = fetch.fetch(fetch.SERVERS).kafka
    java.need_path(jars)
    need_free(options.port, "--port PORT")
    controller = kept_port(options.dir / "controller.port", options.controller_port, "--controller-port")
    properties = broker_properties(options, controller)
    data = options.dir / "data"
    if not data.exists():
        format_data(options, jars, properties, data, log)
    write_properties(options.dir / "server.properties", properties, data)
    return [
        # Serial collector, first compiler only: half the processor time of a start, and enough for one developer.
        "java",
        "-Xms64m",
        "-Xmx400m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        f"-Dlog4j2.configurationFile={(DEV / 'kafka-log4j2.yaml').as_uri()}",
        "-cp",
        f"{jars}/*",
        "kafka.Kafka",
        str(options.dir / "server.properties"),
    ]


def broker_properties(options, controller):
    address = f"PLAINTEXT://127.0.0.1:{options.port}"
    properties = {
        "process.roles": "broker,controller",
        "node.id": options.node_id,
        "controller.quorum.voters": f"{options.node_id}@127.0.0.1:{controller}",
        "listeners": f"{address},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": address,
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 1,
        "group.initial.rebalance.delay.ms": 0,
        # A broker that was killed may join again only when its old session is over: 3 s instead of 9.
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 500,
        # Index files are made at full size; the default, 10 MB for each partition, is much for test topics.
        "log.index.size.max.bytes": 1 << 20,
    }
    for setting in options.set:
        key, equals, value = setting.partition("=")
        if not key or not equals:
            raise Failure(f"--set {setting} is no KEY=VALUE")
        properties[key] = value
    return properties


def write_properties(path, properties, data):
    write(path, java.properties({**properties, "log.dirs": data}))


def format_data(options, jars, properties, data, log):
    """Formats a folder of another name and renames it, so that `data` is always whole, whenever this was killed."""
    for leftover in options.dir.glob("data.formatting-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh = options.dir / f"data.formatting-{os.getpid()}"
    file = options.dir / "format.properties"
    write_properties(file, properties, fresh)
    identity = options.cluster_id or new_cluster_id()
    child = start(
        [
            "java",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-cp",
            f"{jars}/*",
            "kafka.tools.StorageTool",
            "format",
            "-t",
            identity,
            "-c",
            file,
            *(word for user in options.scram for word in ("--add-scram", user)),
        ],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=utf8_environment(),
    )
    code = child.wait()
    if code != 0:
        if disk.ran_out(log_path(options), options.dir):
            raise disk.no_space(options.dir, disk.SERVERS_BYTES, "kafka", log_path(options))
        raise Failure(
            f"cannot format {shown(data)}: the storage tool failed ({ending(code)}): {last_words(log_path(options))}"
        )
    fresh.rename(data)
    file.unlink()


def new_cluster_id():
    """A random id in Kafka's spelling; one that starts with a hyphen would be read as an option."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text


def clickhouse(options, log):
    tools = fetch.fetch(fetch.SERVERS)
    need_free(options.port, "--port PORT")
    http = kept_port(options.dir / "http.port", options.http_port, "--http-port")
    data = options.dir / "data"
    config = (options.config or DEV / "clickhouse-config.xml").resolve()
    if not config.is_file():
        raise Failure(f"there is no config file {shown(config)}; give another with --config")
    if fetch.clickhouse().source == "pip":
        if options.replica:
            raise Failure("--replica is for the usual version of ClickHouse alone; run without DEV_CLICKHOUSE")
        config = whole_config(options, config, http)
        return [sys.executable, str(DEV / "clickhouse-engine.py"), str(tools.engine), str(config), str(data)]
    if options.replica:
        config = replica_config(options, config)
    return [
        str(tools.launcher),
        *(["--replica"] if options.replica else []),
        str(tools.engine / "libchdb"),
        str(data),
        str(options.port),
        str(http),
        f"--config-file={config}",
        "--logger.console=1",
        "--log-level=warning",
        "--implicit_select=0",  # as in a server: `1` alone is no query
    ]


def zookeeper(options, log):
    fetch.need("java")
    jars = fetch.fetch().zookeeper
    java.need_path(jars)
    need_free(options.port, "--port PORT")
    properties = {
        "dataDir": options.dir / "data",
        "clientPort": options.port,
        "clientPortAddress": "127.0.0.1",
        # Sessions of servers that were killed end after 4 s, whatever they asked for, instead of 30.
        "tickTime": 500,
        "maxSessionTimeout": 4000,
        "admin.enableServer": "false",
    }
    file = options.dir / "zookeeper.properties"
    write(file, java.properties(properties))
    return [
        "java",
        "-Xmx128m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        # The default one ends for good if a client hangs up in the millisecond before the data is read.
        "-Dzookeeper.serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory",
        # Tests kill processes, not the machine: what was written is kept without fsync.
        "-Dzookeeper.forceSync=no",
        "-cp",
        f"{jars}/*",
        "org.apache.zookeeper.server.quorum.QuorumPeerMain",
        str(file),
    ]


def log_path(options):
    return options.log or options.dir / "server.log"


def main():
    for number in (signal.SIGINT, signal.SIGPIPE):  # Python's own handling would reach the server through exec
        signal.signal(number, signal.SIG_DFL)
    options = arguments()
    if options.die_with_parent is not None:
        process.die_with_parent(options.die_with_parent or os.getppid())
    options.dir = options.dir.resolve()
    claim(options.dir)
    log = open_log(log_path(options))
    command = {"kafka": kafka, "clickhouse": clickhouse, "zookeeper": zookeeper}[options.kind](options, log)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, nothing), (1, log), (2, log)):
        os.dup2(source, target)
    try:
        os.execvpe(command[0], command, utf8_environment())
    except OSError as error:
        raise Failure(f"cannot run {command[0]}: {error.strerror}") from None


if __name__ == "__main__":
    run(main)
