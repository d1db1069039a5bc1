"""Every control of the page, used as people use it: clicked, typed into, chosen from. After each, all numbers of the
page are those of GET /v1/report for the question that was meant, and the address alone shows the same page again."""

import csv
import io
import json
import re
from datetime import timedelta

from dev.command import Failure
from dev.testkit import http
from tests.documents.dashboard import data
from tests.documents.dashboard.view import TREND, differs, interval_of

SHOW = "document.querySelector('.fields button[type=submit]')"
OPEN_DETAILS = "document.querySelector('details.more').open = true"
SITE_FIELD = "document.querySelector('input[name=site]')"
FIND = "document.querySelector('.site-field button[type=submit]')"
KATHMANDU = timedelta(hours=5, minutes=45)
ZONES = ("Asia/Kathmandu", "America/New_York", "Pacific/Chatham")
NEVER_CHOSEN = "6f1c1f2e-0000-4000-8000-00000000beef"


def expect(view, what, found, wanted):
    if found != wanted:
        raise Failure(f"{view.address}: {what}: expected {wanted!r}, found {found!r}")


def expect_query(view, what, **wanted):
    expect(view, f"the address after {what}", dict(view.query), wanted)


def expect_numbers(view, numbers):
    """Holds the tiles against numbers that were computed from the events that were posted."""
    found = [
        view.tiles["challenges"]["value"],
        *view.tiles["solve_rate"]["notes"],
        view.tiles["unsolved"]["value"],
        (view.tiles["unsolved"]["notes"] or [0])[0],
    ]
    expect(view, "challenges, solved, unsolved and pending of the events that were posted", found, list(numbers))


def posted_numbers(dashboard, made, clock):
    """The numbers of the page are those of the events that were posted: of all, of days, of sites, of zones."""
    view = dashboard.compare(dashboard.open())
    now = clock()
    today = data.start_of_day(now)
    chosen = data.between(made, today - 27 * data.DAY, today + data.DAY)
    expect_numbers(view, data.count(chosen, now))
    expect_days(view, data.of_days(chosen), now)
    for row in view.sites:
        if row["site"]:
            own = data.count([one for one in chosen if one.site_id == row["site"]], now)
            found = [row["numbers"][0], row["numbers"][3]]
            expect(view, f"challenges and unsolved of {row['site']}", found, [own.challenges, own.unsolved])
            expect(view, f"the name of {row['site']}", row["name"], shown_name(row["site"]))
    others = {one.site_id for one in chosen} - {row["site"] for row in view.sites}
    rest = data.count([one for one in chosen if one.site_id in others], now)
    expect(view, "challenges of all others", view.sites[-1]["numbers"][0], rest.challenges)
    expect(view, "columns that show their numbers", view.drawn, 28)
    median(view, chosen)

    local = dashboard.compare(dashboard.open({"timezone": "Asia/Kathmandu", "period": "7d"}))
    today = data.start_of_day(now + KATHMANDU) - KATHMANDU
    chosen = data.between(made, today - 6 * data.DAY, today + data.DAY)
    expect_numbers(local, data.count(chosen, now))
    expect_days(local, data.of_days(chosen, KATHMANDU), now)
    short = dashboard.compare(dashboard.open({"solve_within": "10m"}))
    expect(short, "solved within 10 minutes", short.tiles["solve_rate"]["notes"], [solved_within_10m(made, now)])


def solved_within_10m(made, now):
    today = data.start_of_day(now)
    chosen = data.between(made, today - 27 * data.DAY, today + data.DAY)
    return data.count(chosen, now, timedelta(minutes=10)).solved_of_served


def expect_days(view, days, now):
    for bucket in view.buckets:
        own = data.count(days.get(bucket["start"][:10], []), now)
        expect(view, f"the numbers of {bucket['name']}", bucket["numbers"][:4], list(own))


