"""What a page of the dashboard shows, read from it in Chromium, and the same numbers of GET /v1/report."""

import json
import re
from datetime import datetime
from urllib.parse import parse_qsl, urlencode, urlsplit

from dev.command import Failure
from dev.testkit import http

PATH = "/v1/dashboard"
DEFAULTS = {"period": "28d"}
OWN = ("site", "sort", "refresh", "compare", "interval", "period")
TREND = ("challenges", "solved_of_served", "unsolved", "pending", "solve_rate")
COLUMNS = ("challenges", "solve_rate", "solve_time_p50", "unsolved")
SITES_METRICS = ("challenges", "solved_of_served", "solve_rate", "solve_time_p50", "unsolved", "pending", "late")
NOTHING = "\N{EN DASH}"
TRIES = 3  # numbers change where a quarter hour ends between two questions

# Numbers are those of <data>, and counts as they are shown; where there are none, the text.
SCRIPT = """(() => {
    const all = (selector, from = document) => [...from.querySelectorAll(selector)];
    const text = node => node ? node.textContent.trim().replace(/\\s+/g, " ") : null;
    const number = node => {
        const found = node && node.querySelector("data");
        const shown = text(node);
        return found ? Number(found.value) : /^[0-9,]+$/.test(shown) ? Number(shown.replaceAll(",", "")) : shown;
    };
    const cells = row => all("td", row).filter(cell => !cell.matches(".chart")).map(number);
    return {
        status: performance.getEntriesByType("navigation")[0].responseStatus,
        address: location.href,
        title: document.title,
        heading: text(document.querySelector("h1")),
        freshness: text(document.querySelector(".freshness")),
        settings: text(document.querySelector("details.more > summary")),
        range: text(document.querySelector("h2.range")),
        tiles: Object.fromEntries(all(".tile").map(tile => [tile.dataset.metric, {
            value: number(tile.querySelector("dd")),
            shown: text(tile.querySelector("dd")),
            change: text(tile.querySelector(".change")),
            notes: all(".note data", tile).map(data => Number(data.value)),
        }])),
        buckets: all("tr[data-start]").map(row => ({
            start: row.dataset.start, name: text(row.querySelector("th")), numbers: cells(row),
            link: row.querySelector("th a")?.getAttribute("href"),
        })),
        sites: all(".sites tbody tr").map(row => ({
            site: row.dataset.site ?? null, name: text(row.querySelector("th")), numbers: cells(row),
            link: row.querySelector("th a")?.getAttribute("href"),
        })),
        times: all(".distribution tbody tr").map(row => [text(row.querySelector("th")), cells(row).at(-1)]),
        drawn: all(".tips > *").length,
        controls: Object.fromEntries(all("form [name]").map(field => [field.name, field.value])),
        current: all(".periods a[aria-current]").map(text),
        sorted: all(".sites [aria-sort]").map(head => [text(head), head.getAttribute("aria-sort")]),
        links: Object.fromEntries(all(".links a").map(link => [text(link), link.getAttribute("href")])),
        notice: all(".notice").map(text),
        found: all(".found a").map(link => [text(link), link.getAttribute("href")]),
        nothing: text(document.querySelector(".nothing")),
        asides: all(".trend .aside").map(text),
        missing: all(".missing").map(text),
    };
})()"""


class View(dict):
    """What a page shows; members are those of SCRIPT."""

    __getattr__ = dict.__getitem__

    @property
    def query(self):
        return parse_qsl(urlsplit(self.address).query, keep_blank_values=True)


class Dashboard:
    """The dashboard of one server, in one page of the browser."""

    def __init__(self, page, port, prefix=""):
        self.page, self.port = page, port
        self.origin = f"http://{http.HOST}:{port}"
        self.prefix, self.path = prefix, prefix + PATH
        self.headers = {}  # for requests that the browser does not send

    def address(self, query="", end=""):
        if not isinstance(query, str):
            query = urlencode(query)
        return f"{self.origin}{self.path}{end}{'?' if query else ''}{query}"

    def open(self, query="", end="", scheme="light", status=200):
        self.page.go(self.address(query, end), scheme)
        return self.read(status)

    def read(self, status=200):
        """What the page shows; Failure if its status is another one, or if something was wrong with it."""
        view = View(self.page.evaluate(SCRIPT))
        if view.status != status:
            raise Failure(f"{view.address}: answered {view.status}, expected {status}")
        self.need_clean(view.address, status)
        return view

    def need_clean(self, address, status=200):
        """Fails if the console is not empty, a request failed, or one went elsewhere."""
        elsewhere = [asked for asked in self.page.addresses if not asked.startswith((f"{self.origin}/", "data:"))]
        wrong = [*self.page.wrong, *(f"asked elsewhere: {asked}" for asked in elsewhere)]
        self.page.addresses.clear()
        self.page.wrong.clear()
        if status != 200:  # which is an error in the console of its own
            wrong = [one for one in wrong if f"{status}" not in one]
        if wrong:
            raise Failure(f"{address}: {'; '.join(wrong)}")

    def follow(self, element, what, status=200):
        self.page.follow(element, what)
        return self.read(status)

    def report(self, parameters, what="report"):
        """The answer of GET /v1/report."""
        address = f"{self.prefix}/v1/{what}?{urlencode(parameters)}"
        answer = http.get(self.port, address, self.headers, seconds=20)
        if answer.status != 200:
            raise Failure(f"{address}: answered {answer.status}: {answer.text[:300]}")
        return json.loads(answer.body)

    def compare(self, view):
        """Fails unless every number of the page is that of the report for the same question. Returns the view."""
        for left in reversed(range(TRIES)):
            different = differences(self, view)
            if not different:
                return view
            if left:
                view = self.open(urlsplit(view.address).query)
        raise Failure(f"{view.address}: not the numbers of GET /v1/report: {'; '.join(different[:5])}")


