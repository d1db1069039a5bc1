"""Runs captcha's commands on free ports for as long as a check needs them."""

import json
import os
from contextlib import contextmanager
from pathlib import Path

from dev import supervise
from dev.command import ROOT, Failure, captcha_environment

PROGRAM = ROOT / "target" / "debug" / "captcha"


def add_program(parser):
    parser.add_argument("--program", type=Path, default=PROGRAM, help="captcha (default: target/debug/captcha)")


@contextmanager
def running(command, program, log, signals, **settings):
    """Runs a command of captcha, which must not end by itself."""
    if not os.access(program, os.X_OK):
        raise Failure(f"{program} is no executable; build it with cargo build")
    environ = captcha_environment(admin_listen="127.0.0.1:0", **settings)
    child = supervise.launch(f"captcha {command}", [program, command], log, env=environ)
    try:
        yield child
        supervise.need_alive([child])
    finally:
        supervise.stop([[child]], signals)


@contextmanager
def serving(program, log, signals, **settings):
    """Yields the port of a `captcha serve`. It serves its documents wherever Kafka and ClickHouse are."""
    with running("serve", program, log, signals, listen="127.0.0.1:0", **settings) as child:
        supervise.wait_ready(child, lambda: None if address(child) else "it has not said where it listens")
        yield int(address(child).rpartition(":")[2])


def address(child):
    """Where the server listens, from what it has said since it was started."""
    line = said(child, "serving")
    return line and line["address"]


def said(child, message):
    """The first line with this message of those that a process has logged since it was started; None before."""
    for line in child.log.read_bytes()[child.position :].splitlines():
        try:
            fields = json.loads(line)
        except ValueError:
            continue
        if fields.get("message") == message:
            return fields
    return None
