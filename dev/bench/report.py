"""Measures how long reports take: over HTTP, as the command, in ClickHouse, and with many readers at once.

On servers of its own, which end with it. The table is filled inside ClickHouse (dev/bench/fill.py): 1,000 sites with a
skew, four in five challenges solved, 30 days; from 100 million events on, 365 days. Days are the last 30, hours those
of the last 7 days, months all. The hot site has a tenth of all events, the cold one a seven-thousandth.

  answer      rows of the answer, and its kB, not compressed
  http        ms from the request to the last byte, one after another on a connection that is kept: median and p99 of
              as many requests as fit in --seconds, at least 5 if they fit in 5 times that
  clickhouse  ms in ClickHouse for one report, by its query_log: the medians of its statements, added up; how many
              statements; rows that it read for one report. Of the command where captcha serve does not answer.
  command     ms of `captcha report --format json` from its start to its end: the median of at least 3, as above
  rows        ms in ClickHouse of a plain query on the rows, without projections, and how many times the clickhouse
              column that is. Rates and solve times take the stored roles, in one pass over the rows: a GROUP BY of
              correlation_id, without roles, would take much longer.

  dashboard   ms of GET /v1/dashboard; of its two questions at the same time over GET /v1/report, in turns with it;
              medians of both; processor time of captcha serve for the page, less that for the questions, a mean; bytes
              of the page

"others" is what everything but ClickHouse, captcha serve and this program took meanwhile, in processors. The readers
are threads of this program: with many of them, it is a part of what they wait for. A refused reader tries again after
0.1 s. Nothing is compressed, and no reader sends If-None-Match."""

import json
import subprocess
import time
from collections import namedtuple
from statistics import median

from dev import ports, supervise
from dev.bench import dashboard, fill, questions, readers, stored
from dev.bench import rig as rigs
from dev.command import captcha_environment, run
from dev.testkit import captcha, clickhouse, http, processes
from dev.testkit.http import HOST

DATABASE = "bench_report"
REQUESTS_MIN, COMMANDS_MIN = 5, 3
PATIENCE = 5  # times the seconds that were asked for
REQUEST_SECONDS = 60
QUERY_LOG = "<query_log><database>system</database><table>query_log</table></query_log>"

# Rows, kB; ms, requests; ms, statements and rows read in ClickHouse for one report; ms; ms, rows; why not over HTTP.
Cost = namedtuple("Cost", "rows kb http p99 requests clickhouse statements read command plain plain_read reason")
WIDTHS = (8, 8, 9, 9, 6, 9, 7, 12, 10, 9, 12, 7)
DECIMALS = (0, 0, 1, 1, 0, 1, 1, 0, 0, 1, 0, 1)
Serve = namedtuple("Serve", "child port")


def main():
    options = rigs.options(__doc__, events=10_000_000, seconds=2)
    return rigs.with_servers(options.program, lambda rig: measure(rig, options), clickhouse_config=QUERY_LOG)


def measure(rig, options):
    days = fill.days_of(options.events)
    rig.migrate(DATABASE)
    filled = fill.fill(rig, DATABASE, options.events, days)
    print(f"{filled.rows:,} events, {days} days, {len(filled.sites):,} sites; filled in {filled.seconds:.0f} s")
    measure_filled(rig, filled, days, options.seconds)


def measure_filled(rig, filled, days, seconds):
    load = processes.load_average()
    serve = start_serve(rig)
    loads = readers.measure(rig, serve, filled.sites, days, seconds)
    pages = dashboard.measure(serve, filled.sites, days, seconds)
    costs = measure_questions(rig, serve, questions.questions(filled.sites, days), seconds)
    rig.stop(serve.child)
    stored.print_bytes(rig, DATABASE, "as one part a month")
    print_goals(costs, loads, pages, len(filled.sites), rig)
    print(f"{load} before, {processes.load_average()} after")


def start_serve(rig):
    port, admin = ports.pick(2)
    child = rig.start("serve", DATABASE, listen=f"{HOST}:{port}", admin_listen=f"{HOST}:{admin}")
    supervise.wait_ready(child, lambda: captcha.not_ready(admin))
    return Serve(child, port)


def measure_questions(rig, serve, every, seconds):
    heads = ["rows", "kB", "median", "p99", "n", "ms", "stmts", "read", "ms", "ms", "read", "times"]
    print(f"\n{'':48}{'answer':>16}{'http':>24}{'clickhouse':>28}{'command':>10}{'rows':>28}")
    print(f"{'':48}" + "".join(f"{head:>{width}}" for head, width in zip(heads, WIDTHS, strict=True)))
    costs = {}
    for question in every:
        cost = costs[question.name] = ask(rig, serve, question, seconds)
        times = cost.plain / max(cost.clickhouse, 0.001) if cost.clickhouse is not None else None
        cells = zip((*cost[:-1], times), WIDTHS, DECIMALS, strict=True)
        line = "".join(
            f"{value:>{width},.{decimals}f}" if value is not None else f"{'-':>{width}}"
            for value, width, decimals in cells
        )
        print(f"{', '.join(question.name):48}{line}  {cost.reason}", flush=True)
    return costs


def ask(rig, serve, question, seconds):
    """What a question costs in every way; nothing for a way that does not answer it, and the reason."""
    over_http, served, inside, reason = ask_serve(rig, serve, question, seconds)
    command, failed = None, report(rig, question)
    if failed:
        reason = f"{reason} {failed}".strip()
    else:
        failures = []
        taken, inside_command = timed(rig, lambda: failures.append(report(rig, question)), seconds, COMMANDS_MIN)
        command, inside = median(taken), inside or inside_command
        reason = " ".join([reason, *{failure for failure in failures if failure}]).strip()
    plain = rows_query(rig, question)
    if plain[0] < seconds * 1e3:
        plain = min(plain, rows_query(rig, question))
    if question.metrics == questions.PLAIN and served is not None:
        rows = int(rig.text(f"SELECT sum(served) FROM ({question.rows_sql(DATABASE)})"))
        if served != rows:
            reason = f"WRONG: {served:,} served, and {rows:,} in the rows"
    return Cost(*over_http, *(inside or [None] * 3), command, *plain, reason)


