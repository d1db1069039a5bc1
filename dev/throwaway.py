"""Both servers on empty data for as long as one command runs: `with -- CMD...`."""

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid

from dev import fetch, ports, process, supervise
from dev.command import DEV, STATE, Failure, ending, say, shown, start

FOLDERS = STATE / "with"
LAST_FAILURE = STATE / "logs" / "last-failure"
LOG_LINES = 30
PR_SET_CHILD_SUBREAPER = 36


def new_folder():
    """Makes a folder that is locked while anything uses it, and removes those of commands that were killed."""
    guard = process.lock(STATE / "with.lock", 30)
    if guard is None:
        raise Failure(f"cannot lock {shown(STATE / 'with.lock')} in 30 s; see which process holds it")
    try:
        FOLDERS.mkdir(parents=True, exist_ok=True)
        for old in FOLDERS.iterdir():
            lock = process.lock(old / "lock")
            if lock is not None:
                shutil.rmtree(old, ignore_errors=True)
                os.close(lock)
        folder = FOLDERS / uuid.uuid4().hex[:8]
        return folder, process.lock(folder / "lock")
    finally:
        os.close(guard)


def run_with(words, signals):
    command = words[1:] if words[:1] == ["--"] else words
    if not command:
        raise Failure("there is no command to run; write it after --, as in: stack.py with -- cargo test")
    if shutil.which(command[0]) is None:
        say(f"stack.py: cannot run {command[0]}: it is not installed, or not on the PATH")
        return 127
    fetch.fetch()
    adopt_orphans()
    folder, lock = new_folder()
    children = []
    code = 1
    try:
        kafka_port, clickhouse_port = ports.pick(2)
        supervise.start_servers(folder, folder / "logs", lock, kafka_port, clickhouse_port, children)
        code = run_command(command, environment(folder, kafka_port, clickhouse_port))
        for child in children:
            if not child.alive():
                say(f"{child.name} ended by itself while the command ran ({child.how_it_ended()})")
    except supervise.Stopped as stopped:
        code = 128 + stopped.number
    finally:
        signals.ignore_first()
        end_orphans(children)
        supervise.stop([children], signals)
        if code not in (0, 128 + signal.SIGINT):
            keep_logs(folder, children)
        shutil.rmtree(folder, ignore_errors=True)
    return code


def environment(folder, kafka_port, clickhouse_port):
    return {
        **os.environ,
        "CAPTCHA_TEST_KAFKA": f"127.0.0.1:{kafka_port}",
        "CAPTCHA_TEST_CLICKHOUSE": f"127.0.0.1:{clickhouse_port}",
        "CAPTCHA_TEST_LOGS": str(folder / "logs"),
        "CAPTCHA_TEST_SERVER": str(DEV / "server.py"),
        "CAPTCHA_TEST_KAFKA_JARS": str(fetch.fetch().kafka),
    }


def run_command(command, environ):
    """Runs the command in this process group, so that it has the terminal and hears Ctrl-C itself."""
    child = start(command, env=environ)
    try:
        code = child.wait()
    except supervise.Stopped as stopped:
        if stopped.number != signal.SIGINT:
            child.terminate()
        try:
            child.wait(supervise.STOP_SECONDS)
        except subprocess.TimeoutExpired:
            say(f"{command[0]}: did not stop in {supervise.STOP_SECONDS} s, killed")
            child.kill()
        raise
    if code != 0:
        say(f"{command[0]}: {ending(code)}")
    return code if code >= 0 else 128 - code


def adopt_orphans():
    """Makes what the command leaves behind our own children, so that end_orphans finds it; only Linux can."""
    if sys.platform.startswith("linux"):
        process.prctl(PR_SET_CHILD_SUBREAPER, 1)


def end_orphans(servers):
    """Ends what the command started and left running: SIGTERM, and SIGKILL after two seconds."""
    known = {child.pid for child in servers}
    begin = time.monotonic()
    told = set()
    while True:
        left = [pid for pid in process.children() if pid not in known]
        if not left:
            return
        for pid in left:
            if pid not in told or time.monotonic() - begin > 2:
                process.signal_to(pid, signal.SIGKILL if pid in told else signal.SIGTERM)
                told.add(pid)
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass
        time.sleep(0.05)


def keep_logs(folder, children):
    for child in children:
        supervise.show_log(child, LOG_LINES)
    try:
        shutil.rmtree(LAST_FAILURE, ignore_errors=True)
        LAST_FAILURE.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder / "logs", LAST_FAILURE)
        say(f"the logs are kept in {shown(LAST_FAILURE)}")
    except OSError as error:
        say(f"cannot keep the logs in {shown(LAST_FAILURE)}: {error.strerror}")
