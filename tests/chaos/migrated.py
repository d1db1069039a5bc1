"""Migrates that are killed, in databases of their own; in the end every one of these must come to its full schema."""

import signal

from dev.testkit import clickhouse

FINISH_SECONDS = 60  # for 12 of them a dead migrate's lock counts


class Migrated:
    """A new database for each beginning, not one that is dropped: what a killed migrate sent may arrive later, and
    nobody promises anything of a database that is dropped under a migrate."""

    def __init__(self, world):
        self.world = world
        self.databases = []
        self.is_complete = True  # the newest one, or there is none
        self.killed = 0
        self.ended = 0  # before they were to be killed
        self.wrong = []

    def kill(self, fault, pause):
        if fault.detail == "new" or self.is_complete:
            self.databases.append(f"captcha_migrated_{len(self.databases) + 1}")
            self.is_complete = False
        child = self.world.launch("killed-migrate", [self.world.program, "migrate"], self.environ(self.databases[-1]))
        self.world.children[child.name] = child
        yield from pause(fault.seconds)
        child.send(signal.SIGKILL)
        code = child.popen.wait()
        if code == -signal.SIGKILL:
            self.killed += 1
            return
        self.ended += 1
        self.is_complete = code == 0
        if code not in (0, 1):  # 1: a server was away
            self.world.ended.append(f"captcha migrate ({child.how_it_ended()})")

    def environ(self, database):
        return {**self.world.environ, "CAPTCHA_CLICKHOUSE_DATABASE": database}

    def finish(self):
        for database in self.databases:
            reason = self.unfinished(database)
            if reason:
                self.wrong.append(f"database {database}, whose migrates were killed: {' '.join(reason.split())[:500]}")

    def unfinished(self, database):
        """What is wrong with it after one more migrate, None if nothing is."""
        code, text = self.captcha(database)
        if code != 0:
            return f"migrate: {text}"
        code, text = self.captcha(database, "--status")
        status = [line for line in text.splitlines() if not line.startswith("topic ")]
        if code != 0 or not all("  applied " in line for line in status):
            return f"migrate --status: {text}"
        once = f"{len(status)}\t{len(status)}"
        recorded = self.query(database, "SELECT count(), uniqExact(version) FROM migrations FORMAT TSV")
        if recorded != [once]:
            return f"{recorded} rows and versions are recorded, for {len(status)} migrations"
        code, text = self.captcha(database)
        if code != 0 or not text.startswith("nothing to do"):
            return f"a second migrate: {text}"
        return None

    def captcha(self, database, *words):
        return self.world.captcha("migrate", *words, environ=self.environ(database), seconds=FINISH_SECONDS)

    def query(self, database, sql):
        return clickhouse.lines(self.world.port["clickhouse http"], sql, database=database)

    def facts(self):
        bad = len(self.wrong)
        return {
            "migrates": f"{self.killed} killed, {self.ended} ended before that, in {len(self.databases)} databases,"
            f" {bad} of them not finished by the next"
        }
