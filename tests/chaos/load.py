"""Clients that send events, send the same again until they are accepted, and remember what was promised to them."""

import datetime
import json
import random
import threading
import time
import uuid
from collections import namedtuple

from dev.testkit import events, http
from dev.testkit.events import SITES, TYPES

CLIENTS = 6
SIZES = (1, 1, 5, 40)
EPOCH = datetime.datetime(2002, 1, 1)
DAYS = 40
SOLVE_MILLISECONDS = 3 * 3_600_000  # within which every solve follows its serve, by the times of both

GIVE_UP = 0.02  # of the tries that failed; such an event may be counted or not, but never twice
SEND_AGAIN = 0.05  # of the requests carry an event that was accepted already
TWICE_IN_ONE = 0.02  # of the arrays hold an event twice
REMEMBERED = 200

# When the answer had come, in milliseconds since 1970; the event; its place, (partition << 48) + offset; and how many
# different events were accepted by then.
Receipt = namedtuple("Receipt", "at key place events")


def event(key):
    """The event of a key, which is 2 * correlation_id + type; site and time follow from the key."""
    number, kind = divmod(key, 2)
    site = SITES[number % len(SITES)]
    return events.event(site, TYPES[kind], uuid.UUID(int=number), moment(key).isoformat())


def moment(key):
    """The time of a serve, or of the solve up to some hours later."""
    number, kind = divmod(key, 2)
    seconds = (number >> 16) % (DAYS * 86400)
    served = EPOCH + datetime.timedelta(seconds=seconds, microseconds=(number >> 64) % 1_000_000)
    return served + kind * solve_time(number)


def solve_time(number):
    return datetime.timedelta(milliseconds=(number >> 32) % SOLVE_MILLISECONDS)


class Load:
    """What all clients together sent and were promised."""

    def __init__(self, seed, ports, patient):
        self.seed = seed
        self.ports = ports
        self.patient = patient  # whether clients wait longer than serve may take
        self.slowest = 0.0  # seconds until an answer, of those that came
        self.lock = threading.Lock()
        self.sent = set()
        self.accepted = {}  # key: place, of the newest receipt
        self.receipts = []  # all of them, in the order of their coming; it only grows
        self.answers = {"200": 0, "503": 0, "none": 0}
        self.wrong = []  # answers that no client should ever see
        self.begin = self.last = time.monotonic()
        self.longest = (0.0, 0.0)  # seconds without an accepted event, and when they began
        self.ending = False
        self.threads = [threading.Thread(target=self.client, args=(number,), daemon=True) for number in range(CLIENTS)]

    def start(self):
        self.begin = self.last = time.monotonic()
        for thread in self.threads:
            thread.start()

    def client(self, number):
        rng = random.Random(f"{self.seed} client {number}")
        known = []
        while not self.ending:
            keys = self.draw(rng, known)
            with self.lock:
                self.sent.update(keys)
            if self.insist(rng, keys):
                known = (known + keys)[-REMEMBERED:]
            time.sleep(rng.random() * 0.04)

    def draw(self, rng, known):
        keys = []
        for _ in range(rng.choice(SIZES)):
            number = rng.getrandbits(128)
            keys.append(2 * number)
            if rng.random() < 0.3:
                keys.append(2 * number + 1)
        if known and rng.random() < SEND_AGAIN:
            keys.insert(rng.randrange(len(keys) + 1), rng.choice(known))
        if len(keys) > 1 and rng.random() < TWICE_IN_ONE:
            keys.append(keys[0])
        return keys

    def insist(self, rng, keys):
        """Sends the very same until it is accepted, each time to any of the addresses; sometimes gives up."""
        made = [event(key) for key in keys]
        body = json.dumps(made[0] if len(made) == 1 and rng.random() < 0.7 else made)
        while True:
            begin = time.monotonic()
            port, seconds = rng.choice(self.ports), 10 if self.patient else rng.choice((1, 3, 10))
            answer = http.request(port, "POST", "/v1/events", body, http.JSON, seconds=seconds)
            status, text = answer.status, answer.text
            if status:
                self.slowest = max(self.slowest, time.monotonic() - begin)
            if status == 200:
                self.take_receipts(keys, json.loads(text)["receipts"])
                return True
            with self.lock:
                if status in (0, 503):
                    self.answers["503" if status else "none"] += 1
                else:
                    self.wrong.append(f"{status}: {text[:300]}")
            if rng.random() < GIVE_UP or status not in (0, 503):
                return False
            time.sleep(0.1 + 0.2 * rng.random())  # sooner than Retry-After asks for

    def take_receipts(self, keys, receipts):
        with self.lock:
            self.note_gap()
            self.last = time.monotonic()
            at = time.time() * 1000
            self.answers["200"] += 1
            if len(receipts) != len(keys):
                self.wrong.append(f"200: {len(receipts)} receipts for {len(keys)} events")
            for key, receipt in zip(keys, receipts, strict=False):
                partition, _, offset = receipt.partition(":")
                place = self.accepted[key] = (int(partition) << 48) + int(offset)
                self.receipts.append(Receipt(at, key, place, len(self.accepted)))

    def note_gap(self):
        gap = time.monotonic() - self.last
        if gap > self.longest[0]:
            self.longest = (gap, self.last - self.begin)
