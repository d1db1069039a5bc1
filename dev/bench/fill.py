"""Fills `events` inside ClickHouse, as `captcha consume` would have: some hundred thousand rows a second.

Challenges come at a steady pace over a number of days: a serve, for four in five of them its solve, and for one in a
thousand the serve once more, as a repeat. Solve times are log-normal: the median is 8 s, 99 of 100 are below 51 s.
Sites are drawn with a skew: the n-th of 1,000 has a share of about 1/n, so the largest has 10 % and the smallest
0.014 %. Correlation ids are random, times have microseconds, and an event arrives 50 ms after its time. All of it is a
function of the challenge's number: two tables of the same size have the same events.

Parts have about a million rows, a month is merged into one part at the end. Offsets are in the order of arrival within
each million rows; a solve whose serve is just before the end of a million is with its serve."""

import time
from collections import namedtuple

from dev import disk
from dev.bench.rig import PARTITIONS
from dev.command import say

SITES = 1_000
LONG_EVENTS, LONG_DAYS, SHORT_DAYS = 100_000_000, 365, 30
FIRST_DAY = "2024-01-15"
DAY_MICROS = 86_400 * 10**6
EVENTS_OF_A_CHALLENGE = 1 + 0.8 + 0.001
PART_ROWS = 1_000_000
EVENT_BYTES = 60  # on disk: ClickHouse keeps parts for 8 minutes after they were merged into others
SOLVE_MEDIAN_MICROS, SOLVE_SIGMA = 8 * 10**6, 0.8

# The rows, and the site_ids from the one with the most events to the one with the fewest.
Filled = namedtuple("Filled", "rows sites seconds")

# A number from 0 to 1 that is random, and the same for the same challenge and name.
DRAW = "(cityHash64(number, '{}') / 18446744073709551616)"

CHALLENGES = f"""
    SELECT
        toInt32(number % {PARTITIONS}) AS partition,
        reinterpretAsUUID(sipHash128(toUInt32(exp({DRAW.format("site")} * log({SITES} + 1))))) AS site_id,
        reinterpretAsUUID(sipHash128(number, 'correlation')) AS correlation_id,
        toUnixTimestamp64Micro(toDateTime64('{FIRST_DAY}', 6, 'UTC'))
            + toInt64((number + {DRAW.format("serve")}) * {{step_micros}}) AS serve,
        toInt64({SOLVE_MEDIAN_MICROS} * exp({SOLVE_SIGMA} * sqrt(-2 * log(1 - {DRAW.format("length")}))
            * cos(2 * pi() * {DRAW.format("angle")}))) AS solve_after,
        {DRAW.format("solved")} < 0.8 AS is_solved,
        {DRAW.format("repeated")} < 0.001 AS is_repeated
    FROM numbers({{first}}, {{count}})"""

EVENTS = f"""
    SELECT *, event, serve + if(event.1 = 'solve', solve_after, 0) AS micros,
        fromUnixTimestamp64Milli(intDiv(micros, 1000) + if(event.2 = 1, 2050, 50), 'UTC') AS arrived
    FROM ({CHALLENGES})
    ARRAY JOIN arrayConcat(
        [('serve', 0, 'first')],
        if(is_solved, [('solve', 0, 'answer')], []),
        if(is_repeated, [('serve', 1, '')], [])
    ) AS event"""

# Columns of events, and what they are in EVENTS; the others keep their defaults.
COLUMNS = {
    "topic": "'captcha'",
    "partition": "partition",
    "offset": "{heads}[partition + 1] + row_number() OVER (PARTITION BY partition ORDER BY arrived, micros) - 1",
    "arrival": "arrived",
    "span": "1",
    "kind": "'event'",
    "repeat": "event.2",
    "site_id": "site_id",
    "type": "event.1",
    "correlation_id": "correlation_id",
    "time": "fromUnixTimestamp64Micro(micros, 'UTC')",
    "role": "event.3",
    "solve_after_micros": "if(event.3 = 'answer', solve_after, 0)",
    "other_month": "if(event.3 = 'answer', toYYYYMM(fromUnixTimestamp64Milli(intDiv(serve, 1000) + 50, 'UTC')), 0)",
    "rules": "1",
}

INSERT = """INSERT INTO {database}.events ({names}) SELECT {values} FROM ({events})
SETTINGS max_insert_threads = 1, min_insert_block_size_rows = 2000000, min_insert_block_size_bytes = 0"""


def fill(rig, database, events, days):
    """Inserts about `events` rows of `days` days, merges each month into one part, and claims that all is complete."""
    disk.need(rig.folder, events * EVENT_BYTES, f"{events:,} events")
    begin = time.monotonic()
    challenges = round(events / EVENTS_OF_A_CHALLENGE)
    each = round(PART_ROWS / EVENTS_OF_A_CHALLENGE)
    # Merged once at the end, each row is merged once.
    rig.text(f"SYSTEM STOP MERGES {database}.events")
    for first in range(0, challenges, each):
        insert(rig, database, first, min(each, challenges - first), days * DAY_MICROS / challenges)
        said = first // each + 1
        if said % 10 == 0:
            say(f"{said} million events after {time.monotonic() - begin:.0f} s")
    rig.text(f"SYSTEM START MERGES {database}.events")
    merge(rig, database)
    claim(rig, database, days)
    rows = int(rig.text(f"SELECT count() FROM {database}.events"))
    seconds = time.monotonic() - begin
    say(f"filled events inside clickhouse with {rows:,} rows in {seconds:.0f} s, merges included")
    return Filled(rows, sites(rig, database), seconds)


def days_of(events):
    """How long that many events take."""
    return LONG_DAYS if events >= LONG_EVENTS else SHORT_DAYS


def insert(rig, database, first, count, step_micros):
    # An older captcha has fewer columns.
    table = f"database = '{database}' AND table = 'events'"
    present = rig.text(f"SELECT name FROM system.columns WHERE {table}").split()
    columns = {name: value for name, value in COLUMNS.items() if name in present}
    rig.text(
        INSERT.format(
            database=database,
            names=", ".join(columns),
            values=", ".join(columns.values()).format(heads=heads(rig, database)),
            events=EVENTS.format(first=first, count=count, step_micros=step_micros),
        )
    )


def heads(rig, database):
    """The next offset of each partition."""
    found = dict.fromkeys(range(PARTITIONS), 0)
    for line in rig.text(f"SELECT partition, max(offset) + 1 FROM {database}.events GROUP BY partition").splitlines():
        partition, head = map(int, line.split())
        found[partition] = head
    return list(found.values())


def merge(rig, database):
    """Merges what each month has into one part."""
    active = f"system.parts WHERE active AND database = '{database}' AND table = 'events'"
    for month in rig.text(f"SELECT DISTINCT partition_id FROM {active} ORDER BY 1").split():
        rig.text(f"OPTIMIZE TABLE {database}.events PARTITION ID '{month}' FINAL SETTINGS optimize_throw_if_noop = 1")
    rig.wait_merged()


def claim(rig, database, days):
    """Watermarks, as consumers write them: everything is complete at the end of the last day."""
    rig.text(
        f"INSERT INTO {database}.claims (log, partition, through, partitions) SELECT 'captcha', number,"
        f" toDateTime64('{FIRST_DAY}', 3, 'UTC') + toIntervalDay({days}), {PARTITIONS} FROM numbers({PARTITIONS})"
    )


def sites(rig, database):
    return rig.text(f"SELECT site_id FROM {database}.events GROUP BY site_id ORDER BY count() DESC, site_id").split()
