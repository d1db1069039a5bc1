"""Holds the report to its complete_through while things break: what was confirmed before it must be in the table now.

ClickHouse and the clients are on one machine and so have one clock. An event was confirmed before its client had the
answer, so one whose answer came before complete_through is claimed; of one that was answered later nothing is known."""

import bisect
import datetime
import json
import threading
import time
import uuid

from dev.command import Failure
from dev.testkit import clickhouse, events, http
from tests.chaos import load
from tests.chaos.plan import SERVES
from tests.chaos.world import TOPIC

LOOK_SECONDS = 1  # between looks
ANSWER_SECONDS = 3  # who takes longer is frozen or cut off, and is asked again later
FRESH_SECONDS = 60  # for the report to be complete through the last answer, once all is in the table
CLAIMED = (
    "SELECT count(), toUnixTimestamp64Milli(min(newest)) FROM"
    f" (SELECT max(through) AS newest FROM claims WHERE log = '{TOPIC}' GROUP BY partition) FORMAT TSV"
)


class Witness:
    """Looks again and again, in a thread of its own. What was found once need not be looked for again."""

    def __init__(self, world, clients):
        self.world = world
        self.clients = clients
        self.wrong = []
        self.looks = 0
        self.met = 0  # receipts, of the oldest, whose events were looked for
        self.missing = []  # claimed and not there, in words
        self.through = 0  # the newest complete_through, in milliseconds since 1970
        self.begin = self.moved = time.monotonic()
        self.longest = (0.0, 0.0)  # seconds for which it stood still, and when they began
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.look_on, daemon=True)

    def start(self):
        self.begin = self.moved = time.monotonic()
        self.thread.start()

    def look_on(self):
        turn = 0
        try:
            while not self.ending.wait(LOOK_SECONDS):
                self.look(SERVES[turn % len(SERVES)])
                turn += 1
        except Exception as trouble:  # a witness that left unseen would have seen nothing wrong
            self.wrong.append(f"nobody looked at complete_through any more: {trouble!r}")

    def look(self, serve):
        """The table first: a link may hold a report up for so long that what was claimed too early is there by then."""
        for ask, source in ((self.claimed, "the table claims"), (lambda: self.reported(serve), serve)):
            try:
                self.compare(*ask(), source)
            except Failure:
                pass  # nobody is there to claim anything, or to show the table: no look

    def claimed(self):
        """What a report would say now, past the links."""
        partitions, through = map(int, self.query(CLAIMED)[0].split("\t"))
        return (through if partitions == self.world.partitions else 0), None

    def reported(self, serve):
        """What a report says, and how many events it counts."""
        answer = http.get(self.world.port[serve], "/v1/report", seconds=ANSWER_SECONDS)
        if answer.status != 200:
            raise Failure(f"{serve}: {answer.status} {answer.text}")
        report = json.loads(answer.body)
        counted = sum(row["served"] + row["solved"] for row in report["counters"])
        return millis(report["complete_through"]), counted

    def query(self, sql):
        port = self.world.port["clickhouse http"]
        return clickhouse.lines(port, sql, database="captcha", seconds=ANSWER_SECONDS)

    def compare(self, through, counted, source):
        """Looks for what is claimed and was not looked for yet."""
        if not through:
            return
        claimed = bisect.bisect_left(self.clients.receipts, (through,))
        receipts = self.clients.receipts[self.met : claimed]
        found = self.found(receipts)
        self.looks += 1
        self.met += len(receipts)
        what = f"complete_through {clock(through)} in {source}, looked at until {clock(time.time() * 1000)}"
        for receipt in receipts:
            if found.get(receipt.place) != receipt.key:
                self.missing.append(f"{shown(receipt)}, {what}")
        known = self.clients.receipts[claimed - 1].events if claimed else 0
        if counted is not None and counted < known:
            self.wrong.append(f"a report of {counted} events, {known} were confirmed before; {what}")
        self.note(through)

    def found(self, receipts):
        """The keys of the rows where the receipts say that events are."""
        places = {}
        for receipt in receipts:
            places.setdefault(receipt.place >> 48, []).append(receipt.place & (1 << 48) - 1)
        if not places:
            return {}
        ranges = " OR ".join(
            f"(partition = {partition} AND offset BETWEEN {min(offsets)} AND {max(offsets)})"
            for partition, offsets in places.items()
        )
        sql = "SELECT partition, offset, type, correlation_id FROM events"
        keys = {}
        for line in self.query(f"{sql} WHERE topic = '{TOPIC}' AND kind = 'event' AND ({ranges}) FORMAT TSV"):
            partition, offset, kind, correlation = line.split("\t")
            key = 2 * uuid.UUID(correlation).int + events.TYPES.index(kind)
            keys[(int(partition) << 48) + int(offset)] = key
        return keys

    def note(self, through):
        if through > self.through:
            self.through = through
            self.note_standstill()
            self.moved = time.monotonic()

    def note_standstill(self):
        stood = time.monotonic() - self.moved
        if stood > self.longest[0]:
            self.longest = (stood, self.moved - self.begin)

    def finish(self, step):
        """Ends the thread. Then each report must come to claim everything, since everything is in the table."""
        self.ending.set()
        self.thread.join()
        begin = time.monotonic()
        late = set(SERVES)
        while late:
            for serve in sorted(late):
                step()
                self.look(serve)
                if self.is_fresh(serve):
                    late.discard(serve)
            if time.monotonic() - begin > FRESH_SECONDS:
                newest = clock(self.clients.receipts[-1].at)
                self.wrong.append(
                    f"complete_through is {clock(self.through)} {FRESH_SECONDS} s after all was in the table, the last"
                    f" answer came at {newest}: {', '.join(sorted(late))}"
                )
                break
            time.sleep(0.3)
        self.note_standstill()

    def is_fresh(self, serve):
        try:
            return self.reported(serve)[0] > self.clients.receipts[-1].at
        except (Failure, IndexError):
            return False

    def facts(self):
        stood, since = self.longest
        return {
            "looks": f"{self.looks} at complete_through, for {self.met} confirmed events before it",
            "standstill": f"of complete_through for at most {stood:.1f} s, from {since:.0f} s on",
            "false claims": len(self.missing),
        }


def millis(moment):
    """Milliseconds since 1970 of a moment as the report writes it; 0 if it names none."""
    if moment is None:
        return 0
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return (datetime.datetime.fromisoformat(moment) - epoch) // datetime.timedelta(milliseconds=1)


def clock(moment):
    return datetime.datetime.fromtimestamp(moment / 1000, datetime.UTC).strftime("%H:%M:%S.%f")[:-3]


def shown(receipt):
    partition, offset = receipt.place >> 48, receipt.place & (1 << 48) - 1
    return f"{partition}:{offset} {load.event(receipt.key)} answered at {clock(receipt.at)}"
