"""Holds the queries of alerts and dashboard against what captcha really says of itself.

It runs migrate, serve and consume on the servers of `dev/stack.py with`, sends events, and reads /metrics of both: each
metric that is asked for must be there, with each label, and with each value that a query picks. Nothing but names of
Prometheus's own is left out. Then it asks for things that are not there, and wants a complaint for each."""

import time
import uuid

from dev.command import Failure, say
from dev.manifests import monitoring, queries
from dev.testkit import captcha, events, metrics, servers

SECONDS_MAX = 60  # until everything was said that is said only after some work; on a quiet machine three
EVENTS = 100
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


def carry_out(program, signals):
    given = servers.given("make test")
    name, logs = f"scraped_{uuid.uuid4().hex}", given.logs
    settings = given.settings(name)
    captcha.command(program, "migrate", **settings)
    keys = logs / f"{name}.keys.txt"
    key = captcha.new_key(program, keys)
    public = {"listen": "127.0.0.1:0", "keys_file": keys}
    with (
        captcha.running("serve", program, logs / "scraped-serve.log", signals, **settings, **public) as serve,
        captcha.running("consume", program, logs / "scraped-consume.log", signals, **settings) as consume,
    ):
        served, consumed = captcha.wait_said(serve, "serving"), captcha.wait_said(consume, "consuming")
        # For all partitions, more or less: some metrics are there only where something was stored.
        events.send(served["address"], [events.event(events.SITES[0]) for _ in range(EVENTS)], key)
        return compare([served["admin_address"], consumed["admin_address"]])


def compare(addresses):
    """Asks again until all is there, because some is said only after some work."""
    watched = monitoring.read()
    asked = [*queries.of_rules(watched.groups), *queries.of_dashboard(watched.board)]
    began = time.monotonic()
    while True:
        series = [found for address in addresses for found in metrics.scrape(address)]
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
    say(f"scraped: {len(asked)} queries find what they ask for in {names} metrics, {len(DAMAGES)} wrong ones do not")
    return 0
