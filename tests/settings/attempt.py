"""What captcha does as a user with a profile: what it is answered, and what it stores."""

import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request

from dev import ports
from dev.command import STATE, Failure

EVENTS = 300
# A report takes 0.1 s, consuming 2 s; captcha gives up a question after 6 s, and its audit never by itself.
READ_SECONDS, WRITE_SECONDS = 25, 20
# A reason that is still there after this is why nothing is stored.
HOLD_SECONDS = 6

SAME = ("same", "")

# What a line says where nobody thought of the reason: a code without its name, or a connection that broke.
RAW = re.compile(r"error \d+: |unexpected answer|could not be understood|closed the connection")

LOGS = STATE / "settings"


class Attempts:
    def __init__(self, program, server, kafka, topic):
        self.program, self.server, self.kafka, self.topic = program, server, kafka, topic

    def command(self, user, database, *words):
        environ = {key: value for key, value in os.environ.items() if not key.startswith("CAPTCHA_")}
        environ |= {
            "CAPTCHA_KAFKA_BROKERS": self.kafka,
            "CAPTCHA_KAFKA_TOPIC": self.topic,
            "CAPTCHA_CLICKHOUSE_ADDR": f"127.0.0.1:{self.server.tcp}",
            "CAPTCHA_CLICKHOUSE_DATABASE": database,
            "CAPTCHA_CLICKHOUSE_USER": user,
        }
        return dict(args=[self.program, *words], env=environ, stdin=subprocess.DEVNULL)

    def run(self, user, database, *words):
        """Exit code (None if it hangs), stdout, stderr."""
        try:
            done = subprocess.run(
                **self.command(user, database, *words), capture_output=True, text=True, timeout=READ_SECONDS
            )
            return done.returncode, done.stdout, done.stderr.strip()
        except subprocess.TimeoutExpired:
            return None, "", ""

    def outcome(self, runs, expected):
        """The outcome of several runs, and what was said; the worst counts."""
        for (words, (code, stdout, stderr)), wanted in zip(runs, expected):
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
        listen = ["--listen", f"127.0.0.1:{port}", "--admin-listen", f"127.0.0.1:{admin}"]
        with open(LOGS / "serve.log", "w") as log:
            serve = subprocess.Popen(**self.command("default", "half", "serve", *listen), stdout=log, stderr=log)
        try:
            events = [event(number) for number in range(EVENTS)]
            self.records = 0
            for first in range(0, 200, 40):
                # The last ones of before are repeats.
                self.post(port, events[max(0, first - 5) : first + 40])
                self.records += 40 + min(5, first)
                if self.consume("default", "half", self.records)[0] != "same":
                    raise Failure("cannot prepare: the first records are not stored")
            self.post(port, events[200:])
            self.produce_garbage()
            self.records += 104
        finally:
            serve.terminate()
            serve.wait()

    def produce_garbage(self):
        words = ["java", "-cp", os.environ["CAPTCHA_TEST_KAFKA_JARS"] + "/*", "org.apache.kafka.tools.ConsoleProducer"]
        words += ["--bootstrap-server", self.kafka, "--topic", self.topic]
        subprocess.run(words, input=b"garbage\n{}\n[]\n0\n", check=True, capture_output=True, timeout=60)

    def post(self, port, batch):
        body = json.dumps(batch).encode()
        for _ in range(200):
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/v1/events", body, {"Content-Type": "application/json"}
            )
            try:
                with urllib.request.urlopen(request, timeout=10):
                    return
            except OSError:
                time.sleep(0.1)
        raise Failure("captcha serve does not accept the events")

    def consume(self, user, database, records):
        """Consumes the topic; `same` when all records are stored and claimed."""
        admin = ports.pick(1)[0]
        words = ["consume", "--admin-listen", f"127.0.0.1:{admin}", "--insert-interval-ms", "50"]
        log = LOGS / f"{database}.log"
        with open(log, "w") as output:
            child = subprocess.Popen(**self.command(user, database, *words), stdout=output, stderr=output)
        ready = ""
        stored = f"SELECT (SELECT sum(span) FROM {database}.events), (SELECT uniq(partition) FROM {database}.claims)"
        try:
            end = time.monotonic() + WRITE_SECONDS
            while time.monotonic() < end and child.poll() is None:
                if self.server.ask(stored)[1] == f"{records}\t2\n":
                    return SAME
                time.sleep(0.1)
                ready = readiness(admin) or ready
                if "clickhouse" in ready and time.monotonic() > end - WRITE_SECONDS + HOLD_SECONDS:
                    break
            if child.poll() is not None or "panicked" in log.read_text():
                return "crash", f"consume: {log.read_text()[-300:]}"
            reasons = [line for line in ready.splitlines() if not line.endswith(": ok")]
            if not reasons:
                return "hang", "consume: not all is stored, and nothing is said about it"
            raw = RAW.search(ready)
            return ("raw" if raw else "refused"), f"consume: {' | '.join(reasons)}"
        finally:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            log.unlink()

    def definitions(self, database):
        sql = f"SELECT name, create_table_query FROM system.tables WHERE database = '{database}' ORDER BY name FORMAT TSVRaw"
        return self.server.ask(sql)[1].replace(f"{database}.", "")

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
    return {
        "site_id": f"00000000-0000-4000-8000-{number % 7:012}",
        "type": "solve" if number % 3 == 0 else "serve",
        "correlation_id": f"00000000-0000-4000-9000-{number:012}",
        "time": f"2001-01-0{1 + number % 5}T0{number % 10}:55:07.123456",
    }


def readiness(admin):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{admin}/readyz", timeout=2) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.read().decode()
    except OSError:
        return ""


def difference(got, wanted):
    at = next((at for at, (a, b) in enumerate(zip(got, wanted)) if a != b), min(len(got), len(wanted)))
    return f"...{got[max(0, at - 20) : at + 60]!r} instead of ...{wanted[max(0, at - 20) : at + 60]!r}"
