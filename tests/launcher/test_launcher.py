"""Tests of make run: from a checkout with an odd path, with ports in use, on a full disk, and interrupted. It runs a
copy of dev/ with the tools of this checkout and the captcha that is built; cargo is replaced by a program that does
nothing."""

import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

from dev import build, disk, java, ports, process
from dev.command import ROOT
from dev.testkit import captcha, events, http

NAMES = ("HTTP_PORT", "ADMIN_PORT", "CONSUME_ADMIN_PORT", "KAFKA_PORT", "CLICKHOUSE_PORT")
STOP_SECONDS = 60  # the launcher itself gives up earlier


class Checkout:
    """A copy of what make run needs in a folder of its own."""

    def __init__(self, parent, name="captcha"):
        self.root = Path(parent) / name
        shutil.copytree(ROOT / "dev", self.root / "dev", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "Makefile", self.root)
        (self.root / ".dev").mkdir()
        (self.root / ".dev" / "tools").symlink_to(ROOT / ".dev" / "tools")
        cargo = self.root / "bin" / "cargo"
        cargo.parent.mkdir()
        cargo.write_text("#!/bin/sh\n")
        cargo.chmod(0o755)
        self.environ = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("CAPTCHA_", "MAKE", "LC_"))},
            "PATH": f"{cargo.parent}:{os.environ['PATH']}",
            "CARGO_TARGET_DIR": str(build.target()),
            "LANG": "C",  # in which Java reads no letters but ASCII
        }

    def make(self, *words, **environ):
        return subprocess.Popen(
            ["make", "run", *words],
            cwd=self.root,
            env={**self.environ, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # As a terminal starts it, whatever the tests were started by.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
            start_new_session=True,
        )


def chosen_ports():
    return dict(zip(NAMES, ports.pick(len(NAMES)), strict=True))


def words_of(chosen):
    return [f"{name}={port}" for name, port in chosen.items()]


def read_until(child, text):
    """What the child wrote up to the line that holds the text, or up to its end."""
    lines = []
    for line in child.stdout:
        lines.append(line)
        if text in line:
            break
    return "".join(lines)


def processes_below(folder):
    """The pids of processes whose command line names the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if os.fsencode(str(folder)) in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                pass
    return found


class Launcher(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def test_it_starts_in_an_odd_path_and_ends_with_a_sigint_to_make_alone(self):
        checkout = Checkout(self.folder, "ünï co'de 数 & %41 $(x)")
        chosen = chosen_ports()
        keys = checkout.root / "the keys"
        keys.write_text("")
        make = checkout.make(*words_of(chosen), CAPTCHA_KEYS_FILE=str(keys))
        self.addCleanup(make.stdout.close)
        try:
            said = read_until(make, "stop:")
            self.assertIn("captcha is up", said)
            self.assertRegex(said, r"v1/events -H 'Authorization: Bearer WRITE_KEY'")
            self.assertRegex(said, r"v1/report -H 'Authorization: Bearer READ_KEY'")
            self.assertIn(f"new-key --sites '*' --role write >> '{keys}'".replace("co'de", "co'\"'\"'de"), said)
            self.assertNotIn("first run", said)

            key = captcha.new_key(build.program(build.PROFILE), keys)
            self.assertEqual(self.post(chosen["HTTP_PORT"], key)["accepted"], 1)

            make.send_signal(signal.SIGINT)
            rest = make.stdout.read()
            self.assertIn("kafka: stopping", rest)
            self.assertEqual(make.wait(STOP_SECONDS), -signal.SIGINT, rest)
            self.assertNotIn("***", rest)  # with which make reports a launcher that failed
            self.assertEqual(processes_below(checkout.root), [])
        finally:
            make.terminate()
            make.wait(STOP_SECONDS)

    def post(self, port, key):
        """Posts an event; the answer is 401 until captcha has read its new file of keys."""
        headers = http.JSON | {"Authorization": f"Bearer {key}"}
        body = events.to_json(events.event(events.SITES[0]))
        end = time.monotonic() + STOP_SECONDS
        while (answer := http.request(port, "POST", "/v1/events", body, headers)).status == 401:
            self.assertLess(time.monotonic(), end, answer.text)
            time.sleep(0.1)
        self.assertEqual(answer.status, 200, answer.text)
        return json.loads(answer.body)

    def test_all_ports_in_use_are_named_and_the_others_stay_as_given(self):
        chosen = chosen_ports()
        taken = {name: chosen[name] for name in ("HTTP_PORT", "KAFKA_PORT")}
        for port in taken.values():
            listener = socket.create_server(("127.0.0.1", port))
            self.addCleanup(listener.close)
        make = Checkout(self.folder).make(*words_of(chosen))
        said, _ = make.communicate(timeout=STOP_SECONDS)
        self.assertIn(f"the ports are in use: {', '.join(str(port) for port in taken.values())};", said)
        proposed = dict(re.findall(r"(\w+_PORT)=(\d+)", said.split("as in:")[1]))
        self.assertEqual(list(proposed), list(NAMES))
        for name, port in chosen.items():
            (self.assertNotEqual if name in taken else self.assertEqual)(int(proposed[name]), port, said)

    @unittest.skipUnless(os.geteuid() == 0 and shutil.which("unshare"), "only root may mount a small disk")
    def test_a_full_disk_is_one_line(self):
        cases = (
            (40_000, None, "the start of kafka and clickhouse needs 300 MB"),
            # Where the check before the start has let it pass; the servers start with almost nothing.
            (1_000, 10**3, "(kafka|clickhouse|captcha migrate) needs"),
        )
        for kilobytes, asked, reason in cases:
            with self.subTest(kilobytes=kilobytes):
                said = self.on_a_small_disk(kilobytes, asked)
                lines = [line for line in said.splitlines() if "no space left on the disk" in line]
                self.assertEqual(len(lines), 1, said)
                self.assertRegex(lines[0], f"{reason}.*, [0-9.]+ [MG]B are free; make room")
                self.assertNotRegex(said, r"Exception|\tat |DB::")

    def on_a_small_disk(self, kilobytes, asked):
        """What a run says whose data and logs are on a disk of this size, and that asks for this much of it before."""
        checkout = Checkout(self.folder, f"small-{kilobytes}")
        for name in ("data", "logs"):
            (checkout.root / ".dev" / name).symlink_to(checkout.root / "disk" / name)
        flags = [f"--{name.lower().replace('_', '-')}={port}" for name, port in chosen_ports().items()]
        ask = f"disk.SERVERS_BYTES = {asked};" if asked else ""
        code = f"from dev import command, disk, stack; {ask} command.run(stack.main)"
        run = [sys.executable, "-c", code, "run", *flags]
        mount = "mkdir disk && mount -t tmpfs -o size=$0k tmpfs disk && mkdir disk/data disk/logs"
        child = subprocess.run(
            ["unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', str(kilobytes), *run],
            cwd=checkout.root,
            env=checkout.environ,
            check=False,
            capture_output=True,
            text=True,
            timeout=2 * STOP_SECONDS,
        )
        return child.stdout + child.stderr


class Parts(unittest.TestCase):
    def test_properties_are_latin_1_and_escaped(self):
        self.assertEqual(
            java.properties({"log.dirs": "/ü \\数𝄞"}), "log.dirs=/\\u00fc\\u0020\\u005c\\u6570\\ud834\\udd1e\n"
        )

    def test_signs_of_a_full_disk(self):
        for line in (
            "java.io.IOException: No space left on device",
            "npm error nospc ENOSPC: x",
            "Disk quota exceeded",
        ):
            self.assertTrue(disk.SIGNS.search(line), line)

    def test_make_without_a_handler_of_sigint_was_interrupted(self):
        self.assertTrue(process.catches(os.getpid(), signal.SIGINT))
        self.assertFalse(process.catches(os.getpid(), signal.SIGUSR1))


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    unittest.main()