def question(view):
    """The parameters of a page's address that a report has too."""
    return [(name, value) for name, value in view.query if value and name not in OWN]


def differences(dashboard, view):
    given = {name: value for name, value in view.query if value}
    has_days = "from" in given or "to" in given
    period = {} if has_days else {"period": given.get("period", DEFAULTS["period"])}
    common = [*question(view), *period.items()]
    is_open = period.get("period") == "all" or (has_days and not ("from" in given and "to" in given))
    compare = "none" if is_open else given.get("compare", "previous_period")
    if compare != "none":
        common.append(("compare", compare))
    by_time = [("by", "none"), ("metrics", ",".join(TREND)), ("interval", interval_of(view))]
    by_site = [("by", "site"), ("top", "50"), ("interval", "all"), ("metrics", ",".join(SITES_METRICS))]
    trend = dashboard.report([*common, *by_time])
    sites = dashboard.report([*common, *by_site])
    return [
        *different_totals(view, trend, sites),
        *different_buckets(view, trend),
        *(different_sites(view, sites) if view.sites else []),
    ]


def interval_of(view):
    """The interval of the chart, by its heading."""
    return re.search(r" by (hour|day|week|month)", view.settings)[1]


def different_totals(view, trend, sites):
    for metric, tile in view.tiles.items():
        report = sites if metric == "solve_time_p50" else trend
        yield from differs(f"tile {metric}", tile["value"], report["totals"][metric])
        if "comparison" in report and not same_change(metric, tile["change"], report):
            yield f"change of {metric}: {tile['change']!r} on the page, {report['comparison']} in the report"
    solved = view.tiles["solve_rate"]["notes"]
    yield from differs("solved", solved, [trend["totals"]["solved_of_served"]])
    pending = trend["totals"]["pending"]
    yield from differs("pending", view.tiles["unsolved"]["notes"], [pending] if pending else [])
    pairs = sites["totals"]["solved_of_served"] + sites["totals"]["late"]
    yield from differs("solves by time", sum(solves for _, solves in view.times), pairs)


def different_buckets(view, trend):
    if not trend["counters"] and not view.buckets:
        return
    rows = {row["start"]: row for row in trend["counters"]}
    shown = {bucket["start"]: bucket["numbers"] for bucket in view.buckets}
    newest = re.search(r"newest (\d+) of", " ".join(view.asides))
    if newest:
        yield from differs("rows that are said to be shown", len(shown), int(newest[1]))
        oldest = min(map(datetime.fromisoformat, shown))
        rows = {start: row for start, row in rows.items() if datetime.fromisoformat(start) >= oldest}
    yield from (f"no row of {start} on the page" for start in rows.keys() - shown.keys())
    for start, numbers in shown.items():
        row = rows.get(start, {})
        wanted = [row.get(metric, 0) for metric in TREND]
        if start not in rows:
            wanted[-1] = None
        yield from differs(f"row of {start}", numbers, wanted)


def different_sites(view, sites):
    rows = {row["site_id"]: row for row in sites["counters"]}
    shown = {one["site"]: one["numbers"] for one in view.sites}
    if rows.keys() != shown.keys():
        yield f"sites {rows.keys() ^ shown.keys()} are on the page or in the report alone"
        return
    for site, row in rows.items():
        yield from differs(f"row of {site}", shown[site], [row[metric] for metric in COLUMNS])


def differs(what, found, wanted):
    """A line if they are not the same; nothing is a dash, and rates have six decimals."""
    if not same(found, wanted):
        yield f"{what}: {found!r} on the page, {wanted!r} in the report"


def same(found, wanted):
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(same, found, wanted))
    if wanted is None:
        return found == NOTHING
    if isinstance(wanted, float) and isinstance(found, int | float):
        return abs(found - wanted) <= 1e-6 + abs(wanted) * 1e-6
    return found == wanted


# The number of a change, the one that it is a change from, and to, if that is not the number above: all as people read
# them.
CHANGE = re.compile(
    r"(?:(?P<arrow>[▲▼]) ?(?P<sign>\+|\N{MINUS SIGN})(?P<size>[\d,.]+) ?(?:%|points)|unchanged)"
    r" from (?P<before>.+?)(?: to (?P<now>.+))?"
)
UNITS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "%": 0.01, "": 1}


def same_change(metric, found, report):
    """Whether the words of a change have the numbers of a comparison, as far as words have them."""
    comparison = report["comparison"]
    wanted = comparison["change"].get(metric)
    if wanted is None:
        return True
    read = CHANGE.fullmatch(found)
    if not read:
        return False
    size = float((read["size"] or "0").replace(",", "")) * (1 if read["arrow"] in ("▲", None) else -1)
    is_one_way = (read["arrow"] == "▲") == (read["sign"] == "+")
    before, now = (comparison[side]["totals"][metric] for side in ("previous", "current"))
    shown_now = quantity(read["now"]) if read["now"] else report["totals"][metric]
    is_size = abs(size - wanted) <= max(0.051, abs(wanted) * 0.006)
    return is_one_way and is_size and is_near(quantity(read["before"]), before) and is_near(shown_now, now)


def is_near(shown, exact):
    """Three digits are shown at least of times and rates, and all of counts."""
    return abs(shown - exact) <= (exact * 0.006 if isinstance(exact, float) else 0)


def quantity(text):
    """`1,234`, `71.4%`, `4.66 s`, `2h 00m` as a number."""
    parts = re.findall(r"([\d,.]+)\s*([a-z%]*)", text)
    return sum(float(number.replace(",", "")) * UNITS[unit] for number, unit in parts)
