"""The two servers in the background: `up` starts them and prints their addresses, `down` stops them."""

import json
import os

from dev import fetch, process, supervise
from dev.command import STATE, Failure, say, shown

DATA = STATE / "data"
LOGS = STATE / "logs"
RECORD = STATE / "up.json"
DATA_LOCK = STATE / "data.lock"
COMMAND_LOCK = STATE / "command.lock"
OWNER = STATE / "owner.json"
LEFTOVER_SECONDS = 25

# Names of make variables, and the ports without them.
USUAL_PORTS = {
    "HTTP_PORT": 8000,
    "ADMIN_PORT": 9090,
    "CONSUME_ADMIN_PORT": 9091,
    "KAFKA_PORT": 9092,
    "CLICKHOUSE_PORT": 9000,
}
SERVER_PORTS = ("KAFKA_PORT", "CLICKHOUSE_PORT")


def claim_data(command):
    """Takes .dev/data for this command and the servers it starts.

    Servers of a command that was killed end by themselves a little later; those are waited for."""
    lock = process.lock(DATA_LOCK)
    if lock is None:
        owner = read(OWNER)
        if owner and process.born(owner["pid"]) == owner["born"]:
            raise Failure(
                f"`{owner['command']}` uses the data of this checkout (pid {owner['pid']}); stop it with Ctrl-C first"
            )
        if running():
            raise Failure(
                'the servers run already in the background; stop them with make down, or use them: eval "$(make -s up)"'
            )
        say("waiting for the servers of an earlier run to end")
        lock = process.lock(DATA_LOCK, LEFTOVER_SECONDS)
        if lock is None:
            raise Failure(
                f"servers of an earlier run have not ended in {LEFTOVER_SECONDS} s; find them: ps ax | grep {STATE}"
            )
    if command:
        OWNER.write_text(json.dumps({"pid": os.getpid(), "born": process.born(os.getpid()), "command": command}))
    return lock


def read(path):
    """The JSON in a file of ours; None when it is missing or was cut short by a kill."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def running():
    """The servers that `up` started and that still live."""
    record = read(RECORD) or {"servers": []}
    children = [
        supervise.Child(name, LOGS / f"{name}.log", pid=pid, birth=birth) for name, pid, birth in record["servers"]
    ]
    return [child for child in children if child.alive()]


def exports(kafka_port, clickhouse_port):
    return (
        f"export CAPTCHA_KAFKA_BROKERS=127.0.0.1:{kafka_port}\n"
        f"export CAPTCHA_CLICKHOUSE_ADDR=127.0.0.1:{clickhouse_port}"
    )


def command_lock():
    lock = process.lock(COMMAND_LOCK, 90)
    if lock is None:
        raise Failure("another up or down in this checkout has not ended in 90 s; stop it and try again")
    return lock


def up(options, signals):
    command_lock()
    children = running()
    if len(children) == 2:
        record = read(RECORD)
        say("kafka and clickhouse run already")
        if (record["kafka_port"], record["clickhouse_port"]) != (options.kafka_port, options.clickhouse_port):
            say("they keep the ports that they have; for others: make down, then make up again")
        print(exports(record["kafka_port"], record["clickhouse_port"]))
        return 0
    fetch.fetch(fetch.SERVERS)
    if children:
        say("one of the two servers is gone; starting both again")
        supervise.stop([children], signals)
        signals.listen()
    lock = claim_data(None)
    supervise.need_free_ports("up", options.ports, USUAL_PORTS)
    children = []
    try:
        supervise.start_servers(
            DATA, LOGS, lock, options.kafka_port, options.clickhouse_port, children, background=True
        )
        remember(children, options)
    except BaseException:
        supervise.stop([children], signals)
        raise
    print(exports(options.kafka_port, options.clickhouse_port))
    return 0


def remember(children, options):
    record = {
        "servers": [[child.name, child.pid, child.birth] for child in children],
        "kafka_port": options.kafka_port,
        "clickhouse_port": options.clickhouse_port,
    }
    new = RECORD.with_suffix(".new")
    new.write_text(json.dumps(record))
    new.replace(RECORD)


def down(signals):
    command_lock()
    children = running()
    if not children:
        owner = read(OWNER)
        if owner and process.born(owner["pid"]) == owner["born"]:
            say(f"nothing runs in the background; `{owner['command']}` runs (pid {owner['pid']}): stop it with Ctrl-C")
        else:
            say("nothing runs")
        return 0
    for name in {name for name, *_ in read(RECORD)["servers"]} - {child.name for child in children}:
        say(f"{name}: had ended by itself; its log is {shown(LOGS / name)}.log")
    supervise.stop([children], signals, seconds=20)
    RECORD.unlink(missing_ok=True)
    say("stopped; the data is kept")
    return 0
