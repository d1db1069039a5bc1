"""Clients of the Service that send without a pause and remember what was promised, and the report that has to say the
same."""

import collections
import datetime
import json
import random
import threading
import time
from http.client import HTTPException

from dev.testkit import events, http

CLIENTS = 2  # one opens a connection for each request, the other keeps its own
SIZES = (1, 1, 5, 40)
COLUMNS = {"serve": "served", "solve": "solved"}  # of the report, by type
FIRST_DAY, DAYS = datetime.date(2002, 1, 1), 250
ANSWER_SECONDS = 15  # serve promises an answer in 5 s
# How long after a pod's end was ordered new connections may still come to it: until every node has heard of it. Mostly
# that takes a second or two; half of what preStop allows must do.
HEARD_SECONDS = 5
SAID_MAX = 5
COUNTED_SECONDS = 90
LOOK_SECONDS = 0.2


class Service:
    """Hands each new connection to one of its endpoints, the ready pods, like the nodes do for a Service."""

    def __init__(self, port):
        self.port = port
        self.lock = threading.Lock()
        self.pods = []

    def add(self, pod):
        with self.lock:
            self.pods.append(pod)

    def choose(self):
        """A pod, or None when there is none."""
        now = time.monotonic()
        with self.lock:
            self.pods = [p for p in self.pods if p.deleted_at is None or now < p.deleted_at + HEARD_SECONDS]
            ready = [pod for pod in self.pods if pod.ready]
        return random.choice(ready) if ready else None


class Clients:
    def __init__(self, service, key, problems):
        self.service = service
        self.headers = http.JSON | {"Authorization": f"Bearer {key}"}
        self.problems = problems
        self.lock = threading.Lock()
        self.ending = False
        self.accepted = collections.Counter()  # (day, site, type): events
        self.receipts = set()
        self.requests = 0
        self.lost = 0
        self.again = 0  # requests on kept connections that a stopping pod closed without a word
        self.by_pod = collections.Counter()
        self.last_answer = 0.0  # seconds since 1970
        self.threads = [threading.Thread(target=self.client, args=(n % 2 == 1,), daemon=True) for n in range(CLIENTS)]

    def start(self):
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.ending = True
        for thread in self.threads:
            thread.join()

    def client(self, keeps):
        kept = None
        while not self.ending:
            kept = self.insist(kept if keeps else None, *new_events())
            if kept and not keeps:
                kept.connection.close()

    def insist(self, kept, body, counts):
        """Sends one request until it is answered or lost; the connection, if it may be used again."""
        while True:
            pod = kept.pod if kept else self.service.choose()
            if pod is None:
                self.lose("no pod is ready")
                if self.ending:
                    return None
                time.sleep(LOOK_SECONDS)
                continue
            used = kept or Kept(http.connect(f"{pod.spec.address}:{self.service.port}", ANSWER_SECONDS), pod)
            try:
                answer = http.exchange(used.connection, "POST", "/v1/events", body, self.headers)
            except (OSError, HTTPException) as error:
                used.connection.close()
                if kept and pod.told_at and isinstance(error, ConnectionError):
                    self.again += 1
                    kept = None
                    continue
                self.lose(f"{pod.name}: {type(error).__name__}: {error}")
                return None
            if answer.status != 200:
                self.lose(f"{pod.name}: {answer.status} {answer.text[:200].strip()}; its log: {pod.last_words()}")
                used.connection.close()
                return None
            self.take(json.loads(answer.body), counts, pod)
            return used if used.connection.sock else None  # http.client closes it where the server wants that

    def take(self, answer, counts, pod):
        with self.lock:
            self.requests += 1
            self.by_pod[pod.name] += 1
            self.accepted.update(counts)
            self.last_answer = time.time()
            receipts = answer["receipts"]
            if not len(receipts) == answer["accepted"] == sum(counts.values()):
                self.problems.add(f"{pod.name}: {sum(counts.values())} events, answered {str(answer)[:200]}")
            if not self.receipts.isdisjoint(receipts):
                self.problems.add(f"{pod.name}: a receipt was given before: {receipts}")
            self.receipts.update(receipts)

    def lose(self, reason):
        with self.lock:
            self.lost += 1
            if self.lost <= SAID_MAX:
                self.problems.add(f"a request was lost: {reason}")


class Kept:
    def __init__(self, connection, pod):
        self.connection = connection
        self.pod = pod


def new_events():
    """A body of new events, and how many of each day, site and type are in it."""
    made, counts = [], collections.Counter()
    for _ in range(random.choice(SIZES)):
        day = FIRST_DAY + datetime.timedelta(days=random.randrange(DAYS))
        site, kind = random.choice(events.SITES), random.choice(events.TYPES)
        made.append(events.event(site, kind, moment=f"{day}T05:55:07"))
        counts[str(day), site, COLUMNS[kind]] += 1
    return json.dumps(made), counts


def get_report(service, key):
    """Status and text; where that is not a report, with what the pod has in its log."""
    pod = service.choose()
    if pod is None:
        return 0, "no pod is ready"
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    answer = http.get(f"{pod.spec.address}:{service.port}", "/v1/report", headers, seconds=ANSWER_SECONDS)
    if answer.status == 200:
        return answer.status, answer.text
    return answer.status, f"{answer.text[:200].strip()}; its log: {pod.last_words()}"


def counted(text):
    """What a report counts, as clients do."""
    found = collections.Counter()
    for row in json.loads(text)["counters"]:
        for column in COLUMNS.values():
            if row[column]:
                found[row["date"], row["site_id"], column] += row[column]
    return found


def compare(service, key, clients, problems):
    """Waits for a report that claims to have everything that was accepted, and holds it against that."""
    end = time.monotonic() + COUNTED_SECONDS
    while True:
        status, text = get_report(service, key)
        if status == 200:
            through = json.loads(text)["complete_through"]
            if through and datetime.datetime.fromisoformat(through).timestamp() > clients.last_answer:
                break
        else:
            problems.add(f"a report is answered {status} {text}")
            return 0
        if time.monotonic() > end:
            problems.add(f"no report is complete after {COUNTED_SECONDS} s: {text[-200:]}")
            return 0
        problems.pause(LOOK_SECONDS)
    found = counted(text)
    missing, more = clients.accepted - found, found - clients.accepted
    if missing:
        problems.add(f"the report lacks {missing.total()} events that were accepted")
    # What was sent and lost may be there too, once.
    if more.total() > (clients.lost * max(SIZES)):
        problems.add(f"the report has {more.total()} events too many")
    return found.total()
