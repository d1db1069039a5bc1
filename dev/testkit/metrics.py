"""Reads what a process answers on /metrics."""

import re

from dev.command import Failure
from dev.testkit import http

SECONDS = 10


def scrape(address):
    """The series of a process, as (name, labels)."""
    page = http.get(address, "/metrics", seconds=SECONDS)
    if page.status != 200:
        raise Failure(f"/metrics of {address} was answered {page.status}: {page.text[:200]}")
    return list(series_of(page.text))


def series_of(page):
    for line in page.splitlines():
        sample = None if line.startswith("#") else re.fullmatch(r"(\w+)(?:{(.*)})? \S+", line)
        if sample:
            yield sample[1], dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', sample[2] or ""))
