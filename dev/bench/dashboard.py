"""How long the dashboard takes, how long its two questions do, and what captcha serve computes besides them."""

import gzip
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from urllib.parse import urlencode

from dev.bench import questions
from dev.command import Failure
from dev.testkit import http, processes

PATH = "/v1/dashboard"
REQUEST_SECONDS = 60
PAIRS_MIN = 5

# The two questions of a page, src/serve/dashboard/view.rs: over time, and of each site.
TREND = {"by": "none", "interval": "day", "metrics": "challenges,solved_of_served,unsolved,pending,solve_rate"}
SITES = {"by": "site", "interval": "all", "top": 50, "metrics": f"{TREND['metrics']},solve_time_p50"}
COMPARE = {"compare": "previous_period"}

OWN_MS_MAX = 20
BYTES_MAX = 100_000

# ms of the page, of its questions, of processors that captcha serve takes more for the page; how often; its bytes.
Page = namedtuple("Page", "whole asked own count plain packed")


def measure(serve, sites, days, seconds):
    """The page of all sites and that of one; its numbers by name."""
    heads = ("page", "questions", "own cpu", "n", "bytes", "gzip")
    print(f"\n{'dashboard, 30 days by day, ms':48}" + "".join(f"{head:>11}" for head in heads))
    pages = {}
    for name, chosen in (("all sites", []), ("hot site", sites[:1])):
        page = pages[name] = measure_page(serve, questions.question("", chosen, "day", "", "UTC", days), seconds)
        cells = [f"{value:,.1f}" for value in page[:3]] + [f"{value:,}" for value in page[3:]]
        print(f"{name:48}" + "".join(f"{cell:>11}" for cell in cells), flush=True)
    return pages


def measure_page(serve, question, seconds):
    """Page and questions in turns, so that both meet the same of what else happens, and the median of each. They differ
    by less than questions differ among themselves, so what the page takes besides them is processor time, a mean."""
    common = [(name, value) for name, value in question.parameters if name in ("site_id", "from", "to")]
    address = f"{PATH}?{urlencode(common)}"
    asked = [f"/v1/report?{urlencode([*common, *(own | COMPARE).items()])}" for own in (TREND, SITES)]
    connections = [http.connect(serve.port, REQUEST_SECONDS) for _ in range(3)]

    def get(connection, path):
        answer = http.exchange(connection, "GET", path)
        if answer.status != 200:
            raise Failure(f"{path}: answered {answer.status}: {answer.text[:200]}")
        return answer.body

    try:
        plain = get(connections[0], address)
        packed = http.get(serve.port, address, {"Accept-Encoding": "gzip"}, seconds=REQUEST_SECONDS).body
        if len(gzip.decompress(packed)) < len(plain) // 2:
            raise Failure(f"{address}: compressed, it is another page")
        pages, questions_, own, end = [], [], 0, time.monotonic() + seconds
        with ThreadPoolExecutor(2) as pool:
            while len(pages) < PAIRS_MIN or time.monotonic() < end:
                before = processes.cpu_seconds(serve.child.pid)
                pages.append(timed(lambda: get(connections[0], address)))
                between = processes.cpu_seconds(serve.child.pid)
                questions_.append(timed(lambda: list(pool.map(get, connections[1:], asked))))
                own += (between - before) - (processes.cpu_seconds(serve.child.pid) - between)
    finally:
        for connection in connections:
            connection.close()
    own_ms = own / len(pages) * 1e3
    return Page(median(pages), median(questions_), own_ms, len(pages), len(plain), len(packed))


def timed(work):
    begin = time.monotonic()
    work()
    return (time.monotonic() - begin) * 1e3
