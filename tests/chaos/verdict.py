"""Compares what the clients were promised with what is in ClickHouse and in the report, and prints the one table."""

import datetime
import json
import time
import uuid
from collections import Counter, defaultdict

from dev.command import Failure
from dev.testkit import clickhouse, events, http, kafka
from tests.chaos import load
from tests.chaos.plan import CONSUMES, SERVES
from tests.chaos.world import ANSWER_SECONDS, TOPIC

ANSWERED_SECONDS = 5.5  # serve promises 5; the rest is for a client on a busy machine
CATCH_UP_SECONDS = 180
SETTLE_SECONDS = 6  # serve may go on for 5 s with an event that its client gave up
READY_SECONDS = 60
EXAMPLES = 5
ROWS = """SELECT partition, offset, repeat, type, correlation_id, site_id, toUnixTimestamp64Micro(time),
 role, solve_after_micros, other_month != 0 FROM events"""
# The roles of the serve and the solve of a challenge, and which of them is the later row, which has the solve time.
PAIRS = {("first", "0", "answer", "1"), ("first", "1", "open", "0")}
HEADS = (
    "SELECT partition, max(offset) + 1, sum(span), count(), uniqExact(offset), countIf(kind != 'event')"
    f" FROM events WHERE topic = '{TOPIC}' GROUP BY partition ORDER BY partition FORMAT TSV"
)


