"""What captcha does as a user with a profile: what it is answered, and what it stores."""

import json
import re
import signal
import subprocess
import time

from dev import ports, supervise
from dev.command import STATE, Failure, captcha_environment
from dev.testkit import captcha, events, http, kafka

EVENTS = 300
NO_EVENTS = ("garbage", "{}", "[]", "0")
STOP_SECONDS = 10
# A report takes 0.1 s, consuming 2 s; captcha gives up a question after 6 s, and its audit never by itself.
READ_SECONDS, WRITE_SECONDS = 25, 20
# A reason that is still there after this is why nothing is stored.
HOLD_SECONDS = 6

SAME = ("same", "")

# What a line says where nobody thought of the reason: a code without its name, or a connection that broke.
RAW = re.compile(r"error \d+: |unexpected answer|could not be understood|closed the connection")

LOGS = STATE / "settings"


class Attempts:
    def __init__(self, program, server, given, topic):
        self.program, self.server, self.given, self.topic = program, server, given, topic

    def environ(self, user, database):
        return captcha_environment(
            kafka_brokers=self.given.kafka,
            kafka_topic=self.topic,
            clickhouse_addr=f"{http.HOST}:{self.server.tcp}",
            clickhouse_database=database,
            clickhouse_user=user,
        )

    def run(self, user, database, *words):
        """Exit code (None if it hangs), stdout, stderr."""
        return captcha.attempt(self.program, *words, environ=self.environ(user, database), seconds=READ_SECONDS)

    def launch(self, user, database, name, log, *words):
        """A process of captcha with a new log."""
        log.unlink(missing_ok=True)
        return supervise.launch(name, [self.program, name, *words], log, env=self.environ(user, database))

    def outcome(self, runs, expected):
        """The outcome of several runs, and what was said; the worst counts."""
        for (words, (code, stdout, stderr)), wanted in zip(runs, expected, strict=True):
            if code is None:
                return "hang", f"{words}: nothing within {READ_SECONDS} s"
            if code not in (0, 1, 3) or "panicked" in stderr:
                return "crash", f"{words}: exit code {code}: {stderr[-300:]}"
            if code == 1:
                raw = stderr.count("\n") > 0 or RAW.search(stderr)
                return ("raw" if raw else "refused"), f"{words}: {stderr}"
            if (code, stdout) != wanted:
                return "WRONG", f"{words}: exit code {code}: {difference(stdout, wanted[1])}"
        return SAME

    def answers(self, user, database):
        asked = [("report", "--format", "json"), ("report", "audit"), ("report", "dead-letters")]
        return [(" ".join(words), self.run(user, database, *words)) for words in asked]

    def prepare(self):
        """Fills the topic and two databases: `half`, of many parts, has the first records, `whole` all of them."""
        for database in ("half", "whole"):
            code, _, stderr = self.run("default", database, "migrate", "--partitions", "2")
            if code != 0:
                raise Failure(f"cannot prepare: {stderr}")
            self.server.ask(f"SYSTEM STOP MERGES {database}.events")
        self.tables = self.definitions("half")
        self.produce()
        self.copy("whole")
        outcome, said = self.consume("default", "whole", self.records)
        if outcome != "same":
            raise Failure(f"cannot prepare: {said}")
        runs = self.answers("default", "whole")
        self.expected = [(code, stdout) for _, (code, stdout, _) in runs]
        self.counters = json.loads(runs[0][1][1])["counters"]
        counted = sum(row["served"] + row["solved"] for row in self.counters)
        if counted != EVENTS or [code for code, _ in self.expected] != [0, 0, 0]:
            raise Failure(f"cannot prepare: {counted} of {EVENTS} counted: {runs}")

    def copy(self, database):
        """Puts the first records into a database, in as many parts as `half` has."""
        self.server.ask(f"SYSTEM STOP MERGES {database}.events")
        status, said = self.server.ask(f"ALTER TABLE {database}.events ATTACH PARTITION ALL FROM half.events")
        return "" if status == 200 else said

    def produce(self):
        """300 events of 7 sites and 5 days, 20 repeats and 4 records that are no events."""
        admin, port = ports.pick(2)
        listen = ["--listen", f"{http.HOST}:{port}", "--admin-listen", f"{http.HOST}:{admin}"]
        serve = self.launch("default", "half", "serve", LOGS / "serve.log", *listen)
        try:
            made = [event(number) for number in range(EVENTS)]
            self.records = 0
            for first in range(0, 200, 40):
                # The last ones of before are repeats.
                events.send(port, made[max(0, first - 5) : first + 40])
                self.records += 40 + min(5, first)
                if self.consume("default", "half", self.records)[0] != "same":
                    raise Failure("cannot prepare: the first records are not stored")
            events.send(port, made[200:])
            kafka.produce_lines(self.given.kafka_jars, self.given.kafka, self.topic, NO_EVENTS)
            self.records += 100 + len(NO_EVENTS)
        finally:
            serve.popen.terminate()
            serve.popen.wait()

    def consume(self, user, database, records):
        """Consumes the topic; `same` when all records are stored and claimed."""
        admin = ports.pick(1)[0]
        log = LOGS / f"{database}.log"
        words = ["--admin-listen", f"{http.HOST}:{admin}", "--insert-interval-ms", "50"]
        child = self.launch(user, database, "consume", log, *words)
        ready = ""
        stored = f"SELECT (SELECT sum(span) FROM {database}.events), (SELECT uniq(partition) FROM {database}.claims)"
        try:
            end = time.monotonic() + WRITE_SECONDS
            while time.monotonic() < end and child.alive():
                if self.server.ask(stored)[1] == f"{records}\t2\n":
                    return SAME
                time.sleep(0.1)
                ready = captcha.readiness(admin) or ready
                if "clickhouse" in ready and time.monotonic() > end - WRITE_SECONDS + HOLD_SECONDS:
                    break
            if not child.alive() or "panicked" in log.read_text():
                return "crash", f"consume: {log.read_text()[-300:]}"
            reasons = [line for line in ready.splitlines() if not line.endswith(": ok")]
            if not reasons:
                return "hang", "consume: not all is stored, and nothing is said about it"
            raw = RAW.search(ready)
            return ("raw" if raw else "refused"), f"consume: {' | '.join(reasons)}"
        finally:
            child.send(signal.SIGTERM)
            try:
                child.popen.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.popen.kill()
                child.popen.wait()
            log.unlink()

    def definitions(self, database):
        sql = f"SELECT name, create_table_query FROM system.tables WHERE database = '{database}' ORDER BY name"
        return self.server.ask(f"{sql} FORMAT TSVRaw")[1].replace(f"{database}.", "")

    def read(self, user, _):
        outcome, said = self.outcome(self.answers(user, "whole"), self.expected)
        return ("server crash", said) if self.server.died() else (outcome, said)

    def write(self, user, number):
        database = f"w{number}"
        self.server.ask(f"DROP DATABASE IF EXISTS {database} SYNC")
        try:
            migrate = self.run(user, database, "migrate", "--partitions", "2")
            outcome, said = self.outcome([("migrate", migrate)], [(0, migrate[1])])
            if outcome == "same" and self.definitions(database) != self.tables:
                return "WRONG", f"migrate: {difference(self.definitions(database), self.tables)}"
            if outcome == "same" and (said := self.copy(database)):
                outcome = "WRONG"
            if outcome == "same":
                outcome, said = self.consume(user, database, self.records)
            if outcome == "same":
                outcome, said = self.check(database)
            return ("server crash", said) if self.server.died() else (outcome, said)
        finally:
            self.server.ask(f"DROP DATABASE IF EXISTS {database} SYNC")

    def check(self, database):
        (_, (code, stdout, stderr)), audit, letters = self.answers("default", database)
        counters = json.loads(stdout)["counters"] if code == 0 else stderr
        if counters != self.counters:
            return "WRONG", f"report: {difference(str(counters), str(self.counters))}"
        return self.outcome([audit, letters], self.expected[1:])


def event(number):
    site, correlation = f"00000000-0000-4000-8000-{number % 7:012}", f"00000000-0000-4000-9000-{number:012}"
    moment = f"2001-01-0{1 + number % 5}T0{number % 10}:55:07.123456"
    return events.event(site, "solve" if number % 3 == 0 else "serve", correlation, moment)


def difference(got, wanted):
    at = next((at for at, (a, b) in enumerate(zip(got, wanted, strict=False)) if a != b), min(len(got), len(wanted)))
    return f"...{got[max(0, at - 20) : at + 60]!r} instead of ...{wanted[max(0, at - 20) : at + 60]!r}"
