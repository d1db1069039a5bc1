"""Runs `captcha serve` on free ports for as long as a check needs it."""

import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "dev"))

import supervise
from command import ROOT, Failure

PROGRAM = ROOT / "target" / "debug" / "captcha"
NOWHERE = "127.0.0.1:1"


def add_program(parser):
    parser.add_argument("--program", type=Path, default=PROGRAM, help="captcha (default: target/debug/captcha)")


def environment(**settings):
    """The environment with these settings of captcha alone, whatever the caller's own CAPTCHA_ variables say."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CAPTCHA_")}
    return environ | {f"CAPTCHA_{name.upper()}": value for name, value in settings.items()}


@contextmanager
def serving(program, log, signals, kafka=NOWHERE, clickhouse=NOWHERE, **settings):
    """Yields the port of a `captcha serve`; without servers it still has its documents."""
    if not os.access(program, os.X_OK):
        raise Failure(f"{program} is no executable; build it with cargo build")
    settings |= {"kafka_brokers": kafka, "clickhouse_addr": clickhouse}
    settings |= {"listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0"}
    child = supervise.launch("captcha serve", [program, "serve"], log, env=environment(**settings))
    try:
        supervise.wait_ready(child, lambda: None if address(log) else "it has not said where it listens")
        yield int(address(log).rpartition(":")[2])
        supervise.need_alive([child])
    finally:
        supervise.stop([[child]], signals)


def address(log):
    """Where the server listens, from its log."""
    for line in log.read_text().splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if said.get("message") == "serving":
            return said["address"]
    return None