class Verdict:
    """What was found; `wrong` has a line for everything that must not be."""

    def __init__(self, world, clients, witness, migrated):
        self.world = world
        self.clients = clients
        self.witness = witness
        self.migrated = migrated
        self.wrong = []
        self.rows = 0
        self.counted = self.repeats = self.lost = self.doubled = self.mispaired = self.audit = "not looked"
        self.pairs = 0
        self.catch_up = None

    def query(self, sql):
        return clickhouse.lines(self.world.port["clickhouse http"], sql, database="captcha")

    def heads(self):
        return {int(line.split("\t")[0]): [int(word) for word in line.split("\t")[1:]] for line in self.query(HEADS)}

    def wait_caught_up(self, step):
        """Until every record of the topic is in the table and no new one comes, and every process is ready."""
        begin = time.monotonic()
        since = None
        while since is None or time.monotonic() - since < SETTLE_SECONDS:
            step()
            reason = self.behind()
            now = time.monotonic()
            since = (since or now) if reason is None else None
            if reason and now - begin > CATCH_UP_SECONDS:
                self.wrong.append(f"consume has not caught up in {CATCH_UP_SECONDS} s: {reason}")
                return
            time.sleep(0.3)
        self.catch_up = since - begin
        lasted = time.monotonic() - begin
        while unready := [f"{name}: {text}" for name in (*SERVES, *CONSUMES) if (text := self.world.not_ready(name))]:
            step()
            if time.monotonic() - begin > lasted + READY_SECONDS:
                reasons = "; ".join(" ".join(text.split()) for text in unready)
                self.wrong.append(f"not ready {READY_SECONDS} s after all was counted: {reasons}")
                return
            time.sleep(0.3)

    def behind(self):
        try:
            ends = kafka.ends(self.world.broker_ports(), TOPIC)
            heads = self.heads()
        except (OSError, Failure) as error:
            return str(error)
        late = [
            f"partition {number} is at {heads.get(number, [0])[0]} of {end}"
            for number, end in sorted(ends.items())
            if heads.get(number, [0])[0] < end
        ]
        if len(ends) != self.world.partitions:
            return f"Kafka tells of {len(ends)} partitions"
        return "; ".join(late) or None

    def check(self):
        self.check_offsets()
        counters = self.check_rows()
        self.check_report(counters)
        self.run_audit()
        self.world.check_all()

    def note_events(self):
        """What was seen on the way, whether or not the counting got to its end."""
        for text, times in Counter(self.world.ended).items():
            self.wrong.append(f"ended by itself: {text}" + (f", {times} times" if times > 1 else ""))
        for text in self.clients.wrong[:EXAMPLES]:
            self.wrong.append(f"an answer that is neither 200 nor 503: {text}")
        self.note("claimed by complete_through and not there", self.witness.missing)
        self.wrong += self.witness.wrong[:EXAMPLES] + self.migrated.wrong

    def check_offsets(self):
        ends = kafka.ends(self.world.broker_ports(), TOPIC)
        for number, (head, span, rows, distinct, others) in self.heads().items():
            self.rows += rows
            if not head == span == rows == distinct == ends[number] or others:
                self.wrong.append(
                    f"partition {number}: head {head}, sum(span) {span}, {rows} rows, {distinct} offsets, "
                    f"{others} that are no events; the end in Kafka is {ends[number]}"
                )

    def check_rows(self):
        """Every row against what was sent; returns what the report must say, (date, site): [served, solved]."""
        seen, receipts_met = {}, 0
        counters = defaultdict(lambda: [0, 0])
        doubled, foreign = [], []
        accepted = self.clients.accepted
        for line in self.query(f"{ROWS} WHERE kind = 'event' FORMAT TSV"):
            partition, offset, repeat, kind, correlation, site, micros, *judged = line.split("\t")
            number = uuid.UUID(correlation).int
            key = 2 * number + events.TYPES.index(kind)
            moment = load.moment(key)
            receipts_met += accepted.get(key) == (int(partition) << 48) + int(offset)
            since = moment - datetime.datetime(1970, 1, 1)
            expected = (events.SITES[number % len(events.SITES)], since // datetime.timedelta(microseconds=1))
            if key not in self.clients.sent or expected != (site, int(micros)):
                foreign.append(line)
            if repeat == "1":
                continue
            if key in seen:
                doubled.append(line)
            seen[key] = judged
            counters[moment.date().isoformat(), site][events.TYPES.index(kind)] += 1
        lost = [key for key in accepted if key not in seen]
        self.counted, self.lost, self.doubled = len(seen), len(lost), len(doubled)
        self.repeats = self.rows - self.counted
        self.check_pairs(seen)
        receipts = [f"{accepted[key] >> 48}:{accepted[key] & (1 << 48) - 1} {load.event(key)}" for key in lost]
        self.note("accepted and not counted", receipts)
        self.note("counted twice", doubled)
        self.note("nobody sent this", foreign)
        if receipts_met != len(accepted):
            self.wrong.append(f"{len(accepted) - receipts_met} receipts name a place where the event does not stand")
        return counters

    def check_pairs(self, seen):
        """Each challenge has one pair, with its solve time, or one event without a role in a pair."""
        wrong = []
        for key, (role, micros, is_later) in seen.items():
            number, kind = divmod(key, 2)
            if key ^ 1 not in seen:
                is_right = (role, micros, is_later) == (("first", "open")[kind], "0", "0")
            elif kind == 0:
                solve_role, solve_micros, solve_is_later = seen[key ^ 1]
                due = load.solve_time(number) // datetime.timedelta(microseconds=1)
                is_right = (role, is_later, solve_role, solve_is_later) in PAIRS
                is_right &= int(micros) + int(solve_micros) == due
                self.pairs += 1
            else:
                continue
            if not is_right:
                wrong.append(f"{uuid.UUID(int=number)}: {seen[key]} {seen.get(key ^ 1)}")
        self.mispaired = len(wrong)
        self.note("wrongly paired", wrong)

    def note(self, what, lines):
        if lines:
            self.wrong.append(f"{what}: {len(lines)}, such as " + "; ".join(lines[:EXAMPLES]))

    def check_report(self, counters):
        """Both reports must say what the rows say; check_rows has compared those with the clients."""
        expected = [
            {"date": date, "site_id": site, "served": served, "solved": solved}
            for (date, site), (served, solved) in sorted(counters.items())
        ]
        code, text = self.world.captcha("report", "--format", "json")
        if code != 0 or json.loads(text)["counters"] != expected:
            self.wrong.append(f"captcha report is not what the rows say (exit code {code}): {text[:300]}")
        for name in SERVES:
            answer = http.get(self.world.port[name], "/v1/report", seconds=ANSWER_SECONDS)
            if answer.status != 200 or json.loads(answer.body)["counters"] != expected:
                what = f"({answer.status}): {answer.text[:300]}"
                self.wrong.append(f"GET /v1/report of {name} is not what the rows say {what}")

    def run_audit(self):
        if self.world.captcha("report", "audit", "--help")[0] != 0:
            self.audit = "this captcha has none"
            return
        code, text = self.world.captcha("report", "audit", "--format", "json")
        self.audit = {0: "clean", 3: "damage"}.get(code, "could not look")
        if code != 0:
            self.wrong.append(f"captcha report audit: exit code {code}: {text[:1000]}")

    def note_times(self):
        """Whether every request was answered, and in time, whatever happened to the brokers."""
        clients = self.clients
        if clients.slowest > ANSWERED_SECONDS:
            self.wrong.append(f"an answer took {clients.slowest:.1f} s")
        if clients.answers["none"]:
            self.wrong.append(f"{clients.answers['none']} requests had no answer")

    def table(self, title, faults):
        """All of it in one table: faults by target and kind, then the events."""
        kinds = sorted({kind for _, kind in faults.done})
        by_target = defaultdict(Counter)
        for (target, kind), count in faults.done.items():
            by_target[target][kind] += count
        lines = [title, "", f"{'faults':<16}" + "".join(f"{kind:>12}" for kind in kinds) + f"{'all':>7}"]
        for target in sorted(by_target):
            row = by_target[target]
            cells = "".join(f"{row[kind] or '-':>12}" for kind in kinds)
            lines.append(f"{target:<16}{cells}{sum(row.values()):>7}")
        totals = [sum(row[kind] for row in by_target.values()) for kind in kinds]
        lines.append(f"{'all':<16}" + "".join(f"{total:>12}" for total in totals) + f"{sum(totals):>7}")
        clients = self.clients
        gap, at = clients.longest
        caught_up = "never" if self.catch_up is None else f"{self.catch_up:.1f} s after the last fault was healed"
        facts = {
            "skipped": f"{faults.skipped} faults, because the target was down",
            "accepted": len(clients.accepted),
            "unconfirmed": len(clients.sent) - len(clients.accepted),
            "counted": self.counted,
            "repeats": self.repeats,
            "answers 200": clients.answers["200"],
            "answers 503": clients.answers["503"],
            "no answer": clients.answers["none"],
            "slowest answer": f"{clients.slowest:.1f} s",
            "no event taken": f"for at most {gap:.1f} s, from {at:.0f} s on",
            "caught up": caught_up,
            **self.witness.facts(),
            **self.migrated.facts(),
            "audit": self.audit,
            "ended alone": len(self.world.ended),
            "lost": self.lost,
            "doubled": self.doubled,
            "pairs": self.pairs,
            "wrongly paired": self.mispaired,
        }
        lines += ["", *(f"{name:<16}{value}" for name, value in facts.items())]
        return "\n".join(lines + [f"WRONG: {text}" for text in self.wrong])
