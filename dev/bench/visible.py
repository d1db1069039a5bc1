"""Measures receipt to visible: from the answer that confirms an event to the first report that counts it.

One event at a time, each of a site of its own, at light load. The report is asked again as soon as it has answered,
so a figure includes one report on the average. The events stay; `make clean-data` removes them."""

import argparse
import json
import time
import uuid

from dev.command import Failure, run
from dev.testkit import events
from dev.testkit.http import JSON, connect, exchange

WAIT_SECONDS = 30


def arguments():
    parser = argparse.ArgumentParser(prog="python3 -m dev.bench.visible", description=__doc__.partition("\n")[0])
    parser.add_argument("address", nargs="?", default="127.0.0.1:8000", help="of a running captcha serve")
    parser.add_argument("--events", type=int, default=200, help="default: 200")
    return parser.parse_args()


def main():
    options = arguments()
    client = connect(options.address, WAIT_SECONDS)
    try:
        waits_ms = sorted(measure(client) * 1000 for _ in range(options.events))
    except OSError as error:
        raise Failure(f"cannot reach captcha at {options.address}: {error}; is `make run` running?") from None
    middle, late = at(waits_ms, 0.5), at(waits_ms, 0.99)
    print(f"{options.events} events: median {middle:.0f} ms, p99 {late:.0f} ms, max {waits_ms[-1]:.0f} ms")
    return 0


def measure(client):
    site = str(uuid.uuid4())
    ask(client, "POST", "/v1/events", json.dumps(events.event(site)))
    received = time.monotonic()
    while not ask(client, "GET", f"/v1/report?site_id={site}")["counters"]:
        if time.monotonic() - received > WAIT_SECONDS:
            raise Failure(f"an event of site {site} was confirmed and is not in the report after {WAIT_SECONDS} s")
    return time.monotonic() - received


def ask(client, method, path, body=None):
    answer = exchange(client, method, path, body, JSON if body else None)
    if answer.status != 200:
        raise Failure(f"{method} {path} was answered {answer.status}: {answer.text}")
    return json.loads(answer.body)


def at(ordered, share):
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


if __name__ == "__main__":
    run(main)
