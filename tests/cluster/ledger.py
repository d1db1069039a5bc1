"""What clients were promised over the whole run, and the report that has to say the same."""

import collections
import datetime
import json
import time

from dev.command import Failure
from dev.testkit import http

COLUMNS = ("served", "solved")
REPORT_SECONDS = 30
LOOK_SECONDS = 0.2


class Ledger:
    def __init__(self):
        self.accepted = collections.Counter()  # "day site column": events
        self.unknown = collections.Counter()  # sent and not answered 200: counted once or not at all
        self.last_answer = 0.0  # seconds since 1970

    def add(self, found):
        self.accepted.update(found["accepted"])
        self.unknown.update(found["unknown"])
        self.last_answer = max(self.last_answer, found["last_answer"])

    def settle(self, ask, seconds):
        """Waits for a report that is complete beyond the last answer, and compares. `ask()` is a report's text, or
        raises Failure. Returns the seconds that it took; Failure if anything is missing or too much."""
        begin = time.monotonic()
        while True:
            try:
                report = json.loads(ask())
                through = report["complete_through"]
                if through and datetime.datetime.fromisoformat(through).timestamp() > self.last_answer:
                    break
                reason = f"it is complete through {through}"
            except Failure as failure:
                reason = str(failure)
            if time.monotonic() - begin > seconds:
                raise Failure(f"no report is complete after {seconds} s: {reason}")
            time.sleep(LOOK_SECONDS)
        self.compare(counted(report))
        return time.monotonic() - begin

    def compare(self, found):
        missing, more = self.accepted - found, found - self.accepted
        surplus = more - self.unknown
        if missing or surplus:
            raise Failure(
                f"{self.accepted.total()} events were accepted and {found.total()} are counted:"
                f" {missing.total()} are missing, {surplus.total()} are too many"
            )


def counted(report):
    """What a report counts, as clients do."""
    found = collections.Counter()
    for row in report["counters"]:
        for column in COLUMNS:
            if row[column]:
                found[f"{row['date']} {row['site_id']} {column}"] += row[column]
    return found


def ask_report(address, key):
    answer = http.get(address, "/v1/report", {"Authorization": f"Bearer {key}"}, seconds=REPORT_SECONDS)
    if answer.status != 200:
        raise Failure(f"a report is answered {answer.status} {answer.text[:200].strip()}")
    return answer.text
