"""Sites with names that pages get wrong, their events, and the numbers that a page must show of them."""

import json
import random
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from dev.testkit import events, http
from tests.documents.dashboard.wait import until

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
QUARTER_SECONDS = 900

SCRIPT = "<script>alert(1)</script>"
LONGEST = "W" * 80  # as many characters as a name may have, all wide, without a blank
NAMES = [
    "Shop",
    "Shop staging",
    "Blog",
    SCRIPT,
    "\"quotes\" 'and' `ticks`",
    "Fish & chips &amp; <b>more</b>",
    "דוגמה: טופס (א)",
    "\u202egnp.exe",  # turns the text after it around
    LONGEST,
    "Support: contact us, the long form with attachments and a phone number to call",
    "</title><svg onload=alert(2)>",
    "多言語のフォーム",
]
UNNAMED = 46  # with the names above: more than have rows of their own

SEED = 19
DAYS = 130  # of the busiest site; others are of the last four weeks
CHALLENGES = 2600
BATCH = 2000
COUNTED_SECONDS = 60


class Challenge(NamedTuple):
    site_id: str
    served: datetime
    solved: datetime | None


class Numbers(NamedTuple):
    challenges: int
    solved_of_served: int
    unsolved: int
    pending: int


def site(number):
    return str(uuid.UUID(int=0x6F1C1F2E << 96 | 4 << 76 | 2 << 62 | number))


NAMED = {site(number): name for number, name in enumerate(NAMES)}
SITES = [site(number) for number in range(len(NAMES) + UNNAMED)]
SHOP, STAGING, BLOG = SITES[:3]
OLD = site(1000)  # of one day, two months ago
NEVER = site(1001)  # has no event
OLD_NAME = "Old shop"


def names_file():
    lines = [f"{site_id} {name}\n" for site_id, name in (NAMED | {OLD: OLD_NAME}).items()]
    return "# names of sites\n\n" + "".join(lines)


def challenges(now):
    """Challenges of four months. None is of the time in which it depends on the second whether it is pending."""
    chance = random.Random(SEED)
    made = []

    def add(site_id, served, seconds):
        solved = None if seconds is None else served + timedelta(seconds=seconds)
        made.append(Challenge(site_id, served, solved))

    def seconds_to_solve():
        drawn = chance.random()
        if drawn < 0.25:
            return None
        return 7200.5 if drawn < 0.28 else round(min(chance.lognormvariate(1.5, 0.9), 600), 3)

    for number, site_id in enumerate(SITES):
        days = DAYS if number == 0 else 26
        count = CHALLENGES // 4 if number == 0 else 3 + CHALLENGES // (3 * (number + 1) + 20)
        for _ in range(count):
            served = now - 3 * HOUR - chance.random() * days * DAY
            add(site_id, served, seconds_to_solve())
    for minutes in (2, 3, 5, 8, 9):
        add(SHOP, now - timedelta(minutes=minutes), None)
        add(BLOG, now - timedelta(minutes=minutes), 4)
    old_day = start_of_day(now) - 61 * DAY
    for minutes in range(7):
        add(OLD, old_day + timedelta(hours=9, minutes=minutes), 3 if minutes % 2 else None)
    return made


def start_of_day(moment):
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def count(chosen, now, within=HOUR):
    """The numbers of these challenges, as docs/reports.md defines them; everything before `now` is counted."""
    quarter = (now - within).timestamp() // QUARTER_SECONDS
    solved = sum(one.solved is not None and one.solved - one.served <= within for one in chosen)
    pending = sum(one.solved is None and one.served.timestamp() // QUARTER_SECONDS >= quarter for one in chosen)
    return Numbers(len(chosen), solved, len(chosen) - solved - pending, pending)


def between(made, start, end):
    return [one for one in made if start <= one.served < end]


def of_days(made, offset=timedelta()):
    """The challenges of each local day of a zone with this offset."""
    days = {}
    for one in made:
        days.setdefault(str((one.served + offset).date()), []).append(one)
    return days


def post(port, made):
    """Sends the events, solves before serves here and there, and waits until all are counted."""
    sent = []
    for one in made:
        correlation_id = uuid.uuid4()
        pair = [events.event(one.site_id, "serve", correlation_id, text(one.served))]
        if one.solved:
            pair.append(events.event(one.site_id, "solve", correlation_id, text(one.solved)))
        sent += reversed(pair) if len(sent) % 5 == 0 else pair
    for begin in range(0, len(sent), BATCH):
        events.send(port, sent[begin : begin + BATCH])
    return Counter(one["type"] for one in sent)


def wait_counted(port, wanted, seconds=COUNTED_SECONDS):
    """Until this many serves are counted, and everything that was sent by now."""
    sent = datetime.now(UTC)

    def reason():
        answer = http.get(port, "/v1/report?by=none&interval=all&metrics=served", seconds=10)
        if answer.status != 200:
            return f"the report was answered {answer.status}"
        report = json.loads(answer.body)
        through = report["complete_through"]
        served = report["totals"]["served"]
        if served > wanted:
            return f"{served} serves are counted, and {wanted} were sent"
        is_whole = served == wanted and through and datetime.fromisoformat(through) > sent
        return None if is_whole else f"{served} of {wanted} serves are counted, complete through {through}"

    until(reason, seconds)


def text(moment):
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
