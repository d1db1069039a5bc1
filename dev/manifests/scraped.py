"""Holds the queries of alerts and dashboard against what captcha really says of itself.

It runs migrate, serve and consume on the servers of `dev/stack.py with`, sends events, and reads /metrics of both: each metric
that is asked for must be there, with each label, and with each value that a query picks. Nothing but names of Prometheus's own
is left out. Then it asks for things that are not there, and wants a complaint for each. `make test` does all of this."""

import argparse
import json
import os
import subprocess
import time
import urllib.request
import uuid
from pathlib import Path

from dev import supervise
from dev.command import Failure, captcha_environment, run, say
from dev.manifests import check, monitoring, queries
from tests.documents import serving

SECONDS_MAX = 60  # until everything was said that is said only after some work; on a quiet machine three
REQUEST_SECONDS = 10
# What no scrape can answer, and a part of the complaint about it.
DAMAGES = [
    ("captcha_no_such_metric_total", "no scrape has captcha_no_such_metric_total"),
    ("captcha_events_accepted", "no scrape has captcha_events_accepted"),
    ('captcha_ready{chekc="kafka"}', "captcha_ready has no label chekc"),
    ('captcha_ready{check="kavka"}', 'no series of captcha_ready has {check="kavka"}'),
    ('rate(captcha_http_requests_total{status=~"6.."}[5m])', "no series of captcha_http_requests_total"),
    ("sum by (sheck) (captcha_ready)", "nothing of it has the label sheck"),
    ("captcha_ready and on (sheck) captcha_ready", "nothing of it has the label sheck"),
    ("captcha_ready * on (pod) group_left (sheck) captcha_ready", "nothing of it has the label sheck"),
    ("sum(max_over_time(captcha_no_such_metric[1h:1m]))", "no scrape has captcha_no_such_metric"),
]


def arguments():
    parser = argparse.ArgumentParser(prog="python3 -m dev.manifests.scraped", description=__doc__.partition("\n")[0])
    serving.add_program(parser)
    return parser.parse_args()


def carry_out(options, signals):
    if "CAPTCHA_TEST_LOGS" not in os.environ:
        raise Failure("CAPTCHA_TEST_LOGS is not set: this needs servers, run make test")
    name, logs = f"scraped_{uuid.uuid4().hex}", Path(os.environ["CAPTCHA_TEST_LOGS"])
    settings = {
        "kafka_brokers": os.environ["CAPTCHA_TEST_KAFKA"],
        "clickhouse_addr": os.environ["CAPTCHA_TEST_CLICKHOUSE"],
        "kafka_topic": name,
        "clickhouse_database": name,
    }
    ask(options.program, settings, "migrate")
    keys, key = logs / f"{name}-keys.txt", logs / f"{name}-key.txt"
    made = ask(options.program, settings, "serve", "new-key", "--role", "write", "--sites", "*", "--key-out", key)
    keys.write_text(made.stdout)
    public = {"listen": "127.0.0.1:0", "keys_file": keys}
    with (
        serving.running("serve", options.program, logs / "scraped-serve.log", signals, **settings, **public) as serve,
        serving.running("consume", options.program, logs / "scraped-consume.log", signals, **settings) as consume,
    ):
        addresses = addresses_of(serve, "serving") | addresses_of(consume, "consuming")
        send(addresses["address"], key.read_text().strip())
        return compare([addresses["serving"], addresses["consuming"]])


def ask(program, settings, *words):
    done = subprocess.run([program, *words], env=captcha_environment(**settings), capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"captcha {' '.join(map(str, words))} failed: {done.stderr.strip()}")
    return done


def addresses_of(child, message):
    """Where a process listens: its admin port under the name of its message, and that of the API if it has one."""
    supervise.wait_ready(child, lambda: None if serving.said(child, message) else "it has not said where it listens")
    said = serving.said(child, message)
    return {message: said["admin_address"]} | ({"address": said["address"]} if "address" in said else {})


def send(address, key):
    """Events for all partitions, more or less: some metrics are there only where something was stored."""
    common = {"site_id": str(uuid.uuid4()), "type": "serve", "time": "2001-01-01T05:55:07"}
    events = [common | {"correlation_id": str(uuid.uuid4())} for _ in range(100)]
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"http://{address}/v1/events", json.dumps(events).encode(), headers)
    with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:
        answer.read()


def scrape(addresses):
    series = []
    for address in addresses:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=REQUEST_SECONDS) as answer:
            series += queries.series_of(answer.read().decode())
    return series


def compare(addresses):
    """Asks again until all is there, because some is said only after some work."""
    watched = monitoring.read()
    asked = [*queries.of_rules(watched.groups), *queries.of_dashboard(watched.board)]
    began = time.monotonic()
    while True:
        series = scrape(addresses)
        problems = list(dict.fromkeys(problem for query in asked for problem in queries.problems(query, series)))
        if not problems or time.monotonic() - began > SECONDS_MAX:
            break
        time.sleep(0.2)
    for expression, wanted in DAMAGES:
        said = [*queries.problems(queries.Query("damage", expression), series)]
        if not any(wanted in line for line in said):
            problems.append(f"nobody complains of {expression}: wanted '{wanted}', got {said}")
    for problem in problems:
        say(problem)
    if problems:
        raise Failure(f"{len(problems)} of what alerts and dashboard ask for is not there")
    names = len({name for name, _ in series})
    say(f"scraped: {len(asked)} queries find what they ask for among {names} metrics; {len(DAMAGES)} that do not were noticed")
    return 0


def main():
    options = arguments()
    return supervise.to_the_end(lambda signals: carry_out(options, signals))


if __name__ == "__main__":
    check.enter_venv("dev.manifests.scraped")
    run(main)