def ask_serve(rig, serve, question, seconds):
    """The first five of Cost, the sum of what was served, what it cost in ClickHouse; or why there is no answer."""
    connection = http.connect(serve.port, REQUEST_SECONDS)
    try:
        first = http.exchange(connection, "GET", question.path)
        if first.status != 200:
            return [None] * 5, None, None, f"over http: {first.status} {' '.join(first.text.split())[:200]}"
        statuses = []
        taken, inside = timed(
            rig,
            lambda: statuses.append(http.exchange(connection, "GET", question.path).status),
            seconds,
            REQUESTS_MIN,
        )
    finally:
        connection.close()
    rows = json.loads(first.body)["counters"]
    figures = [len(rows), len(first.body) / 1e3, median(taken), readers.at(sorted(taken), 0.99), len(taken)]
    others = [status for status in statuses if status != 200]
    return figures, sum(row["served"] for row in rows), inside, f"over http also: {others}" if others else ""


def timed(rig, work, seconds, least):
    """Does it for so long and at least so often, unless that takes too long; the ms of each time, and what was logged
    of ClickHouse for one."""
    taken, lasted, begin, first = [], 0, time.monotonic(), micros(rig)
    while not taken or (len(taken) < least and lasted < PATIENCE * seconds) or lasted < seconds:
        start = time.monotonic()
        work()
        end = time.monotonic()
        taken.append((end - start) * 1e3)
        lasted = end - begin
    return taken, [value / len(taken) for value in logged(rig, first, micros(rig))]


def micros(rig):
    return int(rig.text("SELECT toUnixTimestamp64Micro(now64(6))"))


def logged(rig, begin, end):
    """ms, statements and rows read of what came over the native protocol between two moments."""
    rig.text("SYSTEM FLUSH LOGS query_log")
    text = rig.text(
        "SELECT sum(ms * times), sum(times), sum(read) FROM (SELECT count() AS times, sum(read_rows) AS read,"
        " median(dateDiff('microsecond', query_start_time_microseconds, event_time_microseconds)) / 1000 AS ms"
        " FROM system.query_log WHERE type = 'QueryFinish' AND interface = 1"
        f" AND event_time_microseconds BETWEEN fromUnixTimestamp64Micro({begin}) AND fromUnixTimestamp64Micro({end})"
        " GROUP BY normalized_query_hash)"
    )
    return [float(word) for word in text.split()]


def report(rig, question):
    """Runs the command; why it failed, and nothing if it did not."""
    address = f"{HOST}:{rig.clickhouse_port}"
    environ = captcha_environment(clickhouse_addr=address, clickhouse_database=DATABASE)
    words = [rig.program, "report", *question.words, "--format", "json"]
    nowhere = dict.fromkeys(("stdin", "stdout"), subprocess.DEVNULL)
    done = subprocess.run(words, check=False, env=environ, stderr=subprocess.PIPE, text=True, **nowhere)
    return done.stderr.strip().splitlines()[-1][:200] if done.returncode else ""


def rows_query(rig, question):
    """ms in ClickHouse and rows read of the same question to the rows."""
    answer = clickhouse.ask(rig.http_port, question.rows_sql(DATABASE) + " FORMAT RowBinary")
    summary = json.loads(answer.headers["X-ClickHouse-Summary"])
    return int(summary["elapsed_ns"]) / 1e6, int(summary["read_rows"])


def print_goals(costs, loads, pages, sites, rig):
    """The goals, which are for 100 million events, and whether they are met here."""
    print("\ngoals at 100 million events")
    all_sites = f"{sites:,} sites"
    for name, metrics, ms in [
        *((site, questions.PLAIN, 10) for site in ("hot site", "cold site")),
        *((site, pairs, 30) for site in ("hot site", "cold site") for pairs in questions.METRICS[1:]),
        (all_sites, questions.PLAIN, 250),
    ]:
        cost = costs[name, "day", metrics, "UTC"]
        goal(f"{name}, 30 days, {metrics}: {ms} ms over HTTP", cost.http, ms, "ms")
    many = loads["30 readers, a site each"]
    goal("30 readers at once: none refused", many.refused, 0, "refused")
    goal("30 readers at once: p99 under 500 ms", many.p99, 500, "ms")
    goal("100 reports of one site a second", -many.rate, -100, "reports/s")
    for name, page in pages.items():
        own_ms, most = dashboard.OWN_MS_MAX, dashboard.BYTES_MAX
        goal(f"dashboard of {name}: {own_ms} ms besides its questions", page.own, own_ms, "ms")
        goal(f"dashboard of {name}: {most:,} bytes", page.plain, most, "bytes")
    disk = f"sum(bytes_on_disk) / sum(rows) FROM system.parts WHERE active AND database = '{DATABASE}'"
    size = float(rig.text(f"SELECT {disk} AND table = 'events'"))
    goal("16 bytes an event", size, 16, "bytes")


def goal(text, found, most, unit):
    if found is None:
        print(f"  {'not asked':10}{text}")
        return
    print(f"  {'met' if found <= most else 'NOT MET':10}{text}: {abs(found):,.1f} {unit}")


if __name__ == "__main__":
    run(main)
