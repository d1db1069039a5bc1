"""Measures receipt to visible: from the answer that confirms an event to the first report that counts it.

usage: python3 -m dev.bench.visible [ADDRESS] [EVENTS]    ADDRESS of a running `captcha serve`, such as 127.0.0.1:8000

One event at a time, each of a site of its own, at light load. The report is asked again as soon as it has answered,
so a figure includes one report on the average. The events stay; `make clean-data` forgets them."""

import http.client
import json
import sys
import time
import uuid

WAIT_SECONDS = 30


def main():
    if sys.argv[1:] in (["-h"], ["--help"]):
        sys.exit(__doc__)
    address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8000"
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    client = http.client.HTTPConnection(address, timeout=WAIT_SECONDS)
    try:
        waits_ms = sorted(measure(client) * 1000 for _ in range(count))
    except OSError as err:
        sys.exit(f"visible.py: cannot reach captcha at {address}: {err}; is `make run` running?")
    print(f"{count} events: median {at(waits_ms, 0.5):.0f} ms, p99 {at(waits_ms, 0.99):.0f} ms, max {waits_ms[-1]:.0f} ms")


def measure(client):
    site = str(uuid.uuid4())
    event = {"site_id": site, "type": "serve", "correlation_id": str(uuid.uuid4()), "time": "2024-01-01T00:00:00"}
    ask(client, "POST", "/v1/events", json.dumps(event))
    received = time.monotonic()
    while not ask(client, "GET", f"/v1/report?site_id={site}")["counters"]:
        if time.monotonic() - received > WAIT_SECONDS:
            sys.exit(f"visible.py: an event of site {site} was confirmed and is not in the report after {WAIT_SECONDS} s")
    return time.monotonic() - received


def ask(client, method, path, body=None):
    client.request(method, path, body, {"Content-Type": "application/json"} if body else {})
    answer = client.getresponse()
    text = answer.read()
    if answer.status != 200:
        sys.exit(f"visible.py: {method} {path} was answered {answer.status}: {text.decode()}")
    return json.loads(text)


def at(ordered, share):
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


if __name__ == "__main__":
    main()