def median(view, chosen):
    """Solve times come from a histogram: off by less than 1 %."""
    times = sorted((one.solved - one.served).total_seconds() for one in chosen if one.solved)
    middle = times[(len(times) + 1) // 2 - 1]
    found = view.tiles["solve_time_p50"]["value"]
    if abs(found - middle) > 0.01 * middle:
        raise Failure(f"{view.address}: the median of the events that were posted is {middle} s, not {found} s")


def shown_name(site_id):
    return data.NAMED.get(site_id, data.OLD_NAME if site_id == data.OLD else site_id)


def periods(dashboard):
    """Each link of a range, from the page that the one before has shown."""
    view = dashboard.open({"timezone": "Asia/Kathmandu", "interval": "hour", "period": "24h"})
    names = dashboard.page.evaluate("[...document.querySelectorAll('.periods a')].map(a => a.textContent)")
    if len(names) < 5:
        raise Failure(f"{view.address}: links of ranges: {names}")
    for name in names:
        link = f"[...document.querySelectorAll('.periods a')].find(a => a.textContent === {json.dumps(name)})"
        view = dashboard.compare(dashboard.follow(link, f"the link {name!r}"))
        expect(view, "the range that is marked", view.current, [name])
        expect(view, "the zone, which a range does not change", view.controls["timezone"], "Asia/Kathmandu")
    again(dashboard, view)


def selects(dashboard):
    """Each value of each list of the form, a value of every list at once; of zones, there are three."""
    dashboard.open({"site_id": data.SHOP, "period": "91d"})
    lists = dashboard.page.evaluate(
        "Object.fromEntries([...document.querySelectorAll('.fields select')]"
        ".map(list => [list.name, [...list.options].map(option => option.value)]))"
    )
    if sum(map(len, lists.values())) < 400:
        raise Failure(f"{dashboard.address()}: lists of the form: { ({name: len(v) for name, v in lists.items()}) }")
    lists["timezone"] = ZONES
    lists["period"].remove("")  # for dates, which have a check of their own
    steps = max(map(len, lists.values()))
    for step in range(steps):
        chosen = {name: values[step % len(values)] for name, values in lists.items()}
        choose(dashboard, chosen)
        view = dashboard.compare(dashboard.read())
        expect(view, "what was chosen", {name: view.controls[name] for name in chosen}, chosen)
        expect(view, "the site, which lists do not change", dict(view.query).get("site_id"), data.SHOP)
    return f"{sum(map(len, lists.values()))} values"


def choose(dashboard, values):
    """Sets fields of the form and presses its button."""
    page = dashboard.page
    page.evaluate(OPEN_DETAILS)
    for name, value in values.items():
        field = f"document.querySelector('.fields [name={name}]')"
        found = page.evaluate(f"({field}.value = {json.dumps(value)}, {field}.value)")
        if found != value:
            raise Failure(f"{page.evaluate('location.href')}: the field {name} does not take {value!r}")
    page.follow(SHOW, f"the button after {values}")


def days(dashboard, made, clock):
    """Two dates: the second is not included. They win against the range that the form has too."""
    now = clock()
    first, end = data.start_of_day(now) - 20 * data.DAY, data.start_of_day(now) - 13 * data.DAY
    dashboard.open({"period": "7d"})
    values = {"from": str(first.date()), "to": str(end.date())}
    choose(dashboard, values)
    view = dashboard.compare(dashboard.read())
    expect_query(view, "two dates", **values)
    expect_numbers(view, data.count(data.between(made, first, end), now))
    expect(view, "the dates of the form", {name: view.controls[name] for name in values}, values)
    again(dashboard, view)
    choose(dashboard, {"to": ""})
    view = dashboard.compare(dashboard.read())
    expect_query(view, "one date", **{"from": values["from"]})
    expect_numbers(view, data.count(data.between(made, first, now + data.DAY), now))


def site_field(dashboard):
    """A name, parts of names, a UUID, and what is none of them."""
    dashboard.open()
    for text, site_id in (
        ("Shop", data.SHOP),
        ("shop", data.SHOP),
        ("stag", data.STAGING),
        (data.SCRIPT, data.SITES[3]),
        (data.NAMES[4], data.SITES[4]),
        (data.NAMES[6], data.SITES[6]),
        (data.SITES[20], data.SITES[20]),
        (data.SITES[20].upper(), data.SITES[20]),
        (data.SITES[20][-6:], data.SITES[20]),
    ):
        view = find(dashboard, text)
        if view.found:  # a part of a UUID is in others too
            expect(
                view,
                f"what is found for {text!r}",
                [(name, link) for name, link in view.found if site_id in link][:1] != [],
                True,
            )
            continue
        expect_query(view, f"{text!r} in the field", site_id=site_id)
        expect(view, "the heading", view.heading, shown_name(site_id))
        if text == data.SCRIPT:
            again(dashboard, view)
    view = find(dashboard, "sho")
    expect(view, "names that fit", [name for name, _ in view.found], ["Old shop", "Shop", "Shop staging"])
    link = "[...document.querySelectorAll('.found a')].find(a => a.textContent === 'Shop staging')"
    view = dashboard.compare(dashboard.follow(link, "a name that fits"))
    expect_query(view, "a click on a name that fits", site_id=data.STAGING)
    view = dashboard.compare(dashboard.follow("document.querySelector('.site-field .all')", "the link to all sites"))
    expect(view, "the heading of all sites", view.heading, "All sites")
    view = find(dashboard, "no such site")
    if not any("No site" in notice for notice in view.notice):
        raise Failure(f"{view.address}: an unknown name is not named unknown: {view.notice}")
    view = find(dashboard, NEVER_CHOSEN)
    expect_query(view, "an unknown UUID", site_id=NEVER_CHOSEN)
    if "No events of this site yet" not in (view.nothing or ""):
        raise Failure(f"{view.address}: a site without events: {view.nothing!r}")


def find(dashboard, text):
    """Types into the field of the page that is shown and presses its button."""
    dashboard.page.evaluate(f"{SITE_FIELD}.focus()")
    dashboard.page.type(text)
    return dashboard.follow(FIND, f"the button of the field with {text!r}")


def sorting(dashboard):
    """Each column, both ways; and the order says how it is sorted."""
    view = dashboard.open()
    names = dashboard.page.evaluate("[...document.querySelectorAll('.sites thead a')].map(a => a.firstChild.data)")
    expect(view, "the columns of sites", names, ["site", "challenges", "solve rate", "median time", "unsolved"])
    for index, name in enumerate(names):
        link = f"document.querySelectorAll('.sites thead a')[{index}]"
        seen = []
        for _ in range(2):
            view = dashboard.follow(link, f"the head of {name}")
            way = view.sorted[0][1]
            rows = [one for one in view.sites if one["site"]]
            expect(view, "all others below", view.sites[-1]["site"], None)
            keys = [one["name"].lower() if index == 0 else number(one["numbers"][index - 1]) for one in rows]
            expect(view, f"{name}, {way}", keys, sorted(keys, reverse=way == "descending"))
            seen.append(way)
        expect(view, f"the orders of {name}", sorted(seen), ["ascending", "descending"])
    again(dashboard, view)


def number(value):
    return value if isinstance(value, int | float) else -1


def refresh(dashboard):
    """Only where it was asked for, by a header, and until it is stopped."""
    view = dashboard.open()
    expect(view, "the Refresh header of a usual page", refresh_header(dashboard, view), None)
    choose(dashboard, {"refresh": "30"})
    view = dashboard.compare(dashboard.read())
    expect_query(view, "choosing a refresh", refresh="30")
    expect(view, "the Refresh header", refresh_header(dashboard, view), "30")
    view = dashboard.follow("document.querySelector('.freshness a')", "the link that stops")
    expect(view, "the Refresh header after the stop", refresh_header(dashboard, view), None)


def refresh_header(dashboard, view):
    answer = http.get(dashboard.port, view.address.removeprefix(dashboard.origin), seconds=20)
    return answer.headers.get("Refresh")


def drill_down(dashboard, made, clock):
    """A bar and a row lead to the day alone, by hour."""
    before = dashboard.open({"period": "7d", "site_id": data.SHOP})
    links = dashboard.page.evaluate("[...document.querySelectorAll('.tips a')].map(a => a.getAttribute('href'))")
    expect(before, "links of bars", links, [bucket["link"] for bucket in reversed(before.buckets)])
    view = dashboard.compare(dashboard.follow("document.querySelectorAll('.tips > *')[2]", "the third bar"))
    inside(dashboard, view, before, before.buckets[-3], made, clock)
    before = dashboard.open({"period": "7d"})
    dashboard.page.evaluate("document.querySelector('.trend details').open = true")
    view = dashboard.compare(dashboard.follow("document.querySelectorAll('tr[data-start] a')[1]", "the second row"))
    inside(dashboard, view, before, before.buckets[1], made, clock)
    before = dashboard.open()
    row = f"document.querySelector('tr[data-site=\"{data.STAGING}\"] a')"
    view = dashboard.compare(dashboard.follow(row, "the row of a site"))
    expect_query(view, "a click on a site", site_id=data.STAGING)
    numbers = next(one["numbers"] for one in before.sites if one["site"] == data.STAGING)
    expect(view, "challenges of the site", view.tiles["challenges"]["value"], numbers[0])


def inside(dashboard, view, before, bucket, made, clock):
    expect(view, "the interval of a day", interval_of(view), "hour")
    expect(view, "hours of a day", len(view.buckets), 24)
    expect(view, "challenges of the bar", view.tiles["challenges"]["value"], bucket["numbers"][0])
    day = bucket["start"][:10]
    site = dict(before.query).get("site_id")
    chosen = [one for one in made if str(one.served.date()) == day and site in (None, one.site_id)]
    expect_numbers(view, data.count(chosen, clock()))


def links(dashboard):
    """The same numbers in other forms: JSON, and CSV of the chart and of the sites."""
    view = dashboard.compare(dashboard.open({"period": "7d", "timezone": "Asia/Kathmandu", "solve_within": "2h"}))
    fetched = {}
    for name, href in view.links.items():
        path = f"{dashboard.path.removesuffix('dashboard')}{href}"
        answer = http.get(dashboard.port, path, seconds=20)
        if answer.status not in (200, 404 if "picture" in name else 200):
            raise Failure(f"{view.address}: the link {name!r} to {path} was answered {answer.status}")
        fetched[name] = answer.body.decode(errors="replace")
    different = []
    shown = {bucket["start"]: bucket["numbers"] for bucket in view.buckets if bucket["numbers"][0]}
    report = json.loads(fetched["JSON"])
    for row in report["counters"]:
        different += differs(f"JSON, {row['start']}", shown.get(row["start"], []), [row[metric] for metric in TREND])
    rows = list(csv.DictReader(io.StringIO(fetched["CSV of the chart"])))
    for row in rows:
        numbers = [json.loads(row[metric] or "null") for metric in TREND]
        different += differs(f"CSV, {row['start']}", shown.get(row["start"], []), numbers)
    if not len(rows) == len(report["counters"]) == len(shown) > 0:
        different.append(f"{len(shown)} rows on the page, {len(report['counters'])} in JSON, {len(rows)} in CSV")
    sums = {}
    for row in csv.DictReader(io.StringIO(fetched["CSV of the sites"])):
        sums[row["site_id"]] = sums.get(row["site_id"], 0) + int(row["challenges"])
    for one in view.sites:
        if one["site"]:
            different += differs(f"CSV of {one['site']}", one["numbers"][0], sums.get(one["site"]))
    if different:
        raise Failure(f"{view.address}: its links: {'; '.join(different[:5])}")


def again(dashboard, view):
    """The address alone shows the same page."""
    before = unclocked(dashboard.page.html())
    dashboard.compare(dashboard.open(view.address.partition("?")[2]))
    if unclocked(dashboard.page.html()) != before:
        raise Failure(f"{view.address}: opened again, it is another page")


def unclocked(page):
    """A page without its times of day, which go on."""
    return re.sub(r"\d\d:\d\d(:\d\d)?(\.\d+)?", "", page)
