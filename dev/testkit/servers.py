"""The servers of `dev/stack.py with`, which it names in the environment, and servers that a test starts for itself."""

import os
import sys
from pathlib import Path
from typing import NamedTuple

from dev import supervise
from dev.command import DEV, Failure

PREFIX = "CAPTCHA_TEST_"


class Servers(NamedTuple):
    kafka: str  # its address
    clickhouse: str
    logs: Path
    kafka_jars: Path

    def settings(self, name):
        """Settings of captcha for a topic and a database of this name."""
        own = {"kafka_topic": name, "clickhouse_database": name}
        return {"kafka_brokers": self.kafka, "clickhouse_addr": self.clickhouse, **own}


def given(remedy):
    """The servers that this process was given; Failure that says the remedy if there are none."""
    found = {name: os.environ.get(PREFIX + name.upper()) for name in Servers._fields}
    for name, value in found.items():
        if not value:
            raise Failure(f"{PREFIX}{name.upper()} is not set: this needs servers, run {remedy}")
    return Servers(found["kafka"], found["clickhouse"], Path(found["logs"]), Path(found["kafka_jars"]))


def command(kind, folder, port, log, *words):
    """The command that becomes a server: `kind` is kafka, clickhouse or zookeeper."""
    return [sys.executable, DEV / "server.py", kind, "--dir", folder, "--port", port, "--log", log, *words]


def launch(kind, name, folder, port, log, *words, **options):
    """Starts one server as a child of this process."""
    return supervise.launch(name, command(kind, folder, port, log, *words), log, **options)


def value(setting):
    """A value of a YAML document as Kafka spells it in properties."""
    return str(setting).lower() if isinstance(setting, bool) else str(setting)
