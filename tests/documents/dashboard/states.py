"""Pages without numbers: nothing was ever counted, nothing in this range, and questions that are wrong."""

import json
import re
import subprocess
from datetime import datetime

from dev.command import Failure
from tests.documents.dashboard import data
from tests.documents.dashboard.controls import expect, expect_numbers, expect_query

SHELL_SECONDS = 20
WRONG = "period=x&sort=y&refresh=1&timezone=utc&site_id=7&compare=z&nothing=1"
WRONG_NAMES = ["compare", "nothing", "period", "refresh", "site_id", "sort", "timezone"]
NAMED = "[...document.querySelectorAll('.nothing li code')].map(code => code.textContent).sort()"


def no_events(dashboard):
    """Before the first event the page says how to send one, and that command does so. Returns its challenge."""
    view = dashboard.open()
    if "No events yet" not in (view.nothing or ""):
        raise Failure(f"{view.address}: before any event: {view.nothing!r}")
    expect(view, "tiles where nothing was counted", view.tiles, {})
    command = dashboard.page.evaluate("document.querySelector('.nothing pre').textContent")
    done = subprocess.run(["sh", "-c", command], check=False, capture_output=True, text=True, timeout=SHELL_SECONDS)
    if done.returncode or '"accepted":2' not in done.stdout:
        raise Failure(f"{view.address}: its command fails: {command}: {done.stdout[:300]} {done.stderr[:300]}")
    data.wait_counted(dashboard.port, 1)
    view = dashboard.compare(dashboard.open())
    expect_numbers(view, data.Numbers(1, 1, 0, 0))
    serve, solve = json.loads(re.search(r"\[.*\]", command, re.DOTALL)[0])
    return data.Challenge(serve["site_id"], *(datetime.fromisoformat(one["time"]) for one in (serve, solve)))


def empty_range(dashboard, made, clock):
    """A site whose only events are two months old: the page names the day, and its link shows it."""
    view = dashboard.open({"site_id": data.OLD, "period": "7d"})
    day = data.start_of_day(clock()) - 61 * data.DAY
    if f"{day.day} {day:%b %Y}" not in (view.nothing or ""):
        raise Failure(f"{view.address}: the newest day, {day.date()}, is not named: {view.nothing!r}")
    view = dashboard.compare(dashboard.follow("document.querySelector('.nothing a')", "the link to the newest day"))
    days = {"from": str(day.date()), "to": str((day + data.DAY).date())}
    expect_query(view, "the link to the newest day", site_id=data.OLD, **days)
    expect_numbers(view, data.count([one for one in made if one.site_id == data.OLD], clock()))


def errors(dashboard):
    """Wrong parameters are 422, and a page that names each."""
    view = dashboard.open(WRONG, status=422)
    found = dashboard.page.evaluate(NAMED)
    expect(view, "the parameters that are named wrong", found, WRONG_NAMES)
    dashboard.follow("document.querySelector('main a')", "the link out of the error")
    for query in ("from=2026-02-01&to=2026-01-01", "site_id=%3Cscript%3E", "timezone=%22%3E%3Cb%3E", "%3Cb%3E=1"):
        view = dashboard.open(query, status=422)
        if dashboard.page.evaluate("document.querySelectorAll('b, script').length"):
            raise Failure(f"{view.address}: a parameter became markup")
