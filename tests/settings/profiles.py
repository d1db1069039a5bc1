"""A ClickHouse whose users have the profiles that are tried."""

import threading
import time
from xml.sax.saxutils import escape

from dev import ports, ready, supervise
from dev.command import DEV
from dev.testkit import clickhouse, servers

START_SECONDS = 120
ANSWER_SECONDS = 20
DEATH_SECONDS = 0.2  # from a connection that broke until its server is gone


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
        words = ["--http-port", self.http, "--config", self.folder / "config.xml"]
        log = self.folder / "server.log"
        self.child = servers.launch("clickhouse", "clickhouse", self.folder, self.tcp, log, *words)
        supervise.wait_ready(self.child, lambda: ready.clickhouse(self.http), START_SECONDS)

    def stop(self):
        self.child.popen.terminate()
        self.child.popen.wait()

    def died(self):
        """Whether it did, and then it is started again."""
        with self.lock:
            time.sleep(DEATH_SECONDS)
            if self.child.alive():
                return False
            self.start()
            return True

    def ask(self, sql, **settings):
        answer = clickhouse.ask(self.http, sql, seconds=ANSWER_SECONDS, **settings)
        return answer.status, answer.text


def entry(name, profile):
    return (
        f"<{name}><password></password><profile>{profile}</profile><quota>default</quota>"
        f"<networks><ip>::/0</ip></networks></{name}>"
    )
