"""Readers of reports at the same time: each asks again as soon as it has its answer."""

import http.client
import time
from collections import namedtuple
from threading import Thread

from dev.bench import questions
from dev.testkit import http as requests
from dev.testkit import processes

ANSWER_SECONDS = 30
REFUSED_PAUSE_SECONDS = 0.1
COSTLY = 2
# Long enough for a p99 of 200 readers.
TIMES_SECONDS = 4

# Answers a second and in all; how many were refused, and failed; ms; processors that each took, the bench itself too.
Load = namedtuple("Load", "rate answers refused failed median p99 most clickhouse serve bench others")


class Readers:
    """Threads, and what happened to them."""

    def __init__(self, port, paths, until):
        self.port, self.until = port, until
        self.taken, self.refused, self.failed = [], 0, 0
        self.threads = [Thread(target=self.read, args=(path,), daemon=True) for path in paths]
        for thread in self.threads:
            thread.start()

    def read(self, path):
        connection = requests.connect(self.port, ANSWER_SECONDS)
        while time.monotonic() < self.until:
            begin = time.monotonic()
            try:
                status = requests.exchange(connection, "GET", path).status
            except (OSError, http.client.HTTPException):
                connection.close()
                status = 0
            if status == 200:
                self.taken.append((time.monotonic() - begin) * 1e3)
                continue
            if status in (429, 503):
                self.refused += 1
            else:
                self.failed += 1
            time.sleep(REFUSED_PAUSE_SECONDS)
        connection.close()

    def join(self):
        for thread in self.threads:
            thread.join()


def measure(rig, serve, sites, days, seconds):
    """1, 30 and 200 readers of one site, 30 days: all the same one, and each its own."""

    def path(site_ids):
        return questions.question("", site_ids, "day", questions.PLAIN, "UTC", days).path

    each = [path([site]) for site in sites]
    everything = path([])
    scenarios = {"1 reader, one site": ([each[0]], [])}
    for count in (30, 200):
        scenarios[f"{count} readers, the same site"] = ([each[0]] * count, [])
        scenarios[f"{count} readers, a site each"] = (each[:count], [])
    scenarios["30 readers, a site each, beside 2 of all sites"] = (each[:30], [everything] * COSTLY)
    heads = ["answers/s", "refused", "failed", "median", "p99", "most", "clickhouse", "serve", "bench", "others"]
    print(f"\n{'readers at once, by day, ms and processors':48}" + "".join(f"{head:>11}" for head in heads))
    loads = {}
    for name, (paths, costly) in scenarios.items():
        load = loads[name] = at_once(rig, serve, paths, costly, seconds * TIMES_SECONDS)
        cells = [f"{load.rate:,.0f}", f"{load.refused:,}", f"{load.failed:,}"]
        cells += [f"{value:,.1f}" for value in (load.median, load.p99, load.most)]
        cells += [f"{value:.2f}" for value in (load.clickhouse, load.serve, load.bench, load.others)]
        print(f"{name:48}" + "".join(f"{cell:>11}" for cell in cells), flush=True)
    return loads


def at_once(rig, serve, paths, costly, seconds):
    """The costly ones are read too, and not counted."""
    before = readings(rig, serve)
    begin = time.monotonic()
    beside = Readers(serve.port, costly, begin + seconds)
    counted = Readers(serve.port, paths, begin + seconds)
    counted.join()
    lasted = time.monotonic() - begin
    clickhouse, own, bench, machine = (
        (now - then) / lasted for now, then in zip(readings(rig, serve), before, strict=True)
    )
    beside.join()
    taken = sorted(counted.taken) or [float("nan")]
    return Load(
        len(counted.taken) / lasted,
        len(counted.taken),
        counted.refused,
        counted.failed,
        at(taken, 0.5),
        at(taken, 0.99),
        taken[-1],
        clickhouse,
        own,
        bench,
        max(machine - clickhouse - own - bench, 0),
    )


def readings(rig, serve):
    pids = (rig.clickhouse.pid, serve.child.pid, "self")
    return [*map(processes.cpu_seconds, pids), processes.machine_cpu_seconds()]


def at(ordered, share):
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
