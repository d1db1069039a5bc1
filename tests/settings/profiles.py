"""A ClickHouse whose users have the profiles that are tried."""

import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from xml.sax.saxutils import escape

from dev import ports
from dev.command import DEV, Failure

START_SECONDS = 120


class Server:
    """One ClickHouse whose file of users has all trials, started again when it dies."""

    def __init__(self, folder, users):
        self.folder, self.lock = folder, threading.Lock()
        self.tcp, self.http = ports.pick(2)
        folder.mkdir(parents=True, exist_ok=True)
        config = (DEV / "clickhouse-config.xml").read_text()
        more = f"<users_config>{folder / 'users.xml'}</users_config></clickhouse>"
        (folder / "config.xml").write_text(config.replace("</clickhouse>", more))
        self.set_users(users)
        self.start()

    def set_users(self, users):
        profiles, entries = ["<default/>"], [entry("default", "default")]
        for name, settings in users.items():
            values = "".join(f"<{key}>{escape(value)}</{key}>" for key, value in settings.items())
            profiles.append(f"<{name}>{values}</{name}>")
            entries.append(entry(name, name))
        (self.folder / "users.xml").write_text(
            f"<clickhouse><profiles>{''.join(profiles)}</profiles><quotas><default/></quotas>"
            f"<users>{''.join(entries)}</users></clickhouse>"
        )

    def start(self):
        words = ["clickhouse", "--dir", self.folder, "--port", self.tcp, "--http-port", self.http]
        words += ["--config", self.folder / "config.xml", "--die-with-parent", os.getpid()]
        self.process = subprocess.Popen([sys.executable, DEV / "server.py", *map(str, words)])
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            if self.ask("SELECT 1") == (200, "1\n"):
                return
            time.sleep(0.2)
        log = (self.folder / "server.log").read_text(errors="replace")
        raise Failure(f"clickhouse does not start: {log[-1000:]}")

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def died(self):
        """Whether it did, and then it is started again."""
        with self.lock:
            try:
                self.process.wait(0.2)
            except subprocess.TimeoutExpired:
                return False
            self.start()
            return True

    def ask(self, sql, **settings):
        address = f"http://127.0.0.1:{self.http}/?{urllib.parse.urlencode(settings)}"
        try:
            with urllib.request.urlopen(address, data=sql.encode(), timeout=20) as answer:
                return answer.status, answer.read().decode(errors="replace")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(errors="replace")
        except OSError as error:
            return 0, str(error)


def entry(name, profile):
    return (
        f"<{name}><password></password><profile>{profile}</profile><quota>default</quota>"
        f"<networks><ip>::/0</ip></networks></{name}>"
    )
