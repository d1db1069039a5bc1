"""Runs the captcha executable: a command to its end, or a process for as long as a test needs it."""

import json
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path

from dev import build, fetch, supervise
from dev.command import ROOT, Failure, captcha_environment
from dev.testkit import http

RELEASE = "release"  # the profile of cargo
PROGRAM = ROOT / "target" / "debug" / "captcha"


def add_program(parser):
    parser.add_argument("--program", type=Path, default=PROGRAM, help="captcha (default: target/debug/captcha)")


def attempt(program, *words, environ, seconds=None):
    """The exit code (None when it took longer than `seconds`), stdout and stderr of a command."""
    options = {"env": environ, "stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "timeout": seconds}
    try:
        done = subprocess.run([program, *map(str, words)], check=False, **options)
    except subprocess.TimeoutExpired:
        return None, "", f"no answer in {seconds} s"
    except OSError as error:
        raise Failure(f"cannot run {program}: {error.strerror}; build it with cargo build") from None
    return done.returncode, done.stdout, done.stderr.strip()


def command(program, *words, **settings):
    """The stdout of a command that must succeed."""
    code, stdout, stderr = attempt(program, *words, environ=captcha_environment(**settings))
    if code != 0:
        raise Failure(f"captcha {words[0]} failed: {stderr}")
    return stdout


def prepare(program):
    """Fetches the servers. The executable that was given, or this checkout's, built for release."""
    fetch.fetch(also=[] if program else [build.Build(RELEASE)])
    if not program:
        return build.program(RELEASE)
    need_executable(program)
    return program.resolve()


def need_executable(program):
    if not os.access(program, os.X_OK):
        raise Failure(f"{program} is not an executable; build it with cargo build")


def new_key(program, keys):
    """A new API key that may write events of all sites; `keys` becomes a file of keys that knows it."""
    key = keys.with_suffix(".key")
    keys.write_text(command(program, "serve", "new-key", "--role", "write", "--sites", "*", "--key-out", key))
    return key.read_text().strip()


@contextmanager
def running(subcommand, program, log, signals, **settings):
    """A process of captcha, which must not end by itself."""
    need_executable(program)
    environ = captcha_environment(**{"admin_listen": f"{http.HOST}:0"} | settings)
    child = supervise.launch(f"captcha {subcommand}", [program, subcommand], log, env=environ)
    try:
        yield child
        supervise.need_alive([child])
    finally:
        supervise.stop([[child]], signals)


@contextmanager
def serving(program, log, signals, **settings):
    """Yields the port of a `captcha serve`. It serves its documents wherever Kafka and ClickHouse are."""
    with running("serve", program, log, signals, listen=f"{http.HOST}:0", **settings) as child:
        yield int(wait_said(child, "serving")["address"].rpartition(":")[2])


def wait_said(child, message):
    """The line with this message, once the process has logged it: where it listens is in one."""
    supervise.wait_ready(child, lambda: None if said(child, message) else "it has not said where it listens")
    return said(child, message)


def said(child, message):
    """The first line with this message that a process has logged since it was started; None before."""
    for line in child.log.read_bytes()[child.position :].splitlines():
        try:
            fields = json.loads(line)
        except ValueError:
            continue
        if fields.get("message") == message:
            return fields
    return None


def readiness(admin):
    """What the process at this admin port says of each of its checks; empty when it does not answer."""
    answer = http.get(admin, "/readyz")
    return answer.text if answer.status else ""


def not_ready(admin):
    """None when the process at this admin port is ready, else the reason."""
    answer = http.get(admin, "/readyz")
    return None if answer.status == 200 else answer.text or f"/readyz answers {answer.status}"
