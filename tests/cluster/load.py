"""Sends events to the Service until it is told to stop, and says what was promised. Started by stage.py on the node.

Half of the clients open a connection for each request, the others keep theirs. A kept connection that a stopping pod
closes is opened again, and the request is sent once more: what it held may then be counted twice in the ledger's
`unknown`, never in `accepted`."""

import argparse
import collections
import datetime
import http.client
import json
import os
import random
import signal
import sys
import threading
import time

from dev.testkit import events

ANSWER_SECONDS = 15  # serve promises an answer in 5 s
SIZES = (1, 1, 5, 40)
COLUMNS = {"serve": "served", "solve": "solved"}  # of the report, by type
# Few days of one month: an insert makes a part for each month that it has events of, and merges would take the processors.
FIRST_DAY, DAYS = datetime.date(2002, 1, 1), 5
FAILURES_MAX = 20  # that are kept with their reasons
WATCH_SECONDS = 0.5


class Load:
    def __init__(self, options, writer, reader):
        self.options = options
        self.headers = {"Content-Type": "application/json", "Authorization": f"Bearer {writer}"}
        self.reader = reader
        self.lock = threading.Lock()
        self.ending = threading.Event()
        self.accepted = collections.Counter()
        self.unknown = collections.Counter()
        self.requests = self.failed = self.again = 0
        self.failures = []
        self.slowest_seconds = 0.0
        self.last_answer = 0.0
        self.behind_seconds = 0.0  # the most that complete_through was behind the clock
        self.unanswered_reports = 0

    def client(self, keeps):
        connection = None
        pause = self.options.clients * self.mean_size() / self.options.rate if self.options.rate else 0
        while not self.ending.is_set():
            begin = time.monotonic()
            body, counts = self.new_events()
            connection = self.send(connection if keeps else None, body, counts)
            if connection and not keeps:
                connection.close()
            self.ending.wait(max(pause - (time.monotonic() - begin), 0))

    def mean_size(self):
        return self.options.size or sum(SIZES) / len(SIZES)

    def new_events(self):
        made, counts = [], collections.Counter()
        for _ in range(self.options.size or random.choice(SIZES)):
            day = FIRST_DAY + datetime.timedelta(days=random.randrange(DAYS))
            site, event_type = random.choice(events.SITES), random.choice(events.TYPES)
            made.append(events.event(site, event_type, moment=f"{day}T05:55:07"))
            counts[f"{day} {site} {COLUMNS[event_type]}"] += 1
        return events.to_json(made), counts

    def send(self, kept, body, counts):
        """Sends one request, twice if a kept connection was closed; the connection, if it may be used again."""
        connection = kept or http.client.HTTPConnection(self.options.host, self.options.port, timeout=ANSWER_SECONDS)
        begin = time.monotonic()
        try:
            connection.request("POST", "/v1/events", body, self.headers)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            if kept and isinstance(error, ConnectionError):
                self.note(again=1, unknown=counts)
                return self.send(None, body, counts)
            self.fail(f"{type(error).__name__}: {error}", begin, counts)
            return None
        if answer.status == 200 and json.loads(text)["accepted"] == counts.total():
            self.note(accepted=counts, seconds=time.monotonic() - begin)
        else:
            self.fail(f"{answer.status} {text[:200].strip()}", begin, counts)
        if answer.will_close:
            connection.close()
            return None
        return connection

    def note(self, accepted=None, unknown=None, again=0, seconds=0.0):
        with self.lock:
            self.again += again
            self.slowest_seconds = max(self.slowest_seconds, seconds)
            if unknown:
                self.unknown.update(unknown)
            if accepted:
                self.requests += 1
                self.accepted.update(accepted)
                self.last_answer = time.time()

    def fail(self, reason, begin, counts):
        with self.lock:
            self.unknown.update(counts)
            self.failed += 1
            if len(self.failures) < FAILURES_MAX:
                now = datetime.datetime.now(datetime.UTC)
                self.failures.append(f"{now:%H:%M:%S} after {time.monotonic() - begin:.1f} s: {reason}")

    def watch(self):
        """Follows complete_through, which reports say."""
        while not self.ending.wait(WATCH_SECONDS):
            connection = http.client.HTTPConnection(self.options.host, self.options.port, timeout=ANSWER_SECONDS)
            try:
                path = "/v1/report?from=2002-01-01&to=2002-01-02"
                connection.request("GET", path, headers={"Authorization": f"Bearer {self.reader}"})
                answer = connection.getresponse()
                text = answer.read()
                through = json.loads(text)["complete_through"] if answer.status == 200 else None
            except (OSError, http.client.HTTPException, ValueError):
                through = None
            finally:
                connection.close()
            if through:
                behind = time.time() - datetime.datetime.fromisoformat(through).timestamp()
                self.behind_seconds = max(self.behind_seconds, behind)
            else:
                self.unanswered_reports += 1


def main():
    parser = argparse.ArgumentParser(prog="load", description=__doc__)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument(
        "--rate", type=float, default=400, help="events a second of all clients; 0: as many as they can"
    )
    parser.add_argument("--size", type=int, help="events of a request [default: 1 to 40]")
    options = parser.parse_args()
    # In the environment, because arguments can be seen by others.
    load = Load(options, os.environ["CAPTCHA_LOAD_WRITER"], os.environ["CAPTCHA_LOAD_READER"])
    signal.signal(signal.SIGTERM, lambda *_: load.ending.set())
    threads = [threading.Thread(target=load.client, args=(n % 2 == 1,)) for n in range(options.clients)]
    threads.append(threading.Thread(target=load.watch))
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    sys.stdin.read()  # ends when the one who started this closes it, or ends
    load.ending.set()
    for thread in threads:
        thread.join()
    names = (
        "accepted unknown requests failed again failures slowest_seconds last_answer behind_seconds unanswered_reports"
    )
    found = {name: getattr(load, name) for name in names.split()} | {"seconds": time.monotonic() - begin}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
